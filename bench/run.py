"""Run the op benchmarks and keep their rows: ``python -m bench.run [pytest arguments]``.

Writes ``bench/results/<machine>/ops.json``: machine, versions and commit once, then one row
{op, shape, threads, ours, peers, ratios} (milliseconds) for each benchmark.
"""

import json
import platform
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from lets_ext import env

ROOT = Path(__file__).resolve().parents[1]


def machine() -> str:
    """Short name of the processor and of how many cores there are."""
    name = platform.machine()
    if Path("/proc/cpuinfo").exists():
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
        name = found.group(1) if found else name
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return f"{slug}-{torch.get_num_threads()}t-{env.selected_isa()}"


def commit() -> str:
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


def main(arguments: list[str]) -> int:
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "raw.json"
        command = [sys.executable, "-m", "pytest", "-q", f"--benchmark-json={raw}"]
        code = subprocess.run([*command, *(arguments or ["bench"])], cwd=ROOT).returncode
        if code or not raw.exists():
            return code or 1
        rows = [entry["extra_info"] for entry in json.loads(raw.read_text())["benchmarks"]]
    target = ROOT / "bench" / "results" / machine() / "ops.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    result = {"machine": machine(), "commit": commit(), "environment": env.report(), "rows": rows}
    target.write_text(json.dumps(result, indent=1) + "\n")
    print(target.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
