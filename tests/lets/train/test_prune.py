from dataclasses import replace

import pytest
import torch
from lets.dense import dense_forward
from lets.heads import LayerwiseHead
from lets.nnz import kept_weights
from lets.policy import Policy
from lets.train.batches import Batches
from lets.train.masks import total_nnz
from lets.train.prune import prune
from lets.train.scoring import target_tensor, task_loss
from lets.train.seeds import generator, seed_everything

from lets_ext import Delta

POLICY = Policy("ppf", "pfp")  # only layer 1 is live, though layer 2 reads f


def run(encoder, data, config, policy=None, **changes):
    torch.manual_seed(3)
    shape = encoder.shape
    return prune(
        encoder,
        data,
        replace(config.prune, **changes),
        policy=policy,
        head=LayerwiseHead(shape.num_layers, shape.hidden_size, data.num_labels),
        seed=config.seed,
        max_length=config.max_seq_length,
    )


def flags(delta):
    """The mask itself. bool [O, I]"""
    return Delta(delta.layout, torch.ones(delta.layout.nnz)).to_dense()[0] > 0


def same(a, b):
    return all(torch.equal(flags(a[j][n]), flags(b[j][n])) for j in a for n in a[j])


def test_keeps_exactly_k_over_the_whole_network(tiny_encoder, tiny_task, tiny_config):
    pruned = run(tiny_encoder, tiny_task(), tiny_config)
    shape = tiny_encoder.shape
    per_layer = 4 * shape.hidden_size**2 + 2 * shape.hidden_size * shape.intermediate_size
    assert sorted(pruned.masks) == [0, 1, 2]
    assert pruned.num_weights == 3 * per_layer
    assert total_nnz(pruned.masks) == pruned.kept == kept_weights(0.05, 3 * per_layer)
    shares = {
        flags(m).double().mean().item() for lay in pruned.masks.values() for m in lay.values()
    }
    assert len(shares) > 1  # global: not the same share in every matrix


def test_covers_the_live_layers_of_a_policy_alone(tiny_encoder, tiny_task, tiny_config):
    pruned = run(tiny_encoder, tiny_task(), tiny_config, POLICY)
    assert sorted(pruned.masks) == [1]


def test_a_policy_without_live_layers_has_no_mask(tiny_encoder, tiny_task, tiny_config):
    assert run(tiny_encoder, tiny_task(), tiny_config, Policy("pff", "ppp")).masks == {}


def test_same_seed_same_mask_other_seed_another(tiny_encoder, tiny_task, tiny_config):
    data = tiny_task()
    first, again = (run(tiny_encoder, data, tiny_config) for _ in range(2))
    other = run(tiny_encoder, data, replace(tiny_config, seed=1))
    assert same(first.masks, again.masks)
    assert not same(first.masks, other.masks)


def test_scores_are_gradient_times_change(tiny_encoder, tiny_task, tiny_config):
    """Without warm-up and with a random trial delta, scores follow from autograd directly."""
    data = tiny_task()
    pruned = run(tiny_encoder, data, tiny_config, POLICY, init="random", score_batches=1)
    layer = tiny_encoder.layers[1]
    torch.manual_seed(3)
    head = LayerwiseHead(3, tiny_encoder.shape.hidden_size, data.num_labels)
    random = generator(tiny_config.seed, "prune", "random")
    names = ("qkv", "out", "up", "down")
    weights = {}
    for name in names:
        start = getattr(layer, f"{name}_weight")
        noise = torch.randn(start.shape, generator=random)
        weights[name] = torch.add(start, noise, alpha=1e-3).requires_grad_()
    merged = replace(layer, **{f"{n}_weight": w for n, w in weights.items()})
    seed_everything(tiny_config.seed, "prune", "score", 0)
    batches = Batches(len(data.train), 16, tiny_config.seed, "prune")
    rows = [data.train[i] for i in batches.at(tiny_config.prune.warmup_steps)]
    batch = tiny_encoder.tokenize(data.texts(rows), tiny_config.max_seq_length)
    p_input, p_pool = torch.tensor([0.0, 0.0, 1.0]), torch.tensor([0.0, 1.0, 0.0])
    dense = [tiny_encoder.layers[0], merged, tiny_encoder.layers[2]]
    logits = dense_forward(tiny_encoder, dense, p_input, p_pool, head, batch)
    task_loss(logits, target_tensor(data, rows)).backward()
    scores = torch.cat(
        [
            (w.grad * (w.detach() - getattr(layer, f"{n}_weight"))).abs().flatten()
            for n, w in weights.items()
        ]
    )
    threshold = scores.topk(pruned.kept).values.min()
    expected = scores >= threshold
    got = torch.cat([flags(pruned.masks[1][n]).flatten() for n in names])
    assert (got ^ expected).sum() <= 2  # ties in the last bit aside
    assert pruned.score_sum == pytest.approx(float(scores.double().sum()), rel=1e-4)


@pytest.mark.parametrize("init", ["random", "magnitude"])
def test_ablations_give_other_masks_of_the_same_size(tiny_encoder, tiny_task, tiny_config, init):
    data = tiny_task()
    plain, other = (
        run(tiny_encoder, data, tiny_config),
        run(tiny_encoder, data, tiny_config, init=init),
    )
    assert total_nnz(other.masks) == total_nnz(plain.masks)
    assert not same(other.masks, plain.masks)


def test_leaves_the_encoder_as_it_is(tiny_encoder, tiny_task, tiny_config):
    before = [layer.up_weight.clone() for layer in tiny_encoder.layers]
    run(tiny_encoder, tiny_task(), tiny_config)
    assert all(torch.equal(a, b.up_weight) for a, b in zip(before, tiny_encoder.layers))
    assert not any(layer.up_weight.requires_grad for layer in tiny_encoder.layers)
