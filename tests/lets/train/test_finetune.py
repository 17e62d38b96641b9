from dataclasses import replace

import pytest
import torch
from lets.heads import LayerwiseHead
from lets.policy import Policy
from lets.progress import Progress
from lets.task_model import TaskModel
from lets.train.checkpoint import CheckpointStore
from lets.train.finetune import finetune, forward_of
from lets.train.scoring import dev_score

POLICY = Policy("ppf", "pff")


class Stop(Progress):
    def __init__(self, after):
        self.after = after

    def advance(self, stage, step, **shown):
        if step == self.after:
            raise KeyboardInterrupt


def make_model(encoder, data, policy=POLICY):
    generator = torch.Generator().manual_seed(0)
    masks = {
        j: {
            name: torch.rand(
                getattr(encoder.layers[j], f"{name}_weight").shape, generator=generator
            )
            < 0.05
            for name in ("qkv", "out", "up", "down")
        }
        for j in policy.live_layers
    }
    torch.manual_seed(4)
    shape = encoder.shape
    head = LayerwiseHead(shape.num_layers, shape.hidden_size, data.num_labels)
    return TaskModel(encoder, policy, masks, head)


def run(encoder, data, config, folder=None, progress=None, **changes):
    model = make_model(encoder, data)
    state = finetune(
        model,
        data,
        replace(config.finetune, **changes),
        seed=config.seed,
        max_length=config.max_seq_length,
        checkpoints=CheckpointStore(folder, "k") if folder else None,
        progress=progress,
    )
    return state, {n: p.detach().clone() for n, p in model.named_parameters()}, model


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)


@pytest.mark.parametrize("pairs", [False, True])
def test_learns_a_tiny_task(tiny_encoder, tiny_task, tiny_config, pairs):
    state, _, _ = run(tiny_encoder, tiny_task(pairs), tiny_config, num_train_epochs=6)
    assert state.best_score > 0.7


def test_learns_a_number(tiny_encoder, tiny_task, tiny_config):
    data = tiny_task(regression=True, train=256)
    state, _, _ = run(tiny_encoder, data, tiny_config, num_train_epochs=8)
    assert data.metric == "spearman"
    assert state.best_score > 0.3


def test_trains_nothing_dense(tiny_encoder, tiny_task, tiny_config):
    """Parameters: non-zeros, vectors, head; nothing of the encoder, nothing of a matrix's size."""
    _, parameters, _ = run(tiny_encoder, tiny_task(), tiny_config, num_train_epochs=0.5)
    task = {n: p for n, p in parameters.items() if not n.startswith("head.")}
    assert all(p.ndim == 1 for p in task.values())
    hidden = tiny_encoder.shape.hidden_size
    assert max(p.numel() for n, p in task.items() if n.endswith("_values")) < hidden * hidden
    assert any(n.endswith("_values") and bool(p.any()) for n, p in task.items())


def test_ends_as_the_best_checkpoint(tiny_encoder, tiny_task, tiny_config):
    data = tiny_task()
    state, _, model = run(tiny_encoder, data, tiny_config)
    assert dev_score(forward_of(model, tiny_config.max_seq_length), data, 32) == state.best_score


def test_resumes_to_the_same_bits(tiny_encoder, tiny_task, tiny_config, tmp_path):
    data = tiny_task()
    plain_state, plain, _ = run(tiny_encoder, data, tiny_config)
    with pytest.raises(KeyboardInterrupt):
        run(tiny_encoder, data, tiny_config, tmp_path, Stop(11))
    state, resumed, _ = run(tiny_encoder, data, tiny_config, tmp_path)
    assert same(plain, resumed)
    assert state.history == plain_state.history


def test_grouping_by_length_trains_too(tiny_encoder, tiny_task, tiny_config):
    state, _, _ = run(tiny_encoder, tiny_task(), tiny_config, group_by_length=True)
    assert state.best_score is not None
