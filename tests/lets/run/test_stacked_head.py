"""Stacked heads against `nn.LSTM`, and as single heads again."""

import pytest
import torch
from lets.heads import LayerwiseHead, PoolerHead
from lets.run.stacked_head import StackedHead, StackedPooler

from tests.factories import generator


def make_heads(labels, layers=5, hidden=12, **widths):
    heads = []
    for seed, count in enumerate(labels):
        torch.manual_seed(seed)
        heads.append(LayerwiseHead(layers, hidden, count, **widths).eval())
    return heads


@pytest.mark.parametrize("labels", [[3], [2, 1, 4], [2] * 9], ids=str)
@pytest.mark.parametrize("batch", [1, 3])
@torch.inference_mode()
def test_equals_the_single_heads(labels, batch):
    heads = make_heads(labels, lstm=7)
    pooled = torch.randn(len(labels), batch, 5, 12, generator=generator())
    logits = StackedHead(heads)(pooled.transpose(1, 2).flatten(0, 1))
    assert logits.shape == (len(labels), batch, max(labels))
    for head, rows, found in zip(heads, pooled, logits):
        expected = head(rows)
        torch.testing.assert_close(found[:, : head.num_labels], expected, rtol=1e-6, atol=1e-6)
        assert not found[:, head.num_labels :].any()


@torch.inference_mode()
def test_bert_base_sizes():
    heads = make_heads([2, 3], layers=12, hidden=768)
    pooled = torch.randn(2, 2, 12, 768, generator=generator())
    logits = StackedHead(heads)(pooled.transpose(1, 2).flatten(0, 1))
    for head, rows, found in zip(heads, pooled, logits):
        torch.testing.assert_close(found[:, : head.num_labels], head(rows), rtol=1e-6, atol=1e-6)


def test_single_heads_are_views():
    heads = make_heads([2, 3, 2])
    stacked = StackedHead(heads)
    for i, head in enumerate(heads):
        again = stacked.head(i)
        assert again.config() == head.config()
        for name, tensor in head.state_dict().items():
            assert torch.equal(again.state_dict()[name], tensor), name
    storages = {v.untyped_storage().data_ptr() for v in vars(stacked).values()
                if isinstance(v, torch.Tensor)}  # fmt: skip
    own = {p.untyped_storage().data_ptr() for p in stacked.head(1).parameters()}
    assert own <= storages
    part = stacked.tasks(1, 3)
    rows = torch.randn(2 * 5, 1, 12, generator=generator())
    both = StackedHead(heads[1:])(rows)
    torch.testing.assert_close(part(rows), both, rtol=0, atol=0)


@pytest.mark.parametrize("kinds", [("tanh", "tanh"), ("tanh", "gelu", "relu")], ids=str)
def test_poolers_of_several_activations(kinds):
    torch.manual_seed(0)
    heads = [PoolerHead(6, 2 + i, activation=kind).eval() for i, kind in enumerate(kinds)]
    rows = torch.randn(len(kinds), 4, 6, generator=generator())
    with torch.no_grad():
        found = StackedPooler(heads)(rows)
        for i, head in enumerate(heads):
            torch.testing.assert_close(found[i, :, : 2 + i], head(rows[i][:, None]))
            again = StackedPooler(heads).head(i)
            assert again.config() == head.config()
