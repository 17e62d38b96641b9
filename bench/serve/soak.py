"""Bounded load on a small server, every answer checked: ``python -m bench.serve.soak``.

Good clients ask for random texts and tasks and compare what comes with an offline engine; bad ones
break every rule; tasks are added, replaced and removed; the server's memory and queue are watched.
Writes ``bench/results/<machine>/soak.json`` and exits with 1 when anything was wrong.
"""

import argparse
import asyncio
import collections
import contextlib
import json
import random
import re
import sys
import tempfile
import time
from pathlib import Path

import torch
from lets.bench.report import facts
from lets.files import write_json
from lets.pack import save_pack
from lets.run.engine import Engine

from bench.serve.bad_clients import KINDS, misbehave
from bench.serve.client import Client
from bench.serve.host import ROOT, hosted
from bench.serve.load import quantile
from bench.serve.problem import make_texts, small_encoder, small_tasks

SETTINGS = {
    "port": 0, "admin_port": 0, "payload_limit": 100_000, "body_timeout": 1.0,
    "header_timeout": 1.0, "max_queue": 256, "keep_alive": 60,
}  # fmt: skip
STEADY, GUEST, TOLERANCE = ("t0", "t1", "t2"), "guest", 1e-5
WARMUP = 0.2  # share of the requests after which memory should not grow any more


def main(arguments):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=1500.0, help="ends earlier than requests")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="in place of bench/results/<machine>/soak.json")
    chosen = parser.parse_args(arguments)
    known, options = facts(), {"system": "small", "threads": chosen.threads, "settings": SETTINGS}
    with hosted(options) as server, tempfile.TemporaryDirectory() as folder:
        soak = Soak(server, Path(folder), chosen.requests, chosen.seconds)
        result = {**known, **asyncio.run(soak.run(chosen.clients))}
    target = chosen.out or ROOT / "bench" / "results" / known["machine"] / "soak.json"
    write_json(target, result)
    print(json.dumps({k: v for k, v in result.items() if k not in known}, indent=1), target)
    return int(bool(result["failures"]))


