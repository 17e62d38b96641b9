"""What holds for every op, whatever the sizes: results do not depend on strides, aliases or other
rows; NaN stays where it belongs; a bad structure or too many elements never reach a kernel."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lets_ext import Delta, DeltaLayout, delta_linear
from tests.op_cases import CASES, SIZES, TOLERANCE, Sizes, copies, same, strided

# The first tensor has one row of the result in each of its rows [T, N, ...].
ROWS = {"delta_linear": "x", "delta_qkv": "base", "cls_attention": "q", "cls_tail": "ctx",
        "cls_tail_layers": "ctx", "add_layer_norm": "x", "bias_gelu": "x"}  # fmt: skip
each_op = pytest.mark.parametrize("op", CASES)


@each_op
@settings(max_examples=40)
@given(sizes=SIZES, way=st.sampled_from(["gaps", "padded rows", "reversed"]), data=st.data())
def test_strides_do_not_matter_and_inputs_stay(op, sizes, way, data):
    call, ref, tensors = CASES[op](sizes)
    before = copies(tensors)
    out = call(**tensors)
    moved = {n: strided(t, way) if data.draw(st.booleans()) else t for n, t in tensors.items()}
    assert same(call(**moved), out)
    for name, tensor in tensors.items():
        now, then = (t.values if isinstance(t, Delta) else t for t in (tensor, before[name]))
        assert torch.equal(now, then), name
        assert not (out.numel() and out.untyped_storage().data_ptr() == now.data_ptr()), name
    wide = {
        n: Delta(t.layout, t.values.double()) if isinstance(t, Delta) else t.double()
        for n, t in tensors.items()
    }
    tolerance = TOLERANCE[sizes.dtype]
    torch.testing.assert_close(out.double(), ref(**wide), rtol=tolerance, atol=tolerance)


@each_op
@settings(max_examples=40)
@given(
    sizes=SIZES.filter(lambda s: s.rows > 1), wrong=st.sampled_from([float("nan"), float("inf")])
)
def test_nan_stays_in_its_row(op, sizes, wrong):
    call, _, tensors = CASES[op](sizes)
    out = call(**tensors)
    name = ROWS[op]
    row = sizes.seed % sizes.rows
    poisoned = copies(tensors)
    poisoned[name][:, row] = wrong
    changed = call(**poisoned)
    others = torch.arange(sizes.rows) != row
    assert torch.equal(changed[:, others], out[:, others])
    if op not in ("delta_linear", "bias_gelu") or (op == "bias_gelu" and wrong != wrong):
        assert not changed[:, row].isfinite().any()
    if op == "delta_linear":  # only what reads it
        reads = (tensors["delta"].to_dense() != 0).any(-1)
        assert torch.equal(changed[:, row].isfinite(), ~reads)


@settings(max_examples=40)
@given(sizes=SIZES)
def test_inputs_may_be_one_tensor(sizes):
    sizes = replace(sizes, shared=False, outputs=sizes.inputs)
    for op, names in {
        "delta_linear": ("base", "x"),
        "add_layer_norm": ("x", "residual"),
        "cls_tail": ("ctx", "residual"),
        "cls_attention": ("x", "key"),
    }.items():
        call, _, tensors = CASES[op](sizes)
        first, second = names
        apart = {**tensors, second: tensors[first].clone()}
        assert same(call(**{**tensors, second: tensors[first]}), call(**apart)), op
    call, _, tensors = CASES["add_layer_norm"](sizes)
    one = tensors["weight"]
    aliases = {**tensors, "norm_bias": one, "bias": one}
    assert same(call(**aliases), call(**copies(aliases)))


DAMAGES = {
    "a column beyond the last": lambda crow, col, i: (crow, put(col, i)),
    "a negative column": lambda crow, col, i: (crow, put(col, -1)),
    "a huge column": lambda crow, col, i: (crow, put(col, 2**31 - 1)),
    "offsets that decrease": lambda crow, col, i: (put(crow, crow[-1] + 1, len(crow) // 2), col),
    "offsets past the end": lambda crow, col, i: (put(crow, 2**31 - 1, -1), col),
    "offsets short of the end": lambda crow, col, i: (put(crow, crow[-1] - 1, -1), col),
    "a late start": lambda crow, col, i: (put(crow, 1, 0), col),
    "a negative start": lambda crow, col, i: (put(crow, -1, 0), col),
    "too few offsets": lambda crow, col, i: (crow[:-1], col),
    "too many offsets": lambda crow, col, i: (torch.cat([crow, crow[-1:]]), col),
    "too few columns": lambda crow, col, i: (crow, col[:-1]),
    "too many columns": lambda crow, col, i: (crow, torch.cat([col, col[-1:]])),
    "wide offsets": lambda crow, col, i: (crow.long(), col),
    "float columns": lambda crow, col, i: (crow, col.float()),
    "strided columns": lambda crow, col, i: (crow, strided(col, "gaps")),
    "offsets of two dimensions": lambda crow, col, i: (crow[None], col),
}


# With at least two entries: one alone is contiguous whatever its stride.
FULL = SIZES.map(lambda s: replace(s, density=1.0, inputs=s.inputs + 1))


def put(indices, value, place=-1):
    out = indices.clone()
    out[place] = value
    return out


def broken(delta, damage):
    """A handle that no constructor would make, as a stray pointer or a bug could."""
    layout = delta.layout
    crow, col = DAMAGES[damage](layout.crow_indices, layout.col_indices, layout.in_features)
    return Delta(replace(layout, crow_indices=crow, col_indices=col), delta.values)


@pytest.mark.parametrize("damage", DAMAGES)
@settings(max_examples=8)
@given(sizes=FULL)
def test_broken_layouts_are_refused(damage, sizes):
    for op in ("delta_linear", "cls_attention", "cls_tail", "cls_tail_layers"):
        call, _, tensors = CASES[op](sizes)
        for name, value in tensors.items():
            if isinstance(value, Delta):
                with pytest.raises((RuntimeError, ValueError), match=r"(cls|delta)_\w+: "):
                    call(**{**tensors, name: broken(value, damage)})


@pytest.mark.parametrize("damage", DAMAGES)
@settings(max_examples=8)
@given(sizes=FULL)
def test_broken_layouts_are_refused_by_gradients(damage, sizes):
    ops, delta = torch.ops.lets_ext, sizes.delta(sizes.outputs, sizes.inputs)
    grad = sizes.tensor(sizes.tasks, sizes.rows, sizes.outputs)
    x = sizes.tensor(sizes.tasks, sizes.rows, sizes.inputs)
    layout = broken(delta, damage).layout
    with pytest.raises(RuntimeError, match="delta_linear_bwd_values: "):
        ops.delta_linear_bwd_values(grad, x, layout.crow_indices, layout.col_indices, sizes.tasks)
    transposed = Delta(
        replace(
            delta.layout,
            crow_indices=delta.layout.ccol_indices,
            col_indices=delta.layout.row_indices,
            in_features=sizes.outputs,
        ),
        delta.values,
    )
    layout = broken(transposed, damage).layout
    with pytest.raises(RuntimeError, match="delta_linear_bwd_x: "):
        ops.delta_linear_bwd_x(
            grad, delta.values, layout.crow_indices, layout.col_indices,
            delta.layout.permutation, sizes.tasks, sizes.inputs,
        )  # fmt: skip
    with pytest.raises(RuntimeError, match="delta_linear_bwd_x: permutation"):
        ops.delta_linear_bwd_x(
            grad, delta.values, delta.layout.ccol_indices, delta.layout.row_indices,
            put(delta.layout.permutation, delta.layout.nnz), sizes.tasks, sizes.inputs,
        )  # fmt: skip


@given(
    st.lists(st.integers(-2, 9) | st.integers(-(2**40), 2**40), max_size=7),
    st.lists(st.integers(-2, 9) | st.integers(-(2**40), 2**40), max_size=7),
    st.integers(-1, 9) | st.integers(2**31 - 2, 2**40),
    st.integers(-1, 4),
)
def test_any_numbers_make_a_layout_or_an_error(crow, col, in_features, num_tasks):
    if in_features > 9 and crow and crow[0] == 0 and crow == sorted(crow):
        in_features = 9  # sound offsets: the transpose would take 4 bytes a column
    try:
        layout = DeltaLayout.from_csr(
            torch.tensor(crow, dtype=torch.int64),
            torch.tensor(col, dtype=torch.int64),
            in_features,
            num_tasks,
        )
    except (ValueError, TypeError) as error:
        assert "delta layout" in str(error) or "incompatible" in str(error)  # noqa: PT017
    else:
        assert layout.nnz == len(col)
        assert layout.num_tasks * layout.out_features == len(crow) - 1


HUGE = Sizes(1, 1 << 20, 1 << 6, 1 << 6, 1, True, 0.0, torch.float32, 0)


@pytest.mark.parametrize("device", ["cpu", "meta"])
@each_op
def test_more_than_two_billion_elements_are_refused(op, device):
    """On the CPU the tensors are one number, repeated: whoever computed with them took hours."""
    call, _, tensors = CASES[op](replace(HUGE, rows=1))
    layouts = {n: t.layout.to(device) for n, t in tensors.items() if isinstance(t, Delta)}
    rows = (1 << 31) // HUGE.inputs

    def grown(name, t):
        if isinstance(t, Delta):
            return Delta(layouts[name], t.values.to(device))
        t = t.to(device)
        per_row = {"q", "x", "key", "base", "residual", "ctx"}
        return t.expand(t.shape[0], rows, *t.shape[2:]) if name in per_row else t

    with pytest.raises(
        (RuntimeError, ValueError), match=rf"{op.replace('qkv', 'linear')}: .* 2\^31"
    ):
        call(**{name: grown(name, t) for name, t in tensors.items()})


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_results_larger_than_their_inputs_are_counted_too(device):
    tasks = 1 << 12
    layout = DeltaLayout.from_csr(torch.zeros(tasks + 1, dtype=torch.int32),
                                  torch.zeros(0, dtype=torch.int32), 1, tasks)  # fmt: skip
    base, x = (torch.zeros(1, 1, 1, device=device).expand(1, 1 << 20, 1) for _ in range(2))
    with pytest.raises((RuntimeError, ValueError), match=r"delta_linear: .* 2\^31"):
        delta_linear(base, x, Delta(layout.to(device), torch.zeros(0, device=device)))


@pytest.mark.parametrize("num_tasks", [2**62, 2**61 + 1, -1, 0])
def test_a_number_of_tasks_that_overflows(num_tasks):
    index = torch.zeros(1, dtype=torch.int32)
    empty = index[:0]
    with pytest.raises(RuntimeError, match="delta_linear: "):
        torch.ops.lets_ext.delta_linear(
            torch.zeros(1, 0, 4), torch.zeros(1, 0, 4), torch.zeros(0), index, empty, index, empty,
            empty, num_tasks,
        )  # fmt: skip
