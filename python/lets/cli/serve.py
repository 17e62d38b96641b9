"""`lets serve`: task packs behind HTTP."""

from __future__ import annotations

from typing import Annotated

import typer

from lets.cli.options import EngineOptions, with_options


@with_options(EngineOptions)
def serve(
    engine: EngineOptions,
    packs: Annotated[
        list[str],
        typer.Argument(help="Task packs, or folders of packs.", show_default=False),
    ],
    encoder: Annotated[str, typer.Option(help="Folder or hub id of their frozen encoder.")],
    host: Annotated[str, typer.Option(help="Address of the public port.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The public port; 0: any free one.")] = 8080,
    admin_port: Annotated[
        int | None,
        typer.Option(help="Port to add and remove tasks; default: none.", show_default=False),
    ] = None,
    admin_host: Annotated[str, typer.Option(help="Address of the admin port.")] = "127.0.0.1",
    api_key_file: Annotated[
        str | None,
        typer.Option(help="File with the key of the public port; else LETS_API_KEY.",
                     show_default=False),
    ] = None,
    admin_key_file: Annotated[
        str | None,
        typer.Option(help="File with the key of the admin port; else LETS_ADMIN_KEY.",
                     show_default=False),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(help="CPU threads of an engine call; default: torch's.", show_default=False),
    ] = None,
    payload_limit: Annotated[int, typer.Option(help="Most bytes of a body.")] = 1_000_000,
    max_concurrent_requests: Annotated[int, typer.Option(help="Under way at once.")] = 512,
    max_connections: Annotated[int, typer.Option(help="Open at once.")] = 1024,
    max_client_batch_size: Annotated[int, typer.Option(help="Most texts of a request.")] = 32,
    max_batch_requests: Annotated[int, typer.Option(help="Most texts of an engine call.")] = 32,
    max_batch_tokens: Annotated[
        int, typer.Option(help="Most tokens of an engine call, padding included.")
    ] = 4096,
    max_queue: Annotated[int, typer.Option(help="Most texts that wait.")] = 1024,
    batch_wait_ms: Annotated[
        float, typer.Option(help="Longest wait for requests that are being tokenized.")
    ] = 2.0,
    auto_truncate: Annotated[
        bool, typer.Option(help="Cut texts that are too long, unless a request says no.")
    ] = True,
    header_timeout: Annotated[float, typer.Option(help="Seconds for a request's headers.")] = 10.0,
    body_timeout: Annotated[float, typer.Option(help="Seconds for a request's body.")] = 10.0,
    request_timeout: Annotated[float, typer.Option(help="Seconds for its answer.")] = 30.0,
    keep_alive: Annotated[int, typer.Option(help="Seconds of an idle connection.")] = 30,
    drain_timeout: Annotated[
        int, typer.Option(help="Seconds to finish what is under way on SIGTERM.")
    ] = 20,
    page: Annotated[bool, typer.Option(help="The page at / and its /v1/compare.")] = True,
) -> None:  # fmt: skip
    """Answer HTTP requests with task packs of one encoder."""
    from lets.serve import bound_caches, require_extra

    require_extra()
    bound_caches()
    from lets.serve.server import serve as run
    from lets.serve.settings import ADMIN_KEY, API_KEY, ServeSettings, read_key
    from lets.serve.start import load_engine

    settings = ServeSettings(
        host=host, port=port, admin_host=admin_host, admin_port=admin_port,
        api_key=read_key(API_KEY, api_key_file), admin_key=read_key(ADMIN_KEY, admin_key_file),
        payload_limit=payload_limit, max_concurrent_requests=max_concurrent_requests,
        max_connections=max_connections, max_client_batch_size=max_client_batch_size,
        max_batch_requests=max_batch_requests, max_batch_tokens=max_batch_tokens,
        max_queue=max_queue, batch_wait_ms=batch_wait_ms, auto_truncate=auto_truncate,
        header_timeout=header_timeout, body_timeout=body_timeout,
        request_timeout=request_timeout, keep_alive=keep_alive, drain_timeout=drain_timeout,
        page=page,
    )  # fmt: skip
    run(load_engine(encoder, packs, threads=threads, **vars(engine)), settings)
