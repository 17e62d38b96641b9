"""What this installation is: versions, build, instruction set, CUDA; `python -m lets_ext.env`."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import platform
import shutil
from typing import Any

import torch

from lets_ext import _load

ISAS = ("baseline", "avx2", "avx512")


def report() -> dict[str, Any]:
    """Facts about the installation, ready for JSON; `missing` says what is not there, and why."""
    facts: dict[str, Any] = {
        "lets_ext": _version("lets-ext"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "torch": torch.__version__,
        "transformers": _version("transformers"),
        "threads": torch.get_num_threads(),
        "ops": _load.LOADED,
        "isa": selected_isa() if _load.LOADED else None,
        "cuda_available": torch.cuda.is_available(),
        "nvcc": shutil.which("nvcc"),
        "missing": [],
    }
    try:
        facts["build"] = _load.host().build_info()
    except ImportError:
        facts["build"] = None
    if not facts["ops"] or facts["build"] is None:
        facts["missing"].append(_load.HOW_TO_BUILD)
    elif not facts["build"]["cuda"]:
        off = facts["build"]["cuda_switched_off"]
        reason = "switched off when built (LETS_WITH_CUDA=0)" if off else "built without nvcc"
        facts["missing"].append(
            f"CUDA kernels: {reason}; put nvcc on PATH and run `LETS_WITH_CUDA=1 pip install .`"
        )
    return facts


def selected_isa() -> str:
    """Instruction set of the CPU kernels in use."""
    _load.require_ops()
    return torch.ops.lets_ext.select_isa.default("")


def select_isa(name: str) -> str:
    """Use another instruction set, e.g. to compare results; returns its name."""
    if name not in ISAS:
        raise ValueError(f"select_isa: name must be one of {', '.join(ISAS)}, got {name!r}")
    _load.require_ops()
    return torch.ops.lets_ext.select_isa.default(name)


def supported_isas() -> list[str]:
    """Instruction sets that this build and this machine have."""
    current, supported = selected_isa(), []
    for name in ISAS:
        try:
            supported.append(select_isa(name))
        except RuntimeError:
            break
    select_isa(current)
    return supported


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _lines(facts: dict[str, Any], indent: str = "") -> list[str]:
    lines = []
    for key, value in facts.items():
        if isinstance(value, dict):
            lines += [f"{indent}{key}:", *_lines(value, indent + "  ")]
        elif isinstance(value, list):
            lines += [f"{indent}{key}: {'; '.join(value) or 'nothing'}"]
        else:
            lines += [f"{indent}{key}: {value}"]
    return lines


def main(arguments: list[str] | None = None) -> None:
    """Print the report; ``--json`` for machines."""
    parser = argparse.ArgumentParser(prog="python -m lets_ext.env", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    as_json = parser.parse_args(arguments).json
    facts = report()
    print(json.dumps(facts, indent=2) if as_json else "\n".join(_lines(facts)))


if __name__ == "__main__":
    main()
