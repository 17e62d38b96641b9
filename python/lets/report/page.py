"""The report as one offline HTML page without scripts, for screen, dark or not, and print."""

from __future__ import annotations

import html
from typing import Any

from lets.plan.tables import html_table
from lets.report.build import Report
from lets.report.theme import COLORS, FONT, svg_style

# Picture names begin with the key; a section is left out if it has none.
_SECTIONS = (
    ("architecture", "Architecture", "The frozen encoder runs once, tasks read its activations. A "
     "layer whose output only the head reads needs the [CLS] row alone, which is about 1% of its "
     "work; a dashed one is not computed."),
    ("operations", "Where the operations go", "The whole bar is a fine-tuned copy of the encoder "
     "for the task. Savings (i) to (iii) are the paper's; exact algebra is what the engine saves "
     "beyond them: keys and values of a layer that only the head reads are never formed."),
    ("parameters", "Where the parameters go", "The same for what has to be stored."),
    ("pareto", "Score, operations, parameters", "Scores are of different tasks and metrics: "
     "compare a task with its own full fine-tuning (hollow), not with other tasks."),
    ("density", "Which weights tasks change", "Pruning takes the largest scores wherever they are, "
     "so layers and matrices differ by orders of magnitude. The colour is on a logarithmic scale."),
    ("mask", "Masks", "Each picture is one weight matrix, a row per output feature, pooled to "
     "cells; the fuller a cell, the stronger its colour."),
    ("search", "Searches", "Selectors without noise, at the temperature of the moment. A "
     "probability of 1 is the task's own source, 0 the frozen one."),
    ("timeline", "A traced call", "Outermost ops of one call, thread by thread."),
)  # fmt: skip


def report_html(report: Report) -> str:
    """The page as text."""
    data = report.data
    title = f"{len(data['tasks'])} tasks on one frozen {data['encoder']}"
    parts = [_summary(data), _tasks(data["tasks"])]
    for key, heading, text in _SECTIONS:
        found = [d for name, d in report.pictures.items() if name.partition("-")[0] == key]
        if found:
            figures = "".join(f"<figure>{d.svg(style=False)}</figure>" for d in found)
            parts.append(
                f"<section><h2>{heading}</h2><p>{html.escape(text)}</p>{figures}</section>"
            )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{html.escape(title)}</title><style>{_style()}</style></head><body>"
        f"<h1>{html.escape(title)}</h1>{''.join(parts)}</body></html>\n"
    )


def _summary(data: dict[str, Any]) -> str:
    count = len(data["tasks"])
    engine, paper = data["totals"]["engine"], data["totals"]["paper"]
    counted = "" if data["embeddings_counted"] else ", embeddings not counted"
    sentences = [
        f"All {count} answers take {engine['total_percent']:.0f}% of the operations of one dense "
        f"model at {data['seq_len']} tokens; {count} dense models take {100 * count}%.",
        f"The frozen encoder is {engine['overhead_percent']:.0f}% of that once for all, a task "
        f"adds {engine['new_percent']:.1f}% on average and stores "
        f"{engine['new_params_percent']:.2f}% of the encoder's {data['encoder_params']:,} "
        f"parameters{counted}.",
        f"In the paper's accounting a task adds {paper['new_percent']:.1f}% "
        f"(all {count}: {paper['total_percent']:.0f}%), with a maximal speed-up of "
        f"{paper['max_speedup']:.2f}x.",
    ]
    return f"<p>{html.escape(' '.join(sentences))}</p>"


def _tasks(tasks: list[dict[str, Any]]) -> str:
    columns = ["task", "score", "new operations", "paper's accounting", "new parameters",
               "mask", "layers, bottom first"]  # fmt: skip
    rows = [
        [
            task["name"],
            ", ".join(f"{n} {100 * v:.1f}" for n, v in task["scores"].items()) or "not stored",
            f"{task['new_ops_percent']['engine']:.1f}%",
            f"{task['new_ops_percent']['paper']:.1f}%",
            f"{task['new_params_percent']:.2f}%",
            f"{task['mask_percent']:.2f}%",
            " ".join(task["cases"]),
        ]
        for task in tasks
    ]
    return f'<div class="wide">{html_table(columns, rows)}</div>'


def _style() -> str:
    def colors(which: int) -> str:
        surface, ink, grid = (COLORS[name][which] for name in ("surface", "ink", "grid"))
        return f"body{{background:{surface};color:{ink}}}td,th{{border-color:{grid}}}"

    return (
        f"body{{font:15px/1.5 {FONT};max-width:72em;margin:2em auto;padding:0 1em}}"
        "h1{font-size:1.5em}h2{font-size:1.15em;margin:2em 0 .3em}p{max-width:60em}"
        "figure{margin:.8em 0;overflow-x:auto}svg{max-width:100%;height:auto}"
        ".wide{overflow-x:auto}table{border-collapse:collapse;font-size:.93em}"
        "td,th{padding:.25em .8em .25em 0;text-align:left;border-bottom:1px solid;"
        "vertical-align:top}"
        f"{colors(0)}@media screen and (prefers-color-scheme:dark){{{colors(1)}}}"
        "@media print{body{margin:0;max-width:none}figure,tr{break-inside:avoid}"
        "h2,section>p{break-after:avoid}*{print-color-adjust:exact}}"
        f"{svg_style()}"
    )
