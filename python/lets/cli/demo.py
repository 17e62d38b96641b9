"""`lets demo`: the main job on real weights and real data, in one command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from lets.cli.output import Json, print_json, print_table

OUTPUT_DIR = Path("runs/demo")


def demo(
    output_dir: Annotated[
        Path, typer.Option(help="Packs, models and table.json go here.")
    ] = OUTPUT_DIR,
    seed: Annotated[int, typer.Option(help="Seed of data subsets and training.")] = 0,
    as_json: Json = False,
) -> None:
    """Train three real tasks with LeTS and with full fine-tuning, compare them, answer samples."""
    from lets.demo.run import run_demo
    from lets.progress import TerminalProgress

    report = run_demo(output_dir, seed, TerminalProgress())
    if as_json:
        print_json(report)
    else:
        print_demo(report, output_dir)


def print_demo(report: dict[str, Any], output_dir: Path) -> None:
    """The report for people; README shows it."""
    from lets.demo.table import demo_tables

    for title, columns, rows in demo_tables(report):
        print_table(title, columns, rows)
    typer.echo(f"\nTask packs: {output_dir}/packs/   numbers: {output_dir}/table.json")
