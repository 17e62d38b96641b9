import json
import sys
import types

from lets.cli import app
from typer.testing import CliRunner


def run(monkeypatch, module):
    monkeypatch.setitem(sys.modules, "lets_ext.env", module)
    return lambda *arguments: CliRunner().invoke(app, ["env", *arguments])


def test_prints_what_the_extension_reports(monkeypatch):
    module = types.ModuleType("lets_ext.env")
    module.collect = lambda: {"isa": "avx2"}
    module.render = lambda report: f"isa {report['isa']}"
    env = run(monkeypatch, module)
    assert json.loads(env("--json").stdout) == {"isa": "avx2"}
    assert env().stdout == "isa avx2\n"


def test_says_what_is_missing(monkeypatch):
    result = run(monkeypatch, None)()
    assert result.exit_code == 2
    assert result.stderr.startswith("lets: env: cannot import lets_ext: ")
