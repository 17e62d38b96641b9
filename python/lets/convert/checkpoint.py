"""A fine-tuned transformers classifier, checked against the encoder that it started from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lets.encoder import Encoder
from lets.errors import LetsError
from lets.quiet import quiet_transformers
from lets.scores import CLASSIFICATION, REGRESSION
from lets.shape import EncoderShape
from lets.task_data import check_labels
from lets.tokens import tokenizer_fingerprint
from lets.weights import LayerWeights, check_finite, check_supported, named_weights, read_layers

_CLASSIFIER = "ForSequenceClassification"


@dataclass(frozen=True, eq=False)
class FineTuned:
    """A transformers classifier in evaluation mode.

    Args:
        layers: Its layers, bottom to top; tensors of `model`.
        labels: Names of the classes in the order of the logits; empty for regression.
    """

    source: str
    model: Any
    layers: list[LayerWeights]
    labels: tuple[str, ...]
    problem_type: str


def load_fine_tuned(
    path_or_id: str | Path, encoder: Encoder, labels: Sequence[str] = ()
) -> FineTuned:
    """Load a checkpoint of AutoModelForSequenceClassification for an encoder of its architecture.

    Args:
        labels: Names of the classes in the order of the logits, in place of the checkpoint's.

    Raises:
        LetsError: it is another kind of model, or of other sizes, or has another vocabulary.
    """
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

    source = str(path_or_id)
    try:
        with quiet_transformers():
            config: Any = AutoConfig.from_pretrained(source, trust_remote_code=False)
            check_classifier(
                config, (config.architectures or ["no kind of model"])[0], encoder, source
            )
            model, loaded = AutoModelForSequenceClassification.from_pretrained(
                source,
                use_safetensors=True,
                trust_remote_code=False,
                dtype=torch.float32,
                output_loading_info=True,
            )
            tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    except LetsError:
        raise
    except Exception as error:  # transformers raises many kinds for a path that is no model
        reason = str(error).strip().split("\n")[0]
        raise LetsError(f"convert: cannot load {source} as a classifier: {reason}") from error
    if missing := sorted(map(str, loaded["missing_keys"])):
        raise LetsError(f"convert: {source}: {missing[0]} is missing in the checkpoint")
    if tokenizer_fingerprint(tokenizer) != encoder.tokenizer_fingerprint:
        raise LetsError(
            f"convert: {source}: the tokenizer must be that of {encoder.source}, but its "
            "vocabulary or its rules differ; is this the encoder that the model started from?"
        )
    return fine_tuned(model, encoder, source, labels)


def fine_tuned(
    model: Any, encoder: Encoder, source: str = "model", labels: Sequence[str] = ()
) -> FineTuned:
    """The same for a loaded model, which must not be trained on."""
    check_classifier(model.config, type(model).__name__, encoder, source)
    check_finite(named_weights(model), source)
    parts = model.eval().requires_grad_(False).to(encoder.device).base_model
    problem_type = problem_type_of(model.config, source)
    names = labels_of(model.config, labels, source) if problem_type == CLASSIFICATION else ()
    layers = read_layers(parts, encoder.model_type)
    return FineTuned(source, model, layers, names, problem_type)


def check_classifier(config: Any, architecture: str, encoder: Encoder, source: str) -> None:
    """Raise unless it is a sequence classifier of the encoder's architecture and sizes."""
    model_type = check_supported(config, source)
    if not architecture.endswith(_CLASSIFIER):
        raise LetsError(
            f"convert: {source}: architectures must name a model {_CLASSIFIER}, got {architecture}"
        )
    shape = EncoderShape.from_config(config.to_dict(), source)
    found = {"model_type": model_type, "vocab_size": config.vocab_size}
    wanted: dict[str, Any] = {"model_type": encoder.model_type, "vocab_size": encoder.vocab_size}
    for name in ("num_layers", "hidden_size", "num_heads", "intermediate_size"):
        found[name], wanted[name] = getattr(shape, name), getattr(encoder.shape, name)
    for name, value in wanted.items():
        if found[name] != value:
            raise LetsError(
                f"convert: {source}: {name} must be that of {encoder.source}, {value}, "
                f"got {found[name]}"
            )


def problem_type_of(config: Any, source: str) -> str:
    """The kind of task in our words, from a transformers configuration."""
    if config.problem_type == "multi_label_classification":
        raise LetsError(
            f"convert: {source}: problem_type must be single_label_classification or regression, "
            "got multi_label_classification; a task of LeTS answers with one label"
        )
    if config.problem_type == "regression" or config.num_labels == 1:
        if config.num_labels != 1:
            raise LetsError(
                f"convert: {source}: a regression must have one output, got {config.num_labels}"
            )
        return REGRESSION
    return CLASSIFICATION


def labels_of(config: Any, given: Sequence[str], source: str) -> tuple[str, ...]:
    """Names of the classes in the order of the logits."""
    names = tuple(given) or tuple(str(config.id2label[i]) for i in range(config.num_labels))
    if len(names) != config.num_labels:
        raise LetsError(
            f"convert: {source}: labels must be {config.num_labels} names, got {', '.join(names)}"
        )
    check_labels(source, names, CLASSIFICATION)
    return names
