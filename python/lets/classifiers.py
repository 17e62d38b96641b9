"""Where the classifiers of transformers have their ordinary head, by model_type."""

from __future__ import annotations

from typing import Any

import torch

from lets.errors import LetsError
from lets.heads import PoolerHead

_WITH_HEAD = ("classifier.dense", "classifier.out_proj")
# The dense layer over the [CLS] row, the classifier, and what is between them.
_HEADS = {
    "bert": ("bert.pooler.dense", "classifier", "tanh"),
    "distilbert": ("pre_classifier", "classifier", "relu"),
    "electra": (*_WITH_HEAD, "gelu"),
    "mpnet": (*_WITH_HEAD, "tanh"),
    "roberta": (*_WITH_HEAD, "tanh"),
    "xlm-roberta": (*_WITH_HEAD, "tanh"),
}


def activation_of(model_type: str) -> str:
    """What the ordinary head of an architecture has between its two layers."""
    return _HEADS[model_type][2]


def read_head(model: Any, model_type: str) -> PoolerHead:
    """A copy of a classifier's head, in evaluation mode."""
    dense, classifier, activation = _HEADS[model_type]
    parts = {"dense": model.get_submodule(dense), "classifier": model.get_submodule(classifier)}
    with torch.random.fork_rng(devices=[]):
        head = PoolerHead(
            parts["dense"].in_features, parts["classifier"].out_features, activation=activation
        )
    head.load_state_dict(
        {f"{name}.{n}": t for name, part in parts.items() for n, t in part.state_dict().items()}
    )
    return head.to(parts["dense"].weight.device).eval()


def write_head(model: Any, model_type: str, head: PoolerHead) -> None:
    """Put a head into a classifier of as many labels."""
    dense, classifier, activation = _HEADS[model_type]
    if head.activation != activation:
        raise LetsError(
            f"head: activation must be {activation} for {model_type}, got {head.activation}"
        )
    model.get_submodule(dense).load_state_dict(head.dense.state_dict())
    model.get_submodule(classifier).load_state_dict(head.classifier.state_dict())
