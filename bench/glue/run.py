"""The GLUE grid: ``python -m bench.glue.run --grid small --data <GLUE folder> --encoder <folder>``.

Writes one JSON per cell (`lets.reproduce.cell`) into ``--out``. Cells that exist are skipped and an
interrupted one goes on from its last checkpoint, so the command may be stopped at any moment and
started again; processes that run at once share the work, a task and seed each.
"""

from __future__ import annotations

import argparse
import fcntl
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lets.baselines import system
from lets.config import FitConfig
from lets.encoder import Encoder
from lets.errors import LetsError
from lets.glue import glue_task
from lets.progress import TerminalProgress
from lets.recipes import load_recipe
from lets.reproduce.cell import Cell, cell_name, differences
from lets.reproduce.experiment import Experiment, Setting, run_experiment

from bench.glue.grids import GRIDS

FOLDER = Path(__file__).resolve().parent


class OutOfTime(Exception):
    """The time that `--max-seconds` gave is over."""


class Deadline(TerminalProgress):
    """Bars on a terminal, and an end: training saves a checkpoint and stops between two steps.

    A stage that hears no wishes goes back to the last checkpoint that it made itself.
    """

    def __init__(self, seconds: float | None) -> None:
        super().__init__()
        self._end = None if seconds is None else time.monotonic() + seconds
        self._ending = False

    def over(self) -> bool:
        return self._end is not None and time.monotonic() > self._end

    def check(self) -> None:
        """Raise if there is no time to begin anything."""
        if self.over():
            raise OutOfTime

    def advance(self, stage: str, step: int, **shown: object) -> None:
        super().advance(stage, step, **shown)
        if self._ending:
            raise OutOfTime
        self._ending = self.over()

    def wishes(self) -> frozenset[str]:
        return frozenset({"save"}) if self._ending else frozenset()

    def saved(self, stage: str, step: int) -> None:
        if self._ending:
            raise OutOfTime


class GridRun:
    """The cells that a command asked for."""

    def __init__(self, args: argparse.Namespace) -> None:
        grid = GRIDS[args.grid]
        self.out, self.work = Path(args.out), Path(args.work)
        self.tasks = [glue_task(name)[0] for name in args.tasks or grid.tasks]
        self.systems, self.seeds = args.systems or grid.systems, args.seeds or grid.seeds
        for name in self.systems:
            system(name)  # an unknown one is an error before anything is loaded
        self.recipe = args.recipe or grid.recipe
        self.changes = {"max_seq_length": args.max_length} if args.max_length else {}
        rows = dict.fromkeys(self.tasks, args.train_rows) if args.train_rows else grid.train_rows
        self.experiments = {
            task: Experiment.of_glue(task, args.data, rows.get(task), _files(args.file, task))
            for task in self.tasks
        }
        encoder = Encoder.from_pretrained(args.encoder, device=args.device)
        name = args.encoder_name or Path(args.encoder).name
        self.setting = Setting(encoder, name, Path(self.recipe).stem)
        self.deadline = Deadline(args.max_seconds)

    def run(self) -> bool:
        """Run what is missing. False: a cell failed."""
        good = True
        for seed in self.seeds:
            for task in self.tasks:
                with _claim(self.work / f"{task}.{seed}.lock") as mine:
                    for name in self.systems if mine else ():
                        self.deadline.check()
                        try:
                            self._cell(task, name, seed)
                        except LetsError as error:
                            print(f"{task} {name} seed {seed}: {error}", file=sys.stderr)
                            good = False
                    if not mine:
                        print(f"{task} seed {seed}: another process is at it", flush=True)
        return good

    def _cell(self, task: str, name: str, seed: int) -> None:
        experiment, config = self.experiments[task], self._config(task, seed)
        if self._exists(experiment, name, config):
            return
        begun, folder = time.monotonic(), self.work / f"{task}.{name}.{seed}"
        cells = run_experiment(
            experiment, name, self.setting, config, folder,
            self.work / f"{task}.search.{seed}", self.deadline,
        )  # fmt: skip
        for cell in cells:
            cell.save(self.out)
            took = time.monotonic() - begun
            print(f"{cell.file_name}: {cell.metric} {cell.score:.4f}, {took:.0f} s", flush=True)
        shutil.rmtree(folder, ignore_errors=True)

    def _config(self, task: str, seed: int) -> FitConfig:
        return load_recipe(self.recipe, task).override({"seed": seed, **self.changes})

    def _exists(self, experiment: Experiment, name: str, config: FitConfig) -> bool:
        paths = [self.out / cell_name(task, name, config.seed) for task in experiment.dev]
        for path in paths:
            if not path.is_file():
                return False
            differing = differences(
                Cell.load(path), config, self.setting.encoder.fingerprint, experiment.rows
            )
            if differing:
                raise LetsError(
                    f"{path}: was made with another {', '.join(differing[:3])}; remove it or "
                    "choose another --out"
                )
        return True


@contextmanager
def _claim(path: Path) -> Iterator[bool]:
    """Whether this process may work here; a process that dies gives its claims back."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def _files(given: list[str], task: str) -> dict[str, str]:
    """`--file qqp.train=train_sub.parquet` for one task."""
    found = {}
    for entry in given:
        where, _, name = entry.partition("=")
        owner, _, split = where.partition(".")
        if split not in ("train", "dev") or not name:
            raise LetsError(f"--file: must be <task>.train=<name> or .dev=<name>, got {entry!r}")
        if glue_task(owner)[0] == task:
            found[split] = name
    return found


def _arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--grid", choices=GRIDS, default="small")
    parser.add_argument("--data", required=True, help="folder with GLUE's tasks, or hub")
    parser.add_argument("--encoder", required=True, help="folder or hub id")
    parser.add_argument("--encoder-name", help="in the cells (default: the folder's name)")
    parser.add_argument("--out", default=FOLDER / "results", help="folder of the cells")
    parser.add_argument("--work", default=FOLDER / "runs", help="folder of what is unfinished")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--max-seconds", type=float, help="stop after so long; start again later")
    parser.add_argument("--jobs", type=int, default=1, help="processes at once")
    parser.add_argument("--tasks", nargs="+")
    parser.add_argument("--systems", nargs="+")
    parser.add_argument("--seeds", nargs="+", type=int)
    parser.add_argument("--recipe", help="instead of the grid's")
    parser.add_argument("--train-rows", type=int, help="instead of the grid's")
    parser.add_argument("--max-length", type=int, help="tokens, instead of the recipe's")
    parser.add_argument(
        "--file", action="append", default=[], metavar="TASK.SPLIT=NAME",
        help="a file in a task's folder that has another name than GLUE's; repeatable",
    )  # fmt: skip
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    args = _arguments(arguments)
    again = [sys.executable, "-m", "bench.glue.run", *(arguments or sys.argv[1:]), "--jobs", "1"]
    others = [subprocess.Popen(again) for _ in range(args.jobs - 1)]
    try:
        good = GridRun(args).run()
    except OutOfTime:
        print("out of time; the same command goes on from here", flush=True)
        good = True
    except LetsError as error:
        print(f"error: {error}", file=sys.stderr)
        good = False
    return 0 if good and not any(other.wait() for other in others) else 2


if __name__ == "__main__":
    raise SystemExit(main())
