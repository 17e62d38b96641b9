"""Bounded load on a small server, every answer checked: ``python -m bench.serve.soak``.

Good clients ask for random texts and tasks and compare what comes with an offline engine; bad ones
break every rule; tasks are added, replaced and removed; the server's memory and queue are watched.
Writes ``bench/results/<machine>/soak.json`` and exits with 1 when anything was wrong.
"""

import argparse
import asyncio
import collections
import json
import random
import re
import sys
import tempfile
import time
from pathlib import Path

from lets.bench.report import facts
from lets.files import write_json
from lets.pack import save_pack

from bench.serve.bad_clients import KINDS, misbehave
from bench.serve.client import Client
from bench.serve.host import ROOT, hosted
from bench.serve.load import quantile
from bench.serve.reference import GUEST, SETTINGS, VERSIONS, Reference

WARMUP = 0.2  # share of the requests after which memory should not grow any more
P99_SECONDS = 10.0  # what is allowed, on a machine that may do other work besides


def main(arguments):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=3000.0, help="ends earlier than requests")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--beside", default="", help="what else the machine does, for the tables")
    parser.add_argument("--out", type=Path, help="in place of bench/results/<machine>/soak.json")
    chosen = parser.parse_args(arguments)
    known, options = facts(), {"system": "small", "threads": chosen.threads, "settings": SETTINGS}
    reference = Reference()
    with hosted(options) as server, tempfile.TemporaryDirectory() as folder:
        soak = Soak(server, reference, Path(folder), chosen.requests, chosen.seconds)
        found = asyncio.run(soak.run(chosen.clients))
    result = {**known, "beside": chosen.beside, **found}
    target = chosen.out or ROOT / "bench" / "results" / known["machine"] / "soak.json"
    write_json(target, result)
    print(json.dumps({k: v for k, v in result.items() if k not in known}, indent=1), target)
    return int(bool(result["failures"]))


class Soak:
    """One run against a server of `small_tasks`.

    Args:
        server: Its port, admin_port and pid.
        folder: For the packs that come and go.
        seconds: Ends it before the requests do.
        change_every: Requests between two changes of the tasks.
        memory_limit: Share by which the server's memory may grow once it is warm.
    """

    def __init__(
        self, server, reference, folder, requests, seconds, change_every=1000, memory_limit=0.05
    ):
        self.server, self.reference, self.requests, self.seconds = (
            server, reference, requests, seconds,
        )  # fmt: skip
        self.change_every, self.memory_limit = change_every, memory_limit
        self.times, self.statuses, self.bad = [], collections.Counter(), collections.Counter()
        self.failures, self.checked, self.changes = collections.Counter(), 0, collections.Counter()
        self.memory, self.queue = [], 0
        self.packs = [
            save_pack(folder / name, reference.tasks[name], reference.encoder) for name in VERSIONS
        ]

    async def run(self, clients):
        """Everything at once until enough requests were answered or the time is over."""
        begun = time.monotonic()
        self.deadline = begun + self.seconds
        others = [self._misbehave(1), self._misbehave(2), self._change_tasks(), self._watch()]
        await asyncio.gather(*(self._ask(seed) for seed in range(clients)), *others)
        return self._result(clients, time.monotonic() - begun)

    def _over(self):
        return len(self.times) >= self.requests or time.monotonic() > self.deadline

    async def _ask(self, seed):
        """A good client: its answers must be the offline engine's."""
        draw, client = random.Random(seed), Client("127.0.0.1", self.server["port"])
        while not self._over():
            request = self.reference.request(draw)
            begin = time.perf_counter()
            try:
                status, found, _ = await client.post(request.path, request.body)
            except (OSError, asyncio.IncompleteReadError) as error:
                self.failures[f"connection: {type(error).__name__}"] += 1
                client.close()
                continue
            self.times.append(time.perf_counter() - begin)
            self.statuses[status] += 1
            compared, wrong = self.reference.check(request, status, found)
            self.checked += compared
            self.failures.update(wrong)
        client.close()

    async def _misbehave(self, seed):
        draw = random.Random(seed)
        while not self._over():
            kind = draw.choice(list(KINDS))
            self.bad[kind] += 1
            if not await misbehave(self.server["port"], kind):
                self.failures[f"bad client: {kind}"] += 1
            await asyncio.sleep(0.05)

    async def _change_tasks(self):
        client, turn = Client("127.0.0.1", self.server["admin_port"]), 0
        while not self._over():
            for method, pack in (("PUT", 0), ("PUT", 1), ("DELETE", None)):
                body = b"" if pack is None else json.dumps(
                    {"pack": str(self.packs[(turn + pack) % 2])}
                ).encode()  # fmt: skip
                status, found, _ = await client.send(method, f"/tasks/{GUEST}", body)
                self.changes[method] += 1
                if status != 200:
                    self.failures[f"admin {method} {status}: {found}"] += 1
                await self._until(len(self.times) + self.change_every)
            turn += 1
        client.close()

    async def _until(self, requests):
        while len(self.times) < requests and not self._over():
            await asyncio.sleep(0.02)

    async def _watch(self):
        client = Client("127.0.0.1", self.server["port"])
        while not self._over():
            _, text, _ = await client.get("/metrics")
            waiting = re.search(r"^lets_queue_texts (\S+)", text, re.MULTILINE)
            self.queue = max(self.queue, int(float(waiting.group(1))))
            done, memory = len(self.times), resident_mb(self.server["pid"])
            self.memory.append((done, memory))
            if len(self.memory) % 50 == 0:
                print(f"{done} requests, {memory:.0f} MB", file=sys.stderr, flush=True)
            await self._until(len(self.times) + 100)
        client.close()

    def _result(self, clients, seconds):
        warm = [mb for count, mb in self.memory if count >= WARMUP * len(self.times)]
        growth = warm[-1] / warm[0] - 1
        p50, p99 = (quantile(self.times, share) for share in (0.5, 0.99))
        errors = sum(count for status, count in self.statuses.items() if status >= 500)
        for too_much, what in (
            (growth > self.memory_limit, f"memory grew by {growth:.1%}"),
            (p99 > 1e3 * P99_SECONDS, f"p99 is above {P99_SECONDS:g} s"),
            (self.queue > SETTINGS["max_queue"], "the queue is longer than it may be"),
        ):
            self.failures.update([what] if too_much else [])
        return {
            "clients": clients,
            "requests": len(self.times),
            "seconds": round(seconds, 1),
            "per_second": round(len(self.times) / seconds, 1),
            "answers_checked": self.checked,
            "statuses": {str(k): v for k, v in sorted(self.statuses.items())},
            "server_errors": errors,
            "bad_clients": dict(sorted(self.bad.items())),
            "task_changes": dict(self.changes),
            "p50_ms": round(p50, 2),
            "p99_ms": round(p99, 2),
            "longest_queue": self.queue,
            "rss_mb": {"warm": round(warm[0], 1), "end": round(warm[-1], 1)},
            "rss_growth_percent": round(100 * growth, 2),
            "failures": dict(self.failures),
        }


def resident_mb(pid):
    """Memory of a process that is in RAM."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status).group(1)) / 1024


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
