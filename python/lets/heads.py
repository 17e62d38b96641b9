"""Task heads, from pooled [CLS] rows to logits: layer by layer (METHOD section 5), or the last."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lets.errors import LetsError
from lets.shape import head_sizes


class LayerwiseHead(nn.Module):
    """Projection, bidirectional LSTM over the layer axis, dropout, classifier.

    With the default widths at BERT-base sizes, projection and LSTM hold 821,632 parameters (0.75%
    of the encoder); the classifier adds `num_labels` · (2 · lstm + 1).

    Args:
        num_layers: Layers of the encoder, the length of the sequence that the LSTM reads.
        num_labels: Number of classes, or 1 for regression.
        projection: Width of the projection; default H/2.
        lstm: Width of one direction; default H/6 to the nearest multiple of 8.
    """

    kind = "layerwise"

    def __init__(
        self,
        num_layers: int,
        hidden: int,
        num_labels: int,
        projection: int | None = None,
        lstm: int | None = None,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        default_projection, default_lstm = head_sizes(hidden)
        self.num_layers, self.hidden, self.num_labels = num_layers, hidden, num_labels
        self.projection_size = default_projection if projection is None else projection
        self.lstm_size = default_lstm if lstm is None else lstm
        _check_positive(self, "num_layers", "hidden", "num_labels", "projection_size", "lstm_size")
        self.projection = nn.Linear(hidden, self.projection_size)
        self.lstm = nn.LSTM(
            self.projection_size, self.lstm_size, batch_first=True, bidirectional=True
        )
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(2 * self.lstm_size, num_labels)

    def forward(self, pooled: Tensor) -> Tensor:
        """Logits [B, C] of pooled [CLS] rows [B, L, H], bottom layer first."""
        _check_pooled(self, pooled, self.num_layers)
        _, (last, _) = self.lstm(self.projection(pooled))
        return self.classifier(self.dropout(torch.cat([last[0], last[1]], dim=-1)))

    def config(self) -> dict[str, Any]:
        """The arguments that build this head again: LayerwiseHead(**config)."""
        return {
            "num_layers": self.num_layers,
            "hidden": self.hidden,
            "num_labels": self.num_labels,
            "projection": self.projection_size,
            "lstm": self.lstm_size,
            "dropout": self.dropout.p,
        }


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "gelu": F.gelu,
    "relu": torch.relu,
}


class PoolerHead(nn.Module):
    """The ordinary classifier: the last layer's [CLS] row, a dense layer, dropout, labels.

    Args:
        num_labels: Number of classes, or 1 for regression.
        activation: Of the dense layer, a key of `ACTIVATIONS`; architectures differ in it.
    """

    kind = "pooler"

    def __init__(
        self, hidden: int, num_labels: int, dropout: float = 0.1, activation: str = "tanh"
    ) -> None:
        super().__init__()
        self.hidden, self.num_labels = hidden, num_labels
        _check_positive(self, "hidden", "num_labels")
        if activation not in ACTIVATIONS:
            known = ", ".join(ACTIVATIONS)
            raise ValueError(f"PoolerHead: activation must be one of {known}, got {activation!r}")
        self.activation = activation
        self.dense = nn.Linear(hidden, hidden)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(hidden, num_labels)

    def forward(self, pooled: Tensor) -> Tensor:
        """Logits [B, C] of pooled [CLS] rows [B, L, H]; only the last of them is read."""
        _check_pooled(self, pooled, None)
        hidden = ACTIVATIONS[self.activation](self.dense(pooled[:, -1]))
        return self.classifier(self.dropout(hidden))

    def config(self) -> dict[str, Any]:
        """The arguments that build this head again: PoolerHead(**config)."""
        return {
            "hidden": self.hidden,
            "num_labels": self.num_labels,
            "dropout": self.dropout.p,
            "activation": self.activation,
        }


Head = LayerwiseHead | PoolerHead
HEADS: dict[str, type[LayerwiseHead] | type[PoolerHead]] = {
    head.kind: head for head in (LayerwiseHead, PoolerHead)
}


def build_head(kind: str, config: dict[str, Any]) -> Head:
    """A head by its kind and the arguments that `config` gave."""
    if kind not in HEADS:
        raise LetsError(f"head must be one of {', '.join(HEADS)}, got {kind!r}")
    return HEADS[kind](**config)


def copy_head(head: Head) -> Head:
    """The same head in evaluation mode, with parameters of its own."""
    with torch.random.fork_rng(devices=[]):
        copy = build_head(head.kind, head.config())
    copy.load_state_dict(head.state_dict())
    return copy.eval()


def _check_positive(head: nn.Module, *names: str) -> None:
    for name in names:
        value = getattr(head, name)
        if value < 1:
            raise ValueError(f"{type(head).__name__}: {name} must be positive, got {value}")


def _check_pooled(head: Any, pooled: Tensor, rows: int | None) -> None:
    found = tuple(pooled.shape)
    if len(found) != 3 or found[2] != head.hidden or rows not in (None, found[1]):
        raise ValueError(
            f"{type(head).__name__}: pooled must have shape [B, {rows or 'L'}, {head.hidden}], "
            f"got {list(found)}"
        )
