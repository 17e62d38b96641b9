"""The same routes as a Ray Serve application: replicas that hold the encoder once each.

    serve run lets.serve.ray:app encoder=./encoder packs=packs num_replicas=2

Packs are megabytes, so every replica has all tasks. Ray's proxy holds the port (127.0.0.1:8000
unless Ray is told otherwise) and balances; limits of `ServeSettings` are each replica's own.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict
from ray import serve

from lets.serve.app import public_app
from lets.serve.service import Service
from lets.serve.settings import API_KEY, ServeSettings, read_key
from lets.serve.start import load_engine


class Arguments(BaseModel):
    """What `serve run lets.serve.ray:app` takes.

    Args:
        packs: Task packs, or folders of packs, separated by commas.
        settings: Of `ServeSettings`, apart from addresses and ports.
        threads: Cores, and CPU threads, of a replica.
        num_gpus: Of a replica; with `device` cuda.
    """

    model_config = ConfigDict(extra="forbid")

    encoder: str
    packs: str | list[str]
    num_replicas: int = 1
    mode: str = "auto"
    device: str = "cpu"
    dtype: str = "float32"
    quantization: str | None = None
    threads: int = 1
    num_gpus: float = 0.0
    settings: dict[str, Any] = {}


@serve.deployment
@serve.ingress()
class Tasks:
    """One replica: an engine, its queue and the public routes."""

    def __init__(self, arguments: Arguments) -> None:
        packs = arguments.packs
        self.engine = load_engine(
            arguments.encoder,
            packs.split(",") if isinstance(packs, str) else packs,
            arguments.mode,
            arguments.device,
            arguments.dtype,
            arguments.threads,
            arguments.quantization,
        )
        key = read_key(API_KEY, None)
        self.settings = ServeSettings(**{"api_key": key, **arguments.settings})

    def __serve_build_asgi_app__(self) -> Any:
        """What Ray puts behind the replica; the queue runs as long as the app."""
        service = Service(self.engine, self.settings)
        return _WithQueue(public_app(service), service)


class _WithQueue:
    """An ASGI application whose queue runs from its startup to its shutdown."""

    def __init__(self, inner: Any, service: Service) -> None:
        self.inner, self.service = inner, service

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await self.inner(scope, receive, send)
            return
        await receive()
        await self.service.start()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self.service.draining = True
        await self.service.close()
        await send({"type": "lifespan.shutdown.complete"})


def app(arguments: Arguments) -> Any:
    """The application: `serve.run(app(Arguments(...)))`, or `serve run lets.serve.ray:app`."""
    resources = {"num_cpus": arguments.threads, "num_gpus": arguments.num_gpus}
    deployment: Any = Tasks  # ingress is typed as if it gave back the class itself
    deployment = deployment.options(
        num_replicas=arguments.num_replicas,
        ray_actor_options=resources,
        max_ongoing_requests=ServeSettings(**arguments.settings).max_concurrent_requests,
    )
    return deployment.bind(arguments)
