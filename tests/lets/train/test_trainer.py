"""Trainer: transformers' names, callbacks and logs around Algorithm 1."""

import json

import lets
import pytest
import torch
from lets.errors import LetsError
from lets.train.arguments import TrainingArguments
from lets.train.fit import fit
from lets.train.trainer import Trainer
from safetensors.torch import load_file
from transformers import EarlyStoppingCallback, TrainerCallback

from tests.tiny import make_rows

SETTINGS = {
    "prune": {"density": 0.05, "warmup_steps": 4, "score_batches": 1},
    "finetune": {"values_learning_rate": 1e-2, "head_learning_rate": 1e-2},
}


class Recorder(TrainerCallback):
    """Keeps the names of the events, the logs, and what is asked for after a step."""

    def __init__(self, stop_at=None, evaluate_at=None):
        self.events, self.logs, self.metrics = [], [], []
        self.stop_at, self.evaluate_at = stop_at, evaluate_at

    def on_init_end(self, args, state, control, **kwargs):
        self.events.append("init_end")

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        assert state.max_steps > 0
        assert model.encoder is not None
        self.events.append("train_begin")

    def on_epoch_begin(self, args, state, control, **kwargs):
        self.events.append("epoch_begin")

    def on_step_begin(self, args, state, control, **kwargs):
        self.events.append("step_begin")

    def on_step_end(self, args, state, control, **kwargs):
        self.events.append("step_end")
        control.should_training_stop |= state.global_step == self.stop_at
        control.should_evaluate |= state.global_step == self.evaluate_at

    def on_epoch_end(self, args, state, control, **kwargs):
        self.events.append("epoch_end")

    def on_evaluate(self, args, state, control, metrics, **kwargs):
        self.events.append("evaluate")
        self.metrics.append((state.global_step, metrics))

    def on_save(self, args, state, control, **kwargs):
        self.events.append("save")

    def on_log(self, args, state, control, logs, **kwargs):
        self.logs.append((state.global_step, logs))

    def on_train_end(self, args, state, control, **kwargs):
        self.events.append("train_end")


@pytest.fixture
def arguments(tmp_path):
    def make(folder="run", **options):
        defaults = {
            "max_seq_length": 16, "num_train_epochs": 2, "learning_rate": 1e-2, "logging_steps": 2,
            "per_device_train_batch_size": 16, "settings": SETTINGS, "seed": 3,
            "disable_tqdm": True,
        }  # fmt: skip
        return TrainingArguments(str(tmp_path / folder), **{**defaults, **options})

    return make


def trainer_of(encoder, args, *callbacks, policy="g-1", **options):
    return Trainer(
        encoder, args, make_rows(64, 1), make_rows(32, 2), task_name="warmth", policy=policy,
        callbacks=callbacks, **options,
    )  # fmt: skip


def test_events_in_transformers_order(tiny_encoder, arguments):
    recorder = Recorder()
    trainer = trainer_of(tiny_encoder, arguments(), recorder)
    output = trainer.train()
    epoch = ["epoch_begin", *["step_begin", "step_end"] * 4, "epoch_end", "evaluate"]
    assert recorder.events == ["init_end", "train_begin", *epoch, "save", *epoch, "train_end"]
    assert output.global_step == trainer.state.global_step == 8
    losses = [(step, logs) for step, logs in recorder.logs if "loss" in logs]
    assert [step for step, _ in losses] == [2, 4, 6, 8]
    assert set(losses[0][1]) == {"loss", "learning_rate", "epoch"}
    assert [step for step, logs in recorder.logs if "prune_loss" in logs] == [2, 4]
    assert trainer.state.best_metric == trainer.result.dev_score
    assert [step for step, _ in recorder.metrics] == [4, 8]
    assert trainer.state.log_history[-1]["step"] == 8
    assert list(trainer.model.tasks) == ["warmth"]


def test_is_fit(tiny_encoder, arguments, tmp_path):
    """The same settings give the same bits: callbacks only look on."""
    args = arguments()
    trainer = trainer_of(tiny_encoder, args, Recorder(), policy=None)
    trainer.train()
    plain = fit(tiny_encoder, trainer.data, trainer.config, tmp_path / "plain")
    tensors = [load_file(r.pack / "lets_delta.safetensors") for r in (plain, trainer.result)]
    assert all(torch.equal(tensors[0][name], tensors[1][name]) for name in tensors[0])
    again = trainer_of(tiny_encoder, args, policy=None)
    again.train(resume_from_checkpoint=True)
    assert len(again.result.skipped) == 5


