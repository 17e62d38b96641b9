"""The HTTP server: many clients, one engine.

settings.py   ports, keys and limits
app.py        the public routes; admin.py: those that change the tasks, on a port of their own
auth.py, limits.py, access_log.py   what a request passes before it reaches a route
prepare.py    texts of a request -> rows of token ids
batcher.py    rows of many requests -> calls of the engine; forming.py: which rows share a call
threads.py    which threads may compute
server.py     both ports in one event loop, and how it ends
ray.py        the public routes as a Ray Serve application (extra `ray`)

Needs the extra `serve`; `require_extra` says so before anything here is imported.
"""

from __future__ import annotations

import os
from importlib.util import find_spec

from lets.errors import LetsError

_NEEDED = {
    "fastapi": "fastapi",
    "uvicorn": "uvicorn",
    "h11": "h11",
    "prometheus_client": "prometheus-client",
}

# oneDNN and torch keep a compiled product for each of the last 1024 shapes. A server sees every
# number of tokens there is, and those take half a gigabyte and more; few of them come again soon.
_SHAPES_KEPT = "256"
_CAPACITIES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")


def bound_caches() -> None:
    """Bound what shapes may take, unless the environment does; before torch is imported."""
    for name in _CAPACITIES:
        os.environ.setdefault(name, _SHAPES_KEPT)


def require_extra() -> None:
    """Raises LetsError where a package of the extra is missing."""
    missing = [package for module, package in _NEEDED.items() if find_spec(module) is None]
    if missing:
        raise LetsError(
            f"serve: needs {', '.join(missing)}, not installed; pip install 'lets-ext[serve]'"
        )
