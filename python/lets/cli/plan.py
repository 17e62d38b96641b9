"""`lets plan`: what a set of tasks shares and costs."""

from __future__ import annotations

from typing import Annotated

import typer

from lets.cli.output import Json, print_json, print_table
from lets.errors import LetsError


def plan(
    packs: Annotated[
        list[str] | None,
        typer.Argument(help="Task packs of one encoder, or folders of packs.", show_default=False),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(help="Folder or built-in shape; default: as the packs say.",
                     show_default=False),
    ] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(help="In place of packs: JSON file or preset; once per task.",
                     show_default=False),
    ] = None,
    copies: Annotated[int, typer.Option(help="With --policy: tasks of each.")] = 1,
    density: Annotated[
        float, typer.Option(help="With --policy: kept share of the masked weights.")
    ] = 0.005,
    batch: Annotated[int, typer.Option(help="Texts of a call.")] = 1,
    seq_len: Annotated[int, typer.Option(help="Tokens of a padded text.")] = 128,
    streams: Annotated[int, typer.Option(help="Streams of the schedule.")] = 2,
    dependent: Annotated[
        bool, typer.Option("--dependent", help="A task starts when the one before has answered.")
    ] = False,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Measure this machine again.")
    ] = False,
    steps: Annotated[bool, typer.Option("--steps", help="Also list the steps.")] = False,
    html: Annotated[
        str | None, typer.Option(help="Write an offline page.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Explain a set of tasks: what is shared, what each adds, expected time and memory."""
    from lets.files import write_file
    from lets.plan.compile import compile_plan
    from lets.plan.report import Request, plan_report
    from lets.plan.sources import specs_of_packs, specs_of_policies
    from lets.plan.tables import plan_html, plan_tables
    from lets.run.calibrate import Sizes, machine_rates

    if packs and policy:
        raise LetsError("plan: give packs or --policy, not both")
    if policy:
        shape, specs = specs_of_policies(policy, encoder or "bert-base", density, copies)
    else:
        shape, specs = specs_of_packs(packs or [], encoder)
    compiled = compile_plan(shape, specs, batch, seq_len)  # refuses wrong sizes before measuring
    rates = machine_rates(Sizes(shape.hidden_size, shape.intermediate_size), calibrate)
    report = plan_report(Request(shape, specs, batch, seq_len, rates), streams, dependent)
    if html:
        write_file(html, plan_html(report).encode())
    if as_json:
        print_json(report | ({"plan": compiled.to_dict()} if steps else {}))
        return
    for table in plan_tables(report):
        print_table(*table)
    if steps:
        typer.echo(str(compiled))
    for line in report["advice"]:
        typer.echo(line)
