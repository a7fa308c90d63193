"""The ports of a simulated world: each call is an effect of the actor that makes it.

What a service holds and how it answers is in the memory backends, which pass the contract suites; what goes wrong is in
`effects`. Here stand only the names of effects, the pages of listings, and the faults that a service has of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn, TypeVar
from uuid import UUID

import attrs

from embedpipe.backends.memory.clock import START
from embedpipe.backends.memory.objects import MemoryBlobStore
from embedpipe.backends.memory.provider import MemoryProvider
from embedpipe.backends.memory.table import MemoryBatchTable
from embedpipe.backends.memory.vectors import MemoryVectorStore
from embedpipe.errors import NotFound
from embedpipe.lifecycle import Status
from embedpipe.limits import LIST_PAGE_KEYS, PROVIDER_LIST_PAGE
from embedpipe.model import BatchRow, Blob, BlobInfo, Hit, ProviderBatch
from embedpipe.ports import BatchProvider, BatchTable, BlobStore, Clock, Collection, Edition, VectorRows, VectorStore
from simulator.chance import number
from simulator.effects import Effects
from simulator.faults import Fault
from simulator.kernel import SECOND_US

if TYPE_CHECKING:
    from embedpipe.ports import Vectors

__all__ = ["SimulatedClock", "SimulatedObjects", "SimulatedProvider", "SimulatedTable", "SimulatedVectors"]

T = TypeVar("T")

INDEX_PAGE: Final = 1_000


class SimulatedClock:
    """Virtual time, as the actor that asks sees it."""

    def __init__(self, effects: Effects) -> None:
        self._effects = effects

    def now(self) -> datetime:
        """Aware UTC, as the machine that the actor runs on has it."""
        actor = self._effects.kernel.current
        return START + timedelta(microseconds=self._effects.kernel.now_us + (actor.skew_us if actor else 0))

    def monotonic_s(self) -> float:
        """Seconds since the world began."""
        return self._effects.kernel.now_us / SECOND_US

    def sleep(self, seconds: float) -> None:
        """Others go on meanwhile."""
        self._effects.kernel.wait(max(0, round(seconds * SECOND_US)))

    def new_id(self) -> str:
        """Follows from the seed, the actor, and how many it has had."""
        actor = self._effects.kernel.current
        name, nth = (actor.name, actor.next("clock.new_id")) if actor else ("", 0)
        seed = self._effects.seed
        high, low = number(seed, name, "id", nth, "high"), number(seed, name, "id", nth, "low")
        return str(UUID(int=high << 64 | low, version=4))


class SimulatedObjects:
    """An object store with strong reads and conditional writes."""

    def __init__(self, inner: MemoryBlobStore, effects: Effects) -> None:
        self._inner = inner
        self._perform = effects.perform
        self._seed = effects.seed

    @property
    def bucket(self) -> str:
        """The inner one's."""
        return self._inner.bucket

    def get(self, key: str) -> Blob:
        """As the port says."""
        return self._perform("objects.get", key, lambda: self._inner.get(key))

    def put(self, key: str, data: bytes, *, if_none_match: bool = False, if_match: str | None = None) -> str:
        """As the port says."""
        return self._perform(
            "objects.put", key, lambda: self._inner.put(key, data, if_none_match=if_none_match, if_match=if_match)
        )

    def list(self, prefix: str, *, after: str | None = None) -> Iterator[BlobInfo]:
        """As the port says."""

        def page(last: str | None) -> Sequence[BlobInfo]:
            return self._perform(
                "objects.list", prefix, lambda: list(islice(self._inner.list(prefix, after=last), LIST_PAGE_KEYS))
            )

        return _paged(page, lambda info: info.key, LIST_PAGE_KEYS, after)

    def delete(self, key: str) -> None:
        """As the port says."""
        self._perform("objects.delete", key, lambda: self._inner.delete(key))

    def upload(self, key: str, path: Path, *, if_none_match: bool = False) -> str:
        """As the port says."""
        return self._perform("objects.upload", key, lambda: self._inner.upload(key, path, if_none_match=if_none_match))

    def download(self, key: str, path: Path) -> None:
        """As the port says."""

        def damaged() -> None:
            self._inner.download(key, path)
            path.write_bytes(_damaged(path.read_bytes(), self._seed, key))

        self._perform("objects.download", key, lambda: self._inner.download(key, path), {Fault.CORRUPT: damaged})


