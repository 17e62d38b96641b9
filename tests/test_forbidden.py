"""A lint of the tree: nothing that the package ships can run code out of a file."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("python", "lets_ext", "bench", "examples")
MODULES = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
CALLS = {"eval", "exec", "torch.load", "torch.hub.load", "yaml.load", "np.load", "numpy.load"}
ASKING = re.compile(r"Auto\w+\.from_pretrained")  # on a terminal whether to run a model's code
KEYWORDS = {"trust_remote_code", "allow_pickle"}


def findings(source, where="<test>"):
    """What a file does that it must not, one line each."""
    for node in ast.walk(ast.parse(source)):
        found = None
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names]
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else names
            found = next((name for name in names if name.split(".")[0] in MODULES), None)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in CALLS:
            found = ast.unparse(node.func)
        elif isinstance(node, ast.Call) and ASKING.fullmatch(ast.unparse(node.func)):
            said = any(keyword.arg == "trust_remote_code" for keyword in node.keywords)
            found = None if said else f"{ast.unparse(node.func)} without trust_remote_code=False"
        elif isinstance(node, ast.keyword | ast.arg) and node.arg in KEYWORDS:
            value = getattr(node, "value", None)
            off = isinstance(value, ast.Constant) and value.value is False
            found = None if off else node.arg
        elif isinstance(node, ast.Constant) and node.value in KEYWORDS:
            found = node.value  # a key of **arguments
        if found:
            yield f"{where}:{node.lineno}: {found}"


def test_nothing_runs_code_out_of_files():
    files = [file for folder in FOLDERS for file in sorted((ROOT / folder).rglob("*.py"))]
    assert len(files) > 100
    found = [
        line
        for file in files
        for line in findings(file.read_text("utf-8"), file.relative_to(ROOT).as_posix())
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from dill import loads",
        "eval('1')",
        "exec(text)",
        "torch.load(path)",
        "from_pretrained(path, trust_remote_code=True)",
        "from_pretrained(path, **{'trust_remote_code': True})",
        "np.load(path)",
        "AutoModel.from_pretrained(path)",
    ],
)
def test_the_lint_finds(source):
    assert len(list(findings(source))) == 1


def test_the_lint_lets_pass():
    assert not list(findings("model.eval()\nload(path, trust_remote_code=False)\nre.compile('x')"))
