"""A vector store of published versions: each a Chroma directory whose files lie beside its catalog in the object store.

The rule: a version is written once, under a name that is never shared, and never changed; which one counts is said by the
pointer alone, which the merge step moves by compare-and-swap. So readers wait for nobody, and an editor that dies or loses the
race harms nothing. A lease keeps editors from working for nothing; it is advice, and an editor out of patience goes on
without. Works over any object store, S3 above all. Reading needs no more than the right to read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from embedpipe.backends.chroma_cache import SnapshotCache
from embedpipe.backends.chroma_client import client, ensured, existing
from embedpipe.backends.chroma_collection import ChromaCollection, mapped_errors
from embedpipe.backends.chroma_snapshot import fetch, files_at, send
from embedpipe.backends.lease import leased
from embedpipe.errors import NotFound
from embedpipe.layout import SEED, Layout, safe_name
from embedpipe.model import Hit
from embedpipe.ports import BlobStore, Clock, Collection, Edition, VectorRows, VectorStore

if TYPE_CHECKING:
    from embedpipe.ports import Vectors

HASH_CHARS: Final = 16
"""Of the hash of what a version is made of, in the name of its local copy."""


class ChromaSnapshotStore:
    """Versions in `objects`, and local copies of those used last below `cache`. Opens nothing until it is used.

    `lease_s`: a dead editor delays the next one by as much. `patience_s`: how long an editor waits for a live one.
    """

    def __init__(
        self,
        objects: BlobStore,
        clock: Clock,
        *,
        cache: Path,
        layout: Layout = SEED,
        lease_s: float = 60.0,
        patience_s: float = 300.0,
    ) -> None:
        self._objects = objects
        self._clock = clock
        self._layout = layout
        self._cache = SnapshotCache(cache, clock)
        self._lease_s = lease_s
        self._patience_s = patience_s

    @contextmanager
    def reading(self, database: str, collection: str, *, version: str) -> Iterator[Collection]:
        """The collection of that version, whatever is published meanwhile. `NotFound`, `CorruptData`, `StorageFull`."""
        name = safe_name(collection, "collection")
        prefix = self._layout.snapshot_prefix(database, version)
        with ExitStack() as stack:
            try:
                files, data = files_at(self._objects, self._layout, prefix)
            except NotFound:
                raise _nothing(database, name, version) from None
            folder = stack.enter_context(
                self._cache.reading(
                    database,
                    _local_name(version, data),
                    lambda target: fetch(self._objects, self._layout, prefix, files, target),
                )
            )
            found = existing(stack.enter_context(client(folder)), name)
            if found is None:
                raise _nothing(database, name, version)
            yield found

    @contextmanager
    def editing(self, database: str, collection: str, *, version: str | None, dimensions: int) -> Iterator[Edition]:
        """On top of `version`, fetched when it is first used. `CollectionMismatch`, `CorruptData`, `StorageFull`."""
        name = safe_name(collection, "collection")
        key = self._layout.lease_key(database)
        with ExitStack() as stack:
            stack.enter_context(
                leased(self._objects, key, self._clock, lease_s=self._lease_s, patience_s=self._patience_s)
            )
            edition = ChromaSnapshotEdition(
                self._objects, self._layout, self._cache, database, name, version=version, dimensions=dimensions
            )
            stack.callback(edition.close)
            yield edition


def _nothing(database: str, name: str, version: str) -> NotFound:
    return NotFound(f"Database {database} has no collection {name} in version {version}.", hint="Was it published?")


def _local_name(version: str, data: bytes) -> str:
    return f"{version}.{hashlib.sha256(data).hexdigest()[:HASH_CHARS]}"


class ChromaSnapshotEdition:
    """A draft on top of a version, fetched at the first call. It is a `Collection`."""

    in_place = False

    def __init__(
        self,
        objects: BlobStore,
        layout: Layout,
        cache: SnapshotCache,
        database: str,
        name: str,
        *,
        version: str | None,
        dimensions: int,
    ) -> None:
        self._objects = objects
        self._layout = layout
        self._cache = cache
        self._database = database
        self._name = name
        self._version = version
        self._dimensions = dimensions
        self._draft: Path | None = None
        self._sealed: str | None = None
        self._held = ExitStack()
        self._open = ExitStack()
        self._inner: ChromaCollection | None = None

    @property
    def collection(self) -> Collection:
        """Where the merge writes."""
        return self

    def seal(self, prefix: str) -> None:
        """Close the draft, and store it under `prefix`. Later writes go on from there."""
        # A count makes Chroma bring its index up to date, so that readers have little to do.
        self._opened().count()
        draft = self._close_client()
        data = send(self._objects, self._layout, prefix, draft, database=self._database, collection=self._name)
        self._sealed = _local_name(prefix.rstrip("/").rpartition("/")[2], data)

    def close(self) -> None:
        """Close, and drop the draft, unless it is just as it was stored: the next edition is probably on top of it."""
        if self._draft is not None:
            draft = self._close_client()
            if self._sealed is not None:
                self._cache.keep(draft, self._sealed)
        self._held.close()
        self._draft = None

    def upsert(self, rows: VectorRows) -> None:
        """As the port says."""
        self._opened().upsert(rows)

    def delete(self, ids: Sequence[str]) -> None:
        """As the port says."""
        self._opened().delete(ids)

    def get(self, ids: Sequence[str]) -> VectorRows:
        """As the port says."""
        return self._opened().get(ids)

    def ids(self, *, after: str = "") -> Iterator[str]:
        """As the port says."""
        yield from self._opened().ids(after=after)

    def count(self) -> int:
        """How many rows."""
        return self._opened().count()

    def search(self, vector: Vectors, k: int) -> list[Hit]:
        """As the port says."""
        return self._opened().search(vector, k)

    def _opened(self) -> ChromaCollection:
        if self._inner is None:
            self._sealed = None
            opened = self._open.enter_context(client(self._filled()))
            self._inner = ensured(opened, self._database, self._name, self._dimensions)
        return self._inner

    def _filled(self) -> Path:
        if self._draft is None:
            self._draft = self._held.enter_context(self._begun())
        return self._draft

    def _begun(self) -> AbstractContextManager[Path]:
        if self._version is None:
            return self._cache.draft(self._database, None, lambda _: None)
        prefix = self._layout.snapshot_prefix(self._database, self._version)
        files, data = files_at(self._objects, self._layout, prefix)
        return self._cache.draft(
            self._database,
            _local_name(self._version, data),
            lambda target: fetch(self._objects, self._layout, prefix, files, target),
        )

    def _close_client(self) -> Path:
        draft = self._filled()
        self._inner = None
        with mapped_errors(str(draft)):
            self._open.close()
        return draft


if TYPE_CHECKING:
    _store: type[VectorStore] = ChromaSnapshotStore
    _edition: type[Edition] = ChromaSnapshotEdition
    _collection: type[Collection] = ChromaSnapshotEdition
