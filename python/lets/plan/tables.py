"""The report of `lets plan` as tables and as one offline HTML page."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import Any

TableText = tuple[str, list[str], list[list[str]]]
_SHOWN = 4  # names in a cell
_BAR = 360  # pixels of the longest bar


def plan_tables(report: dict[str, Any]) -> list[TableText]:
    """Title, columns and rows of each table."""
    return [_layers(report), _tasks(report), _totals(report)]


def _layers(report: dict[str, Any]) -> TableText:
    rows = [
        [
            str(layer["layer"]),
            layer["frozen"],
            f"{layer['shared_gflop']:.3f}",
            f"{layer['added_gflop']:.3f}",
            "; ".join(
                f"{case}: {_names(names)}"
                for case, names in sorted(layer["cases"].items())
                if case != "bypass"
            )
            or "-",
        ]
        for layer in report["layers"]
    ]
    title = (
        f"Layers of {report['encoder']}, bottom first "
        f"({report['batch']} x {report['seq_len']} tokens)"
    )
    return title, ["layer", "encoder runs", "shared GFLOP", "tasks add GFLOP", "tasks"], rows


def _names(names: list[str]) -> str:
    rest = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def _tasks(report: dict[str, Any]) -> TableText:
    rows = [
        [
            task["name"],
            f"{task['gflop']:.3f}",
            f"{task['percent']:.1f}%",
            f"{task['expected_ms']:.1f}",
            ", ".join(map(str, task["full_layers"])) or "-",
            f"{task['nnz']:,}",
        ]
        for task in report["tasks"]
    ]
    columns = ["task", "GFLOP", "of encoder", "expected ms", "layers over all tokens", "non-zeros"]
    return "What each task adds", columns, rows


def _totals(report: dict[str, Any]) -> TableText:
    times, path, schedule = (report[k] for k in ("expected_ms", "critical_path", "schedule"))
    memory, count = report["memory"], len(report["tasks"])
    order = "one task after the other" if schedule["dependent"] else "all tasks at once"
    rows = [
        ["operations", f"{report['gflop']:.2f} GFLOP, {report['total_percent']:.0f}% of one "
         f"dense model; {count} dense models: {report['flop_ratio']:.2f} times as many"],
        ["expected time", f"{times['stacked']:.1f} ms stacked, {times['serial']:.1f} ms task by "
         f"task, {times['dense']:.1f} ms for {count} dense models ({times['ratio']:.2f}x)"],
        ["critical path", f"{path['ms']:.1f} ms, {path['gflop']:.2f} GFLOP, "
         f"{len(path['steps'])} steps, ends in {path['steps'][-1]}"],
        [f"{schedule['streams']} streams", f"{schedule['ms']:.1f} ms if none slows another, "
         f"{order} ({schedule['speedup']:.2f}x dense)"],
        ["max speed-up", f"{report['max_speedup']:.2f}x by the paper's rule, "
         f"{report['schedule_speedup']:.2f}x if chains start when they can"],
        ["memory", f"encoder {memory['weights_mb']:.1f} MB, tasks {memory['tasks_mb']:.1f} MB, "
         f"activations {memory['activations_mb']:.1f} MB (buffers "
         f"{memory['buffers_without_reuse_mb']:.1f} MB, reused in {memory['buffers_mb']:.1f} MB)"],
    ]  # fmt: skip
    return f"All {count} tasks in {report['steps']} steps", ["what", "how much"], rows


def plan_html(report: dict[str, Any]) -> str:
    """One page without scripts or references."""
    parts = [
        f"<h2>{html.escape(title)}</h2>{html_table(columns, rows)}"
        for title, columns, rows in plan_tables(report)
    ]
    advice = "".join(f"<p>{html.escape(line)}</p>" for line in report["advice"])
    style = (
        "body{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:64em;padding:0 1em}"
        "table{border-collapse:collapse}td,th{padding:.2em .8em;text-align:left;"
        "border-bottom:1px solid #ccc}.s{background:#4a78b0}.t{background:#d98a3d}"
        ".s,.t{display:inline-block;height:.8em}"
    )
    title = html.escape(f"Plan of {len(report['tasks'])} tasks on {report['encoder']}")
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f"<style>{style}</style><h1>{title}</h1>{advice}{_bars(report)}{''.join(parts)}</html>\n"
    )


def _bars(report: dict[str, Any]) -> str:
    """Per layer the shared work and what the tasks add, drawn to scale."""
    layers = report["layers"]
    widest = max((e["shared_gflop"] + e["added_gflop"] for e in layers), default=0) or 1
    rows = []
    for entry in reversed(layers):
        shared, added = (_BAR * entry[name] / widest for name in ("shared_gflop", "added_gflop"))
        rows.append(
            f'<tr><th>{entry["layer"]}</th><td><span class="s" style="width:{shared:.0f}px">'
            f'</span><span class="t" style="width:{added:.0f}px"></span></td></tr>'
        )
    legend = '<span class="s">&emsp;</span> shared <span class="t">&emsp;</span> the tasks\' own'
    return f"<h2>Operations by layer, top first</h2><p>{legend}</p><table>{''.join(rows)}</table>"


def html_table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table of texts, escaped."""
    head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
    body = "".join(
        f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
