"""LayerWeights: the tensors of one post-LN encoder layer, read from a transformers model."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor, nn

from lets import products
from lets.errors import LetsError


@dataclass(frozen=True)
class LayerWeights:
    """One layer; matrices as in nn.Linear, [out_features, in_features].

    Args:
        qkv_weight: Query, key and value stacked. [3H, H]
        out_weight: W_O. [H, H]
        up_weight, down_weight: W_1 and W_2 of the feed-forward part. [F, H], [H, F]
        attn_norm_weight, attn_norm_bias: LayerNorm after the attention. [H]
        norm_weight, norm_bias: LayerNorm after the feed-forward part. [H]
    """

    qkv_weight: Tensor
    qkv_bias: Tensor
    out_weight: Tensor
    out_bias: Tensor
    attn_norm_weight: Tensor
    attn_norm_bias: Tensor
    up_weight: Tensor
    up_bias: Tensor
    down_weight: Tensor
    down_bias: Tensor
    norm_weight: Tensor
    norm_bias: Tensor

    def to(self, device: torch.device | str, dtype: torch.dtype) -> LayerWeights:
        return LayerWeights(
            **{f.name: getattr(self, f.name).to(device=device, dtype=dtype) for f in fields(self)}
        )

    def packed(self, pack: Callable[[Tensor], Any] = products.pack) -> LayerWeights:
        """With matrices as a product takes them; see `lets.products`."""
        return self._matrices(pack)

    def plain(self) -> LayerWeights:
        """With plain matrices, unpacked copies of those that are packed."""
        return self._matrices(products.plain)

    def _matrices(self, change: Callable[[Any], Any]) -> LayerWeights:
        return replace(self, **{name: change(getattr(self, name)) for name in _MATRICES})


_MATRICES = ("qkv_weight", "out_weight", "up_weight", "down_weight")
_PROJECTIONS = ("query", "key", "value")
_BERT = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "out": "attention.output.dense",
    "attn_norm": "attention.output.LayerNorm",
    "up": "intermediate.dense",
    "down": "output.dense",
    "norm": "output.LayerNorm",
}
_MPNET = _BERT | {
    "query": "attention.attn.q",
    "key": "attention.attn.k",
    "value": "attention.attn.v",
    "out": "attention.attn.o",
    "attn_norm": "attention.LayerNorm",
}
_DISTILBERT = {
    "query": "attention.q_lin",
    "key": "attention.k_lin",
    "value": "attention.v_lin",
    "out": "attention.out_lin",
    "attn_norm": "sa_layer_norm",
    "up": "ffn.lin1",
    "down": "ffn.lin2",
    "norm": "output_layer_norm",
}
# model_type of transformers -> the list of layers, and where in a layer its tensors are.
_MODULES = {
    "bert": ("encoder.layer", _BERT),
    "distilbert": ("transformer.layer", _DISTILBERT),
    "electra": ("encoder.layer", _BERT),
    "mpnet": ("encoder.layer", _MPNET),
    "roberta": ("encoder.layer", _BERT),
    "xlm-roberta": ("encoder.layer", _BERT),
}


def check_supported(config: object, source: str) -> str:
    """The model_type, if the encoder has the maths that LeTS implements; otherwise an error."""
    model_type = getattr(config, "model_type", None)
    if model_type not in _MODULES:
        raise LetsError(
            f"encoder: {source}: model_type must be one of {', '.join(_MODULES)}, "
            f"got {model_type!r}"
        )
    for field, wanted in (
        ("hidden_act", "gelu"),
        ("activation", "gelu"),  # DistilBERT's name for it
        ("position_embedding_type", "absolute"),
        ("is_decoder", False),
        ("add_cross_attention", False),
        ("relative_attention_num_buckets", 32),  # what transformers computes, whatever it says
    ):
        found = getattr(config, field, wanted)
        if found != wanted:
            raise LetsError(f"encoder: {source}: {field} must be {wanted!r}, got {found!r}")
    return model_type


def layer_modules(model: Any) -> Any:
    """The list of layers of a loaded model without head. nn.ModuleList"""
    return model.get_submodule(_MODULES[model.config.model_type][0])


def matrix_paths(model: Any) -> dict[str, str]:
    """Where a layer's matrices are: query, key, value, out, up, down → path below the layer."""
    names = _MODULES[model.config.model_type][1]
    return {name: path for name, path in names.items() if "norm" not in name}


def read_layers(model: Any, model_type: str) -> list[LayerWeights]:
    """The layers of a loaded model, bottom to top. The tensors are the model's own, detached."""
    path, names = _MODULES[model_type]
    return [_read_layer(layer, names) for layer in model.get_submodule(path)]


@torch.no_grad()
def write_layers(model: Any, model_type: str, layers: Sequence[LayerWeights]) -> None:
    """The reverse of `read_layers`: copy plain layers into a model."""
    path, names = _MODULES[model_type]
    for module, weights in zip(model.get_submodule(path), layers, strict=True):
        for part in ("weight", "bias"):
            projections = getattr(weights, f"qkv_{part}").chunk(3)
            for name, place in names.items():
                source = (
                    projections[_PROJECTIONS.index(name)]
                    if name in _PROJECTIONS
                    else getattr(weights, f"{name}_{part}")
                )
                getattr(module.get_submodule(place), part).copy_(source)


def _read_layer(layer: nn.Module, names: Mapping[str, str]) -> LayerWeights:
    modules: dict[str, Any] = {name: layer.get_submodule(path) for name, path in names.items()}
    projections = [modules.pop(name) for name in _PROJECTIONS]
    tensors = {
        "qkv_weight": torch.cat([p.weight for p in projections]),
        "qkv_bias": torch.cat([p.bias for p in projections]),
    }
    for name, module in modules.items():
        tensors[f"{name}_weight"], tensors[f"{name}_bias"] = module.weight, module.bias
    return LayerWeights(**{name: t.detach().contiguous() for name, t in tensors.items()})


def read_position_bias(model: Any, length: int) -> Tensor | None:
    """What MPNet adds to the attention scores of every layer, by relative position. [A, S, S]

    A shorter input's is its corner.
    """
    if not hasattr(getattr(model, "encoder", None), "relative_attention_bias"):
        return None
    encoder, places = model.encoder, torch.arange(length)
    buckets = encoder.relative_position_bucket(places - places[:, None])
    table = encoder.relative_attention_bias.weight.detach().cpu()
    return table.T[:, buckets].contiguous()


def named_weights(model: nn.Module) -> dict[str, Tensor]:
    """All parameters but the pooler's, which the frozen encoder does not use."""
    return {
        name: tensor
        for name, tensor in sorted(model.named_parameters())
        if not name.startswith("pooler.")
    }


def check_finite(weights: Mapping[str, Tensor], source: str) -> None:
    """Raise LetsError for NaN and infinity, naming the tensor."""
    for name, tensor in weights.items():
        if not bool(torch.isfinite(tensor).all()):
            raise LetsError(f"encoder: {source}: {name} must be finite, got NaN or infinity")


def fingerprint(weights: Mapping[str, Tensor]) -> str:
    """sha256 over names, dtypes, shapes and bytes."""
    digest = hashlib.sha256()
    for name, tensor in weights.items():
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        flat = tensor.detach().cpu().contiguous().view(-1)
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()
