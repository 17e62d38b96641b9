"""One training step: LeTS fine-tuning beside full fine-tuning, time and peak memory.

Each variant is a process of its own, because peak memory is a process's; the processes take turns,
one step each, so that times are interleaved all the same.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, TextIO

import torch
from torch import Tensor, nn

from lets.bench.baselines.base import as_inputs
from lets.bench.measure import Timing
from lets.bench.policies import task_policies
from lets.bench.problem import (
    bench_encoder,
    dense_classifier,
    random_batch,
    random_task,
    random_tokens,
)
from lets.heap import keep_freed
from lets.train.optim import make_adamw

# Without dropout full fine-tuning is cheaper; LeTS has dropout in its head alone.
VARIANTS = ("full", "full-no-dropout", "lets", "lets-cached")


@dataclass(frozen=True)
class StepProblem:
    """One batch, trained on again and again."""

    encoder: str = "bert-base"
    policy: str = "fig2b"
    batch: int = 16
    seq_len: int = 128
    density: float = 0.005
    threads: int = 2
    seed: int = 0
    learning_rate: float = 1e-5


def compare_steps(
    problem: StepProblem, rounds: int = 5, variants: Sequence[str] = VARIANTS
) -> list[dict[str, Any]]:
    """A row per variant, beside `full`.

    `peak_mb` is the process's largest resident memory; of it `imports_mb` were there before any
    weight was, torch and transformers themselves.
    """
    names = dict.fromkeys(("full", *variants))
    with ExitStack() as stack:
        children = {name: stack.enter_context(_Child(problem, name)) for name in names}
        for child in children.values():
            child.ask("build")
        times = take_turns(children, rounds)
        peaks = {name: child.ask("peak") for name, child in children.items()}
        imports = {name: child.imports for name, child in children.items()}
    timings = {name: Timing.of(seconds) for name, seconds in times.items()}
    return [
        {
            "variant": name,
            **vars(problem),
            "step_ms": 1e3 * timing.median,
            "iqr_ms": 1e3 * (timing.high - timing.low),
            "peak_mb": peaks[name] / 1e6,
            "imports_mb": imports[name] / 1e6,
            "speedup": timings["full"].median / timing.median,
            "memory_ratio": peaks[name] / peaks["full"],
            "rounds": timing.rounds,
        }
        for name, timing in timings.items()
    ]


def take_turns(children: Mapping[str, _Child], rounds: int) -> dict[str, list[float]]:
    """Seconds of every variant's steps, one of each in turn; the first round does not count."""
    times = {name: [child.ask("step")] for name, child in children.items()}
    for _ in range(rounds):
        for name, child in children.items():
            times[name].append(child.ask("step"))
    return {name: seconds[1:] for name, seconds in times.items()}


class _Child:
    """A variant in its own process: one line asks, one line answers."""

    def __init__(self, problem: StepProblem, variant: str) -> None:
        command = [sys.executable, "-m", "lets.bench.train_step"]
        self._process = subprocess.Popen(
            [*command, variant, json.dumps(vars(problem))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.imports = self.ask("peak")

    def __enter__(self) -> _Child:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()  # it ends where its questions end
        self._process.wait()

    def ask(self, question: str) -> float:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(question + "\n")
        stdin.flush()
        answer = stdout.readline()
        if not answer:
            raise RuntimeError(f"train step: the process ended with {self._process.wait()}")
        return float(answer)


def serve(variant: str, problem: StepProblem, questions: TextIO, answers: TextIO) -> None:
    """Answer `build` and `step` with seconds, `peak` with the process's largest resident bytes."""
    torch.set_num_threads(problem.threads)
    keep_freed()  # as the training loop does
    step: Callable[[], float] | None = None
    for question in map(str.strip, questions):
        begin = time.perf_counter()
        if question == "build":
            step = training_step(variant, problem)
        elif question == "step":
            assert step is not None, "a step is asked for before it is built"
            step()
        answer = time.perf_counter() - begin
        if question == "peak":
            answer = 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(answer, file=answers, flush=True)


def training_step(variant: str, problem: StepProblem) -> Callable[[], float]:
    """Forward, backward, clipping and AdamW, as the training loop does them; returns the loss."""
    if variant.startswith("full"):
        parameters, forward = _full(problem, dropout=variant == "full")
    else:
        parameters, forward = _lets(problem, cached=variant == "lets-cached")
    optimizer = make_adamw(parameters, problem.learning_rate)
    targets = torch.arange(problem.batch) % 2

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = nn.functional.cross_entropy(forward(), targets)
        loss.backward()
        nn.utils.clip_grad_norm_(list(parameters.values()), 1.0)
        optimizer.step()
        return float(loss.detach())

    return step


_Parts = tuple[dict[str, Tensor], Callable[[], Tensor]]


def _full(problem: StepProblem, dropout: bool) -> _Parts:
    model: Any = dense_classifier(problem.encoder, problem.seed).requires_grad_(True).train()
    if not dropout:
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
    tokens = random_tokens(model.config.vocab_size, problem.batch, problem.seq_len)
    inputs = as_inputs(tokens)
    return dict(model.named_parameters()), lambda: model(**inputs).logits


def _lets(problem: StepProblem, cached: bool) -> _Parts:
    encoder = bench_encoder(problem.encoder, problem.seed)
    (policy,) = task_policies(problem.policy, encoder.shape, 1, problem.density, problem.seed)
    model = random_task(encoder, policy, problem.density, problem.seed).to_model(encoder).train()
    tokens = random_batch(encoder, problem.batch, problem.seq_len)
    # As with --cache-activations from the second epoch on.
    kept = encoder.forward(tokens, model.needs) if cached else None
    return dict(model.named_parameters()), lambda: model(kept or tokens)


if __name__ == "__main__":
    serve(sys.argv[1], StepProblem(**json.loads(sys.argv[2])), sys.stdin, sys.stdout)