class SimulatedTable:
    """A table whose index may be behind."""

    def __init__(self, inner: MemoryBatchTable, effects: Effects) -> None:
        self._inner = inner
        self._perform = effects.perform
        self._seen: dict[tuple[str, Status], list[str]] = {}
        """What the index said the time before."""

    def put_new(self, row: BatchRow) -> bool:
        """As the port says."""
        return self._perform("table.put_new", row.batch_id, lambda: self._inner.put_new(row))

    def get_many(self, batch_ids: Sequence[str]) -> Mapping[str, BatchRow]:
        """As the port says."""
        on = f"{len(batch_ids)} rows"
        return self._perform("table.get_many", on, lambda: self._inner.get_many(batch_ids))

    def by_status(self, batch_type: str, status: Status, *, after: str = "") -> Iterator[str]:
        """As the port says. Behind, it says what it said before."""

        def page(last: str | None) -> Sequence[str]:
            def now() -> list[str]:
                found = list(islice(self._inner.by_status(batch_type, status, after=last or ""), INDEX_PAGE))
                if not last:
                    self._seen[batch_type, status] = found
                return found

            def before() -> list[str]:
                return [] if last else [name for name in self._seen.get((batch_type, status), []) if name > after]

            return self._perform("table.by_status", f"{batch_type} {status}", now, {Fault.LAG: before})

        return _paged(page, lambda batch_id: batch_id, INDEX_PAGE, after)

    def update(self, batch_id: str, changes: Mapping[str, object], *, status: Status, revision: int) -> BatchRow:
        """As the port says."""
        return self._perform(
            "table.update",
            batch_id,
            lambda: self._inner.update(batch_id, changes, status=status, revision=revision),
        )


class SimulatedProvider:
    """A provider of batches; what becomes of a batch is scripted."""

    def __init__(self, inner: MemoryProvider, effects: Effects) -> None:
        self._inner = inner
        self._perform = effects.perform

    def upload(self, path: Path) -> str:
        """As the port says."""
        return self._perform("provider.upload", path.name, lambda: self._inner.upload(path))

    def create(self, input_file_id: str, metadata: Mapping[str, str]) -> ProviderBatch:
        """As the port says."""
        on = metadata.get("batch_id", "")
        return self._perform("provider.create", on, lambda: self._inner.create(input_file_id, metadata))

    def retrieve(self, provider_batch_id: str) -> ProviderBatch:
        """As the port says."""
        return self._perform(
            "provider.retrieve",
            provider_batch_id,
            lambda: self._inner.retrieve(provider_batch_id),
            {Fault.FOREIGN: lambda: _absent("batch", provider_batch_id)},
        )

    def list(self, *, after: str | None = None) -> Iterator[ProviderBatch]:
        """As the port says. Behind, the newest is not there yet."""

        def page(last: str | None) -> Sequence[ProviderBatch]:
            def page_from(first: int) -> list[ProviderBatch]:
                return list(islice(self._inner.list(after=last), first, first + PROVIDER_LIST_PAGE))

            behind = {Fault.LAG: lambda: page_from(0 if last else 1), Fault.FOREIGN: lambda: []}
            return self._perform("provider.list", "", lambda: page_from(0), behind)

        return _paged(page, lambda batch: batch.id, PROVIDER_LIST_PAGE, after)

    def content(self, file_id: str) -> Iterator[bytes]:
        """As the port says."""
        return iter(
            self._perform(
                "provider.content",
                file_id,
                lambda: list(self._inner.content(file_id)),
                {Fault.FOREIGN: lambda: _absent("file", file_id)},
            )
        )

    def cancel(self, provider_batch_id: str) -> None:
        """As the port says."""
        self._perform("provider.cancel", provider_batch_id, lambda: self._inner.cancel(provider_batch_id))

    def delete_file(self, file_id: str) -> None:
        """As the port says."""
        self._perform("provider.delete_file", file_id, lambda: self._inner.delete_file(file_id))


