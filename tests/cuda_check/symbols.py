"""Check that the op library needs nothing that torch 2.11, the oldest supported one, lacks.

usage: symbols.py lets_ext/_C.so
"""

import subprocess
import sys
from pathlib import Path

# Functions of the stable C interface that libtorch_cpu of torch 2.11 exports.
KNOWN = Path(__file__).with_name("torch_2.11_symbols.txt")
# Defined by libtorch_cuda alone, so it has to be weak.
OPTIONAL = {"aoti_torch_get_current_cuda_stream"}
PREFIXES = ("aoti_torch_", "torch_", "_ZN3c10", "_ZNK3c10", "_ZN2at", "_ZNK2at", "_ZN5torch")


def needed(library: Path) -> dict[str, str]:
    """Undefined torch symbols and nm's letter for each (U needed, w weak)."""
    lines = subprocess.run(
        ["nm", "-D", "--undefined-only", library], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    pairs = (line.split()[-2:] for line in lines)
    return {name: kind for kind, name in pairs if name.startswith(PREFIXES)}


def main(library: Path) -> int:
    known = set(KNOWN.read_text().split())
    symbols = needed(library)
    missing = [name for name in symbols if name not in known | OPTIONAL]
    strong = [name for name in OPTIONAL if symbols.get(name, "w").lower() != "w"]
    for name in missing:
        print(f"{name} is not exported by torch 2.11 (or not in {KNOWN.name})")
    for name in strong:
        print(f"{name} must be weak: a torch without CUDA does not define it")
    print(f"{len(symbols)} torch symbols needed, {len(missing)} not in torch 2.11")
    return 1 if missing or strong else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
