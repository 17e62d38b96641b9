"""Which lines of some modules a call runs through, without another package."""

import sys
from collections.abc import Callable, Collection, Mapping
from types import CodeType, FrameType
from typing import Any


def line_coverage(
    functions: Mapping[str, Collection[str]], call: Callable[[], Any]
) -> dict[str, float]:
    """Share of the lines of some functions that `call` runs, in per cent, by module and of all.

    Args:
        functions: Names of functions and methods, by imported module.
    """
    files = {str(sys.modules[name].__file__): name for name in functions}
    wanted = {file: _lines(file, functions[name]) for file, name in files.items()}
    seen: dict[str, set[int]] = {file: set() for file in files}

    def local(frame: FrameType, event: str, _: Any) -> Any:
        if event == "line":
            seen[frame.f_code.co_filename].add(frame.f_lineno)
        return local

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        return local if frame.f_code.co_filename in seen else None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    hits = {name: len(seen[file] & wanted[file]) for file, name in files.items()}
    sizes = {name: len(wanted[file]) for file, name in files.items()}
    shares = {name: round(100 * hits[name] / sizes[name], 1) for name in hits}
    return {**shares, "all": round(100 * sum(hits.values()) / sum(sizes.values()), 1)}


def _lines(file: str, names: Collection[str]) -> set[int]:
    """Lines with code of the named functions, and of what is defined in them."""
    with open(file, encoding="utf-8") as source:
        stack = [(compile(source.read(), file, "exec"), False)]
    lines: set[int] = set()
    while stack:
        code, inside = stack.pop()
        inside = inside or code.co_name in names
        if inside:
            lines |= {
                line for *_, line in code.co_lines() if line not in (None, code.co_firstlineno)
            }
        stack += [(const, inside) for const in code.co_consts if isinstance(const, CodeType)]
    return lines
