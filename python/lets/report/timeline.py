"""The timeline of a traced run (`lets bench --trace`): what each thread did, and when."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lets.errors import LetsError
from lets.report.axes import Axes, Box, legend, ticks
from lets.report.drawing import Drawing, Rect, text_width

# First match of the op's name decides.
_KINDS = (
    ("lets_ext::delta", "own", "sparse deltas"),
    ("lets_ext::cls", "cls", "[CLS] attention and tail"),
    ("lets_ext::", "brown", "LayerNorm, GELU"),
    ("aten::scaled_dot_product", "violet", "attention"),
    ("aten::lstm", "gold", "heads"),
    ("aten::baddbmm", "gold", "heads"),
    ("aten::linear", "frozen", "products with frozen weights"),
    ("aten::matmul", "frozen", "products with frozen weights"),
    ("aten::addmm", "frozen", "products with frozen weights"),
    ("aten::mm", "frozen", "products with frozen weights"),
    ("", "grid", "other"),
)
_TOO_SHORT = 0.0005  # of the whole: a pixel or less


@dataclass(frozen=True)
class Event:
    """One op; times in ms since the beginning."""

    name: str
    thread: int
    begin: float
    length: float

    @property
    def end(self) -> float:
        return self.begin + self.length


def read_trace(path: str | Path) -> list[Event]:
    """Outermost ops of a Chrome trace, thread by thread in their order."""
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
        found = [
            Event(str(e["name"]), int(e["tid"]), float(e["ts"]) / 1e3, float(e["dur"]) / 1e3)
            for e in data["traceEvents"]
            if e.get("ph") == "X" and e.get("cat") in ("cpu_op", "kernel")
        ]
    except OSError as error:
        raise LetsError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LetsError(f"{path}: must be a trace that lets bench --trace wrote") from error
    if not found:
        raise LetsError(f"{path}: holds no op")
    start = min(event.begin for event in found)
    return [
        Event(e.name, e.thread, e.begin - start, e.length)
        for thread in sorted({e.thread for e in found})
        for e in _outermost(e for e in found if e.thread == thread)
    ]


def _outermost(events: Iterable[Event]) -> list[Event]:
    kept: list[Event] = []
    for event in sorted(events, key=lambda e: (e.begin, -e.length)):
        if not kept or event.begin >= kept[-1].end:
            kept.append(event)
    return kept


def by_kind(events: Iterable[Event]) -> dict[str, float]:
    """Milliseconds of each kind of op, most first."""
    totals: dict[str, float] = {}
    for event in events:
        kind = _kind(event.name)[2]
        totals[kind] = totals.get(kind, 0.0) + event.length
    return dict(sorted(totals.items(), key=lambda item: -item[1]))


def timeline(events: list[Event]) -> Drawing:
    """A row per thread, a box per op."""
    threads = sorted({event.thread for event in events})
    end = max(event.end for event in events)
    totals, row = by_kind(events), 34.0
    box = Box(80, 44, 760, row * len(threads))
    colors = {name: color for _, color, name in _KINDS}
    entries = [(colors[kind], f"{kind} {ms:.1f} ms") for kind, ms in totals.items()]
    rows = _wrapped(entries, box.width)
    out = Drawing(box.x + box.width + 24, box.y + box.height + 60 + 22 * len(rows), "Timeline")
    axes = Axes(out, box, (0.0, end), (0.0, 1.0))
    for i, thread in enumerate(threads):
        y = box.y + row * i
        out.text(8, y + 20, f"thread {i}", color="muted")
        for event in (e for e in events if e.thread == thread):
            if event.length > _TOO_SHORT * end:
                x, right = axes.at(event.begin, 0)[0], axes.at(event.end, 0)[0]
                title = f"{event.name}: {event.length:.3f} ms at {event.begin:.2f} ms"
                color = _kind(event.name)[1]
                out.add(Rect(x, y + 4, max(right - x, 0.6), row - 8, color, title=title))
    axes.frame(f"One call, op by op: {end:.1f} ms", "ms")
    axes.x_ticks(ticks(0.0, end, 8))
    for i, entries in enumerate(rows):
        legend(out, 8, box.y + box.height + 64 + 22 * i, entries)
    return out


def _kind(name: str) -> tuple[str, str, str]:
    return next(kind for kind in _KINDS if name.startswith(kind[0]))


def _wrapped(entries: list[tuple[str, str]], width: float) -> list[list[tuple[str, str]]]:
    rows: list[list[Any]] = [[]]
    used = 0.0
    for entry in entries:
        wide = 36 + text_width(entry[1])
        if rows[-1] and used + wide > width:
            rows.append([])
            used = 0.0
        rows[-1].append(entry)
        used += wide
    return rows
