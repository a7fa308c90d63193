"""The ports: small Protocols between the steps and the world. The contract is in each docstring.

Every backend proves statically that it fits, and passes the suite of its port in `verify.contracts`. For all ports:

* thread-safe; not fork-safe, not picklable (a `Config` is);
* vendor errors come out as `embedpipe.errors`, mapped in one place; adapters never retry by themselves;
* a method that raises `Transient` may have had its effect, except `Throttled` and `WriteConflict`, which had none;
* one page of an iterator is one effect: reading on may raise, and starting again `after` the last value goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

import attrs

from embedpipe.lifecycle import Status
from embedpipe.model import BatchRow, Blob, BlobInfo, Hit, Metadata, ProviderBatch

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]


class Clock(Protocol):
    """Time, sleep and fresh ids. The core takes them from here and from nowhere else."""

    def now(self) -> datetime:
        """Aware UTC."""
        ...

    def monotonic_s(self) -> float:
        """Seconds that never go back, for budgets."""
        ...

    def sleep(self, seconds: float) -> None:
        """Let `seconds` pass."""
        ...

    def new_id(self) -> str:
        """A fresh id, never given before, safe as a key segment (a UUID in its usual form)."""
        ...


class BlobStore(Protocol):
    """Objects by key. Atomic: a reader sees a whole object, the old or the new. Strongly consistent, lists too.

    A key is one or more non-empty segments joined by `/`, at most 1,024 UTF-8 bytes; `.` and `..` are no segments. Others
    raise `InvalidKey`, before any effect. A store may also refuse a key that is a folder of another key. An etag is
    equal where the bytes are equal and differs where they differ, up to a hash's chance.
    """

    @property
    def bucket(self) -> str:
        """The name that references carry beside a key."""
        ...

    def get(self, key: str) -> Blob:
        """The whole object. `NotFound`."""
        ...

    def put(self, key: str, data: bytes, *, if_none_match: bool = False, if_match: str | None = None) -> str:
        """Write and return the etag. `if_none_match`: only where no object is; `if_match`: only over that etag.

        `PreconditionFailed` when the condition does not hold (also `if_match` where nothing is), `WriteConflict` when the
        store could not decide a race. Of concurrent conditional writers with one condition, one wins.
        """
        ...

    def list(self, prefix: str, *, after: str | None = None) -> Iterator[BlobInfo]:
        """Entries whose key starts with `prefix`, in the byte order of UTF-8, those greater than `after` only."""
        ...

    def delete(self, key: str) -> None:
        """Remove; quiet where nothing is."""
        ...

    def upload(self, key: str, path: Path, *, if_none_match: bool = False) -> str:
        """Write a file's bytes, streamed in bounded memory. As `put`."""
        ...

    def download(self, key: str, path: Path) -> None:
        """Read into a new file at `path`, streamed; `path` appears only whole. `NotFound`."""
        ...


class BatchTable(Protocol):
    """Rows by `batch_id`, with an index by type and status. Rows may share the table with other items.

    `get_many` is consistent; the index may lag, both ways: what it says is confirmed by `get_many`.
    """

    def put_new(self, row: BatchRow) -> bool:
        """Insert; False, and no change, where the row exists. Atomic."""
        ...

    def get_many(self, batch_ids: Sequence[str]) -> Mapping[str, BatchRow]:
        """Those that exist, any number asked for."""
        ...

    def by_status(self, batch_type: str, status: Status, *, after: str = "") -> Iterator[str]:
        """`batch_id`s from the index, ascending, greater than `after` only."""
        ...

    def update(self, batch_id: str, changes: Mapping[str, object], *, status: Status, revision: int) -> BatchRow:
        """Change the named fields of `BatchRow` if `status` and `revision` still hold, add 1 to `revision`, return the row.

        Attributes it does not name stay, also those we do not know. `PreconditionFailed` otherwise, also without a row.
        """
        ...


