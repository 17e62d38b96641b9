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


async def closed_loop(askers, texts, answers):
    """So many answers, after a first one for every asker; then all hang up.

    Answers count from when they are given: one that takes longer than others is as likely to.

    Returns:
        Seconds of each, and of all from the last of the first answers on.
    """
    texts, found, ended = itertools.cycle(texts), [], asyncio.Event()

    async def user(asker):
        while True:
            asked = time.perf_counter()
            await asker.ask(next(texts))
            found.append((asked, time.perf_counter()))
            if len(found) == len(askers) + answers:
                ended.set()

    users = [asyncio.ensure_future(user(asker)) for asker in askers]
    await asyncio.wait([*users, end := asyncio.ensure_future(ended.wait())],
                       return_when=asyncio.FIRST_COMPLETED)  # fmt: skip
    for task in (*users, end):
        task.cancel()
    for outcome in await asyncio.gather(*users, return_exceptions=True):
        if not isinstance(outcome, asyncio.CancelledError):
            raise outcome
    for asker in askers:
        asker.close()
    await _until_idle(askers[0], next(texts))
    counted = found[len(askers) : len(askers) + answers]
    return [after - asked for asked, after in counted], counted[-1][1] - found[len(askers) - 1][1]


async def _until_idle(asker, text):
    """Its turn comes after the calls that are under way; what waited for others was dropped."""
    await asker.ask(text)
    asker.close()


def quantile(times, share):
    """The nearest-rank quantile, in milliseconds."""
    ordered = sorted(times)
    return 1e3 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]
