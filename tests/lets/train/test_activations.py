"""Kept activations are the frozen encoder's, the same bits in every batch, and bounded."""

from dataclasses import replace

import pytest
import torch
from lets.encoder import FrozenNeeds
from lets.progress import Progress
from lets.train.activations import FrozenRows
from lets.train.fit import fit
from safetensors.torch import load_file

from tests.policies import every_policy

NEEDS = FrozenNeeds(
    hidden=frozenset({-1, 0}), pooled=frozenset({0, 2}), qkv=frozenset({1}), cls_qkv=frozenset({2})
)
ROWS = [5, 17, 3, 40, 8]


def tensors_of(cache):
    parts = (cache.hidden, cache.cls_rows, cache.qkv, cache.cls_query, cache.key_value)
    return {(i, j): t for i, part in enumerate(parts) for j, t in part.items()}


@pytest.mark.parametrize("max_bytes", [0, 60_000, 1 << 30])
def test_are_the_encoder_s(tiny_encoder, tiny_task, max_bytes):
    data = tiny_task()
    frozen = FrozenRows(tiny_encoder, data, 16, max_bytes)
    batch = tiny_encoder.tokenize(data.texts([data.train[r] for r in ROWS]), 16)
    expected, found = tiny_encoder.forward(batch, NEEDS), frozen(ROWS, NEEDS)
    mask = batch.attention_mask.bool()
    assert torch.equal(expected.key_mask, found.key_mask)
    for j in (-1, 0):
        torch.testing.assert_close(found.hidden[j][mask], expected.hidden[j][mask])
    for j in (0, 2):
        torch.testing.assert_close(found.pooled(j), expected.pooled(j))
    torch.testing.assert_close(found.qkv[1][mask], expected.qkv[1][mask])
    for ours, theirs in zip(found.cls_products(2), expected.cls_products(2)):
        chosen = mask if ours.dim() == 3 else slice(None)
        torch.testing.assert_close(ours[chosen], theirs[chosen])
    assert frozen.bytes <= max_bytes


def test_give_every_policy_what_it_reads(tiny_encoder, tiny_task):
    data = tiny_task()
    frozen = FrozenRows(tiny_encoder, data, 16, 1 << 30)
    for policy in every_policy(tiny_encoder.shape.num_layers):
        needs = FrozenNeeds.of(policy)
        cache = frozen(ROWS, needs)
        read = (cache.hidden, cache.qkv, cache.cls_query, cache.key_value)
        wanted = (needs.hidden, needs.qkv, needs.cls_qkv, needs.cls_qkv | needs.key_value)
        assert all(names <= part.keys() for part, names in zip(read, wanted, strict=True)), policy
        assert all(cache.pooled(j).shape[0] == len(ROWS) for j in needs.pooled)


def test_kept_rows_are_the_same_bits_in_every_batch(tiny_encoder, tiny_task):
    data = tiny_task()
    first, second = (FrozenRows(tiny_encoder, data, 16, 1 << 30) for _ in range(2))
    first([60, 61, 2], FrozenNeeds(hidden=frozenset({-1})))  # less of a group before
    a = first(ROWS, NEEDS)
    b = second(ROWS[::-1], NEEDS)
    for j, x in a.hidden.items():
        assert torch.equal(x, b.hidden[j].flip(0))
    for j, x in a.cls_rows.items():
        assert torch.equal(x, b.cls_rows[j].flip(0))
    before = first.hits
    assert tensors_of(first(ROWS, NEEDS)).keys() == tensors_of(a).keys()
    assert first.hits == before + len(ROWS)


class Stop(Progress):
    def __init__(self, stage, after):
        self.stage, self.after = stage, after

    def advance(self, stage, step, **shown):
        if (stage, step) == (self.stage, self.after):
            raise KeyboardInterrupt


@pytest.mark.parametrize("cache_bytes", [1 << 30, 60_000])
def test_all_stages_use_them_and_resume(
    tiny_encoder, tiny_task, tiny_config, tmp_path, cache_bytes
):
    data = tiny_task()
    config = replace(tiny_config, cache_activations=True, cache_bytes=cache_bytes)
    plain = fit(tiny_encoder, data, tiny_config, tmp_path / "plain")
    whole = fit(tiny_encoder, data, config, tmp_path / "whole")
    assert whole.dev_score == pytest.approx(plain.dev_score, abs=0.1)
    for stage, after in (("prune-supernet", 5), ("search", 5), ("finetune", 9)):
        with pytest.raises(KeyboardInterrupt):
            fit(tiny_encoder, data, config, tmp_path / "cut", Stop(stage, after))
    fit(tiny_encoder, data, config, tmp_path / "cut")
    files = [tmp_path / name / "pack" / "lets_delta.safetensors" for name in ("whole", "cut")]
    first, second = map(load_file, files)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
