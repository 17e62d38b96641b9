"""transformers' TrainerCallbacks as followers of a run."""

from __future__ import annotations

from typing import Any

from transformers.trainer_callback import TrainerControl, TrainerState

from lets.progress import Progress
from lets.train.arguments import TrainingArguments
from lets.train.finetune import STAGE


class CallbackProgress(Progress):
    """Tells callbacks what happens, and the loop what they ask for.

    The final fine-tuning is "the training": its steps, epochs, evaluations and checkpoints are
    events. The stages before it log their losses as <stage>_loss.

    Args:
        handler: A CallbackHandler of transformers.
        also: Another follower, e.g. bars on a terminal.
        metric: Name of the development score, logged as eval_<metric>.
    """

    def __init__(
        self,
        handler: Any,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metric: str,
        also: Progress,
    ) -> None:
        self.handler, self.args, self.state, self.control = handler, args, state, control
        self.metric, self.also = metric, also
        self.losses: list[float] = []
        self._rate = 0.0
        self._between_epochs = True

    def start(self, stage: str, total: int, done: int = 0) -> None:
        self.also.start(stage, total, done)
        self.losses = []
        self.state.max_steps, self.state.global_step = total, done
        if stage == STAGE:
            self.call("on_train_begin")

    def step(self, stage: str, step: int) -> None:
        self.also.step(stage, step)
        if stage != STAGE:
            return
        if self._between_epochs:
            self.call("on_epoch_begin")
            self._between_epochs = False
        self.call("on_step_begin")

    def advance(self, stage: str, step: int, **shown: Any) -> None:
        self.also.advance(stage, step, **shown)
        self.state.global_step, self._rate = step, shown.get("lr", 0.0)
        self.losses.append(shown["loss"])
        if stage != STAGE:
            if step % self.args.logging_steps == 0:
                self.log({f"{stage}_loss": self._mean_loss()})
            return
        self.state.epoch = shown["epoch"]
        self.call("on_step_end")
        if self.state.epoch.is_integer() or step == self.state.max_steps:
            self.call("on_epoch_end")
            self._between_epochs = True
        if self.control.should_log:
            self.control.should_log = False
            self.log({"loss": self._mean_loss(), "learning_rate": self._rate})

    def evaluated(self, stage: str, step: int, score: float, best: bool) -> None:
        self.also.evaluated(stage, step, score, best)
        self.control.should_evaluate = False
        metrics = {f"eval_{self.metric}": score}
        self.log(metrics)
        self.call("on_evaluate", metrics=metrics)
        # After the event: transformers' early stopping compares with the best before.
        if best:
            self.state.best_metric, self.state.best_global_step = score, step

    def saved(self, stage: str, step: int) -> None:
        self.also.saved(stage, step)
        self.control.should_save = False
        if stage == STAGE:
            self.call("on_save")

    def wishes(self) -> frozenset[str]:
        asked = {name for name in ("evaluate", "save") if getattr(self.control, f"should_{name}")}
        # The last step asks for it too, after which nothing would be left out.
        if self.control.should_training_stop and self.state.global_step < self.state.max_steps:
            asked.add("stop")
        return frozenset(asked)

    def finish(self, stage: str) -> None:
        self.also.finish(stage)
        if stage == STAGE:
            self.call("on_train_end")

    def note(self, text: str) -> None:
        self.also.note(text)

    def log(self, logs: dict[str, float]) -> None:
        """Append to the history and tell the callbacks."""
        if self.state.epoch is not None:
            logs = {**logs, "epoch": self.state.epoch}
        self.state.log_history.append({**logs, "step": self.state.global_step})
        self.call("on_log", logs=logs)

    def _mean_loss(self) -> float:
        mean = sum(self.losses) / len(self.losses)
        self.losses = []
        return mean

    def call(self, event: str, **more: Any) -> None:
        """Tell the callbacks of an event."""
        self.control = self.handler.call_event(event, self.args, self.state, self.control, **more)
