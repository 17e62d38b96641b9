import pytest
import typer
from lets.cli.group import LetsGroup
from lets.errors import LetsError
from typer.testing import CliRunner


def run(error):
    app = typer.Typer(cls=LetsGroup, pretty_exceptions_enable=False)

    @app.command()
    def fail():
        raise error

    @app.command()
    def other():
        pass

    return CliRunner().invoke(app, ["fail"])


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (LetsError("policy: wrong\n  twice"), "lets: policy: wrong twice"),
        (LetsError("a\x1b[31mb\u202e: wrong"), "lets: a?[31mb?: wrong"),
        (LetsError("x" * 5000), "lets: " + "x" * 2000 + "..."),
        (ImportError("lets_ext: build it"), "lets: lets_ext: build it"),
        (PermissionError(13, "Permission denied", "out/x"), "lets: out/x: Permission denied"),
        (typer.BadParameter("no"), "lets: Invalid value: no (see --help)"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_user_errors_are_one_line(error, line):
    result = run(error)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr == line + "\n"


@pytest.mark.parametrize(
    ("error", "code"), [(typer.Exit(3), 3), (typer.Exit(), 0), (typer.Abort(), 1)]
)
def test_exit_codes(error, code):
    assert run(error).exit_code == code


@pytest.mark.parametrize("error", [ValueError("bug"), ImportError("numpy"), OSError("no name")])
def test_bugs_keep_their_traceback(error):
    assert run(error).exception is error
