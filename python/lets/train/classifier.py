"""Ordinary classifiers of transformers, trained whole or in part by the loop of all stages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lets.config import FitConfig, FullConfig
from lets.errors import LetsError
from lets.progress import Progress
from lets.quiet import quiet_transformers
from lets.scores import REGRESSION
from lets.task_data import TaskData
from lets.tokens import Texts, TokenBatch
from lets.train.batches import Batches
from lets.train.checkpoint import CheckpointStore
from lets.train.loop import LoopPlan, LoopState, train
from lets.train.optim import make_adamw
from lets.train.scoring import dev_score, target_tensor, task_loss, token_lengths

_NEW = ("classifier", "pre_classifier", "score")
_HEAD = ("pooler", *_NEW)


def train_classifier(
    model: nn.Module,
    encoder: Any,
    data: TaskData,
    config: FitConfig,
    settings: FullConfig,
    *,
    stage: str,
    gate_rate: float | None = None,
    penalty: Callable[[], Tensor] | None = None,
    checkpoints: CheckpointStore | None = None,
    progress: Progress | None = None,
) -> LoopState:
    """Train what requires gradients, in place; it ends as of the best dev score.

    Args:
        settings: Of this training; `config` has those of the whole run.
        gate_rate: Of parameters whose name ends in _gates.
        penalty: Added to the loss.
    """
    parameters = trained_parameters(model)
    forward = forward_of(model, encoder, config.max_seq_length)
    batches = Batches(
        len(data.train),
        settings.per_device_train_batch_size,
        config.seed,
        stage,
        token_lengths(encoder, data, config.max_seq_length, settings.group_by_length),
    )

    def compute_loss(step: int, rows: list[int]) -> Tensor:
        chosen = [data.train[i] for i in rows]
        model.train()
        loss = task_loss(forward(data.texts(chosen)), target_tensor(data, chosen))
        return loss if penalty is None else loss + penalty()

    def evaluate() -> float:
        model.eval()
        return dev_score(forward, data, config.per_device_eval_batch_size)

    return train(
        LoopPlan.of_epochs(stage, batches, settings),
        parameters=parameters,
        optimizer=make_adamw(
            parameters,
            settings.learning_rate,
            gates=gate_rate,
            head=settings.head_learning_rate,
            weight_decay=settings.weight_decay,
        ),
        batches=batches,
        compute_loss=compute_loss,
        evaluate=evaluate,
        checkpoints=checkpoints,
        progress=progress,
    )


def trained_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """What requires gradients, under names by which rates are chosen."""
    return {_renamed(name): p for name, p in model.named_parameters() if p.requires_grad}


def head_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Those of the ordinary head: pooler and classifier, by name."""
    return {n: p for n, p in model.named_parameters() if set(n.split(".")) & set(_HEAD)}


def load_forward(folder: Path, encoder: Any, max_length: int) -> Callable[[Texts], Tensor]:
    """Texts → logits of a saved classifier, in eval mode."""
    model = load_classifier(folder).to(encoder.device)
    return torch.no_grad()(forward_of(model, encoder, max_length))


def load_classifier(folder: str | Path) -> Any:
    """A transformers classifier that `full_finetune` or somebody else saved, in eval mode."""
    from transformers import AutoModelForSequenceClassification

    try:
        with quiet_transformers():
            model = AutoModelForSequenceClassification.from_pretrained(
                folder, use_safetensors=True, trust_remote_code=False, dtype=torch.float32
            )
    except (OSError, ValueError) as error:
        raise LetsError(f"{folder}: cannot be loaded as a classifier: {error}") from error
    return model.eval()


def forward_of(model: nn.Module, encoder: Any, max_length: int) -> Callable[[Texts], Tensor]:
    """Texts → logits of a transformers classifier."""

    def forward(texts: Texts) -> Tensor:
        return model(**inputs_of(model, encoder.tokenize(texts, max_length))).logits

    return forward


def inputs_of(model: nn.Module, batch: TokenBatch) -> dict[str, Tensor]:
    """A batch as a transformers model takes it."""
    inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
    if _takes_token_types(model):
        inputs["token_type_ids"] = batch.token_type_ids
    return inputs


def _takes_token_types(model: nn.Module) -> bool:
    return getattr(model.config, "type_vocab_size", 0) > 1


def _renamed(name: str) -> str:
    """Names under which the new classifier takes the head's rate."""
    return f"head.{name}" if set(name.split(".")) & set(_NEW) else name


def new_classifier(encoder: Any, labels: Sequence[str], problem_type: str) -> Any:
    """The encoder with an ordinary head that starts from nothing; nothing is frozen."""
    from transformers import AutoModelForSequenceClassification

    names = tuple(labels) or ("LABEL_0",)
    regression = problem_type == REGRESSION
    try:
        with quiet_transformers():
            model = AutoModelForSequenceClassification.from_pretrained(
                encoder.source,
                revision=encoder.revision,
                num_labels=len(names),
                id2label=dict(enumerate(names)),
                label2id={name: i for i, name in enumerate(names)},
                problem_type="regression" if regression else "single_label_classification",
                use_safetensors=True,
                trust_remote_code=False,
                dtype=torch.float32,
            )
    except (OSError, ValueError) as error:
        raise LetsError(f"cannot load {encoder.source} as a classifier: {error}") from error
    return model.to(encoder.device)