class Soak:
    """One run against a server of `small_tasks`.

    Args:
        server: Its port, admin_port and pid.
        folder: For the packs that come and go.
        pause: Seconds between two changes of the tasks.
        memory_limit: Share by which the server's memory may grow once it is warm.
    """

    def __init__(self, server, folder, requests, seconds, pause=2.0, memory_limit=0.05):
        self.server, self.requests = server, requests
        self.pause, self.memory_limit = pause, memory_limit
        self.deadline = time.monotonic() + seconds
        self.times, self.statuses, self.bad = [], collections.Counter(), collections.Counter()
        self.failures, self.checked, self.changes = collections.Counter(), 0, collections.Counter()
        self.memory, self.queue = [], 0
        self.stopped = asyncio.Event()
        encoder = small_encoder()
        tasks = small_tasks(encoder)
        self.packs = [save_pack(folder / n, tasks[n], encoder) for n in ("first", "second")]
        self.texts = make_texts(encoder.tokenizer, 300, 3, 60)
        self.pairs = list(zip(self.texts, reversed(self.texts)))
        engine = Engine(encoder, tasks.values(), batch_size=1)
        singles = [name for name in tasks if name != "pairs"]
        found = engine(self.texts, singles) | engine(self.pairs, ["pairs"])
        self.expected = {name: output.logits for name, output in found.items()}

    async def run(self, clients):
        """Everything at once until enough requests were answered or the time is over."""
        good = [asyncio.ensure_future(self._ask(seed)) for seed in range(clients)]
        others = [self._misbehave(), self._misbehave(), self._change_tasks(), self._watch()]
        others = [asyncio.ensure_future(other) for other in others]
        begun = time.monotonic()
        await asyncio.gather(*good)
        self.stopped.set()
        await asyncio.gather(*others)
        return self._result(clients, time.monotonic() - begun)

    def _over(self):
        return len(self.times) >= self.requests or time.monotonic() > self.deadline

    async def _ask(self, seed):
        """A good client: its answers must be the offline engine's."""
        draw, client = random.Random(seed), Client("127.0.0.1", self.server["port"])
        while not self._over():
            places = [draw.randrange(len(self.texts)) for _ in range(draw.choice((1, 1, 2, 8)))]
            begin = time.perf_counter()
            try:
                await self._one(draw, client, places)
            except (OSError, asyncio.IncompleteReadError) as error:
                self.failures[f"connection: {type(error).__name__}"] += 1
                client.close()
            self.times.append(time.perf_counter() - begin)
        client.close()

    async def _one(self, draw, client, places):
        kind = draw.random()
        if kind < 0.2:
            body = {"inputs": [list(self.pairs[i]) for i in places], "raw_scores": True}
            status, found, _ = await client.post("/pairs/predict", body)
            rows = [{"pairs": row} for row in found] if status == 200 else found
        elif kind < 0.5:
            name = draw.choice(STEADY)
            body = {"inputs": [[self.texts[i]] for i in places], "raw_scores": True}
            status, found, _ = await client.post(f"/{name}/predict", body)
            rows = [{name: row} for row in found] if status == 200 else found
        else:
            names = draw.sample((*STEADY, GUEST), draw.randint(1, 4))
            body = {"inputs": [self.texts[i] for i in places], "tasks": names,
                    "raw_scores": True, "all_scores": True}  # fmt: skip
            status, found, _ = await client.post("/v1/classify", body)
            rows = found["results"] if status == 200 else found
        self.statuses[status] += 1
        if status == 200:
            self._check(rows, places)
        elif not (status == 404 and GUEST in str(found)):
            self.failures[f"status {status}: {str(found)[:120]}"] += 1

    def _check(self, rows, places):
        allowed = {}
        for name in rows[0]:
            logits = torch.tensor([_logits(row[name]) for row in rows])
            versions = ("first", "second") if name == GUEST else (name,)
            allowed[name] = any(
                torch.allclose(logits, self.expected[v][places], rtol=TOLERANCE, atol=TOLERANCE)
                for v in versions
            )
            self.checked += len(rows)
        self.failures.update(f"wrong answer of {name}" for name, ok in allowed.items() if not ok)

    async def _misbehave(self):
        draw = random.Random(5)
        while not self.stopped.is_set():
            kind = draw.choice(list(KINDS))
            self.bad[kind] += 1
            if not await misbehave(self.server["port"], kind):
                self.failures[f"bad client: {kind}"] += 1
            await asyncio.sleep(0.01)

    async def _change_tasks(self):
        client, turn = Client("127.0.0.1", self.server["admin_port"]), 0
        while not self.stopped.is_set():
            for method, path, body in (
                ("PUT", f"/tasks/{GUEST}", {"pack": str(self.packs[turn % 2])}),
                ("PUT", f"/tasks/{GUEST}", {"pack": str(self.packs[(turn + 1) % 2])}),
                ("DELETE", f"/tasks/{GUEST}", None),
            ):
                sent = b"" if body is None else json.dumps(body).encode()
                status, found, _ = await client.send(method, path, sent)
                self.changes[method] += 1
                if status != 200:
                    self.failures[f"admin {method} {status}: {found}"] += 1
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self.stopped.wait(), self.pause)
            turn += 1
        client.close()

    async def _watch(self):
        client = Client("127.0.0.1", self.server["port"])
        while not self.stopped.is_set():
            _, text, _ = await client.get("/metrics")
            waiting = re.search(r"^lets_queue_texts (\S+)", text, re.MULTILINE)
            self.queue = max(self.queue, int(float(waiting.group(1))))
            self.memory.append((len(self.times), resident_mb(self.server["pid"])))
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self.stopped.wait(), 0.5)
        client.close()

    def _result(self, clients, seconds):
        warm = [mb for count, mb in self.memory if count >= WARMUP * len(self.times)]
        growth = warm[-1] / warm[0] - 1 if warm else 0.0
        if growth > self.memory_limit:
            self.failures[f"memory grew by {growth:.1%}"] += 1
        return {
            "clients": clients,
            "requests": len(self.times),
            "seconds": round(seconds, 1),
            "per_second": round(len(self.times) / seconds, 1),
            "answers_checked": self.checked,
            "statuses": {str(k): v for k, v in sorted(self.statuses.items())},
            "server_errors": sum(v for k, v in self.statuses.items() if k >= 500),
            "bad_clients": dict(sorted(self.bad.items())),
            "task_changes": dict(self.changes),
            "p50_ms": round(quantile(self.times, 0.5), 2),
            "p99_ms": round(quantile(self.times, 0.99), 2),
            "longest_queue": self.queue,
            "rss_mb": {"warm": round(warm[0], 1), "end": round(warm[-1], 1)} if warm else {},
            "rss_growth_percent": round(100 * growth, 2),
            "failures": dict(self.failures),
        }


def _logits(answer):
    """Logits of a task in the order of its labels, from /predict or /v1/classify."""
    if isinstance(answer, list):
        return [entry["score"] for entry in sorted(answer, key=lambda entry: entry["label"])]
    return [answer["scores"][label] for label in sorted(answer["scores"])]


def resident_mb(pid):
    """Memory of a process that is in RAM."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status).group(1)) / 1024


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
