"""`lets fit`, and its stages `lets prune | search | finetune`."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from lets.cli.config_file import Config
from lets.cli.options import DataOptions, ManyOptions, RunOptions, with_options
from lets.cli.output import Json, print_json, print_table
from lets.errors import LetsError

PolicyOption = Annotated[
    str | None,
    typer.Option(
        help="JSON file, fig2b, g-<groups>, depth-<d> or stream-<d>: this policy, no search.",
        show_default=False,
    ),
]
MaskOption = Annotated[str, typer.Option(help="mask.safetensors that `lets prune` wrote.")]
TeacherOption = Annotated[
    str | None,
    typer.Option(
        help="Fine-tuned checkpoint whose answers are learnt beside the labels: folder or hub id.",
        show_default=False,
    ),
]
NoMaskOption = Annotated[
    str | None,
    typer.Option(
        help="mask.safetensors that `lets prune` wrote; of --variant c only the head beside it.",
        show_default=False,
    ),
]


@with_options(DataOptions, RunOptions, ManyOptions)
def fit(
    data: DataOptions,
    run: RunOptions,
    many: ManyOptions,
    method: Annotated[
        str, typer.Option(help="lets (Algorithm 1) or full (the fine-tuned encoder).")
    ] = "lets",
    policy: PolicyOption = None,
    teacher: TeacherOption = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Train a task: prune, search, prune, fine-tune, pack. The same command resumes it.

    Results of other settings or data in the output folder are kept, unless --overwrite is given.
    """
    from lets.train.fit import fit as run_fit
    from lets.train.full import full_finetune
    from lets.train.parallel import joined

    if method not in ("lets", "full"):
        raise LetsError(f"--method: must be lets or full, got {method!r}")
    if method == "full" and run.variant is not None:
        raise LetsError("--variant: is of --method lets; leave one of them out")
    if teacher is not None and method == "full":
        raise LetsError("--teacher: is of --method lets")
    if many.tasks is not None or many.engine != "local":
        if method == "full":
            raise LetsError("--tasks and --engine: are of --method lets")
        if teacher is not None:
            raise LetsError("--teacher: is of one task; leave --tasks and --engine out")
        _report_many(_fit_many(data, run, many, policy), as_json)
        return
    if method == "full" and policy is not None:
        raise LetsError("--policy: full fine-tuning has none; leave it out, or --method full")
    inputs = _inputs(data, run, full=method == "full", teacher=teacher)
    chosen = _policy(policy, inputs.encoder)
    parts = inputs.encoder, inputs.data, inputs.config
    with joined(run.output_dir) as (folder, is_main):
        progress = inputs.progress if is_main else None
        result: Any = (
            full_finetune(*parts, folder, progress, run.overwrite)
            if method == "full"
            else run_fit(*parts, folder, progress, chosen, run.overwrite, inputs.teacher)
        )
    if is_main:
        _report(result.to_dict(), as_json, hidden=("history",))


