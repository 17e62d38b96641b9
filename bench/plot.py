"""docs/plots/<machine>.png out of engine.json: ``python -m bench.plot [engine.json [out.png]]``.

Left: time against the number of tasks. Right: measured speed-up against what FLOPs predict.
"""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COLORS = {
    "lets": "#c0392b",
    "eager": "#7f8c8d",
    "ort-fp32": "#2c6fbb",
    "ort-int8": "#e69f00",
    "stacked": "#2e8b57",
    "compile": "#8e44ad",
    "lora-switch": "#b07d62",
    "lora-mixed": "#5bc0be",
}


def main(arguments):
    files = [Path(arguments[0])] if arguments else _all()
    for file in files:
        result = json.loads(file.read_text())
        default = ROOT / "docs" / "plots" / f"{result['machine']}.png"
        draw(result, Path(arguments[1]) if arguments[1:] else default)


def draw(result, target):
    """Write the figure of one machine."""
    import matplotlib

    matplotlib.use("Agg")  # no screen needed
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
    _time_by_tasks(left, result["runs"].get("tasks", {"rows": []})["rows"])
    _predicted(right, [row for run in result["runs"].values() for row in run["rows"]])
    threads = result["environment"]["threads"]
    figure.suptitle(f"{result['machine']}, threads: {threads}", fontsize=11)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=120)
    pyplot.close(figure)
    print(target)


def _time_by_tasks(axes, rows):
    rows = [row for row in rows if row["ratio"] is not None]
    lines = {}
    for row in rows:
        lines.setdefault(row["baseline"], []).append((row["tasks"], row["baseline_ms"]))
    # The engine is timed beside every baseline: the line is the mean of its medians.
    ours = {}
    for row in rows:
        ours.setdefault(row["tasks"], []).append(row["lets_ms"])
    if ours:
        lines["lets"] = [(tasks, sum(times) / len(times)) for tasks, times in sorted(ours.items())]
    for name, points in lines.items():
        width = 2.4 if name == "lets" else 1.4
        label = "LeTS" if name == "lets" else name
        axes.plot(*zip(*points), "o-", ms=4, lw=width, label=label, color=COLORS.get(name))
    if rows:
        first = rows[0]
        axes.set_title(
            f"{first['encoder']}, {first['policy']}, B = {first['batch']}, L = {first['seq_len']}"
        )
        ticks = sorted(ours)
        axes.set(xscale="log", yscale="log", xticks=ticks, xticklabels=ticks)
        axes.minorticks_off()
        low, high = (f(y for line in lines.values() for _, y in line) for f in (min, max))
        decades = (base * 10**power for power in range(-3, 7) for base in (1, 2, 5))
        marks = [mark for mark in decades if low / 2 <= mark <= 2 * high]
        axes.set(yticks=marks, yticklabels=[f"{mark:g}" for mark in marks])
        axes.set(ylim=(low / 1.3, high * 1.3))
        axes.legend(frameon=False)
    axes.set(xlabel="tasks", ylabel="ms for all answers")
    axes.grid(alpha=0.3)


def _predicted(axes, rows):
    rows = [row for row in rows if row["ratio"] is not None]
    for name in dict.fromkeys(row["baseline"].removesuffix("-cls-last") for row in rows):
        chosen = [row for row in rows if row["baseline"].removesuffix("-cls-last") == name]
        xs, ys = zip(*((row["flop_ratio"], row["ratio"]) for row in chosen))
        axes.scatter(xs, ys, s=22, alpha=0.8, label=f"against {name}", color=COLORS.get(name))
    if rows:
        end = 1.05 * max(max(row["flop_ratio"], row["ratio"]) for row in rows)
        axes.plot([0, end], [0, end], "--", lw=1, color="#444", label="as predicted")
        axes.axhline(1, lw=0.8, color="#999")
        axes.set(xlim=(0, end), ylim=(0, end))
        axes.legend(frameon=False, fontsize=8)
    axes.set(xlabel="speed-up that FLOPs predict", ylabel="measured", title="All rows")
    axes.grid(alpha=0.3)


def _all():
    return sorted((ROOT / "bench" / "results").glob("*/engine.json"))


if __name__ == "__main__":
    main(sys.argv[1:])
