"""Delta-Pruning: which weights of the encoder a task may change (METHOD section 6)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from lets.config import PruneConfig
from lets.delta import MATRICES
from lets.dense import choices_of, dense_forward, dense_needs
from lets.errors import LetsError
from lets.nnz import kept_weights
from lets.policy import Policy
from lets.progress import Progress
from lets.search.selectors import Selectors
from lets.task_data import TaskData
from lets.train.activations import FrozenRows
from lets.train.batches import Batches
from lets.train.checkpoint import CheckpointStore
from lets.train.loop import LoopPlan, check_finite, train
from lets.train.masks import Masks, keep_largest
from lets.train.optim import make_adamw
from lets.train.scoring import target_tensor, task_loss, token_lengths
from lets.train.seeds import generator, seed_everything

_RANDOM_STD = 1e-3  # of the random trial delta: about what 100 steps of warm-up move a weight


@dataclass(frozen=True)
class Pruned:
    """A mask, and what there is to report about it."""

    masks: Masks
    kept: int
    num_weights: int
    score_sum: float  # Σ|g| over all masked weights: the normaliser of Eq. 4


def prune(
    encoder: Any,
    data: TaskData,
    config: PruneConfig,
    *,
    policy: Policy | None,
    head: nn.Module,
    seed: int,
    max_length: int,
    selectors: Selectors | None = None,
    frozen: FrozenRows | None = None,
    stage: str = "prune",
    checkpoints: CheckpointStore | None = None,
    progress: Progress | None = None,
) -> Pruned:
    """Warm up a dense copy, score every weight of the live layers, keep the largest scores.

    Args:
        policy: The chosen model; None: the super network, every free selector at 1/2 without noise.
        head: A fresh head, warmed up in place.
        selectors: Of the super network, if it is restricted (`SearchConfig.groups` and `pool`).
        frozen: What it keeps of the rows' frozen activations; None: nothing.
    """
    progress = progress or Progress()
    frozen = frozen or FrozenRows(encoder, data, max_length)
    twin = _DenseTwin(encoder, data, policy, selectors, head, frozen)
    if not twin.live:
        return Pruned({}, 0, 0, 0.0)
    lengths = token_lengths(encoder, data, max_length, config.group_by_length)
    batches = Batches(len(data.train), config.per_device_train_batch_size, seed, stage, lengths)
    if config.init == "random":
        twin.randomise(generator(seed, stage, "random"))
    elif config.warmup_steps > 0:
        train(
            LoopPlan(
                stage,
                seed,
                config.warmup_steps,
                decay=False,
                max_grad_norm=config.max_grad_norm,
                save_steps=config.save_steps,
            ),
            parameters=twin.parameters,
            optimizer=make_adamw(
                twin.parameters,
                config.learning_rate,
                bias=config.bias_learning_rate,
                head=config.head_learning_rate,
                weight_decay=config.weight_decay,
            ),
            batches=batches,
            compute_loss=twin.loss,
            checkpoints=checkpoints,
            progress=progress,
        )
    # The optimizer's state is gone here: from now on there is one gradient per weight at most.
    if config.init != "magnitude":
        twin.accumulate_gradients(config, batches, seed, stage)
    kept = kept_weights(config.density, twin.num_weights)

    def score(weight: Tensor, delta: Tensor) -> Tensor:
        if config.init == "magnitude":
            return delta.abs()
        assert weight.grad is not None
        return (weight.grad * delta).abs()

    masks, total = keep_largest(twin.matrices, score, kept)
    if not math.isfinite(total):
        raise LetsError(f"{stage}: scores must be finite, got {total}; lower the learning rates")
    return Pruned(masks, kept, twin.num_weights, total)


class _DenseTwin:
    """A trainable dense copy of the live layers, and the encoder they started from."""

    def __init__(
        self,
        encoder: Any,
        data: TaskData,
        policy: Policy | None,
        selectors: Selectors | None,
        head: nn.Module,
        frozen: FrozenRows,
    ) -> None:
        self.encoder, self.data, self.head, self.frozen = encoder, data, head, frozen
        num_layers = encoder.shape.num_layers
        self.streams: frozenset[int] = frozenset()
        if policy is None:
            self.live = list(range(num_layers))
            with torch.no_grad():
                selectors = selectors or Selectors(num_layers)
                self.p_input, self.p_pool = selectors(None, 1.0)
        else:
            policy.check_num_layers(num_layers, encoder.shape.name)
            self.live = list(policy.live_layers)
            p_input, p_pool, self.streams = choices_of(policy)
            self.p_input, self.p_pool = torch.tensor(p_input), torch.tensor(p_pool)
        self.weights = [
            _trainable_copy(layer) if j in self.live else layer
            for j, layer in enumerate(encoder.layers)
        ]
        self.needs = dense_needs(self.p_input, self.p_pool)
        self.parameters: dict[str, Tensor] = {
            f"layers.{j}.{f.name}": getattr(self.weights[j], f.name)
            for j in self.live
            for f in fields(self.weights[j])
        }
        self.parameters |= {f"head.{name}": p for name, p in head.named_parameters()}

    @property
    def num_weights(self) -> int:
        return sum(weight.numel() for _, weight, _ in self.matrices(with_delta=False))

    def matrices(self, with_delta: bool = True) -> Iterator[tuple[str, Tensor, Tensor]]:
        """(name, trained weight, its change) of every masked matrix, one delta at a time."""
        for j in self.live:
            for matrix in MATRICES:
                weight = getattr(self.weights[j], f"{matrix}_weight")
                start = getattr(self.encoder.layers[j], f"{matrix}_weight")
                yield (
                    f"layers.{j}.{matrix}",
                    weight,
                    weight.detach() - start if with_delta else start,
                )

    def loss(self, step: int, rows: list[int]) -> Tensor:
        chosen = [self.data.train[i] for i in rows]
        cache = self.frozen(rows, self.needs)
        logits = dense_forward(
            self.encoder, self.weights, self.p_input, self.p_pool, self.head, cache, self.streams
        )
        return task_loss(logits, target_tensor(self.data, chosen))

    @torch.no_grad()
    def randomise(self, random: torch.Generator) -> None:
        """The random trial delta of the ablation."""
        for _, weight, _ in self.matrices(with_delta=False):
            weight.add_(torch.randn(weight.shape, generator=random).to(weight), alpha=_RANDOM_STD)

    def accumulate_gradients(
        self, config: PruneConfig, batches: Batches, seed: int, stage: str
    ) -> None:
        """Sum ∂L/∂W over the scoring batches into `.grad`."""
        for parameter in self.parameters.values():
            parameter.grad = None
        for number in range(config.score_batches):
            step = config.warmup_steps + number
            seed_everything(seed, stage, "score", number)
            rows = batches.at(step)
            loss = self.loss(step, rows)
            check_finite(stage, "loss", loss, step, rows)
            loss.backward()


def _trainable_copy(layer: Any) -> Any:
    copies = {
        f.name: getattr(layer, f.name).detach().clone().requires_grad_() for f in fields(layer)
    }
    return type(layer)(**copies)
