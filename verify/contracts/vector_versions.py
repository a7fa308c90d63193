"""What the suite of vector stores writes and compares: odd rows, whole rows, and the versions of one database.

Vectors have eight dimensions, whole numbers only, so that a store may round their last bits.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final

import attrs

from embedpipe.layout import SEED
from embedpipe.model import Hit, Metadata
from embedpipe.ports import Collection, VectorRows, VectorStore

DIMENSIONS: Final = 8
DATABASE: Final = "words"
NAME: Final = "receipt_words"

ODD_IDS: Final = (
    " ",
    "a",
    "A",
    "a ",
    "../../etc/passwd",
    '50% of "it\'s"; DROP TABLE embeddings --',
    "line\nbreak",
    "tab\tand\x00nul",
    "é",
    "e\u0301",
    "\u202eright to left",
    "\uffff",
    "\U0001f600",
    "日本語",
    "x" * 512,
    "x" * 511 + "y",
    "\U0001f600" * 128,
)
ODD_METADATA: Final[Metadata] = {
    "text": "é\n\x00\U0001f600",
    "empty": "",
    "whole": -(2**63),
    "great": 2**63 - 1,
    "zero": 0,
    "real": 0.1,
    "one": 1.0,
    "small": 5e-324,
    "yes": True,
    "no": False,
    " ": "a blank name",
    "#mark": 1,
    "$mark": 2,
    "~mark": 3,
    "~#mark": 4,
    "chroma:document": "not the document",
    "a.b": "a dotted name",
    "é" * 100: "a long name",
}


def _to_hundredths(numbers: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(round(number, 2) for number in numbers)


@attrs.frozen
class Row:
    """One row, for comparing. Stores that keep unit vectors and lengths apart may change a number's last bits."""

    id: str
    vector: tuple[float, ...] = attrs.field(eq=_to_hundredths)
    document: str | None = "text"
    metadata: Metadata = attrs.field(factory=dict)


def vector(seed: int) -> tuple[float, ...]:
    """A vector of whole numbers that no other seed below 2**24 has."""
    mixed = seed * 2_654_435_761
    return (1.0, *(float((mixed >> 4 * place) % 256 - 128) for place in range(DIMENSIONS - 1)))


def rows_of(rows: Sequence[Row]) -> VectorRows:
    """In columns."""
    import numpy as np

    return VectorRows(
        ids=[row.id for row in rows],
        vectors=np.array([row.vector for row in rows] or np.empty((0, DIMENSIONS)), np.float32),
        documents=[row.document for row in rows],
        metadatas=[row.metadata for row in rows],
    )


def stored(collection: Collection, ids: Sequence[str]) -> list[Row]:
    """What `get` gives, row by row. Vectors must be float32 of the right shape."""
    import numpy as np

    found = collection.get(ids)
    assert found.vectors.dtype == np.float32
    assert found.vectors.shape == (len(found.ids), DIMENSIONS)
    columns = zip(found.ids, found.vectors.tolist(), found.documents, found.metadatas, strict=True)
    return [Row(row_id, tuple(numbers), document, dict(metadata)) for row_id, numbers, document, metadata in columns]


def exactly(metadata: Metadata) -> dict[str, tuple[type, object]]:
    """With types, because 1 == 1.0 == True."""
    return {name: (type(value), value) for name, value in metadata.items()}


class Versions:
    """Edits a store and remembers which version is the latest."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self.latest: dict[str, str] = {}

    def edit(self, port: VectorStore, work: Callable[[Collection], None], database: str = DATABASE) -> None:
        """One merge."""
        base = self.latest.get(database)
        version = f"{next(self._numbers)}-test"
        with port.editing(database, NAME, version=base, dimensions=DIMENSIONS) as edition:
            work(edition.collection)
            edition.seal(SEED.snapshot_prefix(database, version))
        self.latest[database] = version

    def write(self, port: VectorStore, *rows: Row, database: str = DATABASE) -> None:
        """One merge that upserts those rows in one call."""
        self.upsert(port, rows_of(rows), database)

    def upsert(self, port: VectorStore, rows: VectorRows, database: str = DATABASE) -> None:
        """One merge of one call."""
        self.edit(port, lambda collection: collection.upsert(rows), database)

    def read(self, port: VectorStore, ids: Sequence[str], database: str = DATABASE) -> list[Row]:
        """Rows of the latest version."""
        with self._reading(port, database) as collection:
            return stored(collection, ids)

    def ids(self, port: VectorStore, *, after: str = "") -> list[str]:
        """Ids of the latest version."""
        with self._reading(port) as collection:
            return list(collection.ids(after=after))

    def count(self, port: VectorStore) -> int:
        """Rows of the latest version."""
        with self._reading(port) as collection:
            return collection.count()

    def search(self, port: VectorStore, query: Any, k: int) -> list[Hit]:
        """The nearest of the latest version."""
        with self._reading(port) as collection:
            return collection.search(query, k)

    def _reading(self, port: VectorStore, database: str = DATABASE) -> AbstractContextManager[Collection]:
        return port.reading(database, NAME, version=self.latest.get(database, "0-none"))
