"""How a set of tasks is run: every mode executes a plan of the same steps.

`serial` runs task after task, `stacked` all tasks in one step where they can, `streams` independent
steps at once, and `auto` whichever of the first two a measured calibration expects to be fastest.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from lets.errors import LetsError
from lets.plan.compile import compile_plan
from lets.plan.price import priced
from lets.plan.timing import plan_seconds
from lets.run.calibrate import Sizes, machine_rates
from lets.run.graphs import CapturedProgram, bucket
from lets.run.program import Program
from lets.run.streams import DEFAULT_STREAMS, CudaStreamsProgram, ThreadedProgram
from lets.run.task_set import TaskSet
from lets.tokens import TokenBatch

MODES = ("auto", "serial", "stacked", "streams")
MODE_VARIABLE = "LETS_ENGINE_MODE"
# Rows of a stacked step: many more gain nothing, but their activations take memory. With 1536 and
# F up to 4096 each stays below the 32 MB from which on glibc asks the system anew every time.
ROW_LIMIT = 1536


class Runnable(Protocol):
    def run(self, tokens: TokenBatch) -> dict[str, Tensor]: ...


class Choice(NamedTuple):
    """A structure of the plan: stacked or not, and the most tasks of a stack (0: all)."""

    stacked: bool
    limit: int = 0


def check_mode(mode: str) -> str:
    """The mode, or the one that the environment names in place of `auto`."""
    source = "mode"
    if mode == "auto" and os.environ.get(MODE_VARIABLE):
        mode, source = os.environ[MODE_VARIABLE], MODE_VARIABLE
    if mode not in MODES:
        raise LetsError(f"engine: {source} must be one of {', '.join(MODES)}, got {mode!r}")
    return mode


def run(
    loaded: TaskSet, names: tuple[str, ...], tokens: TokenBatch, mode: str, graphs: bool = False
) -> dict[str, Tensor]:
    """Logits [B, C] of the named tasks.

    Args:
        graphs: On CUDA, replay captured graphs.
    """
    batch, length = tokens.input_ids.shape
    if graphs and tokens.input_ids.is_cuda:
        batch, length = bucket(tokens, loaded.encoder.max_length)
    return runnable(loaded, names, mode, batch, length, graphs).run(tokens)


def runnable(
    loaded: TaskSet,
    names: tuple[str, ...],
    mode: str,
    batch: int,
    seq_len: int,
    graphs: bool = False,
) -> Runnable:
    """What runs inputs of this size in a mode; made at its first use."""
    if mode == "streams":
        return _streams(loaded, names, batch, seq_len)
    choice = (
        _fastest(loaded, names, batch, seq_len)
        if mode == "auto"
        else Choice(mode == "stacked", _limit(batch, seq_len, len(names)))
    )
    made = program(loaded, names, choice, batch, seq_len)
    if graphs and loaded.encoder.device.type == "cuda":
        key = ("graph", names, choice, batch, seq_len)
        return loaded.cached(key, lambda: CapturedProgram(made, batch, seq_len))
    return made


def program(
    loaded: TaskSet, names: tuple[str, ...], choice: Choice, batch: int, seq_len: int
) -> Program:
    """The program of a structure. It runs inputs of all sizes; its costs are for these."""

    def make() -> Program:
        specs = loaded.stacks.specs
        plan = compile_plan(
            loaded.encoder.shape,
            [specs[name] for name in names],
            batch,
            seq_len,
            stacked=choice.stacked,
            row_limit=choice.limit * batch * seq_len or None,
            # One launch; on a CPU there is nothing to gain.
            merged=choice.stacked and loaded.encoder.device.type == "cuda",
            among=list(specs.values()),
            itemsize=loaded.encoder.dtype.itemsize,
        )
        return Program(plan, loaded.encoder, loaded.stacks)

    return loaded.cached((names, choice), make)


def _limit(batch: int, seq_len: int, tasks: int) -> int:
    limit = max(1, ROW_LIMIT // (batch * seq_len))
    return 0 if limit >= tasks else limit


def _fastest(loaded: TaskSet, names: tuple[str, ...], batch: int, seq_len: int) -> Choice:
    """By expected time; decided once per bucket of sizes (powers of two)."""

    def decide() -> Choice:
        choices = (Choice(True, _limit(batch, seq_len, len(names))), Choice(False))
        encoder, specs = loaded.encoder, [loaded.stacks.specs[name] for name in names]
        shape = encoder.shape
        rates = machine_rates(
            Sizes(shape.hidden_size, shape.intermediate_size, encoder.dtype, encoder.device)
        )

        def seconds(choice: Choice) -> float:
            plan = program(loaded, names, choice, batch, seq_len).plan
            plan = priced(plan, shape, specs, batch, seq_len, encoder.dtype.itemsize)
            return sum(plan_seconds(plan, rates))

        return min(choices, key=seconds)

    sizes = (batch - 1).bit_length(), (seq_len - 1).bit_length()
    return loaded.chosen(("auto", names, sizes, torch.get_num_threads()), decide)


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(DEFAULT_STREAMS - 1, "lets-stream")


def _streams(loaded: TaskSet, names: tuple[str, ...], batch: int, seq_len: int) -> Runnable:
    encoder = loaded.encoder

    def make() -> Runnable:
        made = program(loaded, names, Choice(False), batch, seq_len)
        if encoder.device.type != "cuda":
            return ThreadedProgram(made, DEFAULT_STREAMS, _pool())
        sizes = Sizes(
            encoder.shape.hidden_size, encoder.shape.intermediate_size, encoder.dtype,
            encoder.device,
        )  # fmt: skip
        return CudaStreamsProgram(made, DEFAULT_STREAMS, machine_rates(sizes))

    return loaded.cached(("streams", names), make)
