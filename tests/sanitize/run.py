"""The compiled extension under sanitizers, with the tests that reach it: ``make sanitize``.

ASan and UBSan watch every instruction set; TSan watches one, on a thread pool that it can see
through (thread_pool.cpp). torch itself is not instrumented, so what is found is ours.
"""

import os
import platform
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
BUILD = ROOT / "build"
# Compiling graphs and packages says nothing about kernels, and one test counts torch's own threads.
SKIPPED = "not compiles_to_one_graph and not uses_two_threads"
TESTS = [
    "tests/ext", "--ignore=tests/ext/test_build.py", "--ignore=tests/ext/test_sdist.py",
    "--ignore=tests/ext/test_env.py", "tests/lets/test_delta.py", "tests/lets/test_layers.py",
    "tests/lets/test_mutants.py", "tests/lets/run/test_task_set.py",
]  # fmt: skip
OPTIONS = {
    "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1",  # what Python keeps to its end is no leak
    "UBSAN_OPTIONS": "print_stacktrace=1",
    # What torch, the linker and Python hand to memcpy and free is theirs to order.
    "TSAN_OPTIONS": "halt_on_error=1:exitcode=66:ignore_noninstrumented_modules=1",
}


def address() -> dict[str, Any]:
    """ASan and UBSan; raises at the first finding."""
    return _sanitized("address,undefined", ["libasan.so", "libstdc++.so.6"], "read_past_the_end")


def thread() -> dict[str, Any]:
    """TSan; raises at the first finding."""
    return _sanitized("thread", ["libtsan.so"], "count_without_lock")


def _sanitized(sanitizers: str, runtimes: list[str], planted: str) -> dict[str, Any]:
    base = BUILD / f"sanitize-{sanitizers.split(',')[0]}"
    _build(base, sanitizers)
    preload = [_run(["g++", f"-print-file-name={name}"]).strip() for name in runtimes]
    flags = ["g++", "-std=c++20", "-O1", "-g", f"-fsanitize={sanitizers}", "-fPIC", "-shared"]
    if sanitizers == "thread":
        preload.append(str(base / "thread_pool.so"))
        _run([*flags, str(FOLDER / "thread_pool.cpp"), "-o", preload[-1]])
        flags.append("-DPLANT_RACE")
    _run([*flags, str(FOLDER / "planted.cpp"), "-o", str(base / "planted.so")])
    environment = {**os.environ, **OPTIONS, "LD_PRELOAD": " ".join(preload), "PYTHONPATH": ""}
    environment["OMP_NUM_THREADS"] = "1"  # TSan cannot see how torch's own threads wait
    # Without randomised addresses: TSan wants its own places in memory.
    python = ["setarch", platform.machine(), "-R", sys.executable]
    call = f"import ctypes; ctypes.CDLL('{base}/planted.so').{planted}(7)"
    found = subprocess.run([*python, "-c", call], env=environment, capture_output=True, text=True)
    if found.returncode == 0 or "Sanitizer" not in found.stderr:
        raise SystemExit(f"sanitize: the planted bug {planted} was not found\n{found.stderr}")
    begun = time.monotonic()
    log = _run(
        [*python, "-m", "pytest", "-q", "-x", "-s", "-p", "no:cacheprovider", "-k", SKIPPED, "-o",
         f"pythonpath={base.relative_to(ROOT)} python .", "--timeout=600", *TESTS],
        environment,
    )  # fmt: skip
    return {
        "sanitizers": sanitizers.replace(",", ", "),
        "tests": int(re.findall(r"(\d+) passed", log)[-1]),
        "findings": 0,
        "seconds": round(time.monotonic() - begun),
    }


def _build(base: Path, sanitizers: str) -> None:
    """A package lets_ext of the tree's Python files and libraries of its own."""
    environment = {
        **os.environ, "LETS_SANITIZE": sanitizers, "LETS_WITH_CUDA": "0", "LETS_REQUIRE_EXT": "1",
        "LETS_BUILD_BASE": str(base / "cmake"),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    }  # fmt: skip
    _run([sys.executable, "setup.py", "-q", "build_ext", "--build-lib", str(base)], environment)
    for file in [*(ROOT / "lets_ext").glob("*.py*"), ROOT / "lets_ext" / "py.typed"]:
        link = base / "lets_ext" / file.name
        if file.suffix != ".so" and not link.exists():
            link.symlink_to(file)


def _run(command: list[str], environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    log = done.stdout + done.stderr
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: exit code {done.returncode}\n{log[-8000:]}")
    return log


def main() -> None:
    for run in (address, thread):
        found = run()
        print(f"{found['sanitizers']}: {found['tests']} tests, no finding, {found['seconds']} s")


if __name__ == "__main__":
    main()
