"""Faults in memory: a provider that says something else here and there, and a collection that breaks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn

import attrs

from embedpipe.backends.memory.vectors import MemoryCollection, Row
from embedpipe.errors import CorruptData, NotFound
from embedpipe.model import ProviderBatch
from embedpipe.ports import BatchProvider, VectorRows
from verify.inject.ground import Broken

if TYPE_CHECKING:
    from verify.inject.ground import ProviderEdits, VectorEdits

__all__ = ["MemoryVectorEdits", "ProviderView"]


class ProviderView:
    """A provider with another answer here and there. The provider itself is left alone."""

    def __init__(self, inner: BatchProvider) -> None:
        self._inner = inner
        self._changes: dict[str, dict[str, Any]] = {}
        self._hidden: set[str] = set()
        self._extra: list[ProviderBatch] = []
        self._files: dict[str, bytes] = {}

    def change(self, provider_batch_id: str | None, **changes: Any) -> ProviderBatch:
        """Let it say something else of one batch; what it said before."""
        found = next((batch for batch in self._inner.list() if batch.id == provider_batch_id), None)
        if found is None:
            raise NotFound(f"There is no batch {provider_batch_id}.")
        self._changes[found.id] = changes
        return found

    def hide(self, provider_batch_id: str) -> None:
        """Let it know nothing of a batch."""
        self._hidden.add(provider_batch_id)

    def add(self, *, metadata: Mapping[str, str] | None = None, created_at: datetime | None = None) -> ProviderBatch:
        """Let it have one more batch, in progress."""
        made = ProviderBatch(
            id="batch_second", status="in_progress", metadata=dict(metadata or {}), created_at=created_at
        )
        self._extra.append(made)
        return made

    def write_file(self, file_id: str, data: bytes) -> None:
        """Let it give other bytes for a file."""
        self._files[file_id] = data

    def list(self, *, after: str | None = None) -> Iterator[ProviderBatch]:
        """As the port says."""
        yield from self._extra
        for batch in self._inner.list(after=after):
            if batch.id not in self._hidden:
                yield attrs.evolve(batch, **self._changes.get(batch.id, {}))

    def retrieve(self, provider_batch_id: str) -> ProviderBatch:
        """As the port says."""
        for batch in self.list():
            if batch.id == provider_batch_id:
                return batch
        raise NotFound(f"There is no batch {provider_batch_id}.")

    def content(self, file_id: str) -> Iterator[bytes]:
        """As the port says."""
        return iter([self._files[file_id]]) if file_id in self._files else self._inner.content(file_id)


class MemoryVectorEdits:
    """A collection in memory, changed without any check."""

    def __init__(self, collection: MemoryCollection) -> None:
        self._collection = collection

    def ids(self) -> list[str]:
        """Every id, sorted."""
        return sorted(self._collection.rows)

    def get(self, ids: Sequence[str]) -> VectorRows:
        """Rows by id."""
        return self._collection.get(ids)

    def write(self, rows: VectorRows) -> None:
        """Put rows, also such whose vectors are none."""
        for at, name in enumerate(rows.ids):
            self._collection.rows[name] = Row(rows.vectors[at], rows.documents[at], dict(rows.metadatas[at]))

    def delete(self, ids: Sequence[str]) -> None:
        """Remove rows."""
        self._collection.delete(ids)

    def break_reading(self, how: Broken, ids: Sequence[str]) -> None:
        """Let reading go wrong from now on."""
        whole = self._collection
        given, count = whole.get, whole.count()

        def fail(wanted: Sequence[str]) -> NoReturn:
            raise CorruptData(f"Error finding id {wanted[0]!a}.")

        if how is Broken.ROWS_GONE:
            whole.get = lambda wanted: given([name for name in wanted if name not in ids])  # type: ignore[assignment, method-assign]
        elif how is Broken.READING_FAILS:
            whole.get = fail  # type: ignore[assignment, method-assign]
        elif how is Broken.COUNT_DIFFERS:
            whole.count = lambda: count - 3  # type: ignore[method-assign]
        else:
            whole.search = lambda vector, k: []  # type: ignore[method-assign]  # noqa: ARG005  the port's


if TYPE_CHECKING:
    _provider: type[ProviderEdits] = ProviderView
    _port: type[ProviderView] = ProviderView
    _vectors: type[VectorEdits] = MemoryVectorEdits
