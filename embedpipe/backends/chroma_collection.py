"""One open Chroma collection behind the `Collection` port, and the one place where Chroma's errors become ours.

Chroma merges the metadata of an upsert into what is stored and keeps a document where none is given; the port replaces
rows wholly. So each slice first asks for the old keys of the rows that exist, which costs next to nothing where none do, and
names those that must go. Knows nothing of files or locks.
"""

from __future__ import annotations

import heapq
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from embedpipe.backends.vector_rows import checked_query, checked_vectors, cosine_distances, empty_rows, slices
from embedpipe.errors import (
    CHECK_PERMISSIONS,
    DENIED_ERRNOS,
    FREE_SPACE,
    FULL_ERRNOS,
    CorruptData,
    EmbedpipeError,
    InvalidInput,
    NotFound,
    ServiceError,
    StorageFull,
    Unauthorized,
    Unavailable,
    is_full,
)
from embedpipe.limits import CHROMA_BATCH_MAX
from embedpipe.model import Hit, Metadata
from embedpipe.ports import Collection, VectorRows

if TYPE_CHECKING:
    from embedpipe.ports import Vectors

IDS_PAGE: Final = 50_000
"""Ids read in one call."""
INT_BITS: Final = 63
"""Chroma stores whole numbers as signed 64 bits and silently turns greater ones into floats."""

# Metadata names that Chroma refuses or uses itself are stored behind this mark, and so is a name that begins with it.
_MARK: Final = "~"
_MARKED: Final = ("#", "$", "chroma:", _MARK)


class ChromaCollection:
    """Rows of one Chroma collection. `slice_rows`: rows of one call, Chroma's own maximum."""

    def __init__(self, inner: Any, name: str, *, dimensions: int, slice_rows: int = CHROMA_BATCH_MAX) -> None:
        self._inner = inner
        self._name = name
        self._what = f"Collection {name}"
        self.dimensions = dimensions
        self._slice_rows = slice_rows

    def sliced(self, rows: int) -> ChromaCollection:
        """The same collection, with calls of at most that many rows."""
        fewer = max(1, min(rows, self._slice_rows))
        return ChromaCollection(self._inner, self._name, dimensions=self.dimensions, slice_rows=fewer)

    def upsert(self, rows: VectorRows) -> None:
        """As the port says, in slices. A row that loses its document is deleted and written anew.

        `InvalidInput` for a whole number beyond 64 bits.
        """
        vectors, metadatas = self.checked(rows)
        for part in slices(len(rows.ids), self._slice_rows):
            ids, documents = list(rows.ids[part]), list(rows.documents[part])
            with mapped_errors(self._what):
                replaced = self._make_way(ids, documents, metadatas[part])
                self._inner.upsert(ids=ids, embeddings=vectors[part], metadatas=replaced, documents=documents)

    def checked(self, rows: VectorRows) -> tuple[Vectors, list[dict[str, Any] | None]]:
        """Vectors and metadata as Chroma takes them. Refuses what `upsert` refuses."""
        vectors = checked_vectors(rows, self.dimensions)
        return vectors, [_to_chroma(row_id, each) for row_id, each in zip(rows.ids, rows.metadatas, strict=True)]

    def _make_way(
        self, ids: list[str], documents: list[str | None], metadatas: list[dict[str, Any] | None]
    ) -> list[dict[str, Any] | None]:
        """The metadata to write: the given one, plus a None for each stored name that it lacks."""
        wanted = ["metadatas"] if all(document is not None for document in documents) else ["metadatas", "documents"]
        found = self._inner.get(ids=ids, include=wanted)
        if not found["ids"]:
            return metadatas
        at = {row_id: index for index, row_id in enumerate(ids)}
        out = list(metadatas)
        for row_id, old in zip(found["ids"], found["metadatas"], strict=True):
            new = out[at[row_id]] or {}
            gone = [name for name in old or () if name not in new]
            if gone:
                out[at[row_id]] = dict.fromkeys(gone) | new
        if found["documents"] is not None:
            losing = [
                row_id
                for row_id, old in zip(found["ids"], found["documents"], strict=True)
                if old is not None and documents[at[row_id]] is None
            ]
            if losing:
                self._inner.delete(ids=losing)
                for row_id in losing:
                    out[at[row_id]] = metadatas[at[row_id]]
        return out

    def delete(self, ids: Sequence[str]) -> None:
        """As the port says, in slices."""
        unique = list(dict.fromkeys(ids))
        for part in slices(len(unique), self._slice_rows):
            with mapped_errors(self._what):
                self._inner.delete(ids=unique[part])

    def get(self, ids: Sequence[str]) -> VectorRows:
        """As the port says, in slices."""
        import numpy as np

        unique = list(dict.fromkeys(ids))
        found: dict[str, tuple[Any, str | None, Metadata]] = {}
        for part in slices(len(unique), self._slice_rows):
            with mapped_errors(self._what):
                answer = self._inner.get(ids=unique[part], include=["embeddings", "documents", "metadatas"])
            columns = (answer["ids"], answer["embeddings"], answer["documents"], answer["metadatas"])
            for row_id, vector, document, metadata in zip(*columns, strict=True):
                found[row_id] = (np.asarray(vector, np.float32), document, _from_chroma(metadata))
        kept = [row_id for row_id in ids if row_id in found]
        if not kept:
            return empty_rows(self.dimensions)
        return VectorRows(
            ids=kept,
            vectors=np.stack([found[row_id][0] for row_id in kept]),
            documents=[found[row_id][1] for row_id in kept],
            metadatas=[found[row_id][2] for row_id in kept],
        )

    def ids(self, *, after: str = "") -> Iterator[str]:
        """As the port says. Chroma cannot page by id, so all ids are read and sorted first: about 100 MB a million."""
        found: list[str] = []
        start = 0
        while True:
            with mapped_errors(self._what):
                page = self._inner.get(limit=IDS_PAGE, offset=start, include=[])["ids"]
            if not page:
                break
            start += len(page)
            found += [row_id for row_id in page if row_id > after]
        # Python orders text by code point, which is the byte order of UTF-8.
        found.sort()
        yield from found

    def count(self) -> int:
        """How many rows."""
        with mapped_errors(self._what):
            return int(self._inner.count())

    def search(self, vector: Vectors, k: int) -> list[Hit]:
        """By Chroma's graph index: nearly always the nearest, but not provably.

        Many equal vectors cut the graph into islands; where it finds too few rows, every row is looked at instead.
        """
        query = checked_query(vector, self.dimensions)
        wanted = min(k, self.count())
        if wanted <= 0:
            return []
        with mapped_errors(self._what):
            answer = self._inner.query(
                query_embeddings=query[None, :], n_results=wanted, include=["distances", "documents", "metadatas"]
            )
        if len(answer["ids"][0]) < wanted:
            return self._search_all(query, wanted)
        columns = (answer["ids"][0], answer["distances"][0], answer["documents"][0], answer["metadatas"][0])
        return [
            Hit(id=row_id, distance=float(distance), document=document, metadata=_from_chroma(metadata))
            for row_id, distance, document, metadata in zip(*columns, strict=True)
        ]

    def _search_all(self, query: Vectors, k: int) -> list[Hit]:
        """Exactly, in the memory of one page and `k` answers."""
        best: list[tuple[float, str]] = []
        for start in range(0, self.count(), self._slice_rows):
            with mapped_errors(self._what):
                page = self._inner.get(limit=self._slice_rows, offset=start, include=["embeddings"])
            found = zip(cosine_distances(page["embeddings"], query), page["ids"], strict=True)
            best = heapq.nsmallest(k, [*best, *found])
        rows = self.get([row_id for _, row_id in best])
        return [
            Hit(id=row_id, distance=distance, document=document, metadata=metadata)
            for (distance, row_id), document, metadata in zip(best, rows.documents, rows.metadatas, strict=True)
        ]


