"""Computation-aware differentiable search of a policy (METHOD section 7)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lets.config import SearchConfig
from lets.cost import check_accounting, encoder_flops, layer_prices
from lets.errors import LetsError
from lets.policy import Policy
from lets.policy_cost import head_cost
from lets.progress import Progress
from lets.search.bilevel import arch_gradient
from lets.search.derive import derive_policy
from lets.search.objective import cost_factor, expected_cost
from lets.search.selectors import Selectors, gumbel_noise, temperature_at
from lets.search.supernet import SuperNet
from lets.task_data import TaskData
from lets.train.activations import FrozenRows
from lets.train.batches import Batches
from lets.train.checkpoint import CheckpointStore
from lets.train.loop import check_finite, copy_into
from lets.train.optim import load_optimizer_tensors, make_adamw, optimizer_tensors
from lets.train.scoring import target_tensor, task_loss, token_lengths
from lets.train.seeds import generator, seed_everything

STAGE = "search"
_DIVERGED = 100

_Loss = Callable[[str, Tensor, float], Tensor]  # (part, noise, temperature) -> Eq. 8


@dataclass
class SearchState:
    """Everything a resumed search continues from, apart from tensors; JSON."""

    step: int = 0
    policy: dict[str, str] | None = None
    changed_step: int = 0  # since when the arg-max policy is what it is
    counted_step: int | None = None  # since when the stop rule counts
    stopped: str | None = None
    first_loss: float | None = None  # of the weights, which later ones are held against
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class SearchResult:
    """The policy, and how the selectors came to it."""

    policy: Policy
    alphas: Tensor  # [2, L, 2]
    state: SearchState


def search(
    supernet: SuperNet,
    data: TaskData,
    config: SearchConfig,
    *,
    density: float,
    seed: int,
    max_length: int,
    frozen: FrozenRows | None = None,
    checkpoints: CheckpointStore | None = None,
    progress: Progress | None = None,
) -> SearchResult:
    """Alternate steps of the selectors (on D2) and of the weights (on D1) until the rule stops.

    Args:
        supernet: Deltas at the mask and head; trained in place and of no further use.
        density: Of the final masks: what the prices of the layers are computed with.
        frozen: What it keeps of the rows' frozen activations; None: nothing.
    """
    frozen = frozen or FrozenRows(supernet.encoder, data, max_length)
    return _Search(supernet, data, config, density, seed, max_length, frozen).run(
        checkpoints, progress or Progress()
    )


def split_rows(count: int, share: float, seed: int) -> tuple[list[int], list[int]]:
    """D1 for the weights and D2 for the selectors, disjoint, by seed."""
    held = min(count - 1, max(1, round(share * count)))
    if held < 1:
        raise LetsError(f"search: needs at least two training rows, got {count}")
    order = torch.randperm(count, generator=generator(seed, STAGE, "split")).tolist()
    return sorted(order[held:]), sorted(order[:held])


class _Search:
    def __init__(
        self,
        supernet: SuperNet,
        data: TaskData,
        config: SearchConfig,
        density: float,
        seed: int,
        max_length: int,
        frozen: FrozenRows,
    ) -> None:
        self.supernet, self.data, self.config = supernet, data, config
        self.seed, self.frozen = seed, frozen
        shape, accounting = supernet.encoder.shape, check_accounting(config.accounting)
        self.prices = layer_prices(shape, max_length, density, accounting)
        self.head_flops = float(head_cost(shape, data.num_labels, accounting).flops)
        self.free_flops = config.cost_target * encoder_flops(shape, max_length)
        self.selectors = Selectors(shape.num_layers, config.groups, config.pool)
        self.selectors.to(supernet.encoder.device)
        rows_weights, rows_arch = split_rows(len(data.train), config.arch_split, seed)
        size = config.per_device_train_batch_size
        lengths = token_lengths(supernet.encoder, data, max_length, config.group_by_length)
        self.batches_weights = Batches(rows_weights, size, seed, f"{STAGE}/weights", lengths)
        self.batches_arch = Batches(rows_arch, size, seed, f"{STAGE}/arch", lengths)
        self.parameters: dict[str, Tensor] = dict(supernet.named_parameters())
        self.optimizer = make_adamw(
            self.parameters,
            config.learning_rate,
            values=config.values_learning_rate,
            head=config.head_learning_rate,
            weight_decay=config.weight_decay,
        )
        self.arch_optimizer = make_adamw(
            {"alphas": self.selectors.alphas}, config.arch_learning_rate, weight_decay=0.0
        )
        self.rates = self._rates() if config.second_order else [0.0] * len(self.parameters)
        self.warmup = round(config.warmup_epochs * self.batches_weights.per_epoch)
        self.state = SearchState()

    def run(self, checkpoints: CheckpointStore | None, progress: Progress) -> SearchResult:
        config, state = self.config, self._restore(checkpoints)
        per_epoch = self.batches_weights.per_epoch
        total = self.warmup + self.batches_weights.steps(config.num_train_epochs)
        interval = max(1, round(config.temperature_interval * per_epoch))
        progress.start(STAGE, total, state.step)
        begun = time.perf_counter() - state.seconds
        while state.step < total and state.stopped is None:
            temperature = self._temperature()
            warming_up = state.step < self.warmup
            on_weights = self._loss_on(self.batches_weights.at(state.step))
            loss_arch = 0.0 if warming_up else self._arch_step(temperature, on_weights)
            loss_weights = self._weights_step(temperature, on_weights)
            state.step += 1
            policy = derive_policy(self.selectors)
            if not warming_up:
                self._apply_stop_rule(policy, temperature)
            state.seconds = time.perf_counter() - begun
            if state.step % interval == 0 or state.step == total or state.stopped:
                state.history.append(self._entry(policy, temperature, loss_arch, loss_weights))
            progress.advance(STAGE, state.step, loss=loss_weights, T=temperature)
            if checkpoints and config.save_steps and state.step % config.save_steps == 0:
                self._save(checkpoints)
        state.stopped = state.stopped or "the most epochs were reached"
        progress.finish(STAGE)
        return SearchResult(
            derive_policy(self.selectors), self.selectors.alphas.detach().clone(), state
        )

    def _noise(self, part: str) -> Tensor:
        num_layers = self.supernet.encoder.shape.num_layers
        noise = gumbel_noise(num_layers, generator(self.seed, STAGE, part, self.state.step))
        return noise.to(self.selectors.alphas)

    def _arch_step(self, temperature: float, on_weights: _Loss) -> float:
        """One step of the selectors; batches and noise are frozen over its evaluations."""
        step, frozen = self.state.step, self._noise("arch")
        on_arch = self._loss_on(self.batches_arch.at(step))
        gradient, loss_arch = arch_gradient(
            self.selectors.alphas,
            list(self.parameters.values()),
            lambda: on_weights("arch-weights", frozen, temperature),
            lambda: on_arch("arch", frozen, temperature),
            self.rates,
            self.config.epsilon_scale,
        )
        rows, stage = self.batches_arch.at(step), f"{STAGE} (selectors)"
        check_finite(stage, "loss", loss_arch, step, rows)
        check_finite(stage, "gradient", gradient.norm(), step, rows)
        self.selectors.alphas.grad = gradient
        self.arch_optimizer.step()
        return float(loss_arch)

    def _weights_step(self, temperature: float, on_weights: _Loss) -> float:
        """One step of the deltas and the head."""
        step, rows = self.state.step, self.batches_weights.at(self.state.step)
        loss = on_weights("weights", self._noise("weights"), temperature)
        value = check_finite(STAGE, "loss", loss, step, rows)
        self._check_divergence(value, rows)
        weights = list(self.parameters.values())
        for weight, grad in zip(
            weights, torch.autograd.grad(loss, weights, materialize_grads=True)
        ):
            weight.grad = grad
        norm = nn.utils.clip_grad_norm_(weights, self.config.max_grad_norm or math.inf)
        check_finite(STAGE, "gradient", norm, step, rows)
        self.optimizer.step()
        return value

    def _check_divergence(self, loss: float, rows: list[int]) -> None:
        """Stop a search whose weights run away: its selectors would follow noise for hours."""
        state = self.state
        if state.first_loss is None:
            state.first_loss = loss
        most = _DIVERGED * (1.0 + state.first_loss)
        if loss > most:
            raise LetsError(
                f"{STAGE}: loss must stay below {most:.3g} ({_DIVERGED} times that of the first "
                f"step), got {loss:.3g} at step {state.step + 1} (training rows "
                f"{', '.join(map(str, rows))}); lower search.learning_rate"
            )

    def _loss_on(self, rows: list[int]) -> _Loss:
        """Eq. 8 on some training rows, whose frozen activations are computed once."""
        chosen = [self.data.train[i] for i in rows]
        cache = self.frozen(rows, self.supernet.needs)
        targets = target_tensor(self.data, chosen)

        def loss(part: str, noise: Tensor, temperature: float) -> Tensor:
            seed_everything(self.seed, STAGE, part, "dropout", self.state.step)
            p_input, p_pool = self.selectors(noise, temperature)
            logits = self.supernet(cache, p_input, p_pool)
            flops = expected_cost(p_input, p_pool, self.prices, self.head_flops)
            factor = cost_factor(flops, self.config.cost_weight, self.config.cost_power)
            if self._expected_flops(temperature) <= self.free_flops:
                factor = factor.detach()
            return task_loss(logits, targets) * factor

        return loss

    @torch.no_grad()
    def _expected_flops(self, temperature: float) -> float:
        """Without Gumbel noise: what the selectors have come to."""
        p_input, p_pool = self.selectors(None, temperature)
        return float(expected_cost(p_input, p_pool, self.prices, self.head_flops))

    def _temperature(self) -> float:
        config, after = self.config, max(0, self.state.step - self.warmup)
        done = after / self.batches_weights.per_epoch
        return temperature_at(
            done, config.temperature, config.temperature_decay, config.temperature_interval
        )

    def _apply_stop_rule(self, policy: Policy, temperature: float) -> None:
        """Stop when the policy is stable; below a temperature alone, before it is start noise."""
        state, config = self.state, self.config
        if policy.to_dict() != state.policy:
            state.policy, state.changed_step = policy.to_dict(), state.step
        below = config.stop_below_temperature
        if state.counted_step is None and (below is None or temperature < below):
            state.counted_step = state.step
        if state.counted_step is None:
            return
        stable = state.step - max(state.changed_step, state.counted_step)
        if stable >= config.stop_epochs * self.batches_weights.per_epoch:
            state.stopped = f"the policy did not change for {config.stop_epochs:g} epochs"

    @torch.no_grad()
    def _entry(
        self, policy: Policy, temperature: float, loss_arch: float, loss_weights: float
    ) -> dict[str, Any]:
        p_input, p_pool = self.selectors(None, temperature)
        return {
            "step": self.state.step,
            "epoch": self.state.step / self.batches_weights.per_epoch,
            "temperature": temperature,
            "loss_arch": loss_arch,
            "loss_weights": loss_weights,
            "expected_gflop": self._expected_flops(temperature) * 1e-9,
            "p_input": p_input.tolist(),
            "p_pool": p_pool.tolist(),
            "policy": policy.to_dict(),
        }

    def _rates(self) -> list[float]:
        rates = {n: g["base_lr"] for g in self.optimizer.param_groups for n in g["names"]}
        return [rates[name] for name in self.parameters]

    def _save(self, checkpoints: CheckpointStore) -> None:
        tensors: dict[str, Mapping[str, Tensor]] = {
            "model": self.parameters,
            "alphas": {"alphas": self.selectors.alphas},
            "optimizer": optimizer_tensors(self.optimizer),
            "arch_optimizer": optimizer_tensors(self.arch_optimizer),
        }
        checkpoints.save(self.state.step, tensors, vars(self.state))

    def _restore(self, checkpoints: CheckpointStore | None) -> SearchState:
        found = checkpoints.load() if checkpoints is not None else None
        if found is not None:
            copy_into(self.parameters, found.tensors["model"])
            copy_into({"alphas": self.selectors.alphas}, found.tensors["alphas"])
            load_optimizer_tensors(self.optimizer, found.tensors["optimizer"])
            load_optimizer_tensors(self.arch_optimizer, found.tensors["arch_optimizer"])
            self.state = SearchState(**found.state)
        return self.state
