"""The server beside one dense endpoint a task, under the same server and load, in one run:
``python -m bench.serve.run [--tasks N …] [--rounds R] [--encoder E --packs P …]``.

Writes ``bench/results/<machine>/serve.json``. The systems take turns; answers are checked first.
"""

import argparse
import asyncio
import contextlib
import json
import statistics
import sys
import time
from pathlib import Path

import torch
from lets.bench.baselines import baseline_class
from lets.bench.report import facts
from lets.files import write_json
from lets.serve.costs import Costs

from bench.serve.host import hosted
from bench.serve.load import Asker, closed_loop, quantile
from bench.serve.problem import make_engine, make_texts

ROOT = Path(__file__).resolve().parents[2]
CLIENTS = (1, 8, 32)


def main(arguments):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--encoder", default="bert-base", help="a built-in shape, or a folder")
    parser.add_argument("--packs", nargs="*", default=[], help="real packs of the folder's encoder")
    parser.add_argument("--tasks", type=int, nargs="*", default=[3, 9], help="a run of each")
    parser.add_argument("--policy", default="fig2b")
    parser.add_argument("--baselines", nargs="*", default=["eager", "ort-fp32"])
    parser.add_argument("--lengths", type=int, nargs=2, default=(16, 64), help="tokens of texts")
    parser.add_argument("--answers", type=int, default=2, help="of each client in a round …")
    parser.add_argument("--least", type=int, default=24, help="… but so many of all at least")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="in place of bench/results/<machine>/serve.json")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(chosen.threads)
    known = facts()
    runs = [asyncio.run(measure(chosen, tasks)) for tasks in chosen.tasks]
    target = chosen.out or ROOT / "bench" / "results" / known["machine"] / "serve.json"
    write_json(target, {**known, "runs": runs})
    print(target)


async def measure(chosen, tasks):
    """Rows by number of clients, and what HTTP and batching add to an idle engine.

    Args:
        tasks: How many; real packs are as many as they are.
    """
    begun = time.monotonic()
    engine = make_engine(chosen.encoder, chosen.packs, tasks, chosen.policy)
    names = tuple(engine.tasks)
    options = {
        "encoder": chosen.encoder, "packs": chosen.packs, "tasks": len(names),
        "policy": chosen.policy, "threads": chosen.threads,
    }  # fmt: skip
    texts = make_texts(engine.encoder.tokenizer, 128, *chosen.lengths)
    with contextlib.ExitStack() as stack:
        ports = {
            system: stack.enter_context(hosted({**options, "system": system}))["port"]
            for system in ("lets", *map(_available, chosen.baselines))
        }
        checked = await check(engine, ports["lets"], texts[:64])
        idle = await overhead(engine, ports["lets"], texts[:40])
        rows = []
        for clients in CLIENTS:
            rows += await compare(ports, names, clients, texts, chosen)
    return {
        "settings": {**options, "lengths": list(chosen.lengths), "answers": chosen.answers,
                     "least": chosen.least, "rounds": chosen.rounds},
        "flop_ratio": flop_ratio(engine, texts),
        "max_abs_difference": checked,
        "idle": idle,
        "rows": rows,
        "wall_seconds": round(time.monotonic() - begun, 1),
    }  # fmt: skip


def _available(name):
    baseline_class(name)  # raises with the list of names
    return name


async def check(engine, port, texts):
    """The largest difference of a score over HTTP from the engine's own."""
    asker, expected, worst = Asker(port, tuple(engine.tasks), False), engine(texts), 0.0
    for i, text in enumerate(texts):
        (found,) = await asker.ask(text)
        for name, output in expected.items():
            score = found["results"][0][name]["score"]
            worst = max(worst, abs(score - float(output.scores[i])))
    asker.close()
    if not worst <= 1e-4:
        raise RuntimeError(f"the server's answers must be the engine's, differ by {worst:.1e}")
    return worst


async def overhead(engine, port, texts):
    """Medians of one text by HTTP and straight from an engine, one after the other in turns."""
    asker, http, direct = Asker(port, tuple(engine.tasks), False), [], []
    for text in texts:
        begin = time.perf_counter()
        await asker.ask(text)
        middle = time.perf_counter()
        engine([text])
        end = time.perf_counter()
        http.append(middle - begin)
        direct.append(end - middle)
    asker.close()
    added = [a - b for a, b in zip(http, direct)]
    return {
        "http_ms": 1e3 * statistics.median(http),
        "engine_ms": 1e3 * statistics.median(direct),
        "overhead_ms": 1e3 * statistics.median(added),
    }


async def compare(ports, names, clients, texts, chosen):
    """Rows of one number of clients; the systems take turns."""
    found = {system: ([], []) for system in ports}
    answers = max(chosen.least, clients * chosen.answers)
    for turn in range(chosen.rounds):
        other = texts[turn * len(texts) // chosen.rounds :] + texts
        for system, port in ports.items():
            askers = [Asker(port, names, system != "lets") for _ in range(clients)]
            times, seconds = await closed_loop(askers, other, answers)
            found[system][0].extend(times)
            found[system][1].append(seconds)
    rows = []
    for system, (times, seconds) in found.items():
        rows.append(
            {
                "system": system,
                "clients": clients,
                "answers": len(times),
                "per_second": len(times) / sum(seconds),
                "p50_ms": quantile(times, 0.5),
                "p99_ms": quantile(times, 0.99),
            }
        )
        print(json.dumps(rows[-1]), flush=True)
    return rows


def flop_ratio(engine, texts):
    """What the operations predict: dense models over LeTS, for these texts."""
    costs, loaded = Costs(engine.encoder), engine.task_set
    lengths = [len(ids) for ids in engine.encoder.tokenizer(texts)["input_ids"]]
    found = [costs.flops(loaded, tuple(loaded.tasks), length) for length in lengths]
    return sum(one.dense for one in found) / sum(one.total for one in found)


if __name__ == "__main__":
    main(sys.argv[1:])