def _to_chroma(row_id: str, metadata: Metadata) -> dict[str, Any] | None:
    if not metadata:
        return None
    out: dict[str, Any] = {}
    for name, value in metadata.items():
        if type(value) is int and not -(1 << INT_BITS) <= value < 1 << INT_BITS:
            raise InvalidInput(
                f"Metadata {ascii(name)[:40]} of {ascii(row_id)[:80]} does not fit 64 bits.", hint="Make it a string."
            )
        out[_MARK + name if name.startswith(_MARKED) else name] = value
    return out


def _from_chroma(metadata: Mapping[str, Any] | None) -> Metadata:
    return {name.removeprefix(_MARK): value for name, value in (metadata or {}).items()}


# --- errors --------------------------------------------------------------------------------------------------------

# SQLite's own words inside Chroma's InternalError, and what they mean.
_SIGNS: Final[tuple[tuple[str, type[ServiceError] | type[CorruptData], str], ...]] = (
    *((words, StorageFull, FREE_SPACE) for words in ("database or disk is full", *map(os.strerror, FULL_ERRNOS))),
    ("(code: 778)", Unavailable, "Is a quota or a limit on the size of files reached?"),  # SQLite's SQLITE_IOERR_WRITE
    ("database is locked", Unavailable, "Close other programs that use the directory and run again."),
    ("malformed", CorruptData, "Restore the directory from a copy, or delete it and run again from the first batch."),
    ("not a database", CorruptData, "Restore the directory from a copy, or delete it and run again."),
    ("Error finding id", CorruptData, "The index lacks rows; restore the directory from a copy."),
    ("hnsw", CorruptData, "The index files are damaged; restore the directory from a copy."),
)


@contextmanager
def mapped_errors(what: str) -> Iterator[None]:
    """Inside it, errors of Chroma, SQLite and the disk come out as ours; `what` begins their message."""
    try:
        yield
    except EmbedpipeError:
        raise
    except Exception as error:
        raise _ours(error, what) from error


def _ours(error: BaseException, what: str) -> EmbedpipeError:
    from chromadb.errors import ChromaError, InvalidArgumentError, NotFoundError

    said = f"{what}: {error}"
    for sign, kind, hint in _SIGNS:
        if sign.lower() in str(error).lower():
            return kind(said, hint=hint)
    if isinstance(error, OSError):
        if error.errno in DENIED_ERRNOS:
            return Unauthorized(f"{what}: {error.strerror}.", hint=CHECK_PERMISSIONS)
        return StorageFull(said, hint=FREE_SPACE) if is_full(error) else ServiceError(said)
    if isinstance(error, NotFoundError):
        return NotFound(said)
    if isinstance(error, (InvalidArgumentError, ValueError, TypeError)):
        return InvalidInput(said)
    if isinstance(error, (ChromaError, sqlite3.Error)):
        return ServiceError(said)
    raise error


if TYPE_CHECKING:
    _collection: type[Collection] = ChromaCollection
