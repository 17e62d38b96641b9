"""Losses and gradients that are not finite, or run away, end a run before anything is saved."""

import pytest
import torch
from lets.errors import LetsError
from lets.train.batches import Batches
from lets.train.checkpoint import CheckpointStore
from lets.train.fit import fit
from lets.train.loop import LoopPlan, train
from lets.train.optim import make_adamw


@pytest.mark.parametrize("max_grad_norm", [0.0, 1.0])
def test_a_gradient_that_is_not_finite_is_never_saved(tmp_path, max_grad_norm):
    weight = torch.nn.Parameter(torch.ones(3))
    store = CheckpointStore(tmp_path, "k")

    def compute_loss(step, rows):
        loss = (weight**2).sum()
        # Finite, with a gradient of 0 · ∞.
        return loss + (0 * weight).abs().sum().sqrt() if step == 5 else loss

    with pytest.raises(LetsError, match=r"toy: gradient must be finite, got nan at step 6 \(train"):
        train(
            LoopPlan("toy", 7, 20, save_steps=1, max_grad_norm=max_grad_norm),
            parameters={"weight": weight},
            optimizer=make_adamw({"weight": weight}, 0.1),
            batches=Batches(20, 4, 7, "toy"),
            compute_loss=compute_loss,
            checkpoints=store,
        )
    found = store.load()
    assert found.step == 5
    assert found.tensors["model"]["weight"].isfinite().all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda loss: loss * 1e4,
            r"search: loss must stay below .* times that of the first",
        ),
        (lambda loss: loss * torch.nan, r"search.*: loss must be finite, got nan at step"),
        (lambda loss: loss + (0 * loss).abs().sqrt(), r"search.*: (loss|gradient) must be finite"),
    ],
    ids=["runs away", "nan", "gradient"],
)
def test_a_search_that_diverges_stops(
    tiny_encoder, tiny_task, tiny_config, tmp_path, monkeypatch, change, message
):
    from lets.search import search

    real, calls = search.task_loss, []

    def wrong(logits, targets):
        calls.append(None)
        loss = real(logits, targets)
        return change(loss) if len(calls) > 20 else loss

    monkeypatch.setattr(search, "task_loss", wrong)
    with pytest.raises(LetsError, match=message):
        fit(tiny_encoder, tiny_task(), tiny_config, tmp_path)
    monkeypatch.undo()
    assert fit(tiny_encoder, tiny_task(), tiny_config, tmp_path).pack.exists()
