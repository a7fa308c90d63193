"""One HTTP server for many tests: each puts its own application behind it, since starting and ending one takes a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import attrs
from starlette.types import ASGIApp, Receive, Scope, Send

from simulator.serving import server


@attrs.define
class Switch:
    """Passes every call on to whatever application stands behind it now."""

    url: str = ""
    app: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert self.app is not None
        await self.app(scope, receive, send)


@contextmanager
def switch() -> Iterator[Switch]:
    """A server with nothing behind it yet."""
    made = Switch()
    with server.running(made) as made.url:
        yield made
