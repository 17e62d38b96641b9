import sys
import types

from lets.cli import app
from typer.testing import CliRunner


def run(monkeypatch, module):
    monkeypatch.setitem(sys.modules, "lets_ext.env", module)
    return lambda *arguments: CliRunner().invoke(app, ["env", *arguments])


def test_prints_what_the_extension_reports(monkeypatch):
    module = types.ModuleType("lets_ext.env")
    module.main = lambda arguments: print("env", *arguments)
    env = run(monkeypatch, module)
    assert env().stdout == "env\n"
    assert env("--json").stdout == "env --json\n"


def test_says_what_is_missing(monkeypatch):
    result = run(monkeypatch, None)()
    assert result.exit_code == 2
    assert result.stderr.startswith("lets: env: cannot import lets_ext: ")
