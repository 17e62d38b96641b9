"""The heads of several tasks, one batched matrix product per step for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor

from lets.heads import ACTIVATIONS, Head, LayerwiseHead, PoolerHead

_DIRECTIONS = ("", "_reverse")


class StackedHead:
    """Heads of equal widths; the numbers of labels may differ (logits are padded with zeros).

    The same sums as `LayerwiseHead` in evaluation mode. Weights are kept as `nn.LSTM` keeps them,
    so that a single head can be had back as views.
    """

    def __init__(self, heads: Sequence[LayerwiseHead], like: Tensor | None = None) -> None:
        """Copy the heads' weights, to the device and precision of `like` if it is given."""
        self.configs = [head.config() for head in heads]
        first, states = heads[0], _states(heads, like)
        self.num_layers, self.lstm_size = first.num_layers, first.lstm_size

        def stacked(name: str) -> Tensor:
            return torch.stack([state[name] for state in states])

        def both(name: str) -> Tensor:
            return torch.stack([stacked(f"lstm.{name}_l0{end}") for end in _DIRECTIONS], dim=1)

        self.projection_weight = stacked("projection.weight")  # [T, P, H]
        self.projection_bias = stacked("projection.bias")  # [T, P]
        self.input_weight = both("weight_ih")  # [T, 2, 4h, P]
        self.state_weight = both("weight_hh")  # [T, 2, 4h, h]
        self.input_bias = both("bias_ih")  # [T, 2, 4h]
        self.state_bias = both("bias_hh")
        self.classifier_weight, self.classifier_bias = _classifiers(states)
        self.gate_bias = (self.input_bias + self.state_bias).flatten(1)  # [T, 8h]

    def tasks(self, begin: int, end: int) -> StackedHead:
        """The heads [begin, end); weights are views."""
        return _cut(self, begin, end)

    def __call__(self, pooled: Tensor) -> Tensor:
        """Logits [T, B, C] of pooled rows [T * L, B, H], task after task, bottom layer first."""
        tasks, layers, size = len(self.configs), self.num_layers, self.lstm_size
        batch = pooled.shape[1]
        rows = pooled.reshape(tasks, layers * batch, -1)
        x = torch.baddbmm(self.projection_bias[:, None], rows, self.projection_weight.mT)
        gates = torch.baddbmm(self.gate_bias[:, None], x, self.input_weight.flatten(1, 2).mT)
        # [L, T, 2, B, 4h]; the second direction reads the layers from the top down.
        gates = gates.view(tasks, layers, batch, 2, 4 * size).permute(1, 0, 3, 2, 4)
        gates = torch.stack([gates[:, :, 0], gates[:, :, 1].flip(0)], dim=2).flatten(1, 2)
        state = self._run(gates, self.state_weight.flatten(0, 1).mT)
        last = state.view(tasks, 2, batch, size).transpose(1, 2).reshape(tasks, batch, 2 * size)
        return torch.baddbmm(self.classifier_bias[:, None], last, self.classifier_weight.mT)

    def _run(self, gates: Tensor, weight: Tensor) -> Tensor:
        """Final states [G, B, h] of G LSTMs. gates [L, G, B, 4h], weight [G, h, 4h]"""
        size = self.lstm_size
        state = cell = gates.new_zeros(*gates.shape[1:3], size)
        for step in gates:
            step = torch.baddbmm(step, state, weight)
            # Gates in torch's order: input, forget, cell, output.
            opened = step[..., : 2 * size].sigmoid()
            update = opened[..., :size] * step[..., 2 * size : 3 * size].tanh()
            cell = torch.addcmul(update, opened[..., size:], cell)
            state = step[..., 3 * size :].sigmoid() * cell.tanh()
        return state

    def head(self, index: int) -> LayerwiseHead:
        """One head as a module; its parameters are views of the stack."""
        config = self.configs[index]
        with torch.device("meta"):
            head = LayerwiseHead(**config)
        labels = config["num_labels"]
        state = {
            "projection.weight": self.projection_weight[index],
            "projection.bias": self.projection_bias[index],
            "classifier.weight": self.classifier_weight[index, :labels],
            "classifier.bias": self.classifier_bias[index, :labels],
        }
        for direction, end in enumerate(_DIRECTIONS):
            for name, weights in (
                ("weight_ih", self.input_weight),
                ("weight_hh", self.state_weight),
                ("bias_ih", self.input_bias),
                ("bias_hh", self.state_bias),
            ):
                state[f"lstm.{name}_l0{end}"] = weights[index, direction]
        head.load_state_dict(state, assign=True)
        return head.eval().requires_grad_(False)


