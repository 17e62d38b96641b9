"""Figure 3: operations and parameters of a task by the savings (i), (ii) and (iii)."""

from __future__ import annotations

from lets.nnz import policy_nnz
from lets.policy import Policy
from lets.report.breakdown import ops_breakdown, params_breakdown
from lets.report.savings import ParamSavings, Savings, param_savings, savings
from lets.reproduce.page import Page
from lets.reproduce.source import Source
from lets.shape import EncoderShape

_SEQ_LEN, _DENSITY = 128, 0.005
# Beside the paper's example: the same encoder with every layer on x^p, and as four chains.
_POLICIES = {
    "Figure 2(b)": Policy.preset("fig2b", 12),
    "every layer on x^p": Policy("p" * 12, "f" * 12),
    "LeTS-G-4, all layers": Policy.preset("g-4", 12),
}


def page(source: Source) -> Page:
    shape = EncoderShape.from_name("bert-base")
    nnz = {name: policy_nnz(shape, p, _DENSITY) for name, p in _POLICIES.items()}
    ops = {name: savings(shape, p, _SEQ_LEN, nnz[name]) for name, p in _POLICIES.items()}
    params = {name: param_savings(shape, p, nnz[name]) for name, p in _POLICIES.items()}
    text = [
        f"Computed for BERT-base, {_SEQ_LEN} tokens, {100 * _DENSITY:g}% of the masked weights, by "
        "`lets.cost`; nothing here is measured. The whole is a fine-tuned copy of the encoder. "
        "Savings: (i) bypassed layers, (ii) Q, K and V as a sparse product on a cached one, (iii) "
        "only the [CLS] row after the attention; exact algebra: what the engine saves beyond the "
        "paper's count, because K and V of a layer that only the head reads are never formed.",
        f"The head is {ops['Figure 2(b)'].percent()['head']:.2f}% of the operations and "
        f"{params['Figure 2(b)'].percent(shape.num_parameters)['head']:.2f}% of the parameters "
        "of the encoder; the paper gives 0.01% and 0.75%.",
    ]
    tables = [_ops_table(ops), _params_table(params, shape)]
    pictures = {
        "operations": ops_breakdown(ops),
        "parameters": params_breakdown(params, shape.num_parameters),
    }
    data = {
        name: {
            "operations_percent": ops[name].percent(),
            "parameters_percent": params[name].percent(shape.num_parameters),
        }
        for name in _POLICIES
    }
    title = "Figure 3: what each saving removes"
    return Page("figure3", title, text, tables, pictures, data)


def _ops_table(ops: dict[str, Savings]) -> tuple[str, list[str], list[list[str]]]:
    names = ("bypass", "sparse", "cls_only", "algebra", "all_rows", "cls_rows", "head")
    columns = ["policy", "(i)", "(ii)", "(iii)", "algebra", "left: all rows", "left: [CLS]", "head"]
    rows = [[name, *(f"{part.percent()[key]:.2f}%" for key in names)] for name, part in ops.items()]
    return "Operations, in % of the encoder", columns, rows


def _params_table(
    params: dict[str, ParamSavings], shape: EncoderShape
) -> tuple[str, list[str], list[list[str]]]:
    names = ("bypass", "mask", "non_zeros", "vectors", "head")
    columns = ["policy", "(i)", "sparse masks", "left: non-zeros", "left: biases, norms", "head"]
    rows = [
        [name, *(f"{part.percent(shape.num_parameters)[key]:.2f}%" for key in names)]
        for name, part in params.items()
    ]
    return "Parameters, in % of the encoder", columns, rows
