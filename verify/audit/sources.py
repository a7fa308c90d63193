"""What an audit reads: ports that refuse every write and count every call, and the value that holds them.

The rule kept here: no call of an audit can change anything. Reads that fail for load are repeated by the one retry policy;
pages go on where they stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeVar

import attrs

from embedpipe.errors import MisuseError
from embedpipe.layout import SEED, Layout
from embedpipe.lifecycle import Status
from embedpipe.limits import BATCH_GET_KEYS_MAX, Policy
from embedpipe.model import BatchRow, Blob, BlobInfo, Hit, Kind, ProviderBatch
from embedpipe.ports import BatchProvider, BatchTable, BlobStore, Clock, Collection, Edition, VectorRows, VectorStore
from embedpipe.retry import RetryPolicy
from verify.audit.calls import Calls
from verify.audit.ports import Histories, Logs, PagedHistories, PagedLogs

if TYPE_CHECKING:
    from embedpipe.ports import Vectors

__all__ = [
    "ReadOnlyBlobStore",
    "ReadOnlyCollection",
    "ReadOnlyProvider",
    "ReadOnlyTable",
    "ReadOnlyVectors",
    "Source",
]

T = TypeVar("T")


class WriteRefused(MisuseError):
    """An audit tried to change something. A bug in the audit: nothing was changed."""

    code = "write_refused"


def _refuse(what: str) -> NoReturn:
    raise WriteRefused(f"An audit only reads; it called {what}.")


class ReadOnlyBlobStore:
    """A `BlobStore` that refuses to write."""

    def __init__(self, inner: BlobStore, calls: Calls) -> None:
        self._inner = inner
        self._calls = calls

    @property
    def bucket(self) -> str:
        """The inner one's."""
        return self._inner.bucket

    def get(self, key: str) -> Blob:
        """As the port says."""
        return self._calls.make("objects.get", lambda: self._inner.get(key))

    def list(self, prefix: str, *, after: str | None = None) -> Iterator[BlobInfo]:
        """As the port says."""

        def start(last: str | None) -> Iterator[BlobInfo]:
            return self._inner.list(prefix, after=last if last is not None else after)

        return self._calls.pages("objects.list", start, lambda info: info.key)

    def download(self, key: str, path: Path) -> None:
        """As the port says."""
        self._calls.make("objects.get", lambda: self._inner.download(key, path))

    def put(self, key: str, data: bytes, *, if_none_match: bool = False, if_match: str | None = None) -> str:  # noqa: ARG002  the port's
        """Refused."""
        _refuse(f"objects.put {key}")

    def delete(self, key: str) -> None:
        """Refused."""
        _refuse(f"objects.delete {key}")

    def upload(self, key: str, path: Path, *, if_none_match: bool = False) -> str:  # noqa: ARG002  the port's
        """Refused."""
        _refuse(f"objects.upload {key}")


