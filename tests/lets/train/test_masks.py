import pytest
import torch
from lets.errors import LetsError
from lets.train.masks import at_positions, load_masks, save_masks, total_nnz
from safetensors.torch import load_file, save_file

from lets_ext import Delta


@pytest.fixture
def masks(tiny_encoder):
    generator = torch.Generator().manual_seed(0)

    def one(weight):
        chosen = torch.rand(weight.shape, generator=generator).lt(0.3).flatten().nonzero()
        return at_positions(chosen.flatten(), torch.randn(weight.shape, generator=generator))

    return {
        j: {
            name: one(getattr(tiny_encoder.layers[j], f"{name}_weight"))
            for name in ("qkv", "out", "up", "down")
        }
        for j in (0, 2)
    }


def dense(delta):
    return Delta(delta.layout, delta.values).to_dense()[0]


def test_positions_become_csr():
    matrix = torch.arange(12.0).view(3, 4)
    expected = torch.zeros(3, 4)
    expected[0, 1], expected[0, 3], expected[2, 2] = 1.0, 3.0, 10.0
    assert torch.equal(dense(at_positions(torch.tensor([1, 3, 10]), matrix)), expected)


def test_round_trip(tiny_encoder, masks, tmp_path):
    save_masks(tmp_path / "mask.safetensors", masks)
    loaded = load_masks(tmp_path / "mask.safetensors", tiny_encoder)
    assert total_nnz(loaded) == total_nnz(masks) > 0
    for j, layer in masks.items():
        for name, delta in layer.items():
            assert torch.equal(dense(loaded[j][name]), dense(delta))


@pytest.mark.parametrize(
    ("tensor", "change"),
    [
        ("layers.0.up.col_indices", lambda t: (t.int() + 100).to(torch.uint16)),
        ("layers.0.up.crow_indices", lambda t: t.flip(0)),
        ("layers.0.up.values", lambda t: t * float("nan")),
        ("layers.0.up.values", lambda t: t[:-1]),
        ("layers.0.up.col_indices", lambda t: torch.zeros_like(t)),
    ],
)
def test_hostile_files_are_refused_by_name(tiny_encoder, masks, tmp_path, tensor, change):
    path = tmp_path / "mask.safetensors"
    save_masks(path, masks)
    named = load_file(path)
    named[tensor] = change(named[tensor]).contiguous()
    save_file(named, path)
    with pytest.raises(LetsError, match=r"mask\.safetensors: layers\.0\.up"):
        load_masks(path, tiny_encoder)


def test_a_missing_matrix_and_a_foreign_layer_are_refused(tiny_encoder, masks, tmp_path):
    path = tmp_path / "mask.safetensors"
    down = masks[2].pop("down")
    save_masks(path, masks)
    with pytest.raises(LetsError, match=r"layers\.2\.down\.crow_indices is missing"):
        load_masks(path, tiny_encoder)
    save_masks(path, {7: {"down": down}})
    with pytest.raises(LetsError, match=r"layers\.7\.down\.\w+ is no part of a mask"):
        load_masks(path, tiny_encoder)


def test_truncated_file_is_refused(tiny_encoder, masks, tmp_path):
    path = tmp_path / "mask.safetensors"
    save_masks(path, masks)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(LetsError, match=r"mask\.safetensors: cannot be read"):
        load_masks(path, tiny_encoder)
