"""Loads the compiled libraries; a missing one is an error at first use, never a silent fallback."""

import importlib
from functools import cache
from pathlib import Path
from types import ModuleType

import torch

LIBRARY = Path(__file__).with_name("_C.so")
HOW_TO_BUILD = (
    "the compiled part of lets_ext is missing: install a C++ compiler and run `pip install .` "
    "(or `python setup.py build_ext --inplace` in a source tree); "
    "`python -m lets_ext.env` says what was found"
)


def load_ops() -> bool:
    """Register the tensor ops with the dispatcher; False if they were not built."""
    if not LIBRARY.exists():
        return False
    try:
        torch.ops.load_library(LIBRARY)
    except OSError as error:
        message = f"lets_ext: {LIBRARY} does not load with torch {torch.__version__}: {error}"
        raise ImportError(message) from error
    return True


LOADED = load_ops()


def require_ops() -> None:
    """Raise ImportError with instructions if the tensor ops are missing."""
    if not LOADED:
        raise ImportError(f"lets_ext: {HOW_TO_BUILD}")


@cache
def host() -> ModuleType:
    """The host library ``lets_ext._host``."""
    try:
        return importlib.import_module("lets_ext._host")
    except ImportError as error:
        raise ImportError(f"lets_ext: {HOW_TO_BUILD} ({error})") from error
