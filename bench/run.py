"""Run the op benchmarks and keep their rows: ``python -m bench.run [pytest arguments]``.

Writes ``bench/results/<machine>/ops.json``: machine, versions and commit once, then one row
{op, shape, threads, ours, peers, ratios} (milliseconds) for each benchmark.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from lets.bench.report import facts

ROOT = Path(__file__).resolve().parents[1]
# glibc gives freed memory back to the system or keeps it, by thresholds that move with the sizes
# seen before. Which of two competitors then pays for a thousand page faults per call is chance.
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(1 << 40)}
OPS = ["bench", "--ignore=bench/bench_engine.py", "--ignore=bench/bench_train_step.py"]


def main(arguments: list[str]) -> int:
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "raw.json"
        command = [sys.executable, "-m", "pytest", "-q", f"--benchmark-json={raw}"]
        command += arguments or OPS
        environment = {**os.environ, **KEEP_MEMORY}
        code = subprocess.run(command, cwd=ROOT, env=environment).returncode
        if code or not raw.exists():
            return code or 1
        rows = [entry["extra_info"] for entry in json.loads(raw.read_text())["benchmarks"]]
    result = {**facts(), "rows": rows}
    target = ROOT / "bench" / "results" / result["machine"] / "ops.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(result, indent=1) + "\n")
    print(target.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
