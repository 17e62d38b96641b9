"""Every system trains, counts what it trains, and goes on from an interruption to the same bits."""

from dataclasses import replace

import pytest
import torch
from lets.baselines import system
from lets.baselines.base import SystemRun
from lets.errors import LetsError
from lets.progress import Progress
from lets.train.stages import RunInputs

H, F, LAYERS = 32, 64, 3
HEAD = H * H + H + 2 * H + 2  # pooler and classifier of two classes
LAYER = 4 * (H * H + H) + 2 * H * F + F + H + 4 * H
# By hand: what is trained beside the head.
TRAINED = {
    "freeze-2": LAYER,
    "append-1": LAYER,
    "bitfit": LAYERS * (7 * H + F),
    "adapters-8": LAYERS * (2 * (2 * H * 8 + 8 + H) + 4 * H),
    "lora": LAYERS * 2 * 8 * 2 * H,
    "shira": LAYERS * (4 * 2 * H + 2 * (H + F)),  # rank 1
    "diff-pruning": 2 * LAYERS * LAYER,  # a change and a gate each
    "diff-pruning-structured": 2 * LAYERS * LAYER + LAYERS * 16,
}
KEPT = round(0.05 * LAYERS * LAYER)
LETS = ("lets-p", "lets-c", "lets-pc", "lets-g3", "lets-s1", "lets-d1-distill", "lets-pc-t30")
TEXTS = ["sun and snow", "the old oven is near", "ice"]


class Stop(Progress):
    """Interrupts the longest stage of a system."""

    def advance(self, stage, step, **shown):
        if step == 15 and stage not in ("prune", "prune-supernet", "search"):
            raise KeyboardInterrupt


@pytest.fixture
def run_of(tiny_encoder, tiny_task, tiny_config, tmp_path):
    settings = {"num_train_epochs": 3, "learning_rate": 3e-3, "head_learning_rate": 1e-2}
    config = tiny_config.override(
        {"full": settings, "light": settings, "finetune": {"dense_learning_rate": 1e-3}}
    )

    def make(folder="run", progress=None):
        inputs = RunInputs(tiny_encoder, tiny_task(), config, progress or Progress())
        return SystemRun(inputs, tmp_path / folder, tmp_path / "search")

    return make


@pytest.mark.parametrize("name", [*TRAINED, *LETS])
def test_trains_and_resumes(name, run_of):
    whole = system(name)(run_of())
    losses = [entry["loss"] for entry in whole.history]
    assert len(losses) == 3
    assert losses[-1] < losses[0]
    logits = whole.forward(TEXTS)
    assert logits.shape == (3, 2)
    assert not logits.requires_grad
    again = system(name)(run_of())  # done before
    assert torch.equal(again.forward(TEXTS), logits)
    with pytest.raises(KeyboardInterrupt):
        system(name)(run_of("cut", Stop()))
    resumed = system(name)(run_of("cut"))
    assert torch.equal(resumed.forward(TEXTS), logits)
    assert [e["loss"] for e in resumed.history] == losses


@pytest.mark.parametrize("name", TRAINED)
def test_counts_by_hand(name, run_of, tiny_encoder):
    run = run_of()
    config = replace(run.inputs.config, **{
        part: replace(getattr(run.inputs.config, part), num_train_epochs=0.1)
        for part in ("full", "light")
    })  # fmt: skip
    result = system(name)(replace(run, inputs=replace(run.inputs, config=config)))
    assert result.details["head_params"] == HEAD
    assert result.details["trained_params"] == TRAINED[name] + HEAD
    new = KEPT if name.startswith("diff") else TRAINED[name]
    for cost in result.costs.values():
        assert cost.load.new_params == new


def test_unknown_systems_are_refused():
    for name in (
        "freeze",
        "freeze-",
        "lets",
        "full-3",
        "freeze-99999",
        "freeze-<n>",
        "full-distill",
        "lets-pc-b",
        "lets-pc-t",
    ):
        with pytest.raises(LetsError, match="system: must be one of"):
            system(name)
