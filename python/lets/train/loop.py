"""The one training loop of all stages with a single optimizer: deterministic and resumable."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from lets.config import FinetuneConfig, FullConfig
from lets.errors import LetsError
from lets.heap import keep_freed
from lets.progress import Progress
from lets.train.batches import Batches
from lets.train.checkpoint import Checkpoint, CheckpointStore
from lets.train.optim import (
    linear_factor,
    load_optimizer_tensors,
    optimizer_tensors,
    set_rates,
)
from lets.train.parallel import add_up, is_joined, own_rows
from lets.train.seeds import seed_everything


@dataclass(frozen=True)
class LoopPlan:
    """How long and how a loop runs."""

    stage: str
    seed: int
    total_steps: int
    warmup_steps: int = 0
    decay: bool = True  # False: the rate stays after the warm-up
    max_grad_norm: float = 1.0  # 0: no clipping
    save_steps: int = 0  # 0: checkpoints at epoch ends only
    eval_strategy: str = "epoch"
    eval_steps: int = 500

    @classmethod
    def of_epochs(
        cls, stage: str, batches: Batches, config: FinetuneConfig | FullConfig
    ) -> LoopPlan:
        """The plan of a stage that is set in epochs."""
        total = batches.steps(config.num_train_epochs)
        return cls(
            stage,
            batches.seed,
            total,
            warmup_steps(config.warmup_steps, config.warmup_ratio, total),
            max_grad_norm=config.max_grad_norm,
            save_steps=config.save_steps,
            eval_strategy=config.eval_strategy,
            eval_steps=config.eval_steps,
        )

    def evaluates(self, step: int, epoch_over: bool) -> bool:
        """Is the model evaluated after this step?"""
        if step == self.total_steps:
            return True
        every = self.eval_strategy == "steps" and step % self.eval_steps == 0
        return every or (self.eval_strategy == "epoch" and epoch_over)


@dataclass
class LoopState:
    """Everything a resumed loop continues from, apart from tensors; JSON."""

    step: int = 0
    loss_sum: float = 0.0  # since the last entry of the history
    loss_count: int = 0
    best_score: float | None = None
    best_step: int | None = None
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)


def train(
    plan: LoopPlan,
    *,
    parameters: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
    batches: Batches,
    compute_loss: Callable[[int, list[int]], Tensor],
    evaluate: Callable[[], float] | None = None,
    checkpoints: CheckpointStore | None = None,
    progress: Progress | None = None,
) -> LoopState:
    """Train `parameters` in place; with `evaluate` they end as the best evaluation's.

    Every step seeds torch's generators from (seed, stage, step), so dropout needs no saved state.

    Args:
        compute_loss: (step, row numbers) → scalar loss.
        evaluate: Development score, higher is better; called as the plan says, and at the end.
    """
    progress = progress or Progress()
    keep_freed()
    state, best = _restore(checkpoints, parameters, optimizer)
    progress.start(plan.stage, plan.total_steps, state.step)
    begun = time.perf_counter() - state.seconds
    ended = False
    while state.step < plan.total_steps and not ended:
        progress.step(plan.stage, state.step + 1)
        step, rows = state.step, batches.at(state.step)
        seed_everything(plan.seed, plan.stage, "step", step)
        factor = linear_factor(step, plan.total_steps, plan.warmup_steps)
        set_rates(optimizer, factor if plan.decay or step < plan.warmup_steps else 1.0)
        optimizer.zero_grad(set_to_none=True)
        loss = _backward(compute_loss, step, rows, parameters)
        value = check_finite(plan.stage, "loss", loss, step, rows)
        # Without clipping the largest norm is infinite, and the factor exactly 1.
        norm = torch.nn.utils.clip_grad_norm_(
            list(parameters.values()), plan.max_grad_norm or math.inf
        )
        check_finite(plan.stage, "gradient", norm, step, rows)
        optimizer.step()
        state.step += 1
        state.loss_sum += value
        state.loss_count += 1
        progress.advance(
            plan.stage,
            state.step,
            loss=value,
            epoch=state.step / batches.per_epoch,
            lr=optimizer.param_groups[-1]["lr"],
        )
        wishes = progress.wishes()
        epoch_over = state.step % batches.per_epoch == 0 or state.step == plan.total_steps
        evaluates = plan.evaluates(state.step, epoch_over) or bool(wishes & {"evaluate", "stop"})
        state.seconds = time.perf_counter() - begun
        if epoch_over or evaluates:
            chosen = evaluate if evaluates else None
            best = _record(plan.stage, state, batches.per_epoch, parameters, chosen, best, progress)
            wishes |= progress.wishes()
        ended = "stop" in wishes
        due = plan.save_steps > 0 and state.step % plan.save_steps == 0
        saves = epoch_over or due or "save" in wishes
        if checkpoints is not None and state.step < plan.total_steps and saves and not ended:
            _save(checkpoints, state, parameters, optimizer, best)
            progress.saved(plan.stage, state.step)
    if best:
        copy_into(parameters, best)
    progress.finish(plan.stage)
    return state


def _backward(
    compute_loss: Callable[[int, list[int]], Tensor],
    step: int,
    rows: list[int],
    parameters: Mapping[str, Tensor],
) -> Tensor:
    """Gradients of a batch's loss; of several processes each computes those of its rows."""
    if not is_joined():
        loss = compute_loss(step, rows)
        loss.backward()
        return loss
    own = own_rows(rows)
    total = torch.zeros((), device=next(iter(parameters.values())).device)
    if own:
        loss = compute_loss(step, own) * (len(own) / len(rows))
        loss.backward()
        total = loss.detach()
    for parameter in parameters.values():
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    add_up([total, *(p.grad for p in parameters.values() if p.grad is not None)])
    return total


