"""The command line `lets`: one function per verb and no logic in it (DESIGN section 7).

A verb is a plain function of a module of this package, registered below. It imports what it needs
in its body, so that `lets --help` and `lets ops` need neither torch nor the compiled extension.
"""

from __future__ import annotations

import typer

from lets import __version__
from lets.cli import env, ops, validate
from lets.cli.group import LetsGroup

app = typer.Typer(
    name="lets",
    cls=LetsGroup,
    add_completion=False,
    invoke_without_command=True,
    pretty_exceptions_enable=False,
)

app.command("ops")(ops.ops)
app.command("env")(env.env)
app.command("validate")(validate.validate)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"lets {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version."
    ),
) -> None:
    """Many text tasks on one frozen encoder: one pass, one answer per task."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main() -> None:
    """Entry point of the `lets` script."""
    app()
