"""The long runs behind docs/reliability.md: ``python -m tests.soak.run [minutes] [part ...]``.

Every part runs in a process of its own, so that one that crashes is named and ends the run. Writes
bench/results/<machine>/reliability.json; parts that were not asked for keep their last figures,
each with the commit that it was measured at.
"""

import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("fuzz_csr", "fuzz_pack", "mutants", "kills", "disks", "address", "thread")


def run_part(name: str, minutes: float) -> dict[str, Any]:
    """One part; `minutes` bounds those that could go on for ever."""
    if name.startswith("fuzz_"):
        from tests.fuzz.run import run_csr, run_pack

        found = (run_csr if name == "fuzz_csr" else run_pack)(round(60 * minutes))
        if found is None:
            raise SystemExit("atheris is not installed")
        return found
    if name == "mutants":
        return _mutants(minutes)
    if name == "kills":
        from tests.soak.kills import kill_and_resume

        return kill_and_resume(50)
    if name == "disks":
        from tests.soak.disks import failing_disks

        return failing_disks(6)
    from tests.sanitize import run as sanitize

    return getattr(sanitize, name)()


def _mutants(minutes: float) -> dict[str, Any]:
    """Every byte changed and every length, then forgeries for as long as there is time."""
    from tests.soak.memory import damaged_peaks
    from tests.soak.mutants import FILES, Trial, damages

    end, draw = time.monotonic() + 60 * minutes, random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        trial = Trial(Path(folder))
        for name in FILES:
            trial.damage(name, damages(trial.files[name], draw))
        damaged = trial.tried
        while time.monotonic() < end or trial.tried == damaged:
            trial.forge(500, draw)
        trial.close()
        return {
            **trial.report(), "damaged": damaged, "forged": trial.tried - damaged,
            "resident": damaged_peaks(),
        }  # fmt: skip


def main() -> None:
    arguments = sys.argv[1:]
    minutes = float(arguments.pop(0)) if arguments and arguments[0][0].isdigit() else 15.0
    if arguments[:1] == ["--part"]:
        print(json.dumps(run_part(arguments[1], minutes)))
        return
    from lets.bench.report import commit, facts

    where = facts()
    target = ROOT / "bench" / "results" / where["machine"] / "reliability.json"
    old = json.loads(target.read_text())["parts"] if target.exists() else {}
    for name in arguments or PARTS:
        begun, measured = time.monotonic(), commit()
        command = [sys.executable, "-m", "tests.soak.run", str(minutes), "--part", name]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            raise SystemExit(f"soak: {name} ended with {done.returncode}")
        found = json.loads(done.stdout.splitlines()[-1])
        wall = round(time.monotonic() - begun)
        old[name] = {**found, "commit": measured, "wall_seconds": wall}
        parts = {part: old[part] for part in PARTS if part in old}
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps({**where, "parts": parts}, indent=1) + "\n")
        print(f"{name}: {found}", flush=True)


if __name__ == "__main__":
    main()
