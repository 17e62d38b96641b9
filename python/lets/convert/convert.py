"""A fine-tuned model as a task pack: its change scores the mask and starts the values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lets.classifiers import read_head
from lets.config import FitConfig
from lets.convert.checkpoint import FineTuned
from lets.convert.mask import changed_vectors, kept_share, largest_changes, weight_gradients
from lets.encoder import Encoder
from lets.errors import LetsError
from lets.files import sha256_of_json
from lets.heads import Head, LayerwiseHead
from lets.metrics import policy_report
from lets.pack import check_target, is_pack, save_pack
from lets.policy import Policy
from lets.progress import Progress
from lets.run.engine import Engine
from lets.scores import REGRESSION, score
from lets.task import Task
from lets.task_data import TaskData
from lets.task_model import TaskModel
from lets.tokens import Texts
from lets.train.batches import Batches
from lets.train.checkpoint import CheckpointStore
from lets.train.classifier import forward_of, inputs_of
from lets.train.distill import loss_towards
from lets.train.finetune import finetune
from lets.train.masks import Masks, layouts_of
from lets.train.scoring import logits_of, predictions_of
from lets.train.seeds import seed_everything
from lets.train.stage import data_fingerprint
from lets.weights import fingerprint, named_weights

STAGE = "convert"


@dataclass(frozen=True)
class ConvertConfig:
    """How a model is converted, beside the settings of a recipe.

    Args:
        variant: `pc`, or `p`: one chain with the model's own head (LeTS-(p)).
        score: What ranks the changes: `gradient` (METHOD's |g · W^δ|) or `magnitude` (|W^δ|).
        temperature: Of the distillation.
    """

    policy: Policy
    variant: str = "pc"
    score: str = "gradient"
    temperature: float = 2.0

    def __post_init__(self) -> None:
        if self.score not in ("gradient", "magnitude"):
            raise LetsError(f"convert: score must be gradient or magnitude, got {self.score!r}")
        if self.variant not in ("pc", "p"):
            raise LetsError(f"convert: variant must be pc or p, got {self.variant!r}")
        if self.variant == "p" and self.policy != Policy.chain(self.policy.num_layers):
            raise LetsError("convert: variant p has no policy of its choice; leave the policy out")
        if not 0.0 < self.temperature <= 100.0:
            raise LetsError(f"convert: temperature must be in (0, 100], got {self.temperature}")


def convert(
    encoder: Encoder,
    tuned: FineTuned,
    data: TaskData,
    config: ConvertConfig,
    settings: FitConfig,
    output: str | Path,
    *,
    masks: Masks | None = None,
    train: bool = True,
    progress: Progress | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write the pack and tell what was lost. An interrupted call goes on where it was.

    Args:
        data: Rows whose labels are those of `tuned`.
        settings: `prune` (density, batches of the score) and `finetune` of it are read.
        output: Folder of the pack.
        masks: Where the changes are, if that is known; their values are the changes.
        train: False: no distillation; the pack is what it starts from.

    Returns:
        Scores of the model and of the pack on the development rows, how often they agree, what the
        pack costs, and how much of the change it holds.
    """
    output = Path(output)
    if is_pack(output) and not overwrite:
        raise LetsError(f"{output}: holds a task pack; choose another folder, or give --overwrite")
    check_target(output)  # before anything is trained
    batch_size, length = settings.per_device_eval_batch_size, settings.max_seq_length
    forward = forward_of(tuned.model, encoder, length)
    if masks is None:
        masks = _masks(encoder, tuned, data, config, settings)
    masks = {j: masks[j] for j in config.policy.live_layers}
    head = _head(encoder, tuned, data, config, settings.seed)
    model = TaskModel(encoder, config.policy, layouts_of(masks), head)
    for j, vectors in changed_vectors(encoder, tuned, config.policy.live_layers).items():
        model.task_layer(j).load(masks[j], vectors)
    seconds = 0.0
    if train:
        seconds = _distill(model, tuned, data, config, settings, output, progress)
    task = Task.from_model(
        model,
        data.name,
        labels=data.labels,
        problem_type=data.problem_type,
        metric=data.metric,
        max_length=length,
        is_pair=data.is_pair,
    )
    found = compare(forward, task, encoder, data, batch_size)
    save_pack(output, task, encoder, results={f"dev {data.metric}": found["pack_score"]})
    return {
        "pack": str(output),
        **found,
        **costs(task, encoder),
        "delta_kept": kept_share(encoder, tuned, masks),
        "embeddings_changed": _embeddings_changed(encoder, tuned, data, length),
        "seconds": seconds,
    }


def _head(
    encoder: Encoder, tuned: FineTuned, data: TaskData, config: ConvertConfig, seed: int
) -> Head:
    """The model's own, or one that starts from nothing."""
    if config.variant == "p":
        return read_head(tuned.model, encoder.model_type)
    seed_everything(seed, STAGE, "head")
    return LayerwiseHead(encoder.shape.num_layers, encoder.shape.hidden_size, data.num_labels)


def _distill(
    model: TaskModel,
    tuned: FineTuned,
    data: TaskData,
    config: ConvertConfig,
    settings: FitConfig,
    output: Path,
    progress: Progress | None,
) -> float:
    """Train the task towards the model's logits; returns seconds."""
    encoder, batch_size = model.encoder, settings.per_device_eval_batch_size
    length = settings.max_seq_length
    key = {
        "model": fingerprint(named_weights(tuned.model)),
        "encoder": encoder.fingerprint,
        "data": data_fingerprint(data),
        "config": asdict(config),
        "settings": settings.to_dict(),
    }
    checkpoints = CheckpointStore(output.parent / f".{output.name}.convert", sha256_of_json(key))
    forward = forward_of(tuned.model, encoder, length)
    teacher = logits_of(forward, data, data.train, batch_size)
    state = finetune(
        model,
        data,
        settings.finetune,
        seed=settings.seed,
        max_length=length,
        eval_batch_size=batch_size,
        loss_of=loss_towards(teacher, data, config.temperature),
        checkpoints=checkpoints,
        progress=progress,
    )
    checkpoints.clear()
    return state.seconds


def _masks(
    encoder: Encoder, tuned: FineTuned, data: TaskData, config: ConvertConfig, settings: FitConfig
) -> Masks:
    prune, gradients = settings.prune, None
    if config.score == "gradient":
        size = prune.per_device_train_batch_size
        gradients = weight_gradients(
            encoder,
            tuned,
            data,
            Batches(len(data.train), size, settings.seed, STAGE),
            prune.score_batches,
            settings.max_seq_length,
        )
    return largest_changes(encoder, tuned, config.policy, prune.density, gradients)


def compare(
    dense: Callable[[Texts], Tensor], task: Task, encoder: Encoder, data: TaskData, batch_size: int
) -> dict[str, Any]:
    """Scores of a model and of the pack that it became, through the engine, on the dev rows."""
    engine = Engine(encoder, [task])
    found = {
        "dense": logits_of(dense, data, data.dev, batch_size),
        "pack": logits_of(lambda t: engine(t)[task.name].logits, data, data.dev, batch_size),
    }
    targets = data.targets(data.dev)
    scores = {
        f"{name}_score": score(data.metric, targets, predictions_of(logits, data.problem_type))
        for name, logits in found.items()
    }
    return {
        "metric": data.metric,
        "rows": len(data.dev),
        **scores,
        "agreement": agreement(found["pack"], found["dense"], data.problem_type),
        "max_difference": float((found["pack"] - found["dense"]).abs().max()),
    }


def agreement(found: Tensor, wanted: Tensor, problem_type: str) -> float:
    """Share of rows with the same label; in regression, Pearson's correlation. [rows, C]"""
    if problem_type == REGRESSION:
        return float(torch.corrcoef(torch.stack([found[:, 0], wanted[:, 0]]).double())[0, 1])
    return float((found.argmax(-1) == wanted.argmax(-1)).double().mean())


def costs(task: Task, encoder: Encoder) -> dict[str, Any]:
    """What a pack adds to the encoder, in per cent of it."""
    counted, labels = [task.layer_nnz()], [len(task.labels) or 1]
    metrics = policy_report(
        encoder.shape, [task.policy], task.max_length, counted, "engine", labels
    ).metrics
    return {
        "policy": task.policy.to_dict(),
        "new_ops_percent": metrics.new_percent,
        "frozen_ops_percent": metrics.overhead_percent,
        "new_parameters_percent": metrics.new_params_percent,
        "mask_percent": metrics.mask_percent,
    }


@torch.no_grad()
def _embeddings_changed(encoder: Encoder, tuned: FineTuned, data: TaskData, length: int) -> float:
    """‖x^f_{−1} − x^p_{−1}‖ / ‖x^p_{−1}‖ on some dev rows: a change that no pack can hold."""
    batch = encoder.tokenize(data.texts(data.dev[:32]), length)
    start = encoder.embed(batch)
    inputs = inputs_of(tuned.model, batch)
    end = tuned.model(**inputs, output_hidden_states=True).hidden_states[0]
    return float((end - start).norm() / start.norm())


def with_labels_of(tuned: FineTuned, data: TaskData) -> TaskData:
    """The rows with the classes in the order of the model's logits.

    A model that was trained without names (LABEL_0, ...) takes numbers from 0 on as its classes.
    """
    wanted = tuned.labels
    numbers = tuple(map(str, range(len(wanted))))
    if wanted == tuple(f"LABEL_{n}" for n in numbers) and set(data.labels) <= set(numbers):
        wanted = numbers
    if unknown := [label for label in data.labels if label not in wanted]:
        raise LetsError(
            f"convert: labels of the data must be {', '.join(wanted)}, those of {tuned.source}, "
            f"got {unknown[0]!r}; --labels names the model's, in the order of its logits"
        )
    return replace(data, labels=wanted)
