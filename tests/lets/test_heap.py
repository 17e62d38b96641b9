"""Large tensors come from the heap, which keeps them, and not from the system one by one."""

import platform
import subprocess
import sys

import pytest

MAPPED = """
import ctypes, sys, torch
from lets.heap import keep_freed

class Info(ctypes.Structure):  # mallinfo of malloc.h
    _fields_ = [(name, ctypes.c_int) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks",
        "fordblks", "keepcost")]

libc = ctypes.CDLL(None)
libc.mallinfo.restype = Info
if sys.argv[1] == "keep":
    keep_freed()
before = libc.mallinfo().hblks
held = torch.ones(24 << 18)
print(libc.mallinfo().hblks - before)
free = libc.mallinfo().fordblks
del held
print(libc.mallinfo().fordblks - free >> 20)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's malloc is asked")
@pytest.mark.parametrize(("how", "mapped", "kept"), [("default", 1, 0), ("keep", 0, 24)])
def test_what_tensors_give_back_is_kept(how, mapped, kept):
    command = [sys.executable, "-c", MAPPED, how]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert list(map(int, done.stdout.split())) == [mapped, kept]
