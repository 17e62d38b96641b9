"""Inputs of every op on a device, the same thing in float64, and what others would do instead."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

import lets_ext
from lets_ext import Delta
from tests.factories import make_delta


@dataclass
class Problem:
    """One call of an op.

    Args:
        function: The op, given `operands`.
        reference: Plain torch, given tensors of any dtype in the order of `operands`.
        bytes: What any implementation has to read and write once.
        peers: What others would do, by name.
        frozen: Positions of the operands that get no gradient; None: the op computes none at all.
    """

    op: str
    shape: dict[str, float | int | str]
    dtype: torch.dtype
    operands: list
    function: Callable[..., Tensor | list[Tensor]]
    reference: Callable[..., Tensor | list[Tensor]]
    bytes: int
    peers: dict[str, Callable[[], object]] = field(default_factory=dict)
    frozen: tuple[int, ...] | None = ()

    def run(self) -> Tensor | list[Tensor]:
        """The op's result."""
        return self.function(*self.operands)

    def exact(self) -> Tensor:
        """The result in float64."""
        return joined(self.reference(*convert(self.operands, torch.float64)))

    def low(self) -> Tensor:
        """The result of plain torch in the op's dtype."""
        return joined(self.reference(*self.operands))


def joined(result: Tensor | list[Tensor]) -> Tensor:
    """Several results as one."""
    return result if isinstance(result, Tensor) else torch.cat([t.flatten() for t in result])


def convert(value, dtype: torch.dtype):
    """Floating-point tensors of operands in another dtype."""
    if isinstance(value, Delta):
        return Delta(value.layout, value.values.to(dtype))
    if isinstance(value, list):
        return [convert(v, dtype) for v in value]
    if isinstance(value, dict):
        return {name: convert(v, dtype) for name, v in value.items()}
    return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value


class Maker:
    """Random operands on a device; every call gives other values."""

    def __init__(self, device: torch.device, dtype: torch.dtype, seed: int = 0):
        self.device, self.dtype, self.seed = device, dtype, seed
        self.generator = torch.Generator(device).manual_seed(seed)

    def tensor(self, *shape: int, scale: float = 1.0, offset: float = 0.0) -> Tensor:
        values = torch.randn(*shape, generator=self.generator, device=self.device)
        return (values * scale + offset).to(self.dtype)

    def delta(self, tasks: int, out: int, into: int, density: float) -> Delta:
        self.seed += 1
        delta = make_delta(tasks, out, into, density, self.dtype, self.seed)
        return Delta(delta.layout.to(self.device), delta.values.to(self.device) * 0.05)


def _size(*values: Tensor | Delta | None) -> int:
    total = 0
    for value in values:
        if isinstance(value, Delta):
            layout = value.layout
            total += _size(layout.crow_indices, layout.col_indices, value.values)
        elif value is not None:
            total += value.numel() * value.element_size()
    return total


def delta_qkv(make: Maker, tasks: int, batch: int, length: int, hidden: int, density: float):
    tokens = batch * length
    base, x = make.tensor(1, tokens, 3 * hidden), make.tensor(1, tokens, hidden)
    delta, bias = make.delta(tasks, 3 * hidden, hidden, density), make.tensor(tasks, 3 * hidden)
    weight = make.tensor(3 * hidden, hidden, scale=hidden**-0.5)
    merged = weight + delta.to_dense()
    written = tasks * tokens * 3 * hidden * base.element_size()
    rows, features, layout = merged.shape[0] * merged.shape[1], hidden, delta.layout
    sparse = torch.sparse_csr_tensor(
        layout.crow_indices,
        layout.col_indices,
        delta.values,
        (rows, features),
        check_invariants=False,
    )
    # Every task's rows below each other, as an addmm of cuSPARSE wants them: [T*O, N].
    base_t, x_t = base[0].T.repeat(tasks, 1).contiguous(), x[0].T.contiguous()
    return Problem(
        op="delta_qkv",
        shape={"T": tasks, "B": batch, "S": length, "H": hidden, "density": density},
        dtype=make.dtype,
        operands=[base, x, delta, bias],
        function=lets_ext.delta_qkv,
        reference=lets_ext.delta_qkv_ref,
        bytes=_size(base, x, delta, bias) + written,
        peers={
            "merged weights, cuBLAS": lambda: torch.matmul(x, merged.mT),
            "torch.sparse CSR addmm": lambda: torch.addmm(base_t, sparse, x_t),
            "dense scatter": lambda: base + x @ delta.to_dense().mT,
        },
    )


