"""A vector store in this process's memory, merged in place. The reference that other stores are compared with.

Search is exact: every distance is computed. Editors of one collection wait for each other; readers do not wait and see
each row old or new, never half.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

import attrs

from embedpipe.backends.vector_rows import (
    checked_query,
    checked_vectors,
    cosine_distances,
    empty_rows,
    mismatch,
)
from embedpipe.errors import CollectionMismatch, NotFound, missing_extra
from embedpipe.model import Hit, Metadata
from embedpipe.ports import Collection, Edition, VectorRows, VectorStore

if TYPE_CHECKING:
    from embedpipe.ports import Vectors

IDS_PAGE = 1_000
"""Ids sorted out at a time; the set may change between pages."""


@attrs.frozen
class Row:
    """One stored row. `vector` is read-only."""

    vector: Vectors
    document: str | None
    metadata: Metadata


class MemoryCollection:
    """Rows by id. `rows` is public so that tests can look and write around the port."""

    def __init__(self, name: str, dimensions: int) -> None:
        self.name = name
        self.dimensions = dimensions
        self.rows: dict[str, Row] = {}
        self._lock = threading.Lock()

    def upsert(self, rows: VectorRows) -> None:
        """As the port says; all rows of one call appear at once."""
        vectors = checked_vectors(rows, self.dimensions).copy()
        vectors.flags.writeable = False
        fresh = {
            row_id: Row(vectors[at], rows.documents[at], dict(rows.metadatas[at])) for at, row_id in enumerate(rows.ids)
        }
        with self._lock:
            self.rows.update(fresh)

    def delete(self, ids: Sequence[str]) -> None:
        """As the port says."""
        with self._lock:
            for row_id in ids:
                self.rows.pop(row_id, None)

    def get(self, ids: Sequence[str]) -> VectorRows:
        """As the port says."""
        import numpy as np

        with self._lock:
            found = [(row_id, self.rows[row_id]) for row_id in ids if row_id in self.rows]
        if not found:
            return empty_rows(self.dimensions)
        return VectorRows(
            ids=[row_id for row_id, _ in found],
            vectors=np.stack([row.vector for _, row in found]),
            documents=[row.document for _, row in found],
            metadatas=[dict(row.metadata) for _, row in found],
        )

    def ids(self, *, after: str = "") -> Iterator[str]:
        """As the port says. Python orders text by code point, which is the byte order of UTF-8."""
        while page := self._page(after):
            yield from page
            after = page[-1]

    def _page(self, after: str) -> list[str]:
        import heapq

        with self._lock:
            return heapq.nsmallest(IDS_PAGE, (row_id for row_id in self.rows if row_id > after))

    def count(self) -> int:
        """How many rows."""
        with self._lock:
            return len(self.rows)

    def search(self, vector: Vectors, k: int) -> list[Hit]:
        """Exact; equal distances by id."""
        import numpy as np

        query = checked_query(vector, self.dimensions)
        with self._lock:
            found = sorted(self.rows.items())
        if not found or k <= 0:
            return []
        distances = cosine_distances(np.stack([row.vector for _, row in found]), query)
        nearest = sorted(range(len(found)), key=distances.__getitem__)[:k]
        return [
            Hit(
                id=found[at][0],
                distance=distances[at],
                document=found[at][1].document,
                metadata=dict(found[at][1].metadata),
            )
            for at in nearest
        ]


@attrs.frozen
class MemoryEdition:
    """An edition in place: what is written shows at once."""

    collection: MemoryCollection
    in_place: bool = True

    def seal(self, prefix: str) -> None:
        """Nothing to do in place."""


class MemoryVectorStore:
    """Collections by database. `new_lock` makes the lock of editors; a simulated world gives its own kind."""

    def __init__(self, *, new_lock: Callable[[], AbstractContextManager[object]] = threading.Lock) -> None:
        try:
            import numpy  # noqa: F401  # asked for now, so that a missing extra is told before a merge begins
        except ImportError:
            raise missing_extra("vectors", "numpy") from None
        self._new_lock = new_lock
        self._guard = threading.Lock()
        self._collections: dict[str, MemoryCollection] = {}
        self._editors: dict[str, AbstractContextManager[object]] = {}

    @contextmanager
    def reading(self, database: str, collection: str, *, version: str) -> Iterator[Collection]:  # noqa: ARG002 in place
        """What is there now, whatever `version` says."""
        yield self.stored(database, collection)

    @contextmanager
    def editing(
        self,
        database: str,
        collection: str,
        *,
        version: str | None,  # noqa: ARG002 in place there is one version: what is there
        dimensions: int,
    ) -> Iterator[Edition]:
        """Waits for and holds the lock of the database's collection."""
        with self._guard:
            editor = self._editors.setdefault(database, self._new_lock())
        with editor:
            yield MemoryEdition(self._opened(database, collection, dimensions))

    def found(self, database: str) -> MemoryCollection | None:
        """The collection of a database, whatever it is called; None where nothing was merged."""
        return self._collections.get(database)

    def stored(self, database: str, collection: str) -> MemoryCollection:
        """The collection itself. `NotFound`."""
        found = self.found(database)
        if found is None or found.name != collection:
            raise NotFound(f"Database {database} has no collection {collection}.", hint="Nothing was merged yet.")
        return found

    def _opened(self, database: str, name: str, dimensions: int) -> MemoryCollection:
        with self._guard:
            found = self._collections.get(database)
            # An empty collection binds nobody: a first merge that never wrote may be followed by another model.
            if found is None or (found.name == name and not found.rows and found.dimensions != dimensions):
                found = self._collections[database] = MemoryCollection(name, dimensions)
        if found.name != name:
            raise CollectionMismatch(
                f"Database {database} holds collection {found.name}, not {name}.",
                hint="One database holds one collection: give the kind another database.",
            )
        if found.dimensions != dimensions:
            raise mismatch(name, found.dimensions, dimensions)
        return found


if TYPE_CHECKING:
    _store: type[VectorStore] = MemoryVectorStore
    _collection: type[Collection] = MemoryCollection
    _edition: type[Edition] = MemoryEdition
