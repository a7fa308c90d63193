"""A vector store on a Chroma server, merged in place: for collections too large to be copied with every version.

Our databases share one Chroma database; a collection is called `{database}.{collection}` there. One writer holds the
collection's lease in the object store, and asks it before each write: who could not renew it stops by itself before another can
have it. Writes show at once, so the merge step keeps its journal. Readers wait for nobody.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import attrs

from embedpipe.backends.chroma_client import ensured, existing
from embedpipe.backends.chroma_collection import ChromaCollection
from embedpipe.backends.chroma_http import Server
from embedpipe.backends.lease import leased
from embedpipe.errors import NotFound, Throttled, Unavailable
from embedpipe.layout import SEED, Layout, safe_name
from embedpipe.model import Hit
from embedpipe.ports import BlobStore, Clock, Collection, Edition, VectorRows, VectorStore

if TYPE_CHECKING:
    from embedpipe.ports import Vectors

REQUEST_BYTES: Final = 16 << 20
"""[ours] About what one request or its answer carries. [chroma] A server takes 40 MB."""
SENT_NUMBER_BYTES: Final = 6
"""Of one number in base64, with some room."""
READ_NUMBER_BYTES: Final = 20
"""Of one number in an answer, where it is text."""
READINGS_MAX: Final = 20
"""[ours] Readings of the same rows while others write."""
TIMEOUTS_IN_LEASE: Final = 4
"""A wait for the network is this part of the lease, so that a request ends before another can have the lease."""


class ChromaServerStore:
    """Collections on the server at `url`, in the Chroma database `database` of `tenant`. Leases are in `objects`.

    `lease_s`: how long a dead editor keeps others waiting. An editor waits `patience_s` for a live one, then is `Throttled`.
    """

    def __init__(
        self,
        url: str,
        objects: BlobStore,
        clock: Clock,
        *,
        tenant: str = "default_tenant",
        database: str = "default_database",
        layout: Layout = SEED,
        lease_s: float = 120.0,
        patience_s: float = 600.0,
    ) -> None:
        self._server = Server(url, tenant=tenant, database=database, timeout_s=lease_s / TIMEOUTS_IN_LEASE)
        self._objects = objects
        self._clock = clock
        self._layout = layout
        self._lease_s = lease_s
        self._patience_s = patience_s

    @contextmanager
    def reading(self, database: str, collection: str, *, version: str) -> Iterator[Collection]:  # noqa: ARG002 in place
        """What is there, whatever `version` says."""
        name = safe_name(collection, "collection")
        found = existing(self._server.client(), name, stored=stored_name(database, name))
        if found is None:
            raise NotFound(
                f"{self._server.where} has no collection {stored_name(database, name)}.", hint="Nothing was merged yet."
            )
        yield SharedCollection(found)

    @contextmanager
    def editing(
        self,
        database: str,
        collection: str,
        *,
        version: str | None,  # noqa: ARG002 in place there is one version: what is there
        dimensions: int,
    ) -> Iterator[Edition]:
        """Waits for the lease. `WriteConflict` from a write when the lease is lost. `Throttled`, `CollectionMismatch`."""
        name = safe_name(collection, "collection")
        key = self._layout.lease_key(database)
        with leased(self._objects, key, self._clock, lease_s=self._lease_s, patience_s=self._patience_s) as held:
            if held is None:
                raise Throttled(
                    f"Collection {stored_name(database, name)} has been edited by another for {self._patience_s:g} s.",
                    hint=f"Run again later; {key} says who holds it.",
                    key=key,
                )
            opened = self._server.client(before_write=held.check)
            found = ensured(opened, database, name, dimensions, stored=stored_name(database, name))
            yield ServerEdition(collection=ServerCollection(found))

    def close(self) -> None:
        """Close the connection; quiet when called twice."""
        self._server.close()


def stored_name(database: str, collection: str) -> str:
    """The collection's name on the server. No name of ours has a dot, so no two are alike.

    >>> stored_name("words", "receipt_words"), stored_name("ab-", "ab-")
    ('words.receipt_words', 'ab-.ab-.0')
    """
    name = f"{safe_name(database, 'database')}.{safe_name(collection, 'collection')}"
    return name if name[-1].isalnum() else f"{name}.0"


@attrs.frozen(kw_only=True)
class ServerEdition:
    """An edition in place: what is written shows at once, and the server makes it durable."""

    collection: Collection
    in_place: bool = True

    def seal(self, prefix: str) -> None:
        """Nothing to do: the server answers when a write is in its log."""


class ServerCollection:
    """A collection whose calls are cut to what a server takes in one request."""

    def __init__(self, inner: ChromaCollection) -> None:
        self._inner = inner.sliced(REQUEST_BYTES // (max(1, inner.dimensions) * READ_NUMBER_BYTES))

    def upsert(self, rows: VectorRows) -> None:
        """As the port says."""
        self._inner.checked(rows)
        for part in _requests(rows, self._inner.dimensions):
            self._inner.upsert(part)

    def delete(self, ids: Sequence[str]) -> None:
        """As the port says."""
        self._inner.delete(ids)

    def get(self, ids: Sequence[str]) -> VectorRows:
        """As the port says."""
        return self._inner.get(ids)

    def ids(self, *, after: str = "") -> Iterator[str]:
        """As the port says."""
        return self._inner.ids(after=after)

    def count(self) -> int:
        """How many rows."""
        return self._inner.count()

    def search(self, vector: Vectors, k: int) -> list[Hit]:
        """As the port says."""
        return self._inner.search(vector, k)


class SharedCollection(ServerCollection):
    """A collection that others may be writing to. The server reads texts and vectors one after the other."""

    def get(self, ids: Sequence[str]) -> VectorRows:
        """As the port says: read until two readings agree, so that no row is half old. `Unavailable` if they never do."""
        before = super().get(ids)
        for _ in range(READINGS_MAX):
            after = super().get(ids)
            if _same(before, after):
                return after
            before = after
        raise Unavailable(f"{len(ids)} rows changed during each of {READINGS_MAX} readings.", hint="Ask for fewer.")


def _same(one: VectorRows, other: VectorRows) -> bool:
    import numpy as np

    texts_agree = (one.ids, one.documents, one.metadatas) == (other.ids, other.documents, other.metadatas)
    return texts_agree and np.array_equal(one.vectors, other.vectors)


def _requests(rows: VectorRows, dimensions: int) -> Iterator[VectorRows]:
    """Consecutive parts of about `REQUEST_BYTES`, of one row at least."""
    start = size_bytes = 0
    for at, (document, metadata) in enumerate(zip(rows.documents, rows.metadatas, strict=True)):
        row_bytes = dimensions * SENT_NUMBER_BYTES + len((document or "").encode()) + len(str(metadata).encode())
        if size_bytes and size_bytes + row_bytes > REQUEST_BYTES:
            yield _part(rows, slice(start, at))
            start, size_bytes = at, 0
        size_bytes += row_bytes
    if start < len(rows.ids):
        yield _part(rows, slice(start, None))


def _part(rows: VectorRows, part: slice) -> VectorRows:
    return VectorRows(
        ids=rows.ids[part], vectors=rows.vectors[part], documents=rows.documents[part], metadatas=rows.metadatas[part]
    )


if TYPE_CHECKING:
    _store: type[VectorStore] = ChromaServerStore
    _edition: type[Edition] = ServerEdition
    _collection: type[Collection] = ServerCollection
