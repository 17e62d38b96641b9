"""AdamW with one rate per kind of parameter, and its linear schedule."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lets.errors import LetsError

KINDS = ("values", "dense", "gates", "bias", "head", "other")


def kind_of(name: str) -> str:
    """Which rate a parameter of a TaskModel (or of a dense twin) takes, by its name.

    The head comes first: it starts from nothing, so its biases are no fine-tuned bias terms.
    """
    if name.startswith("head."):
        return "head"
    leaf = name.rsplit(".", 1)[-1]
    for kind in ("values", "dense", "gates"):
        if leaf.endswith(f"_{kind}"):
            return kind
    return "bias" if "bias" in leaf else "other"


def make_adamw(
    parameters: Mapping[str, nn.Parameter | Tensor],
    learning_rate: float,
    *,
    bias: float | None = None,
    values: float | None = None,
    dense: float | None = None,
    gates: float | None = None,
    head: float | None = None,
    weight_decay: float = 0.0,
) -> torch.optim.AdamW:
    """One parameter group per kind; a kind without a rate of its own takes `learning_rate`.

    Decay applies to weights alone, never to biases and LayerNorms.
    """
    rates = {
        "bias": bias, "values": values, "dense": dense, "gates": gates, "head": head, "other": None
    }  # fmt: skip
    groups = []
    for kind in KINDS:
        named = {n: p for n, p in parameters.items() if kind_of(n) == kind}
        for decays in (False, True):
            chosen = [n for n, p in named.items() if _decays(n, p) == decays]
            if chosen:
                rate = learning_rate if rates[kind] is None else rates[kind]
                groups.append(
                    {
                        "params": [named[n] for n in chosen],
                        "names": chosen,
                        "kind": kind,
                        "lr": rate,
                        "base_lr": rate,
                        "weight_decay": weight_decay if decays else 0.0,
                    }
                )
    if not groups:
        raise LetsError("optimizer: there must be at least one trainable parameter, got none")
    return torch.optim.AdamW(groups, lr=learning_rate, foreach=True)


def _decays(name: str, parameter: Tensor) -> bool:
    leaf = name.rsplit(".", 1)[-1]
    return "bias" not in leaf and "norm" not in leaf.lower() and parameter.ndim != 0


def linear_factor(step: int, total: int, warmup: int) -> float:
    """Rate factor of a step: 0 → 1 over the warm-up, then 1 → 0 at the end."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return max(0.0, (total - step) / max(1, total - warmup))


def set_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Scale every group's rate from its base rate."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state as named tensors, for a checkpoint."""
    out = {}
    for group in optimizer.param_groups:
        for name, parameter in zip(group["names"], group["params"], strict=True):
            for field, value in optimizer.state.get(parameter, {}).items():
                out[f"{name}:{field}"] = torch.as_tensor(value)
    return out


def load_optimizer_tensors(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put a checkpoint's state back; parameters it does not name start afresh."""
    for group in optimizer.param_groups:
        for name, parameter in zip(group["names"], group["params"], strict=True):
            prefix = f"{name}:"
            state = {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}
            if state:
                optimizer.state[parameter] = {
                    field: value.clone() if field == "step" else value.to(parameter, copy=True)
                    for field, value in state.items()
                }
