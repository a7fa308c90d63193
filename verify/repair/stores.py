"""Opening the object store and the table of a root for writing; nothing else of it is opened."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from embedpipe.config import Config
from verify.repair.applying import Stores
from verify.sources.live import opened

__all__ = ["writing"]


@contextmanager
def writing(config: Config) -> Iterator[Stores]:
    """The stores that a configuration names."""
    made = opened(config, {"objects": config.objects, "table": config.table}, config.layout)
    try:
        yield Stores(clock=made.clock, **made.ports)
    finally:
        made.close()
