"""Fuzzes what parses strangers' files: ``python -m tests.fuzz.run [seconds per target]``.

csr: the host library's C++, under ASan and UBSan, driven by libFuzzer (clang) or, where there is
only g++, by driver.cpp. pack: the Python reader of task packs, driven by Atheris.
"""

import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.fuzz import fuzz_pack
from tests.fuzz.coverage import line_coverage

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
CORPUS = FOLDER / "corpus" / "csr"
PARSER = "csrc/host/csr.cpp"
FLAGS = ["-std=c++20", "-g", "-O1", "-I", "csrc"]
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


def run_csr(seconds: int, seed: int = 1) -> dict[str, Any]:
    """Run the C++ target; raises at the first finding."""
    clang = next((c for c in ("clang++", *_numbered("clang++")) if shutil.which(c)), None)
    compiler = clang or "g++"
    binary = ROOT / "build" / "fuzz" / "csr"
    binary.parent.mkdir(parents=True, exist_ok=True)
    driver = ["-fsanitize=fuzzer"] if clang else ["tests/fuzz/driver.cpp"]
    _run(
        [
            compiler,
            *FLAGS,
            *SANITIZERS,
            "tests/fuzz/fuzz_csr.cpp",
            *driver,
            PARSER,
            "-o",
            str(binary),
        ]
    )
    with tempfile.TemporaryDirectory() as found:
        log = _run([str(binary), f"-max_total_time={seconds}", f"-seed={seed}", found, str(CORPUS)])
        return {
            "target": PARSER,
            "engine": "libFuzzer" if clang else "tests/fuzz/driver.cpp",
            "compiler": _run([compiler, "--version"]).splitlines()[0],
            "sanitizers": "address, undefined",
            "executions": _executions(log),
            "seconds": seconds,
            "line_coverage": {PARSER: _gcov(Path(found))},
        }


def run_pack(seconds: int, seed: int = 1) -> dict[str, Any] | None:
    """Run the Python target; None where Atheris has no wheel."""
    if importlib.util.find_spec("atheris") is None:
        return None
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as found:
        target = fuzz_pack.Target(Path(folder))
        for i, seed_input in enumerate(target.seeds()):
            Path(found, f"seed-{i:03}").write_bytes(seed_input)
        log = _run(
            [
                sys.executable, "-m", "tests.fuzz.fuzz_pack", f"-max_total_time={seconds}",
                f"-seed={seed}", "-timeout=300", "-max_len=16384", f"-artifact_prefix={folder}/",
                found,
            ]
        )  # fmt: skip
        inputs = [path.read_bytes() for path in Path(found).iterdir()]
        covered = line_coverage(fuzz_pack.PARSER, lambda: [target(data) for data in inputs])
    return {
        "target": "lets.pack.read_pack",
        "engine": "Atheris (libFuzzer)",
        "sanitizers": "none (Python)",
        "executions": _executions(log),
        "seconds": seconds,
        "line_coverage": covered,
    }


def _gcov(found: Path) -> float:
    """Share of the parser's lines that the corpus and new finds run through, in per cent."""
    with tempfile.TemporaryDirectory() as folder:
        binary = f"{folder}/covered"
        sources = ("tests/fuzz/fuzz_csr.cpp", "tests/fuzz/driver.cpp", PARSER)
        for source in sources:
            flags = ["--coverage"] if source == PARSER else []
            _run(
                [
                    "g++",
                    *FLAGS,
                    "-O0",
                    *flags,
                    "-c",
                    source,
                    "-o",
                    f"{folder}/{Path(source).stem}.o",
                ]
            )
        objects = [f"{folder}/{Path(source).stem}.o" for source in sources]
        # -O0: every line of the source has code of its own.
        _run(["g++", "--coverage", *objects, "-o", binary])
        _run([binary, str(CORPUS), str(found)])
        log = _run(["gcov", "-n", "-o", folder, PARSER])
    blocks = re.findall(r"File '([^']*)'\nLines executed:([\d.]+)%", log)
    return float(next(share for name, share in blocks if name.endswith(PARSER)))


def _numbered(name: str) -> list[str]:
    return [f"{name}-{version}" for version in range(22, 13, -1)]


def _executions(log: str) -> int:
    return int(re.findall(r"Done (\d+) runs", log)[-1])


def _run(command: list[str]) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    log = done.stdout + done.stderr
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: exit code {done.returncode}\n{log[-6000:]}")
    return log


def main() -> None:
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 25
    for fuzz in (run_csr, run_pack):
        found = fuzz(seconds)
        if found is None:
            print("atheris is not installed: the pack reader was not fuzzed")
            continue
        shares = ", ".join(f"{name} {share:.0f}%" for name, share in found["line_coverage"].items())
        print(f"{found['target']}: {found['executions']} executions, no finding; lines: {shares}")


if __name__ == "__main__":
    main()
