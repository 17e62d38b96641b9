"""Runs a test once per instruction set of the CPU kernels."""

from functools import wraps

import pytest
import torch


def each_isa(test):
    """Parametrize `test` with `isa`, select it, and put the best set back; skip what is missing."""

    @pytest.mark.parametrize("isa", ["baseline", "avx2", "avx512"])
    @wraps(test)
    def run(isa, *args, **kwargs):
        select = torch.ops.lets_ext.select_isa
        best = select("")
        try:
            select(isa)
        except RuntimeError:
            pytest.skip(f"this machine or build has no {isa}")
        try:
            test(isa, *args, **kwargs)
        finally:
            select(best)

    return run
