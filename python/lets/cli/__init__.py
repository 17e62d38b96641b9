"""The command line `lets`: one function per verb and no logic in it.

A verb is a plain function of a module of this package, registered below. It imports what it needs
in its body, so that `lets --help` and `lets ops` need neither torch nor the compiled extension.
"""

from __future__ import annotations

import typer

from lets import __version__
from lets.cli import (
    answer,
    bench,
    convert,
    demo,
    env,
    export,
    glue,
    ops,
    plan,
    report,
    reproduce,
    serve,
    train,
    validate,
)
from lets.cli.group import LetsGroup

app = typer.Typer(
    name="lets",
    cls=LetsGroup,
    add_completion=False,
    invoke_without_command=True,
    pretty_exceptions_enable=False,
)

app.command("ops")(ops.ops)
app.command("plan")(plan.plan)
app.command("env")(env.env)
app.command("validate")(validate.validate)
app.command("demo")(demo.demo)
app.command("bench")(bench.bench)
app.command("report")(report.report)
app.command("glue-submission")(glue.glue_submission)
app.command("reproduce")(reproduce.reproduce)
app.command("serve")(serve.serve)

# The options of training are those of the ecosystem's scripts, which spell them with underscores.
_TRAINING = {"token_normalize_func": lambda token: token.replace("_", "-")}
app.command("fit", context_settings=_TRAINING)(train.fit)
app.command("prune", context_settings=_TRAINING)(train.prune)
app.command("search", context_settings=_TRAINING)(train.search)
app.command("finetune", context_settings=_TRAINING)(train.finetune)
app.command("convert", context_settings=_TRAINING)(convert.convert)
app.command("merge")(convert.merge)
app.command("export")(export.export)
app.command("eval", context_settings=_TRAINING)(answer.evaluate)
app.command("predict", context_settings=_TRAINING)(answer.predict)


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
