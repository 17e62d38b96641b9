"""Sparse deltas on disk and back, and what of them is refused."""

import pytest
import torch
from lets.delta import SparseDelta
from lets.errors import LetsError

from lets_ext import Delta
from tests.factories import make_delta


def sparse(density=0.2, out_features=9, in_features=5):
    return SparseDelta(*make_delta(1, out_features, in_features, density))


@pytest.mark.parametrize("density", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_round_trip(density, dtype):
    delta = sparse(density)
    tensors = delta.to_tensors("layers.0.out", dtype)
    assert {name.rsplit(".", 1)[-1]: t.dtype for name, t in tensors.items()} == {
        "crow_indices": torch.int32, "col_indices": torch.uint16, "values": dtype,
    }  # fmt: skip
    again = SparseDelta.from_tensors(tensors, "layers.0.out", (9, 5))
    expected = delta.values.to(dtype)
    assert torch.equal(again.values, expected)
    dense = Delta(delta.layout, expected).to_dense()
    assert torch.equal(Delta(again.layout, again.values).to_dense(), dense)


def broken(change):
    tensors = sparse().to_tensors("m")
    change(tensors)
    return tensors


def put(name, index, value):
    return lambda tensors: tensors[f"m.{name}"].__setitem__(index, value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("m.values"), "m.values is missing"),
        (lambda t: t.update({"m.values": t["m.values"][:-1]}), "one entry per column index"),
        (lambda t: t.update({"m.values": t["m.values"].double()}), "m.values must be float32 or"),
        (lambda t: t.update({"m.crow_indices": t["m.crow_indices"][:-1]}), "must have 10 entries"),
        (lambda t: t.update({"m.col_indices": t["m.col_indices"].int()}), "must be uint16"),
        (put("values", 2, torch.inf), "m.values must be finite, got inf in row"),
        (put("crow_indices", 4, 3000), "m: .*row"),
        (put("crow_indices", 0, 1), "m: "),
        (put("col_indices", 0, 5), "m: .*row"),
    ],
)
def test_broken_tensors(change, message):
    with pytest.raises(LetsError, match=message):
        SparseDelta.from_tensors(broken(change), "m", (9, 5))
