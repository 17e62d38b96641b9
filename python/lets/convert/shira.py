"""PEFT's SHiRA adapters: sparse changes of linear layers, with the indices they were trained at."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lets.convert.checkpoint import FineTuned, fine_tuned
from lets.delta import MATRICES
from lets.encoder import Encoder
from lets.errors import LetsError
from lets.quiet import quiet_transformers
from lets.train.checkpoint import load_tensors, read_json
from lets.train.masks import Masks, at_positions
from lets.weights import read_layers

_PREFIX, _WEIGHT, _INDICES = "base_model.model.", ".shira_weight", ".shira_indices"
_HEADS = ("classifier.weight", "classifier.out_proj.weight")


def load_shira(
    folder: str | Path, encoder: Encoder, labels: Sequence[str] = ()
) -> tuple[FineTuned, Masks]:
    """The classifier that an adapter makes of the encoder, and its changes where it has them.

    Args:
        labels: Names of the classes; an adapter stores none.
    """
    folder = Path(folder)
    config = read_json(folder / "adapter_config.json")
    for field, wanted in (("peft_type", "SHIRA"), ("task_type", "SEQ_CLS")):
        if config.get(field) != wanted:
            raise LetsError(
                f"convert: {folder}: {field} must be {wanted}, got {config.get(field)!r}"
            )
    tensors = {
        name.removeprefix(_PREFIX): tensor
        for name, tensor in load_tensors(folder / "adapter_model.safetensors").items()
    }
    heads = [name for name in _HEADS if name in tensors and tensors[name].dim() == 2]
    if not heads:
        raise LetsError(f"convert: {folder}: the adapter must hold its classifier, got none")
    model, missing = _base(encoder, len(tensors[heads[0]]))
    changes: dict[str, Tensor] = {}
    for name in [n for n in tensors if n.endswith(_WEIGHT)]:
        module = name.removesuffix(_WEIGHT)
        indices = tensors.pop(module + _INDICES, None)
        changes[f"{module}.weight"] = _change(model, module, indices, tensors.pop(name), folder)
    parameters: dict[str, Tensor] = dict(model.named_parameters())
    if unknown := sorted(set(tensors) - set(parameters)):
        raise LetsError(f"convert: {folder}: {unknown[0]} is no part of {type(model).__name__}")
    for name, tensor in tensors.items():  # copy_ would broadcast another shape
        if tensor.shape != parameters[name].shape:
            raise LetsError(
                f"convert: {folder}: {name} must be {list(parameters[name].shape)}, "
                f"got {list(tensor.shape)}"
            )
    if random := sorted(missing - set(tensors)):
        raise LetsError(
            f"convert: {folder}: {random[0]} must be in the adapter, because {encoder.source} has "
            "none; train it with modules_to_save"
        )
    only_changes = copy.deepcopy(model.base_model)
    with torch.no_grad():
        for parameter in only_changes.parameters():
            parameter.zero_()
        empty: dict[str, Tensor] = dict(only_changes.named_parameters())
        prefix = f"{model.base_model_prefix}."
        for name, tensor in tensors.items():
            parameters[name].copy_(tensor)
        for name, change in changes.items():
            parameters[name].add_(change)
            if name.startswith(prefix):
                empty[name.removeprefix(prefix)].copy_(change)
    tuned = fine_tuned(model, encoder, str(folder), labels)
    layers = read_layers(only_changes, encoder.model_type)
    return tuned, {
        j: {m: _sparse(getattr(layer, f"{m}_weight")) for m in MATRICES}
        for j, layer in enumerate(layers)
    }


def _base(encoder: Encoder, num_labels: int) -> tuple[Any, set[str]]:
    """The classifier on the encoder's weights, and the names of those that it lacks."""
    from transformers import AutoModelForSequenceClassification

    with quiet_transformers():
        model, loaded = AutoModelForSequenceClassification.from_pretrained(
            encoder.source,
            revision=encoder.revision,
            num_labels=num_labels,
            use_safetensors=True,
            trust_remote_code=False,
            dtype=torch.float32,
            output_loading_info=True,
        )
    return model, set(map(str, loaded["missing_keys"]))


def _change(
    model: nn.Module, module: str, indices: Tensor | None, values: Tensor, folder: Path
) -> Tensor:
    """A module's W^δ, dense. indices int [2, nnz], values [nnz] -> [O, I]"""
    weight = getattr(dict(model.named_modules()).get(module), "weight", None)
    if not isinstance(weight, Tensor) or weight.dim() != 2:
        raise LetsError(f"convert: {folder}: {module} must be a linear layer of the encoder")
    sizes = torch.tensor(weight.shape)[:, None]
    if (
        indices is None
        or values.dim() != 1
        or indices.shape != (2, len(values))
        or not bool(((indices >= 0) & (indices < sizes)).all())  # NaN is neither
    ):
        raise LetsError(
            f"convert: {folder}: {module}{_INDICES} must be rows and columns of "
            f"{list(weight.shape)}, one for each of {values.numel()} weights"
        )
    if not bool(torch.isfinite(values).all()):
        raise LetsError(f"convert: {folder}: {module}{_WEIGHT} must be finite")
    rows, columns = indices.long()
    change = torch.zeros(weight.shape)
    return change.index_put_((rows, columns), values.float(), accumulate=True)


def _sparse(matrix: Tensor) -> Any:
    return at_positions(matrix.flatten().nonzero().flatten(), matrix)
