"""Resident memory that reading a damaged pack takes at its peak: Python's and every library's.

`tests.soak.mutants` bounds what Python allocates for a small pack; here a pack is large enough
that pages show what torch and the C library take.
"""

import ctypes
import gc
import tempfile
from collections.abc import Callable
from pathlib import Path

from lets.errors import LetsError
from lets.pack import CONFIG, DELTA, load_pack, save_pack
from lets.policy import Policy

from tests.models import make_encoder, make_task


def damaged_peaks() -> dict[str, float]:
    """Peaks over the size of the files: the largest of the damaged packs, and the whole one's."""
    with tempfile.TemporaryDirectory() as folder:
        encoder = make_encoder(layers=1, hidden=128, intermediate=512)
        task = make_task(encoder, Policy("p", "f"), density=0.8)
        pack = save_pack(Path(folder) / "pack", task, encoder)
        whole = {name: (pack / name).read_bytes() for name in (CONFIG, DELTA)}
        size = sum(map(len, whole.values()))
        load_pack(pack)  # what is loaded and compiled once
        found = {"whole": _peak(lambda: load_pack(pack)) / size}
        for name, data in whole.items():
            for what, mutant in damages(data).items():
                (pack / name).write_bytes(mutant)
                found[f"{name}: {what}"] = _peak(lambda: _refused(pack)) / size
            (pack / name).write_bytes(data)
    loaded = found.pop("whole")
    return {"pack_bytes": size, "largest_refused": max(found.values()), "whole": loaded}


def damages(data: bytes) -> dict[str, bytes]:
    """One of each kind that is refused at another place: before, in and after the tensors."""
    middle = len(data) // 2
    return {
        "a huge header": b"\xff" * 8 + data[8:],
        "cut": data[:-2],
        "half": data[:middle],
        "appended": data + b"\0",
        "the last byte": data[:-1] + bytes([data[-1] ^ 1]),
        "a byte in the middle": data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :],
        "a byte at the beginning": data[:100] + b"\xff" + data[101:],
    }


def _refused(pack: Path) -> None:
    try:
        load_pack(pack)
    except LetsError:
        return
    raise AssertionError("a damaged pack was loaded")


def _peak(call: Callable[[], object]) -> int:
    """Bytes by which resident memory grew at most, on Linux."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # or what was freed before would be taken again unseen
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts anew
    before = _status("VmRSS")
    call()
    return _status("VmHWM") - before


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))
