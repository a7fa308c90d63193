"""What faults are planted in: stores that can be changed around every rule, in memory or in a copied root.

Nothing here chooses a fault. What a store can't be made to do is a `CannotPlant`, and nothing has been changed by then.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

import attrs

from embedpipe.errors import EXIT_INCOMPLETE, EmbedpipeError
from embedpipe.layout import Layout
from embedpipe.model import Kind, ProviderBatch
from embedpipe.ports import BatchTable, BlobStore, Clock, VectorRows

__all__ = ["Broken", "CannotPlant", "Ground", "ProviderEdits", "RawTable", "VectorEdits"]


class CannotPlant(EmbedpipeError):
    """This root has nothing in which the fault could be planted, such as a batch that has ended."""

    code = "cannot_plant"
    exit_code = EXIT_INCOMPLETE


class Broken(StrEnum):
    """How reading a collection goes wrong."""

    ROWS_GONE = "rows gone"
    """It lists ids whose rows it does not give."""
    READING_FAILS = "reading fails"
    COUNT_DIFFERS = "count differs"
    FINDS_NOTHING = "finds nothing"


class RawTable(BatchTable, Protocol):
    """A table whose items can be changed around the port, as another program would."""

    def read_raw(self, batch_id: str) -> dict[str, Any] | None:
        """The item of a batch."""
        ...

    def write_raw(self, item: Mapping[str, object]) -> None:
        """Put an item of any shape."""
        ...

    def delete_raw(self, batch_id: str) -> None:
        """Remove the item of a batch."""
        ...


class ProviderEdits(Protocol):
    """A provider that can be made to answer something else."""

    def list(self, *, after: str | None = None) -> Iterator[ProviderBatch]:
        """As the port of providers."""
        ...

    def content(self, file_id: str) -> Iterator[bytes]:
        """As the port of providers."""
        ...

    def change(self, provider_batch_id: str | None, **changes: Any) -> ProviderBatch:
        """Let it say something else of one batch; what it said before."""
        ...

    def hide(self, provider_batch_id: str) -> None:
        """Let it know nothing of a batch."""
        ...

    def add(self, *, metadata: Mapping[str, str] | None = None, created_at: datetime | None = None) -> ProviderBatch:
        """Let it have one more batch, in progress."""
        ...

    def write_file(self, file_id: str, data: bytes) -> None:
        """Let it give other bytes for a file."""
        ...


class VectorEdits(Protocol):
    """One collection that can be changed around every rule."""

    def ids(self) -> list[str]:
        """Every id, sorted."""
        ...

    def get(self, ids: Sequence[str]) -> VectorRows:
        """Rows by id."""
        ...

    def write(self, rows: VectorRows) -> None:
        """Put rows, where the store allows it also such whose vectors are none."""
        ...

    def delete(self, ids: Sequence[str]) -> None:
        """Remove rows."""
        ...

    def break_reading(self, how: Broken, ids: Sequence[str]) -> None:
        """Let reading go wrong, at least for these ids."""
        ...


@attrs.frozen(kw_only=True, eq=False)
class Ground:
    """The stores of one kind."""

    kind: Kind
    layout: Layout
    dimensions: int
    clock: Clock
    objects: BlobStore
    table: RawTable
    vectors: VectorEdits | None = None
    provider: ProviderEdits | None = None