class BatchProvider(Protocol):
    """A provider's Batch API. `Unauthorized` for 401 and 403, `NotFound` for 404, from every method."""

    def upload(self, path: Path) -> str:
        """Upload an input file (JSON lines) and return its file id. Not idempotent; a second copy costs nothing."""
        ...

    def create(self, input_file_id: str, metadata: Mapping[str, str]) -> ProviderBatch:
        """Create a batch, once: never repeated here. Costs money and has no idempotency key.

        `RefusedRequest` or `Throttled`: certainly not created. `Unavailable`: nobody knows.
        """
        ...

    def retrieve(self, provider_batch_id: str) -> ProviderBatch:
        """What it says now. A new batch may be `NotFound` for a while."""
        ...

    def list(self, *, after: str | None = None) -> Iterator[ProviderBatch]:
        """All batches of the account, newest first, those after that id only; may lag behind `create`."""
        ...

    def content(self, file_id: str) -> Iterator[bytes]:
        """The bytes of a file, in pieces of any size. Lines come in any order; the last may be torn."""
        ...

    def cancel(self, provider_batch_id: str) -> None:
        """Ask for the end; quiet where it has ended."""
        ...

    def delete_file(self, file_id: str) -> None:
        """Remove an input, output or error file of an ended batch for good; quiet where nothing is. The batch stays."""
        ...


class QueryEmbedder(Protocol):
    """Embeds a few texts at once, online: for questions, never for records."""

    def embed(self, texts: Sequence[str], *, model: str, dimensions: int) -> Vectors:
        """Shape (len(texts), dimensions), float32."""
        ...


@attrs.frozen(kw_only=True, eq=False)
class VectorRows:
    """Rows of a collection, column-wise; all columns have one length."""

    ids: Sequence[str]
    vectors: Vectors
    """Shape (n, dimensions), float32."""
    documents: Sequence[str | None]
    metadatas: Sequence[Metadata]


class Collection(Protocol):
    """An open collection. Cosine distance. Writes are not atomic: a crash may leave some rows of a call written."""

    def upsert(self, rows: VectorRows) -> None:
        """Insert or replace whole rows, any number; metadata keys that the new row lacks are gone. Ids are distinct."""
        ...

    def delete(self, ids: Sequence[str]) -> None:
        """Remove; quiet where nothing is."""
        ...

    def get(self, ids: Sequence[str]) -> VectorRows:
        """Those that exist, in the order asked for; any number."""
        ...

    def ids(self, *, after: str = "") -> Iterator[str]:
        """Every id, ascending by UTF-8 bytes, greater than `after` only."""
        ...

    def count(self) -> int:
        """How many rows."""
        ...

    def search(self, vector: Vectors, k: int) -> list[Hit]:
        """The `k` nearest (fewer where there are fewer), nearest first. `vector` has shape (dimensions,)."""
        ...


class Edition(Protocol):
    """A collection open for one merge."""

    @property
    def collection(self) -> Collection:
        """Where the merge writes."""
        ...

    @property
    def in_place(self) -> bool:
        """True when writes show at once, and so need the journal; False when `seal` makes them a new version."""
        ...

    def seal(self, prefix: str) -> None:
        """Make the writes durable: stored under `prefix` of the object store, or in place what readers see from now on.

        Called before the pointer moves, and before a journal is removed.
        """
        ...


class VectorStore(Protocol):
    """Collections by database and name. One database holds one collection."""

    def reading(self, database: str, collection: str, *, version: str) -> AbstractContextManager[Collection]:
        """Open the published `version` (in place: what is there) for reading. `NotFound` where no collection is."""
        ...

    def editing(
        self, database: str, collection: str, *, version: str | None, dimensions: int
    ) -> AbstractContextManager[Edition]:
        """Open for one merge on top of `version`, or empty where None. In place: waits for and holds the exclusive lock.

        A store of versions may wait, too, while another editor is at work; by then `version` may be an old one.
        The lock ends with the process and never before the `with` block. `CollectionMismatch` where the stored
        collection has other dimensions.
        """
        ...


class FanOut(Protocol):
    """Runs one step for each item."""

    def __call__(self, work: Callable[[int], T], count: int) -> list[T | None]:
        """`work(i)` for each i below `count`, in any order; None where it raised. Results in order of i.

        An exception that is not a `ServiceError`, `MisuseError` or `CorruptData` is raised, after the running items.
        """
        ...


T = TypeVar("T")


class Closing(Protocol):
    """Backends that hold files or connections have a `close`."""

    def close(self) -> None:
        """Release what is held; quiet when called twice."""
        ...
