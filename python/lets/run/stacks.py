"""Stacks: the weights of all loaded tasks, stacked once; every mode runs on views of them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from lets.delta import SparseDelta
from lets.encoder import Encoder
from lets.heads import LayerwiseHead
from lets.layers import OwnLayer
from lets.plan.spec import TaskSpec
from lets.plan.stacking import StackKey, stack_key, stack_order
from lets.run.stacked_head import StackedHead
from lets.task import Task
from lets_ext import Delta, DeltaLayout


class Stacks:
    """What tasks own, layer by layer, in the order of `stack_order`. Immutable.

    Sparse deltas take 8 bytes a non-zero in float32 (a column and a value); the transposes that
    training needs are left out.
    """

    def __init__(
        self,
        encoder: Encoder,
        tasks: Mapping[str, Task],
        previous: Stacks | None = None,
        kept: Collection[str] = (),
    ) -> None:
        """Stack tasks; those named in `kept` are taken from an earlier stack."""
        self.specs: dict[str, TaskSpec] = {
            name: previous.specs[name] if previous and name in kept else TaskSpec.of(task, name)
            for name, task in tasks.items()
        }
        self.orders = stack_order(self.specs.values())
        self._layers: dict[StackKey, OwnLayer] = {}
        self._heads: dict[StackKey, StackedHead] = {}
        with torch.no_grad():
            own: dict[str, dict[int, OwnLayer]] = {}
            heads: dict[str, LayerwiseHead] = {}
            for name, task in tasks.items():
                if previous and name in kept:
                    live = self.specs[name].policy.live_layers
                    own[name] = {j: previous.own(j, [name]) for j in live}
                    heads[name] = previous.head([name]).head(0)
                else:
                    layers = task.to_model(encoder).own_layers()
                    own[name] = {j: layer.forward_only() for j, layer in layers.items()}
                    heads[name] = task.head
            for key, names in self.orders.items():
                layer = key[0]
                if layer is None:
                    self._heads[key] = StackedHead(
                        [heads[name] for name in names], encoder.layers[0].out_bias
                    )
                else:
                    parts = [own[name].pop(layer) for name in names]
                    self._layers[key] = OwnLayer.stack(parts)

    def own(self, layer: int, tasks: Sequence[str]) -> OwnLayer:
        """What these tasks own of a layer; neighbours in its stack, in order."""
        key, begin = self._find(layer, tasks)
        stack, end = self._layers[key], begin + len(tasks)
        return stack if end - begin == len(self.orders[key]) else stack.tasks(begin, end)

    def head(self, tasks: Sequence[str]) -> StackedHead:
        key, begin = self._find(None, tasks)
        return self._heads[key].tasks(begin, begin + len(tasks))

    def _find(self, layer: int | None, tasks: Sequence[str]) -> tuple[StackKey, int]:
        key = stack_key(self.specs[tasks[0]], layer)
        begin = self.orders[key].index(tasks[0])
        assert self.orders[key][begin : begin + len(tasks)] == tuple(tasks), "no neighbours"
        return key, begin

    def view(self, name: str, task: Task) -> Task:
        """The task with its weights as views of the stacks, or made from them when they are read.

        Values have the encoder's precision.
        """
        head = self.head([name]).head(0)
        return replace(task, name=name, deltas=StackedDeltas(self, name), head=head)

    def deltas(self, layer: int, name: str) -> dict[str, SparseDelta]:
        """One task's sparse deltas of a layer, copied."""
        own = self.own(layer, [name])
        parts = {"out": own.out, "up": own.up, "down": own.down}
        projections = [own.qkv] if own.qkv is not None else [own.query, own.key, own.value]
        qkv = _joined([delta for delta in projections if delta is not None])
        joined = {"qkv": qkv, **{n: _joined([d]) for n, d in parts.items() if d is not None}}
        return joined

    def tensors(self) -> Iterator[Tensor]:
        """All tensors that the stacks hold."""
        for own in self._layers.values():
            for value in vars(own).values():
                if isinstance(value, Delta):
                    yield from (value.values, value.layout.crow_indices, value.layout.col_indices)
                elif value is not None:
                    yield value
        for head in self._heads.values():
            yield from (value for value in vars(head).values() if isinstance(value, Tensor))


class StackedDeltas(Mapping[int, dict[str, SparseDelta]]):
    """A task's deltas by layer, made from the stacks each time they are read."""

    def __init__(self, stacks: Stacks, name: str) -> None:
        self._stacks, self._name = stacks, name

    def __getitem__(self, layer: int) -> dict[str, SparseDelta]:
        if layer not in set(self):
            raise KeyError(layer)
        return self._stacks.deltas(layer, self._name)

    def __iter__(self) -> Iterator[int]:
        return iter(self._stacks.specs[self._name].policy.live_layers)

    def __len__(self) -> int:
        return len(self._stacks.specs[self._name].policy.live_layers)


def _joined(parts: Sequence[Delta]) -> SparseDelta:
    """Deltas of one task, one above the other, with a transpose again."""
    crow, start = [parts[0].layout.crow_indices[:1]], 0
    for part in parts:
        crow.append(part.layout.crow_indices[1:] + start)
        start += part.layout.nnz
    col = torch.cat([part.layout.col_indices for part in parts])
    layout = DeltaLayout.from_csr(torch.cat(crow), col, parts[0].layout.in_features)
    return SparseDelta(layout, torch.cat([part.values for part in parts]))
