"""TaskSpec: what a plan needs to know of a task; no weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lets.heads import PoolerHead
from lets.nnz import TaskNnz, policy_nnz
from lets.policy import Policy
from lets.shape import POOLER_WIDTHS, EncoderShape, head_sizes


@dataclass(frozen=True, eq=False)
class TaskSpec:
    """One task as the planner sees it.

    Args:
        nnz: Non-zeros of each live layer; None: a dense one.
        head: Widths of the projection and of one direction of the LSTM, or `POOLER_WIDTHS`.
        rank: Tasks of one rank stand together where they are stacked (single texts, pairs).
    """

    name: str
    policy: Policy
    nnz: TaskNnz
    num_labels: int
    head: tuple[int, int]
    rank: int = 0

    @property
    def dense(self) -> bool:
        """Whether its layers have matrices of their own (LeTS-(c)).

        Such a task shares no product with others, and no step.
        """
        return None in self.nnz.values()

    @classmethod
    def of(cls, task: Any, name: str | None = None) -> TaskSpec:
        """From a `lets.task.Task`."""
        head = task.head
        return cls(
            task.name if name is None else name,
            task.policy,
            task.layer_nnz(),
            head.num_labels,
            POOLER_WIDTHS
            if isinstance(head, PoolerHead)
            else (head.projection_size, head.lstm_size),
            int(task.is_pair),
        )

    @classmethod
    def from_policy(
        cls,
        name: str,
        policy: Policy,
        shape: EncoderShape,
        density: float | None = 0.005,
        num_labels: int = 2,
    ) -> TaskSpec:
        """A task that is not trained yet: non-zeros in proportion, a head of default widths."""
        policy.check_num_layers(shape.num_layers, shape.name)
        nnz = policy_nnz(shape, policy, density)
        return cls(name, policy, nnz, num_labels, head_sizes(shape.hidden_size))
