"""How a set of tasks is run: every mode executes a plan of the same steps, stacked or not."""

from __future__ import annotations

from torch import Tensor

from lets.errors import LetsError
from lets.plan.compile import compile_plan
from lets.plan.step import Plan
from lets.run.program import Program
from lets.run.task_set import TaskSet
from lets.tokens import TokenBatch

MODES = ("serial", "stacked")
# Rows of a stacked step: more gain nothing, and their activations leave the caches.
ROW_LIMIT = 4096


def check_mode(mode: str) -> str:
    if mode not in MODES:
        raise LetsError(f"engine: mode must be one of {', '.join(MODES)}, got {mode!r}")
    return mode


def run(
    loaded: TaskSet, names: tuple[str, ...], tokens: TokenBatch, mode: str
) -> dict[str, Tensor]:
    """Logits [B, C] of the named tasks."""
    batch, length = tokens.input_ids.shape
    return program(loaded, names, mode, batch, length).run(tokens)


def program(
    loaded: TaskSet, names: tuple[str, ...], mode: str, batch: int, seq_len: int
) -> Program:
    """The program of a mode for inputs of this size, made at its first use."""
    limit = max(1, ROW_LIMIT // (batch * seq_len))
    limit = 0 if limit >= len(names) else limit  # 0: no stack is cut

    def make() -> Program:
        plan = plan_of(loaded, names, mode == "stacked", batch, seq_len, limit)
        return Program(plan, loaded.encoder, loaded.stacks)

    return loaded.cached((names, mode, limit), make)


def plan_of(
    loaded: TaskSet, names: tuple[str, ...], stacked: bool, batch: int, seq_len: int, limit: int = 0
) -> Plan:
    specs = loaded.stacks.specs
    return compile_plan(
        loaded.encoder.shape,
        [specs[name] for name in names],
        batch,
        seq_len,
        stacked=stacked,
        row_limit=limit * batch * seq_len or None,
        among=list(specs.values()),
        itemsize=loaded.encoder.dtype.itemsize,
    )
