"""Stacks: the weights of all loaded tasks, stacked once; every mode runs on views of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor

from lets.delta import MATRICES, SparseDelta
from lets.encoder import Encoder
from lets.heads import Head
from lets.layers import FrozenLayer, OwnLayer
from lets.plan.spec import TaskSpec
from lets.plan.stacking import StackKey, stack_key, stack_order
from lets.run.packing import packed_layer
from lets.run.stacked_head import StackedHead, StackedPooler, stack_heads
from lets.task import Task
from lets_ext import Delta, DeltaLayout

T = TypeVar("T")


class Stacks:
    """What tasks own, layer by layer, in the order of `stack_order`. Immutable.

    Sparse deltas take 8 bytes a non-zero in float32 (a column and a value); the transposes that
    training needs are left out. A dense task (LeTS-(c)) is a stack of its own, with its matrices.
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
        self._dense: dict[StackKey, FrozenLayer] = {}
        self._heads: dict[StackKey, StackedHead | StackedPooler] = {}
        with torch.no_grad():
            own: dict[str, dict[int, OwnLayer]] = {}
            heads: dict[str, Head] = {}
            for name, task in tasks.items():
                live = self.specs[name].policy.live_layers
                dense: Mapping[int, FrozenLayer | None]
                if previous and name in kept:
                    heads[name] = previous.head([name]).head(0)
                    own[name] = {j: previous.own(j, [name]) for j in live}
                    dense = {j: previous.dense_layer(j, [name]) for j in live}
                else:
                    model = task.to_model(encoder).requires_grad_(False)
                    parts = {j: model.parts(j) for j in live}
                    heads[name] = task.head
                    own[name] = {j: part.forward_only() for j, (_, part) in parts.items()}
                    dense = {
                        j: packed_layer(encoder, layer, task.policy.feeds[j])
                        for j, (layer, _) in parts.items()
                        if model.dense
                    }
                for j, layer in dense.items():
                    if layer is not None:
                        self._dense[stack_key(self.specs[name], j)] = layer
            for key, names in self.orders.items():
                if key[0] is None:
                    like = encoder.layers[0].out_bias
                    self._heads[key] = stack_heads([heads[name] for name in names], like)
                else:
                    stacked = [own[name].pop(key[0]) for name in names]
                    self._layers[key] = OwnLayer.stack(stacked)

    def own(self, layer: int, tasks: Sequence[str]) -> OwnLayer:
        """What these tasks own of a layer; neighbours in its stack, in order."""
        key, begin = self._find(layer, tasks)
        stack, end = self._layers[key], begin + len(tasks)
        return stack if end - begin == len(self.orders[key]) else stack.tasks(begin, end)

    def dense_layer(self, layer: int, tasks: Sequence[str]) -> FrozenLayer | None:
        """The matrices of a dense task's own, which runs alone; None for other tasks."""
        return self._dense.get(stack_key(self.specs[tasks[0]], layer)) if tasks else None

    def head(self, tasks: Sequence[str]) -> StackedHead | StackedPooler:
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
        live = task.policy.live_layers
        if task.dense is None:
            deltas = _ByLayer(live, lambda j: self.deltas(j, name))
            return replace(task, name=name, deltas=deltas, head=head)
        dense = _ByLayer(live, lambda j: self._matrices(j, name))
        return replace(task, name=name, dense=dense, head=head)

    def _matrices(self, layer: int, name: str) -> dict[str, Tensor]:
        """A dense task's matrices of a layer, copied where they are packed."""
        dense = self.dense_layer(layer, [name])
        assert dense is not None
        weights = dense.weights.plain()
        return {matrix: getattr(weights, f"{matrix}_weight") for matrix in MATRICES}

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
        for dense in self._dense.values():
            yield from (getattr(dense.weights, f"{matrix}_weight") for matrix in MATRICES)
            if dense.plain_qkv_weight is not None:
                yield dense.plain_qkv_weight
        for head in self._heads.values():
            yield from (value for value in vars(head).values() if isinstance(value, Tensor))


class _ByLayer(Mapping[int, T]):
    """What a task owns by layer, made from the stacks each time it is read."""

    def __init__(self, layers: Sequence[int], read: Callable[[int], T]) -> None:
        self._layers, self._read = layers, read

    def __getitem__(self, layer: int) -> T:
        if layer not in self._layers:
            raise KeyError(layer)
        return self._read(layer)

    def __iter__(self) -> Iterator[int]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)


def _joined(parts: Sequence[Delta]) -> SparseDelta:
    """Deltas of one task, one above the other, with a transpose again."""
    crow, start = [parts[0].layout.crow_indices[:1]], 0
    for part in parts:
        crow.append(part.layout.crow_indices[1:] + start)
        start += part.layout.nnz
    col = torch.cat([part.layout.col_indices for part in parts])
    layout = DeltaLayout.from_csr(torch.cat(crow), col, parts[0].layout.in_features)
    return SparseDelta(layout, torch.cat([part.values for part in parts]))
