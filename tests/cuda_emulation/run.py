"""Run the emulated kernels and the planted bugs in every build; ends with `N passed, N failed`.

usage: run.py BUILD_FOLDER [BUILD...]
"""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

BUILDS = ("plain", "asan", "tsan")
SEEDS = {"plain": "3", "asan": "1", "tsan": "1"}  # schedules; TSan sees races whatever the schedule
BUGS = (
    "missing_barrier",
    "missing_second_barrier",
    "missing_warp_sync",
    "missing_copy_wait",
    "missing_grid_sync",
    "race_of_blocks",
    "past_global_end",
    "past_shared_end",
    "misaligned_vector",
    "divergent_barrier",
    "barrier_after_exit",
    "shuffle_with_exited_lanes",
    "uninitialised_shared",
)
CORRECT = ("last_block",)  # must raise no false alarm
ENVIRONMENT = {
    "ASAN_OPTIONS": "detect_stack_use_after_return=0",
    "TSAN_OPTIONS": "halt_on_error=1 exitcode=66",
}


def call(program: Path, *arguments: str, leaks: bool = True) -> tuple[int, str]:
    """Exit code and output of a program under the sanitizers' options."""
    options = dict(ENVIRONMENT)
    options["ASAN_OPTIONS"] += f":detect_leaks={int(leaks)}"
    done = subprocess.run(
        [program, *arguments],
        env=os.environ | options,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=200,
    )
    return done.returncode, done.stdout


def kernels(folder: Path, build: str) -> tuple[int, int, str]:
    """Passed and failed checks of the kernels in one build, and what to print."""
    code, output = call(folder / build / "emulated", SEEDS[build])
    lines = output.splitlines()
    passed = sum(line.startswith("pass ") for line in lines)
    failed = sum(line.startswith("FAIL ") for line in lines)
    if code and not failed:
        failed = 1  # a sanitizer stopped it
    text = f"{build}: kernels: {passed} checks passed, {failed} failed"
    return passed, failed, text if not failed else f"{output[-6000:]}\n{text}"


def verdict(code: int, output: str) -> str:
    """What a build says of a planted bug; empty if it noticed nothing."""
    if code == 0:
        return ""
    if code == 66:
        return "race"
    if "AddressSanitizer" in output:
        return "address"
    if "runtime error" in output:
        return "undefined"
    return {2: "wrong result", 3: "emulator"}.get(code, f"exit {code}")


def planted(folder: Path, builds: list[str], bug: str) -> tuple[int, int, str]:
    """A bug passes when some build catches it and its fixed twin passes in all of them."""

    def outcome(build: str, variant: str) -> str:
        # Threads that a bug leaves stuck keep what is on their stacks: no leaks are looked for.
        return verdict(*call(folder / build / "planted_bugs", bug, variant, leaks=False))

    found = {build: outcome(build, "bug") for build in builds}
    alarms = {build: outcome(build, "fixed") for build in builds}
    caught = ", ".join(f"{b}: {v}" for b, v in found.items() if v)
    false = ", ".join(f"{b}: {v}" for b, v in alarms.items() if v)
    good = not false and bool(caught) == (bug in BUGS)
    text = f"planted {bug}: {caught or 'not caught'}" + (f"; fixed twin: {false}" if false else "")
    return int(good), int(not good), text


def main(folder: Path, builds: list[str]) -> int:
    jobs = [lambda b=b: kernels(folder, b) for b in reversed(builds)]
    jobs += [lambda b=b: planted(folder, builds, b) for b in (*BUGS, *CORRECT)]
    passed = failed = 0
    with ThreadPoolExecutor(2) as pool:
        for result in pool.map(lambda job: job(), jobs):
            passed, failed = passed + result[0], failed + result[1]
            print(result[2], flush=True)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:] or list(BUILDS)))
