"""Servers killed (SIGKILL) under load and started again: only what was under way is lost.
``python -m bench.serve.kills [KILLS]`` adds it to ``bench/results/<machine>/soak.json``.

Whoever waits for an answer sees the connection end; whoever comes meanwhile is refused; nobody gets
half an answer or a wrong one, and none waits for ever.
"""

import asyncio
import collections
import contextlib
import json
import os
import random
import signal
import sys
import time

from lets.bench.report import facts
from lets.files import write_json

from bench.serve.client import Client
from bench.serve.host import ROOT, hosted
from bench.serve.reference import SETTINGS, Reference

PATIENCE = 600.0  # seconds that a client waits for an answer or for the end of its connection


def main(kills=5):
    known, options = facts(), {"system": "small", "threads": 1, "settings": SETTINGS}
    found = asyncio.run(Kills(Reference(), options).run(kills))
    target = ROOT / "bench" / "results" / known["machine"] / "soak.json"
    result = json.loads(target.read_text()) if target.exists() else known
    write_json(target, {**result, "kills": {"commit": known["commit"], **found}})
    print(json.dumps(found, indent=1), target)
    return int(bool(found["failures"]))


class Kills:
    """Good clients, and servers on one port, one after another.

    Args:
        options: Of `hosted`; the first server's ports are the next ones' too.
        requests: Answered by a server before it is killed.
    """

    def __init__(self, reference, options, clients=16, requests=200):
        self.reference, self.options, self.requests = reference, options, requests
        self.clients, self.seconds = clients, []
        self.answered, self.checked, self.refused = 0, 0, 0
        self.failures = collections.Counter()
        self.lost = collections.Counter()  # by kill and client
        self.server, self.round, self.ended = None, 0, False

    async def run(self, kills):
        """So many servers are killed; the one after them ends as it should."""
        users = []
        for self.round in range(kills + 1):
            begun, before = time.monotonic(), self.answered
            with contextlib.ExitStack() as stack:
                ready = asyncio.to_thread(stack.enter_context, hosted(self.options))
                self.server = await ready
                self.seconds.append(time.monotonic() - begun)
                ports = {name: self.server[name] for name in ("port", "admin_port")}
                settings = {**self.options["settings"], **ports}
                self.options = {**self.options, "settings": settings}
                users = users or [asyncio.ensure_future(self._use(i)) for i in range(self.clients)]
                await self._until(before + self.requests)
                if self.round < kills:
                    pid, self.server = self.server["pid"], None
                    os.kill(pid, signal.SIGKILL)
                else:
                    self.ended = True
                    await asyncio.gather(*users)
        return self._result(kills)

    async def _until(self, answered):
        end = time.monotonic() + PATIENCE
        while self.answered < answered and not self.failures:
            if time.monotonic() > end:
                self.failures["no answers after a start"] += 1
            await asyncio.sleep(0.01)

    async def _use(self, seed):
        port = self.options["settings"]["port"]
        draw, client = random.Random(seed), Client("127.0.0.1", port)
        while not self.ended:
            request, number, asked = self.reference.request(draw), self.round, self.server
            try:
                answer = client.post(request.path, request.body)
                status, found, _ = await asyncio.wait_for(answer, PATIENCE)
            except ConnectionRefusedError:
                self._not_now("refused", asked)
                self.refused += 1
                await asyncio.sleep(0.1)
                continue
            except (OSError, asyncio.IncompleteReadError):
                self._not_now("lost", asked)
                self.lost[number, seed] += 1
                client.close()
                continue
            except asyncio.TimeoutError:
                self.failures["neither an answer nor an end"] += 1
                return
            compared, wrong = self.reference.check(request, status, found)
            self.answered += 1
            self.checked += compared
            self.failures.update(wrong)
        client.close()

    def _not_now(self, what, asked):
        """A server that lived from the request to its end loses and refuses nothing."""
        if asked is not None and asked is self.server:
            self.failures[f"{what} by a server that lives"] += 1

    def _result(self, kills):
        if any(count > 1 for count in self.lost.values()):
            self.failures["a client lost more than what was under way"] += 1
        return {
            "kills": kills,
            "clients": self.clients,
            "answered": self.answered,
            "answers_checked": self.checked,
            "lost_under_way": self.lost.total(),
            "refused_meanwhile": self.refused,
            "slowest_start_seconds": round(max(self.seconds), 1),
            "failures": dict(self.failures),
        }


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:2])))
