"""`lets bench`: the engine beside dense fine-tuned models."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lets.cli.options import EngineOptions, option, with_options
from lets.cli.output import Json, print_json, print_table
from lets.errors import LetsError

if TYPE_CHECKING:
    from lets.bench.settings import BenchSettings


@dataclass(frozen=True)
class ProblemOptions:
    """What is measured; lists are separated by commas, all combinations are taken."""

    encoder: str = option(
        "bert-base (default), bert-large, minilm-l6, distilbert, mpnet-base, or a folder.",
        "bert-base",
    )
    policy: str = option(
        "fig2b (default), g-<groups>, random (43% new operations), JSON files; a+b: the tasks take "
        "a and b in turn.",
        "fig2b",
    )
    packs: str = option("Real task packs in place of random ones of a policy.", "")
    tasks: str = option("Numbers of tasks (default: 9).", "9")
    batch: str = option("Texts of a call (default: 1).", "1")
    seq_len: str = option("Tokens of a text (default: 128).", "128")
    baselines: str = option(
        "eager (default), compile, own-dense, ort-fp32, ort-int8, stacked, lora-switch, "
        "lora-mixed, cuda-graph, cuda-streams.",
        "eager",
    )
    cls_last: bool = option(
        "Each baseline also with a last layer that computes [CLS] alone.", False, "--cls-last"
    )
    density: float = option("Of the random packs (default: 0.005).", 0.005)
    seed: int = option("Seed of all weights.", 0)


@dataclass(frozen=True)
class MeasureOptions:
    """How it is measured."""

    threads: int | None = option("Threads of both sides (default: torch's).")
    rounds: int = option("Interleaved rounds of a row (default: 15).", 15)
    seconds: float = option("A row ends after so long, after 3 rounds or more (default: 20).", 20.0)
    max_memory: float = option("Gigabytes for the models of a baseline (default: 8).", 8.0)
    max_models: int = option("Dense models in turn; more tasks scale (default: 9).", 9)


@with_options(ProblemOptions, EngineOptions, MeasureOptions)
def bench(
    problem: ProblemOptions,
    engine: EngineOptions,
    how: MeasureOptions,
    trace: Annotated[
        Path | None, typer.Option(help="Write a Chrome trace of one call.", show_default=False)
    ] = None,
    ablate: Annotated[
        bool, typer.Option("--ablate", help="The engine with and without each of its parts.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Time the engine beside dense models; no ratio without right answers (exit code 1)."""
    from lets.bench.report import COLUMNS, facts, table
    from lets.bench.run import run_bench, threads
    from lets.bench.settings import BenchSettings
    from lets.progress import TerminalProgress

    settings = BenchSettings(
        encoder=problem.encoder,
        policies=_names(problem.policy),
        tasks=_numbers("tasks", problem.tasks),
        batch=_numbers("batch", problem.batch),
        seq_len=_numbers("seq-len", problem.seq_len),
        baselines=_names(problem.baselines),
        packs=_names(problem.packs),
        **{name: getattr(problem, name) for name in ("density", "cls_last", "seed")},
        **vars(engine),
        **vars(how),
    )
    if ablate:
        if trace is not None:
            raise LetsError("--trace: is not of --ablate; leave one of them out")
        _ablate(settings, as_json)
        return
    outcome = run_bench(settings, TerminalProgress().note, trace)
    if as_json:
        with threads(settings.threads):
            known = facts()
        rows = [row.to_dict() for row in outcome.rows]
        print_json(
            {**known, "settings": settings.to_dict(), "rows": rows, "skipped": outcome.skipped}
        )
    else:
        if outcome.rows:
            title = f"{settings.encoder}, {settings.dtype}: medians of interleaved rounds"
            print_table(title, COLUMNS, table(outcome.rows))
        for entry in outcome.skipped:
            typer.echo(f"{entry['baseline']}: skipped, {entry['reason']}")
    wrong = [row for row in outcome.rows if row.error]
    for row in wrong:
        typer.echo(f"lets: bench: {row.line()}", err=True)
    if wrong:
        raise typer.Exit(1)


def _ablate(settings: BenchSettings, as_json: bool) -> None:
    from lets.bench.ablation import COLUMNS, run_ablation, table
    from lets.bench.report import facts
    from lets.bench.run import threads
    from lets.progress import TerminalProgress

    with threads(settings.threads):
        rows, known = run_ablation(settings, TerminalProgress().note), facts()
    if as_json:
        printed = [row.to_dict() for row in rows]
        print_json({**known, "settings": settings.to_dict(), "rows": printed})
    else:
        print_table("The engine with one part left out or added", COLUMNS, table(rows))
    if any(row.slowdown is None for row in rows):
        raise typer.Exit(1)


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _numbers(name: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in _names(text))
    except ValueError:
        raise LetsError(
            f"bench: {name} must be whole numbers separated by commas, got {text!r}"
        ) from None
