"""The searched architecture of a set of tasks, drawn as the paper's Figure 2(b).

The frozen encoder is the top row, bottom layer left; each task has a row. A vertical line is an
activation x^p_j that tasks read; a line that crosses another without a dot does not touch it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from lets.policy import LayerCase, Policy
from lets.report.drawing import Circle, Drawing, Rect, text_width

_BOX, _HIGH, _PITCH = 32.0, 26.0, 76.0
_TOP, _ROW = 34.0, 112.0  # y of the frozen row, and of the first task's
_LOOKS = {
    LayerCase.P_ALL: "own",
    LayerCase.F_ALL: "own",
    LayerCase.P_CLS: "cls",
    LayerCase.F_CLS: "cls",
    LayerCase.S_CLS: "cls",
}
_LEGEND = (
    ("frozen", "frozen layer, once for all tasks"),
    ("own", "task's own layer, all rows"),
    ("cls", "task's own layer, [CLS] row only"),
    ("bypass", "not computed"),
    ("read", "reads x^p of the frozen encoder"),
    ("pool-f", "pools the task's own [CLS] row"),
    ("pool-p", "pools the frozen [CLS] row"),
)


def architecture_svg(
    tasks: Mapping[str, Policy],
    encoder: str = "frozen encoder",
    notes: Mapping[str, str] | None = None,
    last_only: Collection[str] = (),
) -> str:
    """`architecture` as a self-contained SVG element."""
    return architecture(tasks, encoder, notes, last_only).svg()


def frozen_layers(policies: Collection[Policy]) -> list[str]:
    """What of each frozen layer runs in the engine: `full`, `cls` (row), `qkv` or `none`."""
    hidden = frozenset[int]().union(*(policy.frozen_hidden for policy in policies))
    qkv = frozenset[int]().union(*(policy.frozen_qkv for policy in policies))
    top, num_layers = max(hidden, default=-1), next(iter(policies)).num_layers
    states = ["full" if j <= top else "none" for j in range(num_layers)]
    if top + 1 in qkv:
        states[top + 1] = "qkv"
    elif top >= 0:
        states[top] = "cls"
    return states


def architecture(
    tasks: Mapping[str, Policy],
    encoder: str = "frozen encoder",
    notes: Mapping[str, str] | None = None,
    last_only: Collection[str] = (),
) -> Drawing:
    """Draw policies of one encoder.

    Args:
        tasks: Policy by name, from top to bottom; at least one.
        notes: A few words by task, at the right end of its row.
        last_only: Tasks whose head reads the last layer alone (LeTS-(p)).
    """
    return _Picture(tasks, encoder, notes or {}, last_only).draw()


class _Picture:
    def __init__(
        self,
        tasks: Mapping[str, Policy],
        encoder: str,
        notes: Mapping[str, str],
        last_only: Collection[str],
    ) -> None:
        self.tasks, self.encoder, self.notes, self.last_only = tasks, encoder, notes, last_only
        self.num_layers = next(iter(tasks.values())).num_layers
        self.column = _BOX + 24.0
        self.left = 24.0 + max(text_width(name, 13) for name in (*tasks, encoder))
        self.right = self.x(self.num_layers)
        note = max((text_width(text) for text in notes.values()), default=0.0)
        width = max(self.right + 74 + note, 720.0)
        self.legend_rows = _legend_rows(width)
        bottom = _ROW + _PITCH * len(tasks)
        self.out = Drawing(
            width, bottom + 22 * len(self.legend_rows), f"Architecture of {', '.join(tasks)}"
        )

    def x(self, layer: int) -> float:
        """Left side of a layer's box; layer -1 are the embeddings."""
        return self.left + self.column * (layer + 1)

    def draw(self) -> Drawing:
        self._frozen()
        self._reads()
        for row, (name, policy) in enumerate(self.tasks.items()):
            self._task(_ROW + _PITCH * row, name, policy)
        self._legend()
        return self.out

    def _frozen(self) -> None:
        out, middle = self.out, _TOP + _HIGH / 2
        out.text(8, middle + 4, self.encoder, size=13, bold=True)
        self._box(-1, _TOP, "emb", "frozen", "embeddings, shared by all")
        what = {
            "full": "runs once for all tasks",
            "cls": "runs once, [CLS] row only",
            "qkv": "only Q, K, V run, once for all tasks",
            "none": "does not run: nobody reads it",
        }
        for j, state in enumerate(frozen_layers(tuple(self.tasks.values()))):
            look = "bypass" if state == "none" else "frozen"
            label = {"qkv": "QKV", "cls": "CLS"}.get(state, str(j))
            self._box(j, _TOP, label, look, f"frozen layer {j}: {what[state]}")
            out.text(self.x(j) + _BOX / 2, _TOP - 10, str(j), size=11, color="muted",
                     anchor="middle")  # fmt: skip
            if state != "none":
                out.arrow((self.x(j - 1) + _BOX, middle), (self.x(j), middle), stroke="frozen")
        out.text(self.left, _TOP - 10, "layer", size=11, color="muted")

    def _reads(self) -> None:
        """One line per x^p_j down to the last task that reads it."""
        for j in range(self.num_layers):
            rows = [i for i, p in enumerate(self.tasks.values()) if j in p.frozen_qkv]
            if not rows:
                continue
            lane, start = self._lane(j), _TOP + _HIGH / 2
            self.out.add(Circle(lane, start, 3, fill="frozen"))
            for row in rows:
                y = _ROW + _PITCH * row + _HIGH / 2
                title = f"layer {j} reads x^p_{j - 1} and the cached Q, K, V"
                self.out.arrow((lane, y), (self.x(j), y), stroke="frozen", title=title)
                if row != rows[-1]:
                    self.out.add(Circle(lane, y, 3, fill="frozen"))
            end = _ROW + _PITCH * rows[-1] + _HIGH / 2
            self.out.line((lane, start), (lane, end), stroke="frozen")

    def _lane(self, layer: int) -> float:
        return self.x(layer) - (self.column - _BOX) / 2

    def _task(self, y: float, name: str, policy: Policy) -> None:
        out, middle, rail = self.out, y + _HIGH / 2, y + _HIGH + 16
        out.text(8, middle + 4, name, size=13, bold=True)
        first = policy.num_layers - 1 if name in self.last_only else 0
        out.arrow((self.x(first) + _BOX / 2, rail), (self.right, rail), stroke="muted", width=1.2)
        for j, case in enumerate(policy.cases):
            look = _LOOKS.get(case, "bypass")
            center = self.x(j) + _BOX / 2
            label = "" if case is LayerCase.BYPASS else str(j)
            self._box(j, y, label, look, f"{name}, layer {j}: {case}")
            if policy.live[j] and policy.input[j] != "p":
                stroke = "own" if policy.input[j] == "f" else "cls"
                out.arrow((self.x(j - 1) + _BOX, middle), (self.x(j), middle), stroke=stroke)
            if name in self.last_only and j < policy.num_layers - 1:
                continue
            if policy.pool[j] == "f":
                out.line((center, y + _HIGH), (center, rail), stroke=look)
                out.add(Circle(center, rail, 4, fill=look, title=f"pools x^f_{j}"))
            else:
                out.add(Circle(center, rail, 4, "surface", "frozen", f"pools x^p_{j}"))
        out.add(Rect(self.right, rail - 11, 44, 22, "surface", "muted", radius=4,
                     title=f"{name}: LSTM over the layers' [CLS] rows, classifier"))  # fmt: skip
        out.text(self.right + 22, rail + 4, "head", size=11, anchor="middle")
        out.text(self.right + 54, rail + 4, self.notes.get(name, ""), color="muted")

    def _box(self, layer: int, y: float, label: str, look: str, title: str) -> None:
        _layer_box(self.out, self.x(layer), y, look, label, title)

    def _legend(self) -> None:
        y = self.out.height - 22 * len(self.legend_rows)
        for row in self.legend_rows:
            for x, kind, text in row:
                self._sign(kind, x, y)
                self.out.text(x + 40, y + 4, text, size=12, color="muted")
            y += 22

    def _sign(self, kind: str, x: float, y: float) -> None:
        out = self.out
        if kind == "read":
            out.add(Circle(x + 6, y, 3, fill="frozen"))
            out.arrow((x + 6, y), (x + 32, y), stroke="frozen")
        elif kind == "pool-f":
            out.add(Circle(x + 12, y, 4, fill="own"), Circle(x + 24, y, 4, fill="cls"))
        elif kind == "pool-p":
            out.add(Circle(x + 18, y, 4, "surface", "frozen"))
        else:
            _layer_box(out, x + 6, y - 8, kind, "", "", width=24.0, height=16.0)


def _layer_box(
    out: Drawing,
    x: float,
    y: float,
    look: str,
    label: str,
    title: str,
    width: float = _BOX,
    height: float = _HIGH,
) -> None:
    if look == "bypass":
        out.add(Rect(x, y, width, height, None, "muted", dash=True, radius=4, title=title))
        color = "muted"
    else:
        out.add(Rect(x, y, width, height, f"{look}-fill", look, radius=4, title=title))
        color = "ink"
    out.text(x + width / 2, y + height / 2 + 4, label, size=12, color=color, anchor="middle")


def _legend_rows(width: float) -> list[list[tuple[float, str, str]]]:
    """Entries (x, kind, text), as many in a row as fit."""
    rows: list[list[tuple[float, str, str]]] = [[]]
    x = 8.0
    for kind, text in _LEGEND:
        wide = 64 + text_width(text)
        if rows[-1] and x + wide > width:
            rows.append([])
            x = 8.0
        rows[-1].append((x, kind, text))
        x += wide
    return rows
