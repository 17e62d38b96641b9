"""Trainer: Algorithm 1 behind the interface of transformers' class of this name."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers.trainer_callback import (
    CallbackHandler,
    DefaultFlowCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
)
from transformers.trainer_utils import PredictionOutput, TrainOutput, enable_full_determinism

from lets.data import Columns, read_rows, task_of_tables
from lets.encoder import Encoder
from lets.errors import LetsError
from lets.model import LetsModel
from lets.pack import load_pack
from lets.policy import Policy
from lets.progress import Progress, TerminalProgress
from lets.run.engine import Engine
from lets.scores import CLASSIFICATION, REGRESSION, score
from lets.tables import table_of
from lets.task_data import TaskData, TaskRow
from lets.train.arguments import TrainingArguments
from lets.train.callbacks import CallbackProgress
from lets.train.fit import FitResult, fit
from lets.train.scoring import logits_of, predictions_of


class Trainer:
    """Trains one task: prune, search, prune, fine-tune, pack; the loop is `lets.train.loop`.

    Args:
        model: The encoder (loaded, folder or hub id), or a `LetsModel`, which gets the task.
        train_dataset: A `TaskData` with both splits; or rows, mappings from column to value (a
            Dataset of `datasets` too).
        eval_dataset: Rows; without them a tenth of `train_dataset` is held out.
        task_name: Of the pack.
        policy: Given (a Policy, a preset or a file): no search.
        columns: Where rows have text, second text and label.
        callbacks: Of transformers. There is one optimizer step per batch, and no event inside it.
    """

    def __init__(
        self,
        model: LetsModel | Encoder | str | Path,
        args: TrainingArguments,
        train_dataset: TaskData | Sequence[Any],
        eval_dataset: Sequence[Any] | None = None,
        *,
        task_name: str = "task",
        problem_type: str = CLASSIFICATION,
        policy: Policy | str | None = None,
        columns: Columns | None = None,
        callbacks: Sequence[TrainerCallback | type[TrainerCallback]] = (),
    ) -> None:
        if not isinstance(model, LetsModel):
            model = LetsModel.from_pretrained(model)
        self.model, self.args, self.columns = model, args, columns or Columns()
        if not isinstance(train_dataset, TaskData):
            train_dataset = task_of_tables(
                task_name,
                table_of(train_dataset, "train_dataset"),
                None if eval_dataset is None else table_of(eval_dataset, "eval_dataset"),
                self.columns,
                problem_type,
                metric=args.metric_for_best_model,
                seed=args.seed,
            )
        elif eval_dataset is not None:
            raise LetsError("trainer: a TaskData has a dev split; leave eval_dataset out")
        self.data = train_dataset
        args.metric_for_best_model = args.metric_for_best_model or self.data.metric
        shape = model.encoder.shape
        if isinstance(policy, str):
            policy = Policy.from_spec(policy, shape.num_layers, shape.name)
        self.policy = policy
        self.config = args.to_config(self.data.name)
        self.state = TrainerState()
        self.state.log_history = []
        self.state.logging_steps = args.logging_steps
        self.state.eval_steps = self.config.finetune.eval_steps
        self.state.save_steps = self.config.finetune.save_steps
        self.state.train_batch_size = self.config.finetune.per_device_train_batch_size
        self.state.num_train_epochs = self.config.finetune.num_train_epochs  # type: ignore[assignment]
        everything = [DefaultFlowCallback, *_reporting(args.report_to), *callbacks]
        self.callback_handler = CallbackHandler(
            everything, model, model.encoder.tokenizer, None, None
        )
        bars = Progress() if args.disable_tqdm else TerminalProgress()
        self._follower = CallbackProgress(
            self.callback_handler, args, self.state, TrainerControl(), self.data.metric, bars
        )
        self.result: FitResult | None = None
        self._follower.call("on_init_end")

    @property
    def control(self) -> TrainerControl:
        return self._follower.control

    def add_callback(self, callback: TrainerCallback | type[TrainerCallback]) -> None:
        self.callback_handler.add_callback(callback)

    def pop_callback(self, callback: Any) -> Any:
        return self.callback_handler.pop_callback(callback)

    def remove_callback(self, callback: Any) -> None:
        self.callback_handler.remove_callback(callback)

    def train(self, resume_from_checkpoint: str | bool | None = None) -> TrainOutput:
        """Run what `args.output_dir` does not hold yet; the task is then in `model`.

        Args:
            resume_from_checkpoint: False: forget what `output_dir` holds. True: there must be
                something to go on from. A path: where it is, `output_dir` or inside it.
        """
        resume = self.args.resume_from_checkpoint
        resume = resume if resume_from_checkpoint is None else resume_from_checkpoint
        self._prepare(resume)
        if self.args.full_determinism:
            enable_full_determinism(self.args.seed)
        self.result = fit(
            self.model.encoder.plain(),
            self.data,
            self.config,
            self.args.output_dir,
            self._follower,
            self.policy,
            overwrite=self.args.overwrite_output_dir,
        )
        name = self.data.name
        if name in self.model.tasks:
            self.model.delete_task(name)
        self.model.load_task(self.result.pack)
        losses = [entry["loss"] for entry in self.result.history]
        metrics = {
            "train_runtime": sum(self.result.timings.values()),
            "train_loss": sum(losses) / len(losses),
            f"eval_{self.data.metric}": self.result.dev_score,
        }
        return TrainOutput(self.result.history[-1]["step"], metrics["train_loss"], metrics)

    def evaluate(
        self, eval_dataset: Sequence[Any] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Score of the trained task on rows; default: the development rows."""
        metrics = self._score(self._rows(eval_dataset), metric_key_prefix)[2]
        self._follower.log(metrics)
        self._follower.call("on_evaluate", metrics=metrics)
        return metrics

    def predict(
        self, test_dataset: Sequence[Any], metric_key_prefix: str = "test"
    ) -> PredictionOutput:
        """Logits, targets and score of the trained task on rows with labels."""
        logits, targets, metrics = self._score(self._rows(test_dataset), metric_key_prefix)
        self._follower.call("on_predict", metrics=metrics)
        return PredictionOutput(logits.numpy(), targets, metrics)

    def save_model(self, output_dir: str | Path | None = None) -> None:
        """Copy the pack to a folder; it is in `args.output_dir` anyway."""
        pack = self._trained().pack
        if output_dir is not None and Path(output_dir).resolve() != pack.resolve():
            shutil.copytree(pack, output_dir, dirs_exist_ok=True)

    def _prepare(self, resume: str | bool | None) -> None:
        folder = Path(self.args.output_dir)
        if isinstance(resume, str) and folder.resolve() not in (
            Path(resume).resolve(), *Path(resume).resolve().parents
        ):  # fmt: skip
            raise LetsError(
                f"trainer: resume_from_checkpoint must be in output_dir {folder}, got {resume}"
            )
        stages = [folder / name for name in ("prune-supernet", "search", "prune", "finetune")]
        if resume and not any(stage.is_dir() for stage in stages):
            raise LetsError(f"trainer: {folder} holds nothing to resume from")
        if resume is False:
            for stage in stages:
                shutil.rmtree(stage, ignore_errors=True)
            (folder / "pack.json").unlink(missing_ok=True)

    def _trained(self) -> FitResult:
        if self.result is None:
            raise LetsError("trainer: call train first; it goes on from what output_dir holds")
        return self.result

    def _rows(self, dataset: Sequence[Any] | None) -> list[TaskRow]:
        if dataset is None:
            return self.data.dev
        numeric = self.data.problem_type == REGRESSION
        labels = None if numeric else self.data.labels
        return read_rows(table_of(dataset, "dataset"), self.columns, numeric, labels)

    def _score(self, rows: list[TaskRow], prefix: str) -> tuple[Any, Any, dict[str, float]]:
        encoder, data = self.model.encoder, self.data
        task = load_pack(self._trained().pack, encoder)
        engine, size = Engine(encoder, [task]), self.config.per_device_eval_batch_size
        logits = logits_of(lambda texts: engine(texts)[task.name].logits, data, rows, size)
        targets = data.targets(rows)
        value = score(data.metric, targets, predictions_of(logits, data.problem_type))
        return logits, targets, {f"{prefix}_{data.metric}": value}


def _reporting(report_to: str | Sequence[str] | None) -> list[type[TrainerCallback]]:
    from transformers.integrations.integration_utils import get_reporting_integration_callbacks

    try:
        return get_reporting_integration_callbacks(report_to)
    except ValueError as error:
        raise LetsError(f"arguments: report_to: {error}") from None
