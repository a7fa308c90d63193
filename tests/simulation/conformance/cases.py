"""The table of cases: a service, one sentence, a body on the ports, and where it runs.

A body names what it needs as parameters, such as `table` or `clock`; who runs it gives them. Knows no service.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from embedpipe.backends.memory.behaviour import GOOD, Behaviour
from embedpipe.backends.memory.provider import MemoryProvider
from embedpipe.ports import BatchProvider, BatchTable, BlobStore, Clock, VectorStore

Body = Callable[..., None]

SIMULATOR: Final = "simulator"
MEMORY: Final = "memory"
MOTO: Final = "moto"
HTTP: Final = "http"
AWS: Final = "aws"

PLACES: Final[Mapping[str, str]] = {
    SIMULATOR: "the simulator's ports, inside an actor of a world",
    MEMORY: "the backends in memory",
    MOTO: "the S3 and DynamoDB backends on moto",
    HTTP: "the OpenAI backend, with the real SDK, on a scripted provider over HTTP",
    AWS: "the S3 and DynamoDB backends on AWS itself, where `CONFORMANCE_BUCKET` and `CONFORMANCE_TABLE` name what to use",
}
SERVICES: Final[Mapping[str, tuple[str, ...]]] = {
    "objects": (SIMULATOR, MEMORY, MOTO, AWS),
    "table": (SIMULATOR, MEMORY, MOTO, AWS),
    "provider": (SIMULATOR, MEMORY, HTTP),
    "vectors": (SIMULATOR, MEMORY),
}


@attrs.frozen(kw_only=True)
class Case:
    """One behaviour."""

    name: str
    service: str
    says: str
    body: Body
    places: tuple[str, ...]
    behaviour: Behaviour
    """Of every batch of the provider."""

    def run(self, given: Given) -> None:
        """With what the body asks for."""
        self.body(**{name: getattr(given, name) for name in inspect.signature(self.body).parameters})


@attrs.define(kw_only=True)
class Given:
    """What a body may ask for. A place sets those of the services that it has."""

    clock: Clock
    folder: Path
    objects: BlobStore = attrs.field(default=None)
    table: BatchTable = attrs.field(default=None)
    provider: BatchProvider = attrs.field(default=None)
    books: MemoryProvider = attrs.field(default=None)
    """What stands behind `provider`: who works there can do things that no port can."""
    vectors: VectorStore = attrs.field(default=None)


CASES: Final[dict[str, Case]] = {}


def case(
    service: str, says: str, *, behaviour: Behaviour = GOOD, but: tuple[str, ...] = ()
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Put a body into the table, under its own name. `but`: where it does not hold; the list of differences says why."""

    def add(body: Callable[..., Any]) -> Callable[..., Any]:
        name = f"{service}/{body.__name__}"
        assert name not in CASES, name
        places = tuple(place for place in SERVICES[service] if place not in but)
        CASES[name] = Case(name=name, service=service, says=says, body=body, places=places, behaviour=behaviour)
        return body

    return add
