"""Final fine-tuning of one task (METHOD 8): deltas at the mask, or whole matrices for LeTS-(c),
biases, LayerNorms and head."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lets.config import FinetuneConfig
from lets.progress import Progress
from lets.task_data import TaskData
from lets.task_model import TaskModel
from lets.tokens import Texts
from lets.train.activations import FrozenRows
from lets.train.batches import Batches
from lets.train.checkpoint import CheckpointStore
from lets.train.loop import LoopPlan, LoopState, train
from lets.train.optim import make_adamw
from lets.train.scoring import dev_score, target_tensor, task_loss, token_lengths

STAGE = "finetune"


def finetune(
    model: TaskModel,
    data: TaskData,
    config: FinetuneConfig,
    *,
    seed: int,
    max_length: int,
    eval_batch_size: int = 32,
    loss_of: Callable[[list[int], Tensor], Tensor] | None = None,
    frozen: FrozenRows | None = None,
    checkpoints: CheckpointStore | None = None,
    progress: Progress | None = None,
) -> LoopState:
    """Train the task's parameters in place; they end as those of the best dev score.

    A sparse model is sparse from the start: no dense W^δ, no optimizer state for masked weights.

    Args:
        loss_of: (training row numbers, logits) → loss, in place of the task's own.
        frozen: What it keeps of the rows' frozen activations; None: nothing.
    """
    encoder = model.encoder
    frozen = frozen or FrozenRows(encoder, data, max_length)
    parameters: dict[str, Tensor] = dict(model.named_parameters())
    batches = Batches(
        len(data.train),
        config.per_device_train_batch_size,
        seed,
        STAGE,
        token_lengths(encoder, data, max_length, config.group_by_length),
    )

    def compute_loss(step: int, rows: list[int]) -> Tensor:
        chosen = [data.train[i] for i in rows]
        model.train()
        logits = model(frozen(rows, model.needs))
        return loss_of(rows, logits) if loss_of else task_loss(logits, target_tensor(data, chosen))

    def evaluate() -> float:
        return dev_score(forward_of(model, max_length), data, eval_batch_size)

    return train(
        LoopPlan.of_epochs(STAGE, batches, config),
        parameters=parameters,
        optimizer=make_adamw(
            parameters,
            config.learning_rate,
            bias=config.bias_learning_rate,
            values=config.values_learning_rate,
            dense=config.dense_learning_rate,
            head=config.head_learning_rate,
            weight_decay=config.weight_decay,
        ),
        batches=batches,
        compute_loss=compute_loss,
        evaluate=evaluate,
        checkpoints=checkpoints,
        progress=progress,
    )


def forward_of(model: TaskModel, max_length: int) -> Callable[[Texts], Tensor]:
    """Texts → logits of a task model, in eval mode."""

    def forward(texts: Texts) -> Tensor:
        model.eval()
        with torch.no_grad():
            return model(model.encoder.tokenize(texts, max_length))

    return forward
