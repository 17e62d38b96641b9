"""Task: everything that one task adds to an encoder, as data; what a pack stores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from lets.delta import MATRICES, SparseDelta
from lets.encoder import Encoder
from lets.heads import Head, PoolerHead, copy_head
from lets.nnz import LayerNnz
from lets.policy import Policy
from lets.task_layer import VECTOR_DELTAS, DenseTaskLayer
from lets.task_model import TaskModel


@dataclass(frozen=True, eq=False, repr=False)
class Task:
    """A trained task: LeTS-(p,c), or one of its variants.

    LeTS-(c) has whole matrices (`dense`) in place of deltas; LeTS-(p) has a `PoolerHead` and the
    policy of one chain.

    Args:
        deltas: W^δ by live layer and matrix.
        vectors: Changes of biases and LayerNorms by live layer and name (`VECTOR_DELTAS`).
        labels: Names of the classes in the order of the logits; empty for regression.
        problem_type: "classification" or "regression".
        metric: The score it was selected by, see `lets.scores`.
        max_length: Longest input in tokens; longer ones are truncated.
        is_pair: Whether it takes pairs of texts.
        dense: W^f by live layer and matrix, in place of deltas; None: the task is sparse.
    """

    name: str
    policy: Policy
    deltas: Mapping[int, dict[str, SparseDelta]]
    vectors: dict[int, dict[str, Tensor]]
    head: Head
    labels: tuple[str, ...]
    problem_type: str
    metric: str
    max_length: int
    is_pair: bool = False
    dense: Mapping[int, dict[str, Tensor]] | None = None

    def __repr__(self) -> str:
        answers = ", ".join(self.labels) or "a number"
        policy = f"{self.policy.input}/{self.policy.pool}"
        size = f"{self.nnz} non-zeros" if self.dense is None else "dense"
        return f"Task({self.name}, policy {policy}, {size}, answers {answers})"

    @property
    def variant(self) -> str:
        """Of LeTS: `pc`, `p` or `c` (METHOD section 9)."""
        if isinstance(self.head, PoolerHead):
            return "p"
        return "pc" if self.dense is None else "c"

    @property
    def nnz(self) -> int:
        return sum(delta.layout.nnz for layer in self.deltas.values() for delta in layer.values())

    def layer_nnz(self) -> dict[int, LayerNnz | None]:
        """Counted non-zeros by live layer, as the cost model takes them; None: a dense layer."""
        if self.dense is not None:
            return dict.fromkeys(self.policy.live_layers)
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
        deltas, dense, vectors = {}, {}, {}
        for j in model.policy.live_layers:
            layer = model.dense_layer(j) if model.dense else model.task_layer(j)
            vectors[j] = {n: getattr(layer, n).detach().clone() for n in VECTOR_DELTAS}
            if isinstance(layer, DenseTaskLayer):
                dense[j] = {n: getattr(layer, f"{n}_dense").detach().clone() for n in MATRICES}
                continue
            deltas[j] = {
                matrix: SparseDelta(layout, layer.delta(matrix).values.detach().clone())
                for matrix, layout in layer.layouts.items()
            }
        assert isinstance(model.head, Head)
        return cls(
            name, model.policy, deltas, vectors, copy_head(model.head),
            labels, problem_type, metric, max_length, is_pair, dense if model.dense else None,
        )  # fmt: skip

    def to_model(self, encoder: Encoder) -> TaskModel:
        """A model in evaluation mode on this encoder, with parameters of its own."""
        masks = {j: {n: d.layout for n, d in layer.items()} for j, layer in self.deltas.items()}
        head = copy_head(self.head).to(encoder.device, encoder.dtype)
        model = TaskModel(encoder, self.policy, masks if self.dense is None else None, head)
        for j in self.policy.live_layers:
            if self.dense is None:
                model.task_layer(j).load(self.deltas[j], self.vectors[j])
            else:
                model.dense_layer(j).load(self.dense[j], self.vectors[j])
        return model.eval()
