"""Tables of the server: beside dense endpoints, and under load."""

READING = """An answer is all tasks' answers to one text: one request to LeTS, or one to each
task's endpoint of the dense models at the same time. Clients ask again when they have their answer,
and run on the same machine as the servers; what counts begins when each has had one. *FLOPs* is the
ratio that the operations predict, *reached* the measured share of it.
"""


def serve_section(result):
    """Markdown lines of one machine's serve.json."""
    yield READING
    for run in result["runs"]:
        yield from _run(run)


def _run(result):
    chosen, idle = result["settings"], result["idle"]
    shortest, longest = chosen["lengths"]
    source = "real packs" if chosen["packs"] else f"policy {chosen['policy']}"
    yield f"#### {chosen['tasks']} tasks\n"
    yield (
        f"{chosen['encoder']}, {source}, {chosen['threads']} threads, texts of {shortest} to "
        f"{longest} tokens. Idle, HTTP and batching add {idle['overhead_ms']:.1f} ms to the "
        f"{idle['engine_ms']:.1f} ms of the engine (medians).\n"
    )
    head = ["clients", "system", "answers/s", "p50 ms", "p99 ms", "LeTS over", "FLOPs", "reached"]
    yield f"| {' | '.join(head)} |"
    yield f"|{' --- |' * len(head)}"
    ours = {row["clients"]: row for row in result["rows"] if row["system"] == "lets"}
    for row in result["rows"]:
        cells = [str(row["clients"]), row["system"], f"{row['per_second']:.1f}"]
        cells += [f"{row['p50_ms']:.1f}", f"{row['p99_ms']:.1f}"]
        if row["system"] == "lets":
            cells += ["", "", ""]
        else:
            ratio = ours[row["clients"]]["per_second"] / row["per_second"]
            expected = result["flop_ratio"]
            cells += [f"**{ratio:.2f}**", f"{expected:.2f}", f"{ratio / expected:.0%}"]
        yield f"| {' | '.join(cells)} |"
    yield ""


def soak_section(result):
    """Markdown lines of one machine's soak.json."""
    bad, changes = sum(result["bad_clients"].values()), sum(result["task_changes"].values())
    beside = f" ({result['beside']})" if result.get("beside") else ""
    kills = result.get("kills", {})
    failures = result["failures"] | kills.get("failures", {})
    rows = (
        ("requests of well-behaved clients", f"{result['requests']:,} by {result['clients']}"),
        ("answers compared with the offline engine", f"{result['answers_checked']:,}"),
        ("bad clients", f"{bad:,} of {len(result['bad_clients'])} kinds"),
        ("tasks added, replaced, removed meanwhile", f"{changes:,} times"),
        ("answers with 5xx", f"{result['server_errors']}"),
        ("p50, p99", f"{result['p50_ms']:.1f}, {result['p99_ms']:.1f} ms{beside}"),
        ("longest queue", f"{result['longest_queue']} texts"),
        ("memory, after a fifth of the requests and at the end",
         f"{result['rss_mb']['warm']:.0f}, {result['rss_mb']['end']:.0f} MB "
         f"({result['rss_growth_percent']:+.1f}%)"),
        ("failures", ", ".join(f"{k}: {n}" for k, n in failures.items()) or "none"),
    )  # fmt: skip
    if kills:
        rows += (
            ("servers killed (SIGKILL) under load, and started again",
             f"{kills['kills']}, {kills['clients']} clients each"),
            ("lost: under way when the server was killed, told by the end of the connection",
             f"{kills['lost_under_way']:,} requests"),
            ("answered before, between and after the kills, compared",
             f"{kills['answered']:,} requests, {kills['answers_checked']:,} answers"),
        )  # fmt: skip
    yield "| what | how much |"
    yield "| --- | --- |"
    yield from (f"| {what} | {value} |" for what, value in rows)
    yield ""
