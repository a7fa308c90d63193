"""The local provider of a copied root, made to say something else: its files are changed as `backends.local_model` has them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from embedpipe.model import ProviderBatch
from embedpipe.ports import BatchProvider
from embedpipe.wire import decode, encode, format_time
from verify.inject.ground import CannotPlant

if TYPE_CHECKING:
    from verify.inject.ground import ProviderEdits

__all__ = ["LocalProviderEdits"]


class LocalProviderEdits:
    """The provider below `root`, changed around its port."""

    def __init__(self, inner: BatchProvider, root: Path) -> None:
        self._inner = inner
        self._root = root

    def list(self, *, after: str | None = None) -> Iterator[ProviderBatch]:
        """As the port says."""
        return self._inner.list(after=after)

    def content(self, file_id: str) -> Iterator[bytes]:
        """As the port says."""
        return self._inner.content(file_id)

    def change(self, provider_batch_id: str | None, **changes: Any) -> ProviderBatch:
        """Rewrite how a batch has ended."""
        before = next((batch for batch in self.list() if batch.id == provider_batch_id), None)
        if before is None:
            raise CannotPlant(f"The provider has no batch {provider_batch_id}.")
        if not changes:
            return before
        after = attrs.evolve(before, **changes)
        if (
            after.output_file_id is None
            and before.output_file_id is not None
            and after.counts
            and after.counts.completed
        ):
            raise CannotPlant("A local provider names an output file wherever it has counted results.")
        ended_at = after.ended_at or after.created_at
        completed = after.counts.completed if after.counts else 0
        ended = {
            "status": after.status,
            "total": after.counts.total if after.counts else 0,
            # A batch that has an output file has completed something.
            "completed": completed or int(after.output_file_id is not None),
            "failed": after.counts.failed if after.counts else 0,
            "issues": [],
            "ended_at": format_time(ended_at) if ended_at else None,
        }
        self._path("ended", before.id).parent.mkdir(exist_ok=True)
        self._path("ended", before.id).write_bytes(encode(ended))
        return before

    def hide(self, provider_batch_id: str) -> None:
        """Remove a batch."""
        self._path("batches", provider_batch_id).unlink()

    def add(self, *, metadata: Mapping[str, str] | None = None, created_at: datetime | None = None) -> ProviderBatch:
        """One more batch, made like the newest one."""
        newest = next(self.list(), None)
        if newest is None:
            raise CannotPlant("It takes a provider that has a batch, and this one has none.")
        made = dict(decode(self._path("batches", newest.id).read_bytes(), newest.id))
        made |= {"id": f"batch_{int(newest.id.split('_')[1]) + 1:09d}_second", "metadata": dict(metadata or {})}
        if created_at is not None:
            made["created_at"] = format_time(created_at)
        self._path("batches", made["id"]).write_bytes(encode(made))
        return next(batch for batch in self.list() if batch.id == made["id"])

    def write_file(self, file_id: str, data: bytes) -> None:
        """Other bytes for a file."""
        self._file(file_id).write_bytes(data)

    def _path(self, folder: str, batch_id: str) -> Path:
        return self._root / folder / f"{batch_id}.json"

    def _file(self, file_id: str) -> Path:
        return self._root / "files" / f"{file_id}.jsonl"


if TYPE_CHECKING:
    _provider: type[ProviderEdits] = LocalProviderEdits
