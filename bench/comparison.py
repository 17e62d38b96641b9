"""The measured rows of docs/comparison.md, out of engine.json."""

import json
import re

MARKED = re.compile(r"(<!-- measured -->\n).*?(<!-- end of measured -->\n)", re.DOTALL)
NAMES = {
    "eager": "dense, PyTorch eager",
    "compile": "dense, torch.compile",
    "stacked": "dense, weights stacked in one product",
    "ort-fp32": "dense, ONNX Runtime fp32",
    "ort-int8": "dense, ONNX Runtime int8",
    "lora-switch": "LoRA adapters (PEFT), one after the other",
    "lora-mixed": "LoRA adapters (PEFT), in one batch",
}


def with_measured(page, results):
    """The page with a table for every machine between its markers."""
    parts = [
        _section(json.loads(path.read_text())) for path in sorted(results.glob("*/engine.json"))
    ]
    text = "\n".join(part for part in parts if part)
    return MARKED.sub(lambda found: f"{found[1]}{text}{found[2]}", page)


def _section(result):
    """Rows of one text and one policy, by number of tasks; peers in the order of `NAMES`."""
    runs = [result["runs"][name] for name in ("tasks", "shared") if name in result["runs"]]
    rows = [row for run in runs for row in run["rows"]]
    rows = [row for row in rows if row["baseline"] in NAMES and row["batch"] == 1]
    if not rows:
        return ""
    first, counts = rows[0], sorted({row["tasks"] for row in rows})
    commits = ", ".join(dict.fromkeys(f"`{run['commit']}`" for run in runs))
    lines = [
        f"{result['machine']}, commit {commits}: {first['encoder']} shape, policy "
        f"{first['policy']}, one text of {first['seq_len']} tokens, {first['dtype']} engine. Time "
        "of all answers over the engine's: above 1 the engine is faster.",
        "",
        f"| beside | {' | '.join(f'{n} task' + 's' * (n > 1) for n in counts)} |",
        f"|{' --- |' * (1 + len(counts))}",
    ]
    for baseline, name in NAMES.items():
        ratios = {r["tasks"]: r["ratio"] for r in rows if r["baseline"] == baseline and r["ratio"]}
        if ratios:
            cells = (f"{ratios[n]:.2f}" if n in ratios else "" for n in counts)
            lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