def _absent(what: str, name: str) -> NoReturn:
    raise NotFound(f"{what} {name} is not in this project.")


class SimulatedCollection:
    """A collection whose writes may stop half-way."""

    def __init__(self, inner: Collection, effects: Effects) -> None:
        self._inner = inner
        self._perform = effects.perform

    def upsert(self, rows: VectorRows) -> None:
        """As the port says."""

        def half() -> None:
            count = len(rows.ids) // 2
            self._inner.upsert(
                VectorRows(
                    ids=rows.ids[:count],
                    vectors=rows.vectors[:count],
                    documents=rows.documents[:count],
                    metadatas=rows.metadatas[:count],
                )
            )

        self._perform(
            "collection.upsert", f"{len(rows.ids)} rows", lambda: self._inner.upsert(rows), {Fault.CRASH_HALF: half}
        )

    def delete(self, ids: Sequence[str]) -> None:
        """As the port says."""

        def half() -> None:
            self._inner.delete(ids[: len(ids) // 2])

        on = f"{len(ids)} rows"
        self._perform("collection.delete", on, lambda: self._inner.delete(ids), {Fault.CRASH_HALF: half})

    def get(self, ids: Sequence[str]) -> VectorRows:
        """As the port says."""
        return self._perform("collection.get", f"{len(ids)} rows", lambda: self._inner.get(ids))

    def ids(self, *, after: str = "") -> Iterator[str]:
        """As the port says."""
        return iter(self._perform("collection.ids", "", lambda: list(self._inner.ids(after=after))))

    def count(self) -> int:
        """As the port says."""
        return self._inner.count()

    def search(self, vector: Vectors, k: int) -> list[Hit]:
        """As the port says."""
        return self._inner.search(vector, k)


@attrs.frozen
class SimulatedEdition:
    """An edition of a simulated store."""

    _inner: Edition
    _effects: Effects
    collection: Collection
    in_place: bool

    def seal(self, prefix: str) -> None:
        """As the port says."""
        self._effects.perform("edition.seal", prefix, lambda: self._inner.seal(prefix))


class SimulatedVectors:
    """Collections that are edited in place, under a lock that ends with its holder."""

    def __init__(self, inner: MemoryVectorStore, effects: Effects) -> None:
        self._inner = inner
        self._effects = effects

    @contextmanager
    def reading(self, database: str, collection: str, *, version: str) -> Iterator[Collection]:
        """As the port says."""
        self._effects.perform("vectors.reading", database, lambda: None)
        with self._inner.reading(database, collection, version=version) as opened:
            yield SimulatedCollection(opened, self._effects)

    @contextmanager
    def editing(self, database: str, collection: str, *, version: str | None, dimensions: int) -> Iterator[Edition]:
        """As the port says."""
        self._effects.perform("vectors.editing", database, lambda: None)
        with self._inner.editing(database, collection, version=version, dimensions=dimensions) as edition:
            opened = SimulatedCollection(edition.collection, self._effects)
            yield SimulatedEdition(edition, self._effects, opened, edition.in_place)


def _paged(
    page: Callable[[str | None], Iterable[T]], name: Callable[[T], str], size: int, after: str | None
) -> Iterator[T]:
    """All pages; each is one effect, when it is reached."""
    while True:
        found = list(page(after))
        yield from found
        if len(found) < size:
            return
        after = name(found[-1])


def _damaged(data: bytes, seed: int, key: str) -> bytes:
    """One bit of it is another."""
    if not data:
        return b"\x00"
    at = number(seed, "damage", key) % len(data)
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


if TYPE_CHECKING:
    _clock: type[Clock] = SimulatedClock
    _objects: type[BlobStore] = SimulatedObjects
    _table: type[BatchTable] = SimulatedTable
    _provider: type[BatchProvider] = SimulatedProvider
    _vectors: type[VectorStore] = SimulatedVectors