def cls_attention(make: Maker, tasks: int, batch: int, length: int, hidden: int, heads: int):
    q, x = make.tensor(tasks, batch, hidden), make.tensor(1, batch, length, hidden)
    key, value = (make.tensor(1, batch, length, hidden) for _ in range(2))
    key_delta, value_delta = (make.delta(tasks, hidden, hidden, 0.005) for _ in range(2))
    mask = torch.ones(batch, length, dtype=torch.bool, device=make.device)

    def reference(q, x, key, value, key_delta, value_delta):
        return lets_ext.cls_attention_ref(
            q, x, num_heads=heads, key=key, value=value, key_delta=key_delta,
            value_delta=value_delta, key_mask=mask,
        )  # fmt: skip

    def materialise():
        rows = (1, batch * length, hidden)
        keys = lets_ext.delta_linear(key.view(rows), x.view(rows), key_delta)
        values = lets_ext.delta_linear(value.view(rows), x.view(rows), value_delta)
        split = (tasks * batch, length, heads, hidden // heads)
        queries = q.view(tasks * batch, 1, heads, hidden // heads).transpose(1, 2)
        return F.scaled_dot_product_attention(
            queries, keys.view(split).transpose(1, 2), values.view(split).transpose(1, 2)
        )

    def function(q, x, key, value, key_delta, value_delta):
        return lets_ext.cls_attention(
            q, x, num_heads=heads, key=key, value=value, key_delta=key_delta,
            value_delta=value_delta, key_mask=mask,
        )  # fmt: skip

    operands = [q, x, key, value, key_delta, value_delta]
    return Problem(
        op="cls_attention",
        shape={"T": tasks, "B": batch, "S": length, "H": hidden, "A": heads, "density": 0.005},
        dtype=make.dtype,
        operands=operands,
        function=function,
        reference=reference,
        bytes=_size(*operands, mask) + _size(q),
        peers={"delta_linear of K and V, SDPA": materialise},
    )


def cls_tail(make: Maker, tasks: int, rows: int, hidden: int, inner: int):
    sizes = {"out": (hidden, hidden), "up": (inner, hidden), "down": (hidden, inner)}
    weights = [make.tensor(*size, scale=size[1] ** -0.5) for size in sizes.values()]
    deltas = [make.delta(tasks, *size, 0.005) for size in sizes.values()]
    biases = [make.tensor(tasks, size[0], scale=0.1) for size in sizes.values()]
    gains = [make.tensor(tasks, hidden, scale=0.1, offset=1.0) for _ in range(2)]
    shifts = [make.tensor(tasks, hidden, scale=0.1) for _ in range(2)]
    ctx, residual = make.tensor(tasks, rows, hidden), make.tensor(tasks, rows, hidden)
    merged = [(w + d.to_dense()).mT.contiguous() for w, d in zip(weights, deltas)]

    def call(function, ctx, residual, *rest):
        out_w, up_w, down_w, out_d, up_d, down_d, out_b, up_b, down_b, g1, g2, s1, s2 = rest
        return function(
            ctx, residual, out_weight=out_w, out_bias=out_b, attn_norm_weight=g1,
            attn_norm_bias=s1, up_weight=up_w, up_bias=up_b, down_weight=down_w,
            down_bias=down_b, norm_weight=g2, norm_bias=s2, out_delta=out_d, up_delta=up_d,
            down_delta=down_d,
        )  # fmt: skip

    def norm(x, i):
        return F.layer_norm(x, (hidden,)) * gains[i][:, None] + shifts[i][:, None]

    def chain():
        # With one task this is F.linear and LayerNorm; with more, the tasks share each launch.
        h = norm(residual + torch.baddbmm(biases[0][:, None], ctx, merged[0]), 0)
        middle = F.gelu(torch.baddbmm(biases[1][:, None], h, merged[1]))
        return norm(h + torch.baddbmm(biases[2][:, None], middle, merged[2]), 1)

    operands = [ctx, residual, *weights, *deltas, *biases, *gains, *shifts]
    return Problem(
        op="cls_tail",
        shape={"T": tasks, "M": rows, "H": hidden, "F": inner, "density": 0.005},
        dtype=make.dtype,
        operands=operands,
        function=lambda *o: call(lets_ext.cls_tail, *o),
        reference=lambda *o: call(lets_ext.cls_tail_ref, *o),
        bytes=_size(*operands) + _size(ctx),
        peers={"chain with merged weights": chain},
        frozen=(2, 3, 4),
    )


def cls_tail_layers(make: Maker, layers: int, rows: int, hidden: int, inner: int):
    parts = [cls_tail(make, 1, rows, hidden, inner) for _ in range(layers)]
    names = (
        "ctx", "residual", "out_weight", "up_weight", "down_weight", "out_delta", "up_delta",
        "down_delta", "out_bias", "up_bias", "down_bias", "attn_norm_weight", "norm_weight",
        "attn_norm_bias", "norm_bias",
    )  # fmt: skip
    operands = [[dict(zip(names, part.operands)) for part in parts]]
    (chain,) = parts[0].peers
    return Problem(
        op="cls_tail_layers",
        shape={"layers": layers, "T": 1, "M": rows, "H": hidden, "F": inner, "density": 0.005},
        dtype=make.dtype,
        operands=operands,
        function=lets_ext.cls_tail_layers,
        reference=lets_ext.cls_tail_layers_ref,
        bytes=sum(part.bytes for part in parts),
        peers={
            chain: lambda: [part.peers[chain]() for part in parts],
            "cls_tail per layer": lambda: [part.run() for part in parts],
        },
        frozen=None,
    )


def add_layer_norm(make: Maker, tasks: int, tokens: int, hidden: int):
    x, residual = make.tensor(tasks, tokens, hidden), make.tensor(tasks, tokens, hidden)
    weight = make.tensor(tasks, hidden, scale=0.1, offset=1.0)
    shift, bias = make.tensor(tasks, hidden), make.tensor(tasks, hidden)
    operands = [x, residual, weight, shift, bias]
    return Problem(
        op="add_layer_norm",
        shape={"T": tasks, "N": tokens, "H": hidden},
        dtype=make.dtype,
        operands=operands,
        function=lets_ext.add_layer_norm,
        reference=lets_ext.add_layer_norm_ref,
        bytes=_size(*operands) + _size(x),
        peers={"torch": lambda: lets_ext.add_layer_norm_ref(*operands)},
    )


def bias_gelu(make: Maker, tasks: int, tokens: int, features: int):
    x, bias = make.tensor(tasks, tokens, features), make.tensor(tasks, features)
    return Problem(
        op="bias_gelu",
        shape={"T": tasks, "N": tokens, "F": features},
        dtype=make.dtype,
        operands=[x, bias],
        function=lets_ext.bias_gelu,
        reference=lets_ext.bias_gelu_ref,
        bytes=_size(x, bias) + _size(x),
        peers={"torch": lambda: lets_ext.bias_gelu_ref(x, bias)},
    )
