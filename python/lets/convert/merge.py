"""A LeTS-(p) task as a plain transformers classifier."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lets.classifiers import write_head
from lets.dense import merged_layers
from lets.encoder import Encoder
from lets.errors import LetsError
from lets.files import write_folder
from lets.heads import PoolerHead
from lets.quiet import quiet_transformers
from lets.task import Task
from lets.train.classifier import new_classifier
from lets.weights import fingerprint, named_weights, write_layers


def merge_and_unload(task: Task, encoder: Encoder) -> Any:
    """The classifier of transformers that answers as the task does, with W^p + W^δ in its layers.

    Raises:
        LetsError: the task has a policy, or the encoder's folder is not what was loaded from it.
    """
    if not isinstance(task.head, PoolerHead):
        raise LetsError(
            f"merge: {task.name} must be of variant p, got {task.variant}: its layers read frozen "
            "activations beside its own, and its head reads all layers, which no classifier of "
            "transformers does; use the engine, or lets export"
        )
    encoder.check_exact("merge")
    model = new_classifier(encoder, task.labels, task.problem_type)
    if fingerprint(named_weights(model.base_model)) != encoder.fingerprint:
        raise LetsError(f"merge: {encoder.source} must hold the encoder that was loaded from it")
    write_layers(model.base_model, encoder.model_type, merged_layers(task.to_model(encoder)))
    write_head(model, encoder.model_type, task.head)
    return model.eval()


def save_merged(task: Task, encoder: Encoder, folder: str | Path) -> Path:
    """Write `merge_and_unload`'s model and the tokenizer as transformers does."""
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise LetsError(f"{folder}: must be a new or empty folder")
    model = merge_and_unload(task, encoder)

    def fill(staged: Path) -> None:
        with quiet_transformers():
            model.save_pretrained(staged)
        encoder.tokenizer.save_pretrained(staged)

    write_folder(folder, fill)
    return folder
