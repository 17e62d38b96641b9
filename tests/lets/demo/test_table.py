import json
from pathlib import Path

from lets.demo.table import demo_tables

RESULTS = Path(__file__).resolve().parents[3] / "bench" / "results"


def latency_title(report):
    return demo_tables(report)[1][0]


def test_a_missing_baseline_is_named():
    report = json.loads(next(iter(sorted(RESULTS.glob("*/demo.json")))).read_text())
    assert "without ONNX Runtime" not in latency_title(report)
    for row in report["latency"]["rows"]:
        del row["dense_ms"]["onnxruntime"]
    title = latency_title(report)
    assert "without ONNX Runtime" in title
    assert "pip install 'lets-ext[bench]'" in title