@with_options(DataOptions, RunOptions)
def prune(
    data: DataOptions,
    run: RunOptions,
    policy: PolicyOption = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Find the mask of a policy, or of the super network for the search."""
    from lets.train.stages import mask_of, prune_stage

    inputs = _inputs(data, run)
    result = prune_stage(inputs, Path(run.output_dir), _policy(policy, inputs.encoder))
    shown = {k: v for k, v in result.summary.items() if k != "kept_per_matrix"}
    _report({"mask": str(mask_of(result)), **shown, "skipped": result.skipped}, as_json)


@with_options(DataOptions, RunOptions)
def search(
    data: DataOptions,
    run: RunOptions,
    mask: MaskOption,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Search a policy on the super network with a mask of `lets prune`."""
    from lets.train.stages import search_stage

    result = search_stage(_inputs(data, run), Path(run.output_dir), Path(mask))
    shown = {k: result.summary[k] for k in ("policy", "step", "stopped", "seconds")}
    file = str(result.stage.file("policy.json"))
    _report({"policy_file": file, **shown, "skipped": result.skipped}, as_json)


@with_options(DataOptions, RunOptions)
def finetune(
    data: DataOptions,
    run: RunOptions,
    policy: Annotated[
        str, typer.Option(help="JSON file, fig2b, g-<groups>, depth-<d> or stream-<d>.")
    ],
    mask: NoMaskOption = None,
    teacher: TeacherOption = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Fine-tune a policy at a mask and write the task pack."""
    from lets.train.pack import pack_folder, pack_stage
    from lets.train.stages import finetune_stage

    if mask is None and run.variant != "c":
        raise LetsError("--mask: is needed, except with --variant c")
    inputs, folder = _inputs(data, run, teacher=teacher), Path(run.output_dir)
    chosen = _policy(policy, inputs.encoder)
    assert chosen is not None
    tuned, model = finetune_stage(
        inputs, folder / "finetune", chosen, None if mask is None else Path(mask)
    )
    packed = pack_stage(inputs, folder, tuned, model)
    shown = {k: tuned.summary[k] for k in ("metric", "dev_score", "best_step", "seconds")}
    _report({"pack": str(pack_folder(packed)), **shown, "skipped": tuned.skipped}, as_json)


def _inputs(
    data: DataOptions, run: RunOptions, full: bool = False, teacher: str | None = None
) -> Any:
    """Settings first and models last: a wrong setting fails before anything is loaded."""
    from lets.cli.requests import load_encoder, load_teacher, read_config, read_data
    from lets.progress import TerminalProgress
    from lets.train.stages import RunInputs

    config = read_config(run, data.task_name, full)
    rows = read_data(data, config.seed)
    encoder = load_encoder(run.encoder, run.revision, run.device)
    taught = None
    if teacher is not None:
        rows, taught = load_teacher(teacher, encoder, rows, config.max_seq_length)
    return RunInputs(encoder, rows, config, TerminalProgress(), run.overwrite, taught)


def _fit_many(
    data: DataOptions, run: RunOptions, many: ManyOptions, policy: str | None
) -> dict[str, Any]:
    """Results by task, see `lets.train.many`."""
    from lets.cli.requests import read_config, read_data, read_tasks
    from lets.progress import TerminalProgress
    from lets.train.many import RayOptions, TaskRun, fit_many

    runs = []
    for its_data, its_run, its_policy in read_tasks(data, run, many.tasks, policy):
        config = read_config(its_run, its_data.task_name)
        runs.append(
            TaskRun(
                its_run.encoder, read_data(its_data, config.seed), config, its_run.output_dir,
                its_policy, its_run.revision, its_run.overwrite, its_run.device,
            )
        )  # fmt: skip
    options = RayOptions(address=many.ray_address, workers=many.workers)
    # Ray prints its notices on standard output, where the result alone belongs.
    with contextlib.redirect_stdout(sys.stderr):
        return fit_many(runs, many.engine, options, TerminalProgress())


def _report_many(results: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(results)
        return
    columns = ["task", "metric", "dev score", "pack", "skipped"]
    rows = [
        [name, r["metric"], f"{r['dev_score']:.4f}", r["pack"], ", ".join(r["skipped"]) or "-"]
        for name, r in results.items()
    ]
    print_table(f"{len(rows)} tasks", columns, rows)


def _policy(spec: str | None, encoder: Any) -> Any:
    from lets.policy import Policy

    if spec is None:
        return None
    return Policy.from_spec(spec, encoder.shape.num_layers, encoder.shape.name)


def _report(result: dict[str, Any], as_json: bool, hidden: Sequence[str] = ()) -> None:
    """Print a result; `hidden` entries are for machines alone."""
    if as_json:
        print_json(result)
        return
    for name, value in result.items():
        if name in hidden:
            continue
        if isinstance(value, dict):
            value = ", ".join(f"{k} {v}" for k, v in value.items())
        elif isinstance(value, list):
            value = ", ".join(map(str, value)) or "nothing"
        elif isinstance(value, float):
            value = f"{value:.4f}"
        typer.echo(f"{name.replace('_', ' ')}: {value}")
