"""An HTTP server that speaks OpenAI's Batch API, in front of any BatchProvider: something to develop and test against.

It asks for no key, so it is for this machine: it answers only to the machine's own names unless told otherwise.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from embedpipe.errors import ConfigError, missing_extra
from embedpipe.ports import BatchProvider, Clock
from simulator.serving.endpoints import Endpoints, answer_broken, answer_unknown
from simulator.serving.failures import Failures

try:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.types import ASGIApp
except ImportError as error:
    raise missing_extra("simulator", error.name or "starlette") from error

__all__ = ["LOOPBACK", "application", "base_url", "bind", "run", "running"]

LOOPBACK: Final = ("127.0.0.1", "::1", "[::1]", "localhost")
LATE_S_MAX: Final = 3
"""[ours] How long the end of the server waits for calls that are running."""


def application(
    provider: BatchProvider,
    clock: Clock,
    *,
    failures: Failures | None = None,
    model: str | None = None,
    dimensions: int = 256,
    hosts: tuple[str, ...] = LOOPBACK,
) -> Starlette:
    """The ASGI application. `model`: the one there is; None takes any. `dimensions`: of vectors where a request names none.

    `hosts`: names under which it may be addressed, so that no web page can reach it under one of its own; `*` for any.
    """
    endpoints = Endpoints(provider, clock, failures=failures or Failures(), model=model, dimensions=dimensions)
    return Starlette(
        routes=endpoints.routes(),
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False)],
        exception_handlers={404: answer_unknown, 405: answer_unknown, Exception: answer_broken},
    )


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. `ConfigError` where that can't be had."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        raise ConfigError(f"{host}:{port}: {why}.", hint="Name another --port; 0 takes a free one.") from error


def base_url(listening: socket.socket) -> str:
    """Where a client finds it."""
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/v1"


def _uvicorn(app: ASGIApp) -> uvicorn.Server:
    # Its own log would report each connection that the table of failures breaks.
    config = uvicorn.Config(
        app, log_config=None, log_level="critical", lifespan="off", timeout_graceful_shutdown=LATE_S_MAX
    )
    return uvicorn.Server(config)


def run(app: ASGIApp, listening: socket.socket) -> None:
    """Serve until Ctrl-C."""
    with suppress(KeyboardInterrupt):
        _uvicorn(app).run(sockets=[listening])


@contextmanager
def running(app: ASGIApp, listening: socket.socket | None = None) -> Iterator[str]:
    """Serve in a thread while the block runs; gives the base URL."""
    listening = listening or bind("127.0.0.1", 0)
    server = _uvicorn(app)
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    url = base_url(listening)
    thread.start()
    try:
        yield url
    finally:
        server.should_exit = True
        thread.join()
