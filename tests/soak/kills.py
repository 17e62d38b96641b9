"""Training is killed at random moments and resumed: ``python -m tests.soak.kills KILLS [SEED]``.

The command line `lets fit` runs on a tiny encoder, in forks of this process, which has imported
everything: a kill hits training and writing, not the import of torch. After one to three kills the
run is left to end, and must have written the pack of a run that nobody touched, byte for byte.
"""

import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lets.train.fit  # noqa: F401  (imported before the first fork)
from lets.cli import main as lets_main
from lets.pack import CONFIG, DELTA

from tests.tiny import make_rows, save_tiny_bert, write_csv

RECIPE = {
    "max_seq_length": 16,
    "prune": {"density": 0.05, "warmup_steps": 12, "score_batches": 2, "learning_rate": 1e-3,
              "save_steps": 2},
    "search": {"num_train_epochs": 2, "learning_rate": 1e-2, "arch_learning_rate": 0.1,
               "save_steps": 1},
    "finetune": {"num_train_epochs": 4, "learning_rate": 1e-2, "save_steps": 1},
}  # fmt: skip
# Stages in their order, each with the record that says that it is complete.
RECORDS = {
    "prune-supernet": "prune-supernet/result.json",
    "search": "search/result.json",
    "prune": "prune/result.json",
    "finetune": "finetune/result.json",
    "pack": "fit.json",
}


class Workplace:
    """Encoder, data and recipe on disk, and the command line that trains with them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "recipe.json").write_text(json.dumps(RECIPE))
        self.encoder = save_tiny_bert(folder / "encoder")
        self.train = write_csv(folder / "train.csv", make_rows(64, 1))
        self.dev = write_csv(folder / "dev.csv", make_rows(24, 2))

    def start(self, output: str, before: Callable[[], None] | None = None) -> int:
        """Fork a `lets fit`; returns its process id."""
        arguments = [
            "lets", "fit", "--task-name", "warmth", "--encoder", self.encoder, "--recipe",
            self.folder / "recipe.json", "--train-file", self.train, "--validation-file", self.dev,
            "--output-dir", self.folder / output,
        ]  # fmt: skip
        pid = os.fork()
        if pid:
            return pid
        code = 99
        try:
            sys.argv = [str(argument) for argument in arguments]
            log = os.open(self.folder / "log.txt", os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
            os.dup2(log, 1)
            os.dup2(log, 2)
            if before is not None:
                before()
            lets_main()
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 98
        finally:
            os._exit(code)

    def run(self, output: str, before: Callable[[], None] | None = None) -> int:
        """Run to the end; the exit code."""
        return os.waitstatus_to_exitcode(os.waitpid(self.start(output, before), 0)[1])

    def timed(self, output: str) -> dict[str, float]:
        """Run to the end; seconds of each stage."""
        pid, seconds, before = self.start(output), dict.fromkeys(RECORDS, 0.0), time.monotonic()
        while (ended := os.waitpid(pid, os.WNOHANG)) == (0, 0):
            stage, now = self.stage(output), time.monotonic()
            if stage is not None:
                seconds[stage] += now - before
            before = now
            time.sleep(0.001)
        assert ended[1] == 0, self.log()
        return seconds

    def log(self) -> str:
        return (self.folder / "log.txt").read_text("utf-8", "replace")

    def pack(self, output: str) -> dict[str, bytes]:
        folder = self.folder / output
        files = [folder / "pack" / name for name in (CONFIG, DELTA)]
        return {f.name: f.read_bytes() for f in [*files, folder / "search" / "policy.json"]}

    def stage(self, output: str) -> str | None:
        """The first stage that is not complete."""
        folder = self.folder / output
        return next((s for s, record in RECORDS.items() if not (folder / record).exists()), None)


def kill_and_resume(kills: int, seed: int = 0) -> dict[str, Any]:
    """Kill so many runs; raises unless each ends with the pack of the untouched run."""
    draw = random.Random(seed)
    survived: Counter[str] = Counter()
    ended = resumed = 0
    with tempfile.TemporaryDirectory() as temporary:
        place = Workplace(Path(temporary))
        seconds = place.timed("whole")
        whole = place.pack("whole")
        while survived.total() < kills:
            for _ in range(min(draw.randint(1, 3), kills - survived.total())):
                stage = _kill(place, draw, seconds, survived)
                if stage is None:
                    ended += 1  # it was faster than the knife
                    break
                survived[stage] += 1
            assert place.run("killed") == 0, place.log()
            assert place.pack("killed") == whole, "the resumed run wrote another pack"
            leftovers = [p for p in (place.folder / "killed").rglob(".*") if p.is_dir()]
            assert not leftovers, leftovers
            resumed += 1
            shutil.rmtree(place.folder / "killed")
    return {
        "kills": survived.total(),
        "kills_by_stage": dict(sorted(survived.items())),
        "resumed_to_equal_packs": resumed,
        "ended_before_the_kill": ended,
        "seconds_of_a_whole_run": round(sum(seconds.values()), 1),
    }


def _kill(
    place: Workplace, draw: random.Random, seconds: dict[str, float], survived: Counter[str]
) -> str | None:
    """Start a run and kill it at a random moment of the stage, of those that are still to come,
    that was killed least; the stage, None if it ended before."""
    now = place.stage("killed") or "pack"
    left = list(RECORDS)[list(RECORDS).index(now) :]
    wanted = min(left, key=lambda stage: survived[stage])
    patience = draw.random() * seconds[wanted]
    pid = place.start("killed")
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        if place.stage("killed") == wanted:
            time.sleep(patience)
            stage = place.stage("killed")
            os.kill(pid, signal.SIGKILL)
            status = os.waitpid(pid, 0)[1]
            return stage if os.WIFSIGNALED(status) else None
        time.sleep(0.001)
    return None


if __name__ == "__main__":
    found = kill_and_resume(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    print(json.dumps(found))
