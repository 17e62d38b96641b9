"""Task: everything that one task adds to an encoder, as data; what a pack stores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lets.delta import SparseDelta
from lets.encoder import Encoder
from lets.heads import LayerwiseHead
from lets.nnz import LayerNnz
from lets.policy import Policy
from lets.task_layer import VECTOR_DELTAS
from lets.task_model import TaskModel


@dataclass(frozen=True, eq=False, repr=False)
class Task:
    """A trained task.

    Args:
        deltas: W^δ by live layer and matrix.
        vectors: Changes of biases and LayerNorms by live layer and name (`VECTOR_DELTAS`).
        labels: Names of the classes in the order of the logits; empty for regression.
        problem_type: "classification" or "regression".
        metric: The score it was selected by, see `lets.scores`.
        max_length: Longest input in tokens; longer ones are truncated.
        is_pair: Whether it takes pairs of texts.
    """

    name: str
    policy: Policy
    deltas: Mapping[int, dict[str, SparseDelta]]
    vectors: dict[int, dict[str, Tensor]]
    head: LayerwiseHead
    labels: tuple[str, ...]
    problem_type: str
    metric: str
    max_length: int
    is_pair: bool = False

    def __repr__(self) -> str:
        answers = ", ".join(self.labels) or "a number"
        policy = f"{self.policy.input}/{self.policy.pool}"
        return f"Task({self.name}, policy {policy}, {self.nnz} non-zeros, answers {answers})"

    @property
    def nnz(self) -> int:
        return sum(delta.layout.nnz for layer in self.deltas.values() for delta in layer.values())

    def layer_nnz(self) -> dict[int, LayerNnz]:
        """Counted non-zeros by live layer, as the cost model takes them."""
        return {
            j: LayerNnz.from_crow({n: d.layout.crow_indices for n, d in layer.items()})
            for j, layer in self.deltas.items()
        }

    @classmethod
    def from_model(
        cls,
        model: TaskModel,
        name: str,
        *,
        labels: tuple[str, ...],
        problem_type: str,
        metric: str,
        max_length: int,
        is_pair: bool = False,
    ) -> Task:
        """The trained state of a model, copied."""
        deltas, vectors = {}, {}
        for j in model.policy.live_layers:
            layer = model.task_layer(j)
            deltas[j] = {
                matrix: SparseDelta(layout, layer.delta(matrix).values.detach().clone())
                for matrix, layout in layer.layouts.items()
            }
            vectors[j] = {n: getattr(layer, n).detach().clone() for n in VECTOR_DELTAS}
        assert isinstance(model.head, LayerwiseHead)
        head = LayerwiseHead(**model.head.config())
        head.eval().load_state_dict(model.head.state_dict())
        return cls(
            name, model.policy, deltas, vectors, head,
            labels, problem_type, metric, max_length, is_pair,
        )  # fmt: skip

    def to_model(self, encoder: Encoder) -> TaskModel:
        """A model in evaluation mode on this encoder, with parameters of its own."""
        masks = {j: {n: d.layout for n, d in layer.items()} for j, layer in self.deltas.items()}
        with torch.random.fork_rng(devices=[]):
            head = LayerwiseHead(**self.head.config())
        head.load_state_dict(self.head.state_dict())
        head.to(encoder.device, encoder.dtype)
        model = TaskModel(encoder, self.policy, masks, head)
        for j in self.policy.live_layers:
            model.task_layer(j).load(self.deltas[j], self.vectors[j])
        return model.eval()
