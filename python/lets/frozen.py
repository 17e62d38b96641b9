"""What is read of the frozen encoder, and the activations of one frozen pass."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from torch import Tensor

from lets.policy import LayerCase, Policy


@dataclass(frozen=True)
class FrozenNeeds:
    """What is read of the frozen encoder.

    Args:
        hidden: Layers j of which all rows of x^p_j are read; -1 is the embedding output.
        pooled: Layers of which the [CLS] row is read.
        qkv: Layers of which all rows of Q, K and V are read.
        cls_qkv: Layers of which all rows of K and V, but only the [CLS] row of Q is read.
        key_value: Layers of which all rows of K and V, but nothing of Q is read.
    """

    hidden: frozenset[int] = frozenset()
    pooled: frozenset[int] = frozenset()
    qkv: frozenset[int] = frozenset()
    cls_qkv: frozenset[int] = frozenset()
    key_value: frozenset[int] = frozenset()

    @property
    def products(self) -> frozenset[int]:
        """Layers of which K and V are read."""
        return self.qkv | self.cls_qkv | self.key_value

    def __or__(self, other: FrozenNeeds) -> FrozenNeeds:
        return FrozenNeeds(
            self.hidden | other.hidden,
            self.pooled | other.pooled,
            self.qkv | other.qkv,
            self.cls_qkv | other.cls_qkv,
            self.key_value | other.key_value,
        )

    @classmethod
    def of(cls, policy: Policy, dense: bool = False) -> FrozenNeeds:
        """What one task reads.

        Args:
            dense: Whether its layers are all its own (LeTS-(c)): frozen products are of no use.
        """
        cases, products = policy.cases, frozenset() if dense else policy.frozen_qkv
        return cls(
            hidden=frozenset(j - 1 for j in policy.frozen_qkv),
            pooled=frozenset(j for j, letter in enumerate(policy.pool) if letter == "p"),
            qkv=frozenset(j for j in products if cases[j] is LayerCase.P_ALL),
            cls_qkv=frozenset(j for j in products if cases[j] is LayerCase.P_CLS),
            key_value=frozenset(j for j in products if cases[j] is LayerCase.S_CLS),
        )

    @classmethod
    def union(cls, policies: Iterable[Policy]) -> FrozenNeeds:
        needs = cls()
        for policy in policies:
            needs = needs | cls.of(policy)
        return needs

    @classmethod
    def everything(cls, num_layers: int) -> FrozenNeeds:
        layers = frozenset(range(num_layers))
        return cls(hidden=layers | {-1}, pooled=layers, qkv=layers)


@dataclass
class ActivationCache:
    """Activations of one frozen pass, shared by all tasks.

    Args:
        hidden: x^p_j by layer; -1 is the embedding output. [B, S, H]
        cls_rows: [CLS] rows of layers whose other rows were not computed. [B, H]
        qkv: Q, K and V stacked. [B, S, 3H]
        cls_query, key_value: Q of the [CLS] rows, and K and V, where no other Q is read.
            [B, H], [B, S, 2H]
        key_mask: True = attend; None when nothing is padded. bool [B, S]
    """

    key_mask: Tensor | None
    hidden: dict[int, Tensor] = field(default_factory=dict)
    cls_rows: dict[int, Tensor] = field(default_factory=dict)
    qkv: dict[int, Tensor] = field(default_factory=dict)
    cls_query: dict[int, Tensor] = field(default_factory=dict)
    key_value: dict[int, Tensor] = field(default_factory=dict)

    def pooled(self, layer: int) -> Tensor:
        """The [CLS] row of x^p_j. [B, H]"""
        rows = self.cls_rows.get(layer)
        return self.hidden[layer][:, 0] if rows is None else rows

    def cls_products(self, layer: int) -> tuple[Tensor, Tensor, Tensor]:
        """Query of the [CLS] rows, keys and values. [B, H], [B, S, H], [B, S, H]"""
        if layer in self.qkv:
            q = self.qkv[layer][..., : self.qkv[layer].shape[-1] // 3]
            return q[:, 0], *self.keys_and_values(layer)
        return self.cls_query[layer], *self.keys_and_values(layer)

    def keys_and_values(self, layer: int) -> tuple[Tensor, Tensor]:
        """[B, S, H] each."""
        if layer in self.qkv:
            _, k, v = self.qkv[layer].chunk(3, dim=-1)
        else:
            k, v = self.key_value[layer].chunk(2, dim=-1)
        return k, v
