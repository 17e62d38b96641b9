"""Dense models on the engine's own products: what is left is what sharing and sparsity save."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from lets.bench.baselines.base import Dense, Forward, Inputs, Sequential
from lets.bench.baselines.cls_last import ClsLayer
from lets.encoder import Encoder
from lets.frozen import FrozenNeeds
from lets.precision import INT8_TOLERANCE
from lets.tokens import TokenBatch


class OwnDense(Sequential):
    """The frozen encoder's pass as the engine runs it, with weights of its own for every model."""

    def __init__(self, dense: Dense, models: int) -> None:
        super().__init__(dense, models)
        model: Any = dense.plain
        if dense.quantization is not None:
            self.tolerance = INT8_TOLERANCE
        plain = Encoder(model.bert, None, dtype=dense.dtype)
        last = plain.shape.num_layers - 1
        whole = FrozenNeeds(hidden=frozenset({last}), pooled=frozenset({last}))
        needs = FrozenNeeds(pooled=frozenset({last})) if _cls_last(dense.model) else whole
        self.encoders, self.forwards = [], []
        for _ in range(models):  # copied first: where nothing is packed, packing copies nothing
            encoder, *head = copy.deepcopy((plain, model.bert.pooler, model.classifier))
            self.encoders.append(encoder.packed(dense.quantization))
            self.forwards.append(_forward(self.encoders[-1], needs, *head))

    @classmethod
    def unavailable(cls, dense: Dense) -> str | None:
        model: Any = dense.plain
        if model.config.model_type != "bert":
            return f"is written for BERT, got {model.config.model_type}"
        return None if dense.device.type == "cpu" else "is measured on a CPU alone"


def _cls_last(model: Any) -> bool:
    return isinstance(model.bert.encoder.layer[-1], ClsLayer)


def _forward(
    encoder: Encoder, needs: FrozenNeeds, pooler: nn.Module, classifier: nn.Module
) -> Forward:
    last = encoder.shape.num_layers - 1

    def forward(inputs: Inputs) -> Tensor:
        with torch.inference_mode():
            row = encoder.forward(TokenBatch(**inputs), needs).pooled(last)
            return classifier(pooler(row[:, None]))

    return forward
