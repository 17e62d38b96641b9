"""The task head: the [CLS] rows of all layers, read in order by a small LSTM (METHOD section 5)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

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
        for name in ("num_layers", "hidden", "num_labels", "projection_size", "lstm_size"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"LayerwiseHead: {name} must be positive, got {getattr(self, name)}"
                )
        self.projection = nn.Linear(hidden, self.projection_size)
        self.lstm = nn.LSTM(
            self.projection_size, self.lstm_size, batch_first=True, bidirectional=True
        )
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(2 * self.lstm_size, num_labels)

    def forward(self, pooled: Tensor) -> Tensor:
        """Logits [B, C] of pooled [CLS] rows [B, L, H], bottom layer first."""
        if pooled.dim() != 3 or pooled.shape[1:] != (self.num_layers, self.hidden):
            raise ValueError(
                f"LayerwiseHead: pooled must have shape [B, {self.num_layers}, {self.hidden}], "
                f"got {list(pooled.shape)}"
            )
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
