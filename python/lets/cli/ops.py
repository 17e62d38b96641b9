"""`lets ops`: what policies cost on an encoder of a given shape."""

from __future__ import annotations

from typing import Annotated

import typer

from lets.cli.output import Json, print_json, print_table


def ops(
    policy: Annotated[
        list[str] | None,
        typer.Option(
            help="JSON file, fig2b, g-<groups>, depth-<d> or stream-<d>; once per task.",
            show_default=False,
        ),
    ] = None,
    system: Annotated[
        list[str] | None,
        typer.Option(
            help="full, lets-p, lets-c (with --policy), freeze-12, bitfit, adapters-64, "
            "distilbert-6, mobilebert, ...: compare them for nine tasks.",
            show_default=False,
        ),
    ] = None,
    encoder: Annotated[
        str,
        typer.Option(
            help="bert-base, bert-large, minilm-l6, mpnet-base, distilbert-base, distilbert-4, "
            "tinybert-4, tinybert-6, or a folder with a config.json."
        ),
    ] = "bert-base",
    seq_len: Annotated[int, typer.Option(help="Tokens of a padded text.")] = 128,
    density: Annotated[float, typer.Option(help="Kept share of the masked weights.")] = 0.005,
    accounting: Annotated[
        str, typer.Option(help="engine (what runs) or paper (the paper's tables).")
    ] = "engine",
    num_labels: Annotated[int, typer.Option(help="Classes of each task.")] = 2,
    as_json: Json = False,
) -> None:
    """Print the operations, parameters and speed-ups of a set of policies, or of systems of nine
    tasks; needs no weights."""
    from lets.ops_report import ops_report, ops_tables

    sizes = (seq_len, density, accounting, num_labels)
    if system:
        from lets.systems_report import systems_report, systems_table

        systems = systems_report(encoder, system, policy or [], *sizes)
        print_json(systems) if as_json else print_table(*systems_table(systems))
        return
    report = ops_report(encoder, policy or [], *sizes)
    if as_json:
        print_json(report)
        return
    for table in ops_tables(report):
        print_table(*table)