def warmup_steps(steps: int | None, ratio: float, total: int) -> int:
    """Number of warm-up steps: as given (at most all), or a share of all steps."""
    return min(steps, total) if steps is not None else round(ratio * total)


def check_finite(stage: str, what: str, value: Tensor, step: int, rows: list[int]) -> float:
    """A loss or a norm as a number; stops the run when it is not finite, before anything is saved.

    A gradient that is not finite would make every parameter so, and the next checkpoint worthless.
    """
    number = float(value.detach())
    if not math.isfinite(number):
        raise LetsError(
            f"{stage}: {what} must be finite, got {number} at step {step + 1} "
            f"(training rows {', '.join(map(str, rows))}); lower the learning rates"
        )
    return number


def _record(
    stage: str,
    state: LoopState,
    per_epoch: int,
    parameters: Mapping[str, Tensor],
    evaluate: Callable[[], float] | None,
    best: dict[str, Tensor],
    progress: Progress,
) -> dict[str, Tensor]:
    """Add an entry to the history; returns the parameters of the best evaluation."""
    entry: dict[str, Any] = {
        "epoch": state.step / per_epoch,
        "step": state.step,
        "loss": state.loss_sum / state.loss_count,
    }
    state.loss_sum, state.loss_count = 0.0, 0
    if evaluate is not None:
        score = evaluate()
        entry["score"] = score
        better = state.best_score is None or math.isnan(state.best_score)
        if better or score > (state.best_score or 0.0):
            state.best_score, state.best_step = score, state.step
            best = {name: p.detach().clone() for name, p in parameters.items()}
        progress.evaluated(stage, state.step, score, state.best_step == state.step)
    state.history.append(entry)
    return best


def _save(
    checkpoints: CheckpointStore,
    state: LoopState,
    parameters: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
    best: dict[str, Tensor],
) -> None:
    tensors = {"model": parameters, "optimizer": optimizer_tensors(optimizer)}
    if best:
        tensors["best"] = best
    checkpoints.save(state.step, tensors, vars(state))


def _restore(
    checkpoints: CheckpointStore | None,
    parameters: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
) -> tuple[LoopState, dict[str, Tensor]]:
    found: Checkpoint | None = checkpoints.load() if checkpoints is not None else None
    if found is None:
        return LoopState(), {}
    copy_into(parameters, found.tensors["model"])
    load_optimizer_tensors(optimizer, found.tensors["optimizer"])
    return LoopState(**found.state), found.tensors.get("best", {})


@torch.no_grad()
def copy_into(parameters: Mapping[str, Tensor], source: Mapping[str, Tensor]) -> None:
    """Set parameters to a checkpoint's tensors of the same names."""
    missing = sorted(set(parameters) ^ set(source))
    if missing:
        raise LetsError(f"checkpoint: parameters differ from the model's: {', '.join(missing[:5])}")
    for name, parameter in parameters.items():
        parameter.copy_(source[name])
