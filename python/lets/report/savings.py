"""What a task saves of a full fine-tuned encoder, by the paper's kinds and by exact algebra.

(i) bypassed layers, (ii) Q, K, V as a sparse product on a cached one, (iii) only the [CLS] row
after the attention; then what the engine saves beyond the paper's count: K and V of a layer that
only the pooling reads are never formed.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from lets.cost import dense_layer_cost, encoder_flops, layer_cost, layer_params
from lets.nnz import TaskNnz
from lets.policy import LayerCase, Policy
from lets.policy_cost import head_cost
from lets.shape import EncoderShape, layer_parameters

_FULL = {
    LayerCase.P_CLS: LayerCase.P_ALL,
    LayerCase.F_CLS: LayerCase.F_ALL,
    LayerCase.S_CLS: LayerCase.P_ALL,
}


@dataclass(frozen=True)
class Savings:
    """FLOPs of one task; dense = bypass + sparse + cls_only + algebra + all_rows + cls_rows.

    Args:
        algebra: Saved beyond the paper's count; negative where deltas of dense products cost more.
        all_rows, cls_rows: What is left of the layers, as the engine runs them.
        head: On top; a dense model's head is not counted.
    """

    dense: int
    bypass: int
    sparse: int
    cls_only: int
    algebra: int
    all_rows: int
    cls_rows: int
    head: int

    def percent(self) -> dict[str, float]:
        """Each part in % of the encoder."""
        return {name: 100 * value / self.dense for name, value in asdict(self).items()}


@dataclass(frozen=True)
class ParamSavings:
    """Parameters of one task; dense = bypass + mask + non_zeros + vectors; the head is on top."""

    dense: int
    bypass: int
    mask: int
    non_zeros: int
    vectors: int
    head: int

    def percent(self, encoder_params: int) -> dict[str, float]:
        return {name: 100 * value / encoder_params for name, value in asdict(self).items()}


def savings(
    shape: EncoderShape,
    policy: Policy,
    seq_len: int,
    nnz: TaskNnz,
    num_labels: int = 2,
    head: tuple[int, int] | None = None,
) -> Savings:
    """Where the operations of a fine-tuned copy of the encoder go."""
    dense = dense_layer_cost(shape, seq_len).flops
    parts = dict.fromkeys(("bypass", "sparse", "cls_only", "algebra", "all_rows", "cls_rows"), 0)
    for j, case in enumerate(policy.cases):
        if case is LayerCase.BYPASS:
            parts["bypass"] += dense
            continue
        all_rows = _FULL.get(case, case)
        paper, after_sparse = (
            layer_cost(shape, c, seq_len, nnz[j], "paper").flops for c in (case, all_rows)
        )
        engine = layer_cost(shape, case, seq_len, nnz[j], "engine").flops
        parts["sparse"] += dense - after_sparse
        parts["cls_only"] += after_sparse - paper
        parts["algebra"] += paper - engine
        parts["all_rows" if case is all_rows else "cls_rows"] += engine
    head_flops = head_cost(shape, num_labels, widths=head).flops
    return Savings(encoder_flops(shape, seq_len), **parts, head=head_flops)


def param_savings(
    shape: EncoderShape,
    policy: Policy,
    nnz: TaskNnz,
    num_labels: int = 2,
    head: tuple[int, int] | None = None,
) -> ParamSavings:
    """Where the parameters of a fine-tuned copy of the layers go."""
    layer = layer_parameters(shape.hidden_size, shape.intermediate_size)
    live = policy.live_layers
    non_zeros = sum(kept.total for j in live if (kept := nnz[j]) is not None)
    stored = sum(layer_params(shape, policy.cases[j], nnz[j]) for j in live)
    return ParamSavings(
        dense=shape.num_layers * layer,
        bypass=(shape.num_layers - len(live)) * layer,
        mask=len(live) * layer - stored,
        non_zeros=non_zeros,
        vectors=stored - non_zeros,
        head=head_cost(shape, num_labels, widths=head).params,
    )
