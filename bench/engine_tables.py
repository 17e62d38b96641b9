"""Tables of whole engine calls and of training steps."""

TITLES = {
    "goal": "Figure 2(b)'s policy, also beside dense models with a [CLS]-only last layer",
    "int8": "Frozen products in 8-bit integers: approximate answers on our side too",
    "tasks": "By number of tasks",
    "serial": "The same without stacking tasks (`serial`)",
    "lengths": "By length",
    "policies": "By policy",
    "batches": "By batch size",
    "minilm": "MiniLM shape (6 layers, H = 384)",
    "large": "BERT-large shape",
    "shared": "Dense models that share something: stacked weights, LoRA adapters",
    "compile": "torch.compile with frozen weights",
}
HEADLINE = {
    "eager": "PyTorch eager",
    "own-dense": "on the engine's own products",
    "ort-fp32": "ONNX Runtime fp32",
    "ort-int8": "ONNX Runtime int8",
}
READING = """All rows: the whole batch answered by every task. *FLOPs* is the ratio that the
operations predict, *reached* the measured share of it. *max diff*: the engine's logits against a
plain evaluation of the same packs. *own-dense*: dense models on the engine's own products. Weights
are random (their values do not change times), packs have 0.5% non-zeros. †: fewer distinct dense
models in memory than tasks; their time is scaled.
"""


def engine_sections(result):
    """Markdown lines of one machine's engine.json."""
    lines = [f"![time and speed-up](plots/{result['machine']}.png)", "", READING]
    for name, run in result["runs"].items():
        if run["rows"]:
            lines += [f"#### {TITLES.get(name, name)}", *_rows(run["rows"], run["commit"]), ""]
        lines += [f"{e['baseline']}: not measured, {e['reason']}.\n" for e in run["skipped"]]
    return lines


def headline(result):
    """The ratios of the first setting as one small table, with our own int8 products below."""
    rows = [
        (row, products)
        for name, products in (("goal", "fp32"), ("int8", "int8, approximate"))
        for row in result["runs"][name]["rows"]
        if row["ratio"] and row["baseline"] in HEADLINE
    ]
    first = rows[0][0]
    lines = [
        f"{first['tasks']} tasks on a {first['encoder']} shape, policy {first['policy']}, one text "
        f"of {first['seq_len']} tokens, {first['threads']} threads; FLOPs predict "
        f"{first['flop_ratio']:.2f}x:\n",
        f"| beside {first['tasks']} dense models | LeTS products | times as fast |",
        "| --- | --- | --- |",
        *(f"| {HEADLINE[r['baseline']]} | {kind} | **{r['ratio']:.2f}** |" for r, kind in rows),
    ]
    return "\n".join(lines) + "\n"


def training_headline(result):
    """One sentence about training steps."""
    full, *others = result["rows"]
    lets, cached = (
        next(row for row in others if row["variant"] == name) for name in ("lets", "lets-cached")
    )
    return (
        f"Training: a fine-tuning step ({full['policy']}, batch {full['batch']}, "
        f"{full['seq_len']} tokens) is **{lets['speedup']:.2f}** times as fast as one of full "
        f"fine-tuning, **{cached['speedup']:.2f}** with cached activations of the frozen encoder, "
        f"and takes {lets['memory_ratio']:.0%} of its memory.\n"
    )


def _rows(rows, commit):
    varying = [
        key
        for key in ("encoder", "policy", "tasks", "batch", "seq_len", "mode")
        if key in ("encoder", "tasks") or len({row[key] for row in rows}) > 1
    ]
    fixed = [
        f"{key} {rows[0][key]}"
        for key in ("policy", "batch", "seq_len", "threads", "dtype", "mode")
        if key not in varying
    ]
    yield f"{', '.join(fixed)}; commit `{commit}`.\n"
    head = [*varying, "baseline", "baseline ms", "LeTS ms", "ratio", "FLOPs", "reached", "max diff"]
    yield f"| {' | '.join(head)} |"
    yield f"|{' --- |' * len(head)}"
    for row in rows:
        cells = [*(str(row[key]) for key in varying), row["baseline"], *_times(row)]
        yield f"| {' | '.join(cells)} |"


def _times(row):
    if row["ratio"] is None:
        return ["-", "-", row["error"], f"{row['flop_ratio']:.2f}", "-", "-"]
    mark = "†" if row["scaled"] else ""
    return [
        f"{row['baseline_ms']:.1f} ± {row['baseline_iqr_ms'] / 2:.1f}{mark}",
        f"{row['lets_ms']:.1f} ± {row['lets_iqr_ms'] / 2:.1f}",
        f"**{row['ratio']:.2f}**",
        f"{row['flop_ratio']:.2f}",
        f"{row['ratio'] / row['flop_ratio']:.0%}",
        f"{row['max_abs_diff']:.0e}"
        + (f" ({row['quantization']})" if row.get("quantization") else ""),
    ]


def ablation_section(result):
    """Markdown lines of one machine's ablation.json."""
    first = result["rows"][0]
    yield (
        f"{result['settings']['encoder']} shape, policy {first['policy']}, {first['tasks']} tasks, "
        f"B = {first['batch']}, L = {first['seq_len']}, {first['threads']} threads; all variants "
        "take turns. CUDA graphs were not measured.\n"
    )
    yield "| the engine | ms | of all parts | max diff |"
    yield "| --- | --- | --- | --- |"
    for row in result["rows"]:
        times = ("wrong", "-")
        if row["slowdown"] is not None:
            times = (f"{row['lets_ms']:.1f} ± {row['iqr_ms'] / 2:.1f}", f"{row['slowdown']:.2f}")
        yield f"| {row['variant']} | {' | '.join(times)} | {row['max_abs_diff']:.0e} |"
    yield ""


def overhead_section(result):
    """Markdown lines of one machine's overhead.json."""
    first = result["rows"][0]
    yield (
        f"{result['encoder']} shape, policy {first['policy']}, {first['tasks']} tasks, "
        f"B = {first['batch']}, {first['threads']} threads, medians under torch's profiler. "
        "*Python* is all time outside of ops, the profiler's own included: an upper bound.\n"
    )
    yield "| tokens | call, ms | ops | Python, ms | copies, ms | heads, ms | of the call |"
    yield f"|{' --- |' * 7}"
    for row in result["rows"]:
        parts = " | ".join(f"{row[f'{part}_ms']:.1f}" for part in ("python", "copies", "heads"))
        yield (
            f"| {row['seq_len']} | {row['call_ms']:.1f} | {row['ops']} | {parts} | "
            f"{row['share']:.1%} |"
        )
    yield ""


def train_step_section(result):
    """Markdown lines of one machine's train_step.json."""
    first = result["rows"][0]
    yield (
        f"{first['encoder']} shape, policy {first['policy']}, B = {first['batch']}, "
        f"L = {first['seq_len']}, {first['threads']} threads. Memory is the process's peak; of it "
        f"{first['imports_mb']:.0f} MB are torch and transformers themselves.\n"
    )
    head = ["variant", "step, ms", "speed-up", "peak memory, MB", "of full fine-tuning"]
    yield f"| {' | '.join(head)} |"
    yield f"|{' --- |' * len(head)}"
    for row in result["rows"]:
        yield (
            f"| {row['variant']} | {row['step_ms']:.0f} ± {row['iqr_ms'] / 2:.0f} | "
            f"{row['speedup']:.2f} | {row['peak_mb']:.0f} | {row['memory_ratio']:.0%} |"
        )
    yield ""
