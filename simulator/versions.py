"""A simulated vector store of versions: each merge works on a copy, and what it seals is a version of its own.

As the one in a bucket: nobody waits for anybody, the pointer's conditional write says who has won, and what the losers sealed
stays beside it, unread. A seal that dies half-way leaves a part of the rows under a name that nothing points to.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import attrs

from embedpipe.backends.memory.vectors import MemoryCollection, Row
from embedpipe.backends.vector_rows import mismatch
from embedpipe.errors import NotFound
from embedpipe.ports import Collection, Edition, VectorStore
from simulator.effects import Effects
from simulator.faults import Fault
from simulator.ports import SimulatedCollection

__all__ = ["SimulatedVersions", "Versions"]


@attrs.define
class Versions:
    """What is stored: by database and version, name, dimensions and rows. To be looked at from outside."""

    stored: dict[tuple[str, str], MemoryCollection] = attrs.field(factory=dict)

    @contextmanager
    def reading(self, database: str, collection: str, *, version: str) -> Iterator[Collection]:
        """As the port says."""
        found = self.stored.get((database, version))
        if found is None or found.name != collection:
            raise NotFound(f"Database {database} has no version {version} of {collection}.")
        yield found

    @contextmanager
    def editing(self, database: str, collection: str, *, version: str | None, dimensions: int) -> Iterator[Edition]:
        """As the port says."""
        yield Draft(self, database, self.copy(database, collection, version, dimensions))

    def copy(self, database: str, name: str, version: str | None, dimensions: int) -> MemoryCollection:
        """A collection of the same rows; empty where there is no version."""
        draft = MemoryCollection(name, dimensions)
        if version is not None:
            with self.reading(database, name, version=version) as base:
                assert isinstance(base, MemoryCollection)
                if base.dimensions != dimensions:
                    raise mismatch(name, base.dimensions, dimensions)
                draft.rows.update(base.rows)
        return draft

    def seal(self, database: str, prefix: str, draft: MemoryCollection, rows: dict[str, Row]) -> None:
        """Store these rows of a draft as the version that `prefix` ends with."""
        sealed = MemoryCollection(draft.name, draft.dimensions)
        sealed.rows.update(rows)
        self.stored[database, prefix.rstrip("/").rsplit("/", 1)[-1]] = sealed


@attrs.frozen
class Draft:
    """An edition that becomes a version."""

    _versions: Versions
    _database: str
    collection: MemoryCollection
    in_place: bool = False

    def seal(self, prefix: str) -> None:
        """As the port says."""
        self._versions.seal(self._database, prefix, self.collection, dict(self.collection.rows))

    def seal_half(self, prefix: str) -> None:
        """What is left of a seal whose process dies."""
        rows = list(self.collection.rows.items())
        self._versions.seal(self._database, prefix, self.collection, dict(rows[: len(rows) // 2]))


@attrs.frozen
class _Edition:
    """A draft whose writes and seal are effects."""

    _draft: Draft
    _effects: Effects
    in_place: bool = False

    @property
    def collection(self) -> Collection:
        """The draft's."""
        return SimulatedCollection(self._draft.collection, self._effects)

    def seal(self, prefix: str) -> None:
        """As the port says."""
        draft = self._draft
        instead = {Fault.CRASH_HALF: lambda: draft.seal_half(prefix)}
        self._effects.perform("edition.seal", prefix, lambda: draft.seal(prefix), instead)


class SimulatedVersions:
    """Versions whose reads and seals are effects."""

    def __init__(self, versions: Versions, effects: Effects) -> None:
        self._versions = versions
        self._effects = effects

    @contextmanager
    def reading(self, database: str, collection: str, *, version: str) -> Iterator[Collection]:
        """As the port says."""
        self._effects.perform("vectors.reading", database, lambda: None)
        with self._versions.reading(database, collection, version=version) as opened:
            yield SimulatedCollection(opened, self._effects)

    @contextmanager
    def editing(self, database: str, collection: str, *, version: str | None, dimensions: int) -> Iterator[Edition]:
        """As the port says. No lock: two merges may race."""
        copied = self._effects.perform(
            "vectors.editing", database, lambda: self._versions.copy(database, collection, version, dimensions)
        )
        yield _Edition(Draft(self._versions, database, copied), self._effects)


if TYPE_CHECKING:
    _store: type[VectorStore] = SimulatedVersions
    _versions: type[VectorStore] = Versions
    _edition: type[Edition] = _Edition
