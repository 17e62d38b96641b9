"""Training on disks that fail: ``python -m tests.soak.disks``.

A file that may not grow (as on a full disk, without needing one), a real full disk and a read-only
one: each ends with one line and code 2, and the same command goes on to the pack of an untouched
run, byte for byte, once there is room again.
"""

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.soak.kills import Workplace

MESSAGE = "cannot be written"


def failing_disks(limits: int = 3) -> dict[str, Any]:
    """Raises unless training survives; counts what was tried."""
    with tempfile.TemporaryDirectory() as temporary:
        place = Workplace(Path(temporary))
        assert place.run("whole") == 0, place.log()
        whole = place.pack("whole")
        largest = max(f.stat().st_size for f in (place.folder / "whole").rglob("*") if f.is_file())
        # From a file that no stage can write to one that only the last stages cannot.
        sizes = [round(largest * (i + 0.5) / limits) for i in range(limits)]
        for size in sizes:
            _refused(place, f"limit-{size}", lambda size=size: _limit(size))
            assert place.run(f"limit-{size}") == 0, place.log()
            assert place.pack(f"limit-{size}") == whole
        return {"files_at_their_limit": limits, **_mounted(place, whole)}


def _limit(size: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def _refused(place: Workplace, output: str, before: Any = None) -> None:
    code, log = place.run(output, before), place.log()
    assert code == 2, (code, log)
    assert MESSAGE in log.splitlines()[-1], log


def _mounted(place: Workplace, whole: dict[str, bytes]) -> dict[str, bool]:
    """A small file system of our own, where we may mount one (as root, mostly)."""
    folder = place.folder / "disk"
    folder.mkdir()
    if _mount("-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)):
        try:
            _refused(place, "disk")
            _mount("-o", "remount,size=64m", str(folder))
            assert place.run("disk") == 0, place.log()
            assert place.pack("disk") == whole
            for path in folder.iterdir():
                subprocess.run(["rm", "-r", str(path)], check=True)
            pid = place.start("disk")
            while place.stage("disk") != "finetune":
                time.sleep(0.001)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            assert _mount("-o", "remount,ro", str(folder))
            _refused(place, "disk")
            _mount("-o", "remount,rw", str(folder))
            assert place.run("disk") == 0, place.log()
            assert place.pack("disk") == whole
        finally:
            subprocess.run(["umount", str(folder)], check=True)
        return {"full_disk": True, "read_only": True}
    return {"full_disk": False, "read_only": False}


def _mount(*arguments: str) -> bool:
    return subprocess.run(["mount", *arguments], capture_output=True).returncode == 0


if __name__ == "__main__":
    print(json.dumps(failing_disks(*map(int, sys.argv[1:2]))))
