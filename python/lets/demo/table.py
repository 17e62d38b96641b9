"""The demo's report as tables for people."""

from __future__ import annotations

from typing import Any

TableText = tuple[str, list[str], list[list[str]]]


def demo_tables(report: dict[str, Any]) -> list[TableText]:
    """Title, columns and rows of each table."""
    return [_quality(report), _latency(report), _answers(report)]


def _quality(report: dict[str, Any]) -> TableText:
    total = report["set"]
    columns = [
        "task", "metric", "full fine-tuning", "LeTS", "difference",
        "new ops", "new parameters", "trained in",
    ]  # fmt: skip
    rows = [
        [
            task["name"],
            task["metric"],
            f"{100 * task['full_fine_tuning']:.1f}",
            f"{100 * task['lets']:.1f}",
            f"{100 * (task['lets'] - task['full_fine_tuning']):+.1f}",
            f"{task['new_ops_percent']:.1f}%",
            f"{task['new_params_percent']:.2f}%",
            f"{task['fit_seconds']:.0f} s (full: {task['full_seconds']:.0f} s)",
        ]
        for task in report["tasks"]
    ]
    title = (
        f"{len(rows)} tasks on one frozen {report['encoder']}: all answers take "
        f"{total['total_percent']:.0f}% of the operations of one dense model, "
        f"{len(rows)} dense models {100 * len(rows)}%"
    )
    return title, columns, rows


def _latency(report: dict[str, Any]) -> TableText:
    latency = report["latency"]
    kinds = sorted({kind for row in latency["rows"] for kind in row["dense_ms"]})
    columns = ["tasks", "batch", "tokens", "LeTS ms", *(f"dense {k} ms" for k in kinds), "speed-up"]
    rows = [
        [
            str(row["tasks"]),
            str(row["batch"]),
            str(row["tokens"]),
            f"{row['lets_ms']:.1f}",
            *(f"{row['dense_ms'][kind]:.1f}" for kind in kinds),
            f"{row['speedup']:.2f}x",
        ]
        for row in latency["rows"]
    ]
    title = (
        "Latency of all answers (medians, interleaved; speed-up against the best dense); "
        f"LeTS equals a plain evaluation of its packs to {latency['max_abs_difference']:.0e}"
    )
    if "onnxruntime" not in kinds:
        title += (
            "; without ONNX Runtime, the faster dense baseline on many CPUs: "
            "pip install 'lets-ext[bench]'"
        )
    return title, columns, rows


def _answers(report: dict[str, Any]) -> TableText:
    names = [task["name"] for task in report["tasks"]]
    rows = [
        [
            sample["text"],
            *(
                f"{sample['answers'][n]['label']} {sample['answers'][n]['score']:.2f}"
                for n in names
            ),
        ]
        for sample in report["samples"]
    ]
    return "Answers", ["text", *names], rows
