import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lets.errors import LetsError
from lets.train.topk import streaming_topk


def brute_force(matrices, k):
    """Stable sort of everything by score, equal ones by global index."""
    flat = [(-v, n, i) for n, m in enumerate(matrices) for i, v in enumerate(m.flatten().tolist())]
    kept = sorted(flat)[:k]
    return [sorted(i for _, n, i in kept if n == number) for number in range(len(matrices))]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(st.lists(st.integers(0, 4), min_size=0, max_size=9), min_size=1, max_size=5),
    st.integers(0, 30),
)
def test_is_a_stable_sort_even_with_many_ties(rows, k):
    matrices = [torch.tensor(r, dtype=torch.float32) for r in rows]
    got = streaming_topk([(str(n), m) for n, m in enumerate(matrices)], k)
    assert [got[str(n)].tolist() for n in range(len(matrices))] == brute_force(matrices, k)


def test_looks_at_each_matrix_once_and_is_global():
    generator = torch.Generator().manual_seed(0)
    matrices = {f"m{n}": torch.rand(7, 5, generator=generator) * (n + 1) for n in range(4)}
    got = streaming_topk(iter(matrices.items()), 20)
    values = torch.cat([m.flatten() for m in matrices.values()])
    kept = torch.cat([m.flatten()[got[n]] for n, m in matrices.items()])
    assert sorted(kept.tolist()) == sorted(values.topk(20).values.tolist())


def test_refuses_non_finite_scores_by_name():
    with pytest.raises(LetsError, match=r"scores of layers\.1\.up must be finite"):
        streaming_topk([("layers.1.up", torch.tensor([1.0, float("nan")]))], 1)
