"""LayerWeights: the tensors of one post-LN encoder layer, read from a transformers model."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

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


def _bert_layer(layer: Any) -> LayerWeights:
    attention, output = layer.attention, layer.output
    projections = [getattr(attention.self, name) for name in ("query", "key", "value")]
    tensors = {
        "qkv_weight": torch.cat([p.weight for p in projections]),
        "qkv_bias": torch.cat([p.bias for p in projections]),
    }
    for name, module in (
        ("out", attention.output.dense),
        ("attn_norm", attention.output.LayerNorm),
        ("up", layer.intermediate.dense),
        ("down", output.dense),
        ("norm", output.LayerNorm),
    ):
        tensors[f"{name}_weight"], tensors[f"{name}_bias"] = module.weight, module.bias
    return LayerWeights(**{name: t.detach().contiguous() for name, t in tensors.items()})


# model_type of transformers -> how a layer's tensors are found. All four share BERT's module names.
LAYER_READERS: dict[str, Callable[[Any], LayerWeights]] = dict.fromkeys(
    ("bert", "electra", "roberta", "xlm-roberta"), _bert_layer
)


def check_supported(config: object, source: str) -> str:
    """The model_type, if the encoder has the maths that LeTS implements; otherwise an error."""
    model_type = getattr(config, "model_type", None)
    if model_type not in LAYER_READERS:
        raise LetsError(
            f"encoder: {source} must be one of {', '.join(LAYER_READERS)}, got {model_type!r}"
        )
    for field, wanted in (
        ("hidden_act", "gelu"),
        ("position_embedding_type", "absolute"),
        ("is_decoder", False),
        ("add_cross_attention", False),
    ):
        found = getattr(config, field, wanted)
        if found != wanted:
            raise LetsError(f"encoder: {source}: {field} must be {wanted!r}, got {found!r}")
    return model_type


def read_layers(model: Any, model_type: str) -> list[LayerWeights]:
    """The layers of a loaded model, bottom to top. The tensors are the model's own, detached."""
    return [LAYER_READERS[model_type](layer) for layer in model.encoder.layer]


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
