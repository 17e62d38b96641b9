import pytest
import torch
from lets.errors import LetsError
from lets.progress import Progress
from lets.train.batches import Batches
from lets.train.checkpoint import CheckpointStore
from lets.train.loop import LoopPlan, train, warmup_steps
from lets.train.optim import kind_of, linear_factor, make_adamw
from torch import nn

ROWS, STEPS = 20, 15


class Stop(Progress):
    """Interrupts the run after a number of steps, as a user's Ctrl-C does."""

    def __init__(self, after):
        self.after = after

    def advance(self, stage, step, **shown):
        if step == self.after:
            raise KeyboardInterrupt


def run(folder=None, progress=None, key="k", poison=None, save_steps=2):
    torch.manual_seed(5)  # the model's start
    model = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.Tanh(), nn.Linear(8, 1))
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(ROWS, 3, generator=generator), torch.randn(ROWS, 1, generator=generator)
    parameters = dict(model.named_parameters())

    def compute_loss(step, rows):
        loss = nn.functional.mse_loss(model(x[rows]), y[rows])
        return loss * float("nan") if step == poison else loss

    def evaluate():
        with torch.no_grad():
            model.eval()
            score = -float(nn.functional.mse_loss(model(x), y))
            model.train()
        return score

    state = train(
        LoopPlan("toy", 7, STEPS, warmup_steps=3, save_steps=save_steps),
        parameters=parameters,
        optimizer=make_adamw(parameters, 0.05, bias=0.1, weight_decay=0.01),
        batches=Batches(ROWS, 4, 7, "toy"),
        compute_loss=compute_loss,
        evaluate=evaluate,
        checkpoints=CheckpointStore(folder, key) if folder else None,
        progress=progress,
    )
    return state, {n: p.detach().clone() for n, p in parameters.items()}


def same(a, b):
    return all(torch.equal(a[n], b[n]) for n in a)


def test_same_seed_same_bits():
    assert same(run()[1], run()[1])


@pytest.mark.parametrize("after", [1, 2, 5, 9, 14])
def test_resumes_to_the_same_bits(tmp_path, after):
    plain_state, plain = run()
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, Stop(after))
    state, resumed = run(tmp_path)
    assert same(plain, resumed)
    assert state.history == plain_state.history
    assert state.best_step == plain_state.best_step


def test_a_checkpoint_of_another_key_is_not_resumed(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, Stop(9), key="other")
    assert same(run()[1], run(tmp_path)[1])


def test_half_written_checkpoints_are_ignored(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, Stop(9))
    (tmp_path / ".checkpoint-12.99.tmp").mkdir()
    assert same(run()[1], run(tmp_path)[1])


def test_a_damaged_checkpoint_is_named(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, Stop(9))
    file = next(tmp_path.glob("checkpoint-*/model.safetensors"))
    file.write_bytes(file.read_bytes()[:-1] + b"\x01")
    with pytest.raises(LetsError, match=r"model\.safetensors: checksum differs"):
        run(tmp_path)


def test_only_the_newest_checkpoint_stays(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, Stop(13))
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint-12"]


def test_ends_with_the_best_parameters():
    state, _ = run()
    assert state.best_score == max(entry["score"] for entry in state.history)


def test_stops_at_a_loss_that_is_not_finite_and_names_the_place():
    with pytest.raises(LetsError, match=r"toy: loss must be finite, got nan at step 4 \(training"):
        run(poison=3)


def test_schedule_warms_up_and_decays():
    factors = [linear_factor(s, 10, 4) for s in range(10)]
    assert factors[:4] == [0.2, 0.4, 0.6, 0.8]
    assert factors[4] == 1.0
    assert factors[9] == pytest.approx(1 / 6)
    assert warmup_steps(None, 0.1, 50) == 5
    assert warmup_steps(80, 0.1, 50) == 50


def test_parameter_kinds_and_rates():
    names = {
        "layers.3.qkv_values": "values",
        "layers.3.out_bias_delta": "bias",
        "layers.3.norm_weight_delta": "other",
        "head.classifier.bias": "head",
        "layers.0.up_weight": "other",
        "layers.0.attn_norm_bias": "bias",
    }
    assert {n: kind_of(n) for n in names} == names
    optimizer = make_adamw({n: nn.Parameter(torch.ones(2)) for n in names}, 1e-5, bias=1e-3)
    rates = {n: g["lr"] for g in optimizer.param_groups for n in g["names"]}
    assert rates["layers.0.attn_norm_bias"] == 1e-3
    assert rates["layers.3.qkv_values"] == 1e-5
