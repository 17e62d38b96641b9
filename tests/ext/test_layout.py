import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lets_ext import Delta, DeltaLayout, _host
from tests.factories import make_delta, make_layout, make_tensor


def int32(*values):
    return torch.tensor(values, dtype=torch.int32)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 3), st.integers(1, 9), st.integers(1, 8), st.sampled_from([0.0, 0.3, 1.0]))
def test_mask_and_transpose_agree(num_tasks, out_features, in_features, density):
    generator = torch.Generator().manual_seed(out_features * 8 + in_features)
    mask = torch.rand(num_tasks, out_features, in_features, generator=generator) < density
    layout = DeltaLayout.from_mask(mask)
    values = torch.arange(1, layout.nnz + 1, dtype=torch.float64)
    dense = Delta(layout, values).to_dense()
    assert torch.equal(dense != 0, mask)
    # The transposed structure is the layout of the transposed mask, with the same values.
    transposed = DeltaLayout.from_mask(mask.mT)
    assert torch.equal(layout.ccol_indices, transposed.crow_indices)
    assert torch.equal(layout.row_indices, transposed.col_indices)
    permuted = Delta(transposed, values[layout.permutation.long()]).to_dense()
    assert torch.equal(permuted, dense.mT)
    assert all(
        getattr(layout, name).dtype == torch.int32
        for name in ("crow_indices", "col_indices", "ccol_indices", "row_indices", "permutation")
    )


def test_stack_equals_one_mask():
    masks = make_delta(3, 5, 4, 0.4).to_dense() != 0
    stacked = DeltaLayout.stack([DeltaLayout.from_mask(mask) for mask in masks])
    whole = DeltaLayout.from_mask(masks)
    for name in ("crow_indices", "col_indices", "ccol_indices", "row_indices", "permutation"):
        assert torch.equal(getattr(stacked, name), getattr(whole, name)), name
    assert (stacked.num_tasks, stacked.out_features, stacked.in_features) == (3, 5, 4)


def test_rows_are_a_slice():
    delta = make_delta(1, 21, 7, 0.3)
    layout = delta.layout.rows(7, 14)
    begin = int(delta.layout.crow_indices[7])
    part = Delta(layout, delta.values[begin : begin + layout.nnz])
    assert torch.equal(part.to_dense(), delta.to_dense()[:, 7:14])
    assert delta.layout.rows(3, 3).out_features == 0


def test_to_keeps_everything():
    layout = make_layout(2, 5, 4, 0.5)
    moved = layout.to("cpu")
    assert moved is not layout
    assert torch.equal(moved.permutation, layout.permutation)
    assert moved.num_tasks == 2


def test_to_dense_is_differentiable():
    delta = make_delta(2, 5, 4, 0.5, torch.float64, grad=True)
    assert torch.autograd.gradcheck(
        lambda values: Delta(delta.layout, values).to_dense(), (delta.values,)
    )


@pytest.mark.parametrize(
    ("crow", "col", "message"),
    [
        (int32(1, 1, 2), int32(0, 1), "crow_indices must start at 0, got 1 in row 0"),
        (int32(0, 2, 1), int32(0, 1), "crow_indices must not decrease, got 1 after 2 in row 1"),
        (int32(0, 1, 3), int32(0, 1), "must not exceed nnz = 2, got 3 in row 1"),
        (int32(0, 1, 1), int32(0, 1), "crow_indices must end at nnz = 2, got 1"),
        (int32(0, 1, 2), int32(0, 4), r"must be in \[0, 4\) \(in_features\), got 4 in row 1"),
        (int32(0, 1, 2), int32(0, -1), r"must be in \[0, 4\) \(in_features\), got -1 in row 1"),
        (int32(0, 0, 2), int32(2, 2), "increase strictly within a row, got 2 after 2 in row 1"),
        (int32(), int32(), "crow_indices must have num_tasks"),
        (int32(0, 1, 2).float(), int32(0, 1), "crow_indices must be int32"),
        (int32(0, 1, 2), int32(0, 1)[None], "col_indices must be int32"),
        (torch.tensor([0, 1, 2**40]), int32(0, 1), "crow_indices must fit int32"),
    ],
)
def test_rejects(crow, col, message):
    with pytest.raises(ValueError, match=message):
        DeltaLayout.from_csr(crow, col, 4)


def test_rejects_shapes():
    with pytest.raises(ValueError, match="in_features must be positive"):
        DeltaLayout.from_csr(int32(0), int32(), 0)
    with pytest.raises(ValueError, match="got 4 for num_tasks = 2"):
        DeltaLayout.from_csr(int32(0, 0, 0, 0), int32(), 4, num_tasks=2)
    with pytest.raises(ValueError, match="mask must be bool"):
        DeltaLayout.from_mask(make_tensor(3, 3))
    with pytest.raises(ValueError, match="one shape"):
        DeltaLayout.stack([make_layout(1, 5, 4), make_layout(1, 4, 5)])
    with pytest.raises(ValueError, match="at least one"):
        DeltaLayout.stack([])
    with pytest.raises(ValueError, match=r"rows must be in \[0, 21\]"):
        make_layout().rows(5, 22)
    with pytest.raises(ValueError, match="layout of one task"):
        make_layout(2).rows(0, 1)


def test_host_refuses_other_dtypes():
    with pytest.raises(TypeError):
        _host.validate_csr(np.zeros(3, np.int64), np.zeros(0, np.int32), 2, 4)
    _host.validate_csr(np.zeros(3, np.int32), np.zeros(0, np.int32), 2, 4)
