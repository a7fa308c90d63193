"""Opening the object store and the table of a root for writing; nothing else of it is opened."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from embedpipe.assembly import close, construct
from embedpipe.backends.system import SystemClock
from embedpipe.config import Config
from verify.repair.applying import Stores

__all__ = ["writing"]


@contextmanager
def writing(config: Config) -> Iterator[Stores]:
    """The stores that a configuration names."""
    clock = SystemClock()
    offered = {"clock": clock, "layout": config.layout, "limits": config.limits}
    opened: dict[str, Any] = {}
    try:
        for port in ("objects", "table"):
            choice = getattr(config, port)
            opened[port] = construct(port, choice.backend, choice.options, offered, directories=choice.directories)
        yield Stores(clock=clock, **opened)
    finally:
        for backend in opened.values():
            close(backend)