def test_evaluate_predict_save(tiny_encoder, arguments, tmp_path):
    recorder = Recorder()
    trainer = trainer_of(tiny_encoder, arguments(), recorder)
    with pytest.raises(LetsError, match="call train first"):
        trainer.evaluate()
    trainer.train()
    assert trainer.evaluate() == {"eval_accuracy": pytest.approx(trainer.result.dev_score)}
    assert recorder.events[-1] == "evaluate"
    output = trainer.predict(make_rows(10, 3))
    assert output.predictions.shape == (10, 2)
    share = (output.predictions.argmax(-1) == output.label_ids).mean()
    assert output.metrics == {"test_accuracy": pytest.approx(share)}
    trainer.save_model(tmp_path / "copy")
    assert (tmp_path / "copy" / "lets_config.json").is_file()


def test_callbacks_steer_the_loop(tiny_encoder, arguments):
    recorder = Recorder(stop_at=6, evaluate_at=3)
    trainer = trainer_of(tiny_encoder, arguments(), recorder)
    trainer.train()
    assert [step for step, _ in recorder.metrics] == [3, 4, 6]
    assert trainer.result.history[-1]["step"] == 6
    assert recorder.events[-1] == "train_end"


def test_early_stopping(tiny_encoder, arguments):
    """transformers' own: a rate of nothing never improves."""
    still = {f"{kind}_learning_rate": 0.0 for kind in ("bias", "values", "head")}
    args = arguments(
        num_train_epochs=5, learning_rate=0.0, settings={**SETTINGS, "finetune": still}
    )
    trainer = trainer_of(tiny_encoder, args, EarlyStoppingCallback(2))
    trainer.train()
    assert [entry["epoch"] for entry in trainer.result.history] == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("options", "steps"),
    [({"eval_strategy": "steps", "eval_steps": 3}, [3, 6, 8]), ({"eval_strategy": "no"}, [8])],
)
def test_eval_strategy(options, steps, tiny_encoder, arguments):
    recorder = Recorder()
    trainer_of(tiny_encoder, arguments(**options), recorder).train()
    assert [step for step, _ in recorder.metrics] == steps


def test_resumes_in_the_middle_of_an_epoch(tiny_encoder, arguments):
    class Kill(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 7:
                raise KeyboardInterrupt

    plain = trainer_of(tiny_encoder, arguments("plain", save_steps=3))
    plain.train()
    with pytest.raises(KeyboardInterrupt):
        trainer_of(tiny_encoder, arguments(save_steps=3), Kill()).train()
    recorder = Recorder()
    resumed = trainer_of(tiny_encoder, arguments(save_steps=3), recorder)
    resumed.train(resume_from_checkpoint=True)
    assert recorder.events.count("step_end") == 2
    tensors = [load_file(t.result.pack / "lets_delta.safetensors") for t in (plain, resumed)]
    assert all(torch.equal(tensors[0][name], tensors[1][name]) for name in tensors[0])
    fresh = Recorder()
    trainer_of(tiny_encoder, arguments(save_steps=3), fresh).train(resume_from_checkpoint=False)
    assert fresh.events.count("step_end") == 8


def test_reports_to_an_integration(tiny_encoder, arguments):
    args = arguments(report_to=["nothing-of-the-kind"])
    with pytest.raises(LetsError, match="report_to: nothing-of-the-kind is not supported"):
        trainer_of(tiny_encoder, args)
    json.loads(arguments().to_json_string())
    assert set(map(type, arguments().to_sanitized_dict().values())) <= {bool, int, float, str}


def test_rows_with_named_classes(tiny_encoder, arguments):
    class Dataset(list):
        features = {"label": type("ClassLabel", (), {"names": ["cold", "warm"]})()}  # noqa: RUF012

    rows = [{**r, "label": ["cold", "warm"].index(r["label"])} for r in make_rows(40, 1)]
    trainer = Trainer(tiny_encoder, arguments(), Dataset(rows))
    assert trainer.data.labels == ("cold", "warm")
    assert len(trainer.data.train) + len(trainer.data.dev) == 40


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eval_strategy": "sometimes"}, "eval_strategy must be one of epoch, steps, no"),
        ({"logging_steps": 0}, "logging_steps must be positive"),
        ({"settings": {"search": {"speed": 1}}}, "unknown setting 'speed'"),
        ({"density": 2.0}, r"density must be in \(0, 1\]"),
    ],
)
def test_wrong_arguments(options, message, tiny_encoder, arguments):
    with pytest.raises(LetsError, match=message):
        trainer_of(tiny_encoder, arguments(**options))


def test_resume_needs_something_to_go_on_from(tiny_encoder, arguments, tmp_path):
    trainer = trainer_of(tiny_encoder, arguments())
    with pytest.raises(LetsError, match="holds nothing to resume from"):
        trainer.train(resume_from_checkpoint=True)
    with pytest.raises(LetsError, match="must be in output_dir"):
        trainer.train(resume_from_checkpoint=str(tmp_path / "elsewhere"))
    assert lets.Trainer is Trainer