class ReadOnlyTable:
    """A `BatchTable` that refuses to write."""

    def __init__(self, inner: BatchTable, calls: Calls) -> None:
        self._inner = inner
        self._calls = calls

    def get_many(self, batch_ids: Sequence[str]) -> Mapping[str, BatchRow]:
        """As the port says."""
        times = -(-len(batch_ids) // BATCH_GET_KEYS_MAX)
        return self._calls.make("table.get_many", lambda: self._inner.get_many(batch_ids), times=times)

    def by_status(self, batch_type: str, status: Status, *, after: str = "") -> Iterator[str]:
        """As the port says."""

        def start(last: str | None) -> Iterator[str]:
            return self._inner.by_status(batch_type, status, after=last if last is not None else after)

        return self._calls.pages("table.by_status", start, lambda batch_id: batch_id)

    def put_new(self, row: BatchRow) -> bool:
        """Refused."""
        _refuse(f"table.put_new {row.batch_id}")

    def update(self, batch_id: str, changes: Mapping[str, object], *, status: Status, revision: int) -> BatchRow:  # noqa: ARG002  the port's
        """Refused."""
        _refuse(f"table.update {batch_id}")


class ReadOnlyProvider:
    """A `BatchProvider` that refuses to write, and to spend."""

    def __init__(self, inner: BatchProvider, calls: Calls) -> None:
        self._inner = inner
        self._calls = calls

    def retrieve(self, provider_batch_id: str) -> ProviderBatch:
        """As the port says."""
        return self._calls.make("provider.retrieve", lambda: self._inner.retrieve(provider_batch_id))

    def list(self, *, after: str | None = None) -> Iterator[ProviderBatch]:
        """As the port says."""

        def start(last: str | None) -> Iterator[ProviderBatch]:
            return self._inner.list(after=last if last is not None else after)

        return self._calls.pages("provider.list", start, lambda batch: batch.id)

    def content(self, file_id: str) -> Iterator[bytes]:
        """As the port says."""
        self._calls.counts["provider.content"] += 1
        return self._inner.content(file_id)

    def upload(self, path: Path) -> str:
        """Refused."""
        _refuse(f"provider.upload {path}")

    def create(self, input_file_id: str, metadata: Mapping[str, str]) -> ProviderBatch:  # noqa: ARG002  the port's
        """Refused."""
        _refuse("provider.create")

    def cancel(self, provider_batch_id: str) -> None:
        """Refused."""
        _refuse(f"provider.cancel {provider_batch_id}")

    def delete_file(self, file_id: str) -> None:
        """Refused."""
        _refuse(f"provider.delete_file {file_id}")


class ReadOnlyCollection:
    """A `Collection` that refuses to write."""

    def __init__(self, inner: Collection) -> None:
        self._inner = inner

    def get(self, ids: Sequence[str]) -> VectorRows:
        """As the port says."""
        return self._inner.get(ids)

    def ids(self, *, after: str = "") -> Iterator[str]:
        """As the port says."""
        return self._inner.ids(after=after)

    def count(self) -> int:
        """As the port says."""
        return self._inner.count()

    def search(self, vector: Vectors, k: int) -> list[Hit]:
        """As the port says."""
        return self._inner.search(vector, k)

    def upsert(self, rows: VectorRows) -> None:
        """Refused."""
        _refuse(f"collection.upsert of {len(rows.ids)} rows")

    def delete(self, ids: Sequence[str]) -> None:
        """Refused."""
        _refuse(f"collection.delete of {len(ids)} rows")


class ReadOnlyVectors:
    """A `VectorStore` that is never opened for editing."""

    def __init__(self, inner: VectorStore, calls: Calls) -> None:
        self._inner = inner
        self._calls = calls

    @contextmanager
    def reading(self, database: str, collection: str, *, version: str) -> Iterator[Collection]:
        """As the port says."""
        self._calls.counts["vectors.reading"] += 1
        with self._inner.reading(database, collection, version=version) as opened:
            yield ReadOnlyCollection(opened)

    def editing(
        self,
        database: str,
        collection: str,
        *,
        version: str | None,  # noqa: ARG002  the port's
        dimensions: int,  # noqa: ARG002
    ) -> AbstractContextManager[Edition]:
        """Refused."""
        _refuse(f"vectors.editing {database}/{collection}")


@attrs.frozen(kw_only=True, eq=False)
class Source:
    """What one audit reads. A port that is None is out of scope."""

    name: str
    """What reports call it."""
    objects: BlobStore
    table: BatchTable
    clock: Clock
    calls: Calls
    vectors: VectorStore | None = None
    provider: BatchProvider | None = None
    histories: PagedHistories | None = None
    machines: tuple[str, ...] = ()
    """State machines whose executions are audited, by ARN."""
    logs: PagedLogs | None = None
    log_groups: tuple[str, ...] = ()
    absent: frozenset[str] = frozenset()
    """Of `objects` and `table` what is out of scope; something empty stands in its place."""
    kinds: tuple[Kind, ...] = ()
    """The kinds audited; empty: those that are found."""
    expected: tuple[Kind, ...] = ()
    """Kinds that the index is asked for though no ledger shows them, as the configuration's."""
    layout: Layout = SEED
    policy: Policy = attrs.field(factory=Policy)
    unreachable: Mapping[str, str] = attrs.field(factory=dict)
    """Port that is in scope and could not be opened -> why."""
    prices: Mapping[str, float] = attrs.field(factory=dict)
    """Kind of call -> US dollars of one, as `estimate.PRICES` has them; what is not named costs nothing."""
    place: str = ""
    """Which objects and rows these are, whatever they are called; empty: nobody asks."""
    close: Callable[[], None] = lambda: None

    @classmethod
    def over(
        cls,
        name: str,
        *,
        objects: BlobStore,
        table: BatchTable,
        clock: Clock,
        vectors: VectorStore | None = None,
        provider: BatchProvider | None = None,
        histories: Histories | None = None,
        machines: Sequence[str] = (),
        logs: Logs | None = None,
        log_groups: Sequence[str] = (),
        absent: Iterable[str] = (),
        kinds: Sequence[Kind] = (),
        expected: Sequence[Kind] = (),
        layout: Layout = SEED,
        policy: Policy | None = None,
        retry_policy: RetryPolicy | None = None,
        unreachable: Mapping[str, str] | None = None,
        prices: Mapping[str, float] | None = None,
        place: str = "",
        close: Callable[[], None] = lambda: None,
    ) -> Source:
        """A source over live ports, each wrapped so that it refuses to write."""
        calls = Calls(clock=clock, policy=retry_policy or RetryPolicy())
        return cls(
            name=name,
            objects=ReadOnlyBlobStore(objects, calls),
            table=ReadOnlyTable(table, calls),
            vectors=ReadOnlyVectors(vectors, calls) if vectors is not None else None,
            provider=ReadOnlyProvider(provider, calls) if provider is not None else None,
            histories=PagedHistories(histories, calls) if histories is not None else None,
            machines=tuple(machines),
            logs=PagedLogs(logs, calls) if logs is not None else None,
            log_groups=tuple(log_groups),
            absent=frozenset(absent),
            clock=clock,
            calls=calls,
            kinds=tuple(kinds),
            expected=tuple(expected),
            layout=layout,
            policy=policy or Policy(),
            unreachable=unreachable or {},
            prices=prices or {},
            place=place,
            close=close,
        )


if TYPE_CHECKING:
    _collection: type[Collection] = ReadOnlyCollection
    _objects: type[BlobStore] = ReadOnlyBlobStore
    _table: type[BatchTable] = ReadOnlyTable
    _provider: type[BatchProvider] = ReadOnlyProvider
    _vectors: type[VectorStore] = ReadOnlyVectors
