"""Compile every CUDA kernel with nvcc alone; fail on errors, register spills and local memory.

usage: compile_kernels.py ARCH... (e.g. 80 90a), `+PTX` after an architecture adds its PTX
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KERNELS = sorted((ROOT / "csrc" / "kernels").glob("*.cu"))
FLAGS = ["-std=c++17", "-O3", f"-I{ROOT / 'csrc'}", "-Xptxas", "-v", "-Xcompiler", "-fPIC"]
ENTRY = re.compile(r"Compiling entry function '(\w+)' for '(\w+)'")
FRAME = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
REGISTERS = re.compile(r"Used (\d+) registers")


def targets(archs: list[str]) -> list[str]:
    """nvcc's -gencode options."""
    options = []
    for arch in archs:
        name = arch.removesuffix("+PTX")
        kinds = ["sm"] if name == arch else ["sm", "compute"]
        options += [f"-gencode=arch=compute_{name},code={kind}_{name}" for kind in kinds]
    return options


def compile_kernel(nvcc: str, source: Path, options: list[str]) -> tuple[str, list[str]]:
    """A line of statistics and the complaints about one file."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [nvcc, *FLAGS, *options, "-c", source, "-o", f"{folder}/kernel.o"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    if done.returncode:
        return f"{source.name}: does not compile", [done.stdout]
    complaints, entries, registers, where = [], 0, 0, "?"
    for line in done.stdout.splitlines():
        if entry := ENTRY.search(line):
            where, entries = f"{entry[1]} for {entry[2]}", entries + 1
        if (frame := FRAME.search(line)) and any(int(n) for n in frame.groups()):
            complaints.append(f"{source.name}: {where}: {frame[0]}")
        if used := REGISTERS.search(line):
            registers = max(registers, int(used[1]))
    return f"{source.name}: {entries} entry points, at most {registers} registers", complaints


def main(archs: list[str]) -> int:
    nvcc = os.environ.get("CUDACXX") or shutil.which("nvcc")
    if not nvcc:
        print("compile_kernels: nvcc must be on PATH (or named by CUDACXX), found none")
        return 1
    options = targets(archs)
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda source: compile_kernel(nvcc, source, options), KERNELS))
    for statistics, complaints in results:
        print("\n".join([statistics, *complaints]))
    bad = sum(bool(complaints) for _, complaints in results)
    print(f"{len(KERNELS)} files for {' '.join(archs)}: {bad} with errors, spills or local memory")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ["80", "90a"]))
