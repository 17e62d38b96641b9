"""The three rules that hold the layout up (docs/architecture.md)."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
IMPORT = re.compile(r"^\s*(?:from|import)\s+([\w.]+)", re.MULTILINE)
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)', re.MULTILINE)
# Not ops on tensors, or parts of another op.
HELPERS = {"select_isa", "cls_tail_layers"}


def test_imports_point_one_way():
    for path in (ROOT / "lets_ext").glob("*.py"):
        roots = {name.split(".")[0] for name in IMPORT.findall(path.read_text())}
        assert not roots & {"lets", "transformers", "tests", "bench"}, path.name


def test_kernels_and_host_library_are_torch_free():
    files = [p for d in ("kernels", "host") for p in (ROOT / "csrc" / d).iterdir()]
    assert files
    for path in files:
        for name in INCLUDE.findall(path.read_text()):
            assert not re.match(r"(torch|ATen|c10|pybind11|Python\.h)", name), f"{path}: {name}"


def test_only_the_module_includes_pybind11():
    for path in (ROOT / "csrc").rglob("*.*"):
        if any(name.startswith("pybind11") for name in INCLUDE.findall(path.read_text())):
            assert path.relative_to(ROOT).as_posix() == "csrc/module.cpp"


def ops():
    names = re.findall(r'm\.def\(\s*"(\w+)\(', (ROOT / "csrc" / "ops.cpp").read_text())
    return sorted({name.partition("_bwd")[0] for name in names if name not in HELPERS})


@pytest.mark.parametrize("op", ops())
def test_every_op_has_its_files(op):
    for place in (f"lets_ext/{op}.py", f"tests/ext/test_{op}.py", f"bench/bench_{op}.py"):
        assert (ROOT / place).is_file(), place
    source = (ROOT / "lets_ext" / f"{op}.py").read_text()
    assert f"def {op}(" in source
    assert f"def {op}_ref(" in source


@pytest.mark.parametrize("op", ops())
def test_every_op_has_a_price(op):
    cost = ROOT / "python" / "lets" / "cost.py"
    if not cost.is_file():
        pytest.skip("no cost model yet")
    assert re.search(rf"\b_?{op}\b", cost.read_text()), f"lets/cost.py does not price {op}"
