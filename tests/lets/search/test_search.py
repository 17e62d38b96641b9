from dataclasses import replace

import pytest
import torch
from lets.errors import LetsError
from lets.heads import LayerwiseHead
from lets.progress import Progress
from lets.search.search import search, split_rows
from lets.search.supernet import SuperNet
from lets.train.checkpoint import CheckpointStore


class Stop(Progress):
    def __init__(self, after):
        self.after = after

    def advance(self, stage, step, **shown):
        if step == self.after:
            raise KeyboardInterrupt


def make_supernet(encoder, data):
    generator = torch.Generator().manual_seed(0)
    masks = {
        j: {
            name: torch.rand(getattr(layer, f"{name}_weight").shape, generator=generator) < 0.05
            for name in ("qkv", "out", "up", "down")
        }
        for j, layer in enumerate(encoder.layers)
    }
    torch.manual_seed(4)
    shape = encoder.shape
    head = LayerwiseHead(shape.num_layers, shape.hidden_size, data.num_labels)
    return SuperNet(encoder, masks, head)


def run(encoder, data, config, folder=None, progress=None, **changes):
    return search(
        make_supernet(encoder, data),
        data,
        replace(config.search, **changes),
        density=config.prune.density,
        seed=config.seed,
        max_length=config.max_seq_length,
        checkpoints=CheckpointStore(folder, "k") if folder else None,
        progress=progress,
    )


def test_split_is_disjoint_complete_and_by_seed():
    d1, d2 = split_rows(50, 0.2, 0)
    assert len(d2) == 10
    assert sorted(d1 + d2) == list(range(50))
    assert split_rows(50, 0.2, 0) == (d1, d2)
    assert split_rows(50, 0.2, 1) != (d1, d2)
    with pytest.raises(LetsError, match="at least two training rows"):
        split_rows(1, 0.2, 0)


@pytest.mark.parametrize("second_order", [True, False])
def test_same_seed_same_bits(tiny_encoder, tiny_task, tiny_config, second_order):
    data = tiny_task()
    first, again = (
        run(tiny_encoder, data, tiny_config, num_train_epochs=1, second_order=second_order)
        for _ in range(2)
    )
    assert torch.equal(first.alphas, again.alphas)
    assert first.state.history == again.state.history
    assert bool(first.alphas.abs().sum() > 0)


def test_orders_differ(tiny_encoder, tiny_task, tiny_config):
    data = tiny_task()
    results = [
        run(tiny_encoder, data, tiny_config, num_train_epochs=1, second_order=order).alphas
        for order in (True, False)
    ]
    assert not torch.equal(*results)


@pytest.mark.parametrize("after", [2, 7])
def test_resumes_to_the_same_bits(tiny_encoder, tiny_task, tiny_config, tmp_path, after):
    data = tiny_task()
    plain = run(tiny_encoder, data, tiny_config)
    with pytest.raises(KeyboardInterrupt):
        run(tiny_encoder, data, tiny_config, tmp_path, Stop(after))
    resumed = run(tiny_encoder, data, tiny_config, tmp_path)
    assert torch.equal(resumed.alphas, plain.alphas)
    assert resumed.state.history == plain.state.history


def test_groups_hold_in_the_policy(tiny_encoder, tiny_task, tiny_config):
    result = run(tiny_encoder, tiny_task(), tiny_config, groups=3)
    assert result.policy.input == "ppp"


def test_stop_rule_counts_below_the_temperature_alone(tiny_encoder, tiny_task, tiny_config):
    data, still = tiny_task(), {"arch_learning_rate": 0.0, "num_train_epochs": 2}
    paper = run(tiny_encoder, data, tiny_config, stop_below_temperature=None, **still)
    assert paper.state.step < 5
    assert "did not change" in paper.state.stopped
    ours = run(tiny_encoder, data, tiny_config, temperature_decay=0.1, **still)
    assert ours.state.counted_step is not None
    assert ours.state.history[-1]["temperature"] < 1.0
    assert ours.state.step > paper.state.step
    hot = run(tiny_encoder, data, tiny_config, temperature_decay=0.0, **still)
    assert hot.state.counted_step is None
    assert hot.state.stopped == "the most epochs were reached"


def test_a_high_price_empties_the_policy(tiny_encoder, tiny_task, tiny_config):
    """With the cost term turned up the search must find cheaper policies than without it."""
    data, settings = tiny_task(), {"num_train_epochs": 3, "stop_epochs": 10.0}
    free = run(tiny_encoder, data, tiny_config, cost_power=0.0, **settings)
    dear = run(tiny_encoder, data, tiny_config, cost_power=100.0, **settings)
    assert dear.state.history[-1]["expected_gflop"] <= free.state.history[-1]["expected_gflop"]


def test_cost_has_no_say_below_its_target(tiny_encoder, tiny_task, tiny_config):
    data, settings = tiny_task(), {"num_train_epochs": 3, "stop_epochs": 10.0}
    dear, free = (
        run(tiny_encoder, data, tiny_config, cost_power=100.0, cost_target=target, **settings)
        for target in (0.0, 1.0)
    )
    last_dear, last_free = (result.state.history[-1] for result in (dear, free))
    assert last_free["expected_gflop"] > last_dear["expected_gflop"]


def test_weights_warm_up_before_the_selectors_move(tiny_encoder, tiny_task, tiny_config):
    data = tiny_task()
    result = run(tiny_encoder, data, tiny_config, warmup_epochs=1.0, num_train_epochs=0.2)
    first, last = result.state.history[0], result.state.history[-1]
    assert first["p_pool"] == [0.5] * 3
    assert first["temperature"] == last["temperature"] == tiny_config.search.temperature
    assert last["p_pool"] != [0.5] * 3