class StackedPooler:
    """Poolers with their classifiers; the same sums as `PoolerHead` in evaluation mode."""

    def __init__(self, heads: Sequence[PoolerHead], like: Tensor | None = None) -> None:
        """Copy the heads' weights, to the device and precision of `like` if it is given."""
        self.configs = [head.config() for head in heads]
        states = _states(heads, like)
        self.dense_weight = torch.stack([state["dense.weight"] for state in states])  # [T, H, H]
        self.dense_bias = torch.stack([state["dense.bias"] for state in states])  # [T, H]
        self.classifier_weight, self.classifier_bias = _classifiers(states)

    def tasks(self, begin: int, end: int) -> StackedPooler:
        """The heads [begin, end); weights are views."""
        return _cut(self, begin, end)

    def __call__(self, pooled: Tensor) -> Tensor:
        """Logits [T, B, C] of the last layer's rows [T, B, H]."""
        hidden = torch.baddbmm(self.dense_bias[:, None], pooled, self.dense_weight.mT)
        kinds = [config["activation"] for config in self.configs]
        if len(set(kinds)) == 1:
            hidden = ACTIVATIONS[kinds[0]](hidden)
        else:
            hidden = torch.stack([ACTIVATIONS[k](task) for k, task in zip(kinds, hidden)])
        return torch.baddbmm(self.classifier_bias[:, None], hidden, self.classifier_weight.mT)

    def head(self, index: int) -> PoolerHead:
        """One head as a module; its parameters are views of the stack."""
        config = self.configs[index]
        with torch.device("meta"):
            head = PoolerHead(**config)
        labels = config["num_labels"]
        state = {
            "dense.weight": self.dense_weight[index],
            "dense.bias": self.dense_bias[index],
            "classifier.weight": self.classifier_weight[index, :labels],
            "classifier.bias": self.classifier_bias[index, :labels],
        }
        head.load_state_dict(state, assign=True)
        return head.eval().requires_grad_(False)


def stack_heads(heads: Sequence[Head], like: Tensor | None = None) -> StackedHead | StackedPooler:
    """Heads of one kind and of equal widths."""
    poolers = [head for head in heads if isinstance(head, PoolerHead)]
    layerwise = [head for head in heads if isinstance(head, LayerwiseHead)]
    return StackedPooler(poolers, like) if poolers else StackedHead(layerwise, like)


def _states(heads: Sequence[Head], like: Tensor | None) -> list[dict[str, Tensor]]:
    states = [dict(head.state_dict()) for head in heads]
    return states if like is None else [{n: t.to(like) for n, t in s.items()} for s in states]


def _classifiers(states: Sequence[dict[str, Tensor]]) -> tuple[Tensor, Tensor]:
    """Weights [T, C, .] and biases [T, C] of the classifiers, padded with zeros."""
    widest = max(state["classifier.bias"].shape[0] for state in states)

    def padded(name: str) -> Tensor:
        rows = [state[f"classifier.{name}"] for state in states]
        out = rows[0].new_zeros(len(rows), widest, *rows[0].shape[1:])
        for padded_rows, own in zip(out, rows):
            padded_rows[: len(own)] = own
        return out

    return padded("weight"), padded("bias")


Stacked = TypeVar("Stacked", "StackedHead", "StackedPooler")


def _cut(heads: Stacked, begin: int, end: int) -> Stacked:
    part = object.__new__(type(heads))
    for name, value in vars(heads).items():
        cut = value[begin:end] if isinstance(value, (Tensor, list)) else value
        setattr(part, name, cut)
    return part
