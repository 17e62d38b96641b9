"""One server of the comparison, in a process of its own: ``python -m bench.serve.host '<json>'``.

Prints {"port": …, "admin_port": …} when it answers, and ends when its standard input does.
"""

import asyncio
import contextlib
import json
import subprocess
import sys
from pathlib import Path

import torch
from lets.run.engine import Engine
from lets.serve import bound_caches
from lets.serve.costs import Costs
from lets.serve.server import Server
from lets.serve.service import Service
from lets.serve.settings import ServeSettings
from lets.serve.threads import in_passing

from bench.serve.problem import (
    DenseCosts,
    DenseEngine,
    make_engine,
    small_encoder,
    small_tasks,
)

ROOT = Path(__file__).resolve().parents[2]


def build(options):
    """The service that the options name."""
    torch.set_num_threads(options["threads"])
    if options["system"] == "small":
        encoder = small_encoder()
        tasks = small_tasks(encoder)
        engine = Engine(encoder, [tasks[name] for name in ("t0", "t1", "t2", "pairs")])
        return Service(engine, ServeSettings(**options["settings"]))
    engine = make_engine(options["encoder"], options["packs"], options["tasks"], options["policy"])
    costs = Costs
    if options["system"] != "lets":
        shape = options["encoder"]
        engine, costs = (
            DenseEngine(engine, shape, options["system"], options["threads"]),
            DenseCosts,
        )
    settings = ServeSettings(port=0, keep_alive=120, request_timeout=120)
    return Service(engine, settings, costs(engine.encoder))


async def host(options):
    server = Server(in_passing(lambda: build(options)))

    def ready():
        ports = {"port": server.port, "admin_port": server.admin_port}
        print(json.dumps(ports), flush=True)
        loop = asyncio.get_running_loop()
        loop.run_in_executor(None, wait_for_end, loop, server)

    await server.run(ready)


def wait_for_end(loop, server):
    sys.stdin.read()
    loop.call_soon_threadsafe(server.stop)


@contextlib.contextmanager
def hosted(options):
    """Ports and process of a server, until the block ends."""
    command = [sys.executable, "-m", "bench.serve.host", json.dumps(options)]
    bound_caches()
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    try:
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"the server of {options['system']} did not start")
        yield {**json.loads(line), "pid": process.pid}
    finally:
        process.stdin.close()
        process.wait(60)


if __name__ == "__main__":
    asyncio.run(host(json.loads(sys.argv[1])))
