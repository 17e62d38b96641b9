"""Closed-loop load: so many clients, each of which asks again when it has its answer."""

import asyncio
import itertools
import time
from dataclasses import dataclass

from bench.serve.client import Client


@dataclass
class Asker:
    """One user: a text in, every task's answer out.

    `apart`: tasks have endpoints of their own, asked at the same time on a connection each.
    """

    port: int
    tasks: tuple[str, ...]
    apart: bool

    def __post_init__(self):
        count = len(self.tasks) if self.apart else 1
        self._clients = [Client("127.0.0.1", self.port) for _ in range(count)]

    async def ask(self, text):
        """The answers, whose statuses must be 200."""
        if not self.apart:
            calls = [self._clients[0].post("/v1/classify", {"inputs": [text]})]
        else:
            calls = [
                client.post(f"/{task}/predict", {"inputs": text})
                for task, client in zip(self.tasks, self._clients)
            ]
        answers = await asyncio.gather(*calls)
        failed = [answer for answer in answers if answer[0] != 200]
        if failed:
            raise RuntimeError(f"a request failed: {failed[0][:2]}")
        return [found for _, found, _ in answers]

    def close(self):
        for client in self._clients:
            client.close()


async def closed_loop(askers, texts, seconds, warmup=0.0):
    """Seconds that each answer took which came within the time, after the warm-up."""
    texts = itertools.cycle(texts)
    begin = time.perf_counter() + warmup
    end, times = begin + seconds, []

    async def user(asker):
        while (asked := time.perf_counter()) < end:
            await asker.ask(next(texts))
            now = time.perf_counter()
            if begin <= now <= end:
                times.append(now - asked)

    await asyncio.gather(*map(user, askers))
    return times


def quantile(times, share):
    """The nearest-rank quantile, in milliseconds."""
    ordered = sorted(times)
    return 1e3 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]
