"""What every step is given, and the few reads that several steps share."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import TypeVar

import attrs

from embedpipe import events
from embedpipe.errors import (
    CollectionMismatch,
    CorruptData,
    InvalidId,
    InvalidKey,
    NotFound,
    PreconditionFailed,
    full_disk,
)
from embedpipe.layout import SEED, Layout, safe_id
from embedpipe.lifecycle import Status
from embedpipe.limits import Limits, Policy
from embedpipe.model import BatchRow, EmbeddingModel, Kind
from embedpipe.ports import BatchProvider, BatchTable, BlobStore, Clock, VectorStore
from embedpipe.wire import Delta, Envelope, Head, Latest, Result, Root, Snapshot, format_time

E = TypeVar("E", bound=Envelope)

ROWS_AT_ONCE = 1_000
"""[ours] Rows read in one go; bounds memory."""


def _nothing() -> None:
    return None


@attrs.frozen(kw_only=True)
class Context:
    """The ports and settings of one pipeline. Alive; handed to each step."""

    kind: Kind
    model: EmbeddingModel
    objects: BlobStore
    table: BatchTable
    provider: BatchProvider
    vectors: VectorStore
    clock: Clock
    layout: Layout = SEED
    limits: Limits = attrs.field(factory=Limits)
    policy: Policy = attrs.field(factory=Policy)
    on_event: events.OnEvent = events.ignore
    count_tokens: Callable[[Sequence[str]], Sequence[int]] | None = None
    """The model's own tokenizer, where it is at hand; long texts are then refused before anything is submitted."""
    checkpoint: Callable[[], None] = _nothing
    """Called at safe boundaries; raises where the run is to stop there."""
    scratch_dir: Path | None = None
    """Where temporary files go; None is the system's place."""

    def now_text(self) -> str:
        """The time as it is written."""
        return format_time(self.clock.now())

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A folder for temporary files, removed at the end. `StorageFull` for whatever does not fit there."""
        where = self.scratch_dir or tempfile.gettempdir()
        with (
            full_disk(f"Temporary files in {where}"),
            tempfile.TemporaryDirectory(prefix="embedpipe-", dir=where) as folder,
        ):
            yield Path(folder)


def read(ctx: Context, kind: type[E], key: str) -> tuple[E, str] | None:
    """The envelope at `key` and its etag; None where nothing is."""
    try:
        blob = ctx.objects.get(key)
    except NotFound:
        return None
    return kind.load(blob.data, key), blob.etag


def check_root(ctx: Context) -> None:
    """`NewerSchema` or `CorruptData` where this root can't be worked on; makes nothing."""
    read(ctx, Root, ctx.layout.root_key())


def root_id(ctx: Context) -> str:
    """The identity of this root; made by whoever is the first to need it."""
    key = ctx.layout.root_key()
    found = read(ctx, Root, key)
    if found is None:
        fresh = Root(root_id=ctx.clock.new_id(), created_at=ctx.now_text())
        with suppress(PreconditionFailed):  # another was first: its id counts
            ctx.objects.put(key, fresh.dump(), if_none_match=True)
        found = read(ctx, Root, key)
    if found is None:
        raise NotFound(f"{key} was written and can't be read.", hint="Check the object store.", key=key)
    return found[0].root_id


def read_head(ctx: Context) -> tuple[Head | None, str | None]:
    """The ledger and its etag."""
    key = ctx.layout.head_key(ctx.kind.database, ctx.kind.collection)
    found = read(ctx, Head, key)
    if found is None:
        return None, None
    for root in found[0].open:
        try:
            safe_id(root.batch_id, "batch_id")
        except InvalidId as error:
            raise CorruptData(f"{key}: {error.message}", hint="Restore it from a backup.", key=key) from None
    return found


@attrs.frozen(kw_only=True)
class Base:
    """The published version that a merge starts from."""

    latest: Latest | None = None
    etag: str | None = None
    snapshot: Snapshot | None = None

    @property
    def version(self) -> str | None:
        """Its name."""
        return self.latest.version if self.latest else None


def read_base(ctx: Context) -> Base:
    """The pointer and the snapshot it names. `CorruptData` where the two disagree, or the pointer was lost."""
    pointer = ctx.layout.latest_key(ctx.kind.database)
    found = read(ctx, Latest, pointer)
    if found is None:
        version = _published_version(ctx)
        found = read(ctx, Latest, pointer)  # again: it may have been published between the two reads
        if found is None and version is not None:
            raise CorruptData(
                f"{pointer} is missing, and version {version} was published.",
                hint="Restore it from a backup: a version made without it would leave out all older records.",
                key=pointer,
            )
    if found is None:
        return Base()
    latest, etag = found
    key = ctx.layout.snapshot_prefix(ctx.kind.database, latest.version) + ctx.layout.snapshot_file
    stored = read(ctx, Snapshot, key)
    if stored is None or stored[0].version != latest.version:
        raise CorruptData(
            f"{pointer} names version {latest.version}, and {key} is not it.",
            hint="Restore both from one backup.",
            key=key,
        )
    snapshot = stored[0]
    if snapshot.collection != ctx.kind.collection:
        raise CollectionMismatch(
            f"Database '{ctx.kind.database}' holds collection '{snapshot.collection}', not '{ctx.kind.collection}'.",
            hint="One database holds one collection: use another database.",
        )
    return Base(latest=latest, etag=etag, snapshot=snapshot)


def _published_version(ctx: Context) -> str | None:
    """A version that the row of an ended batch names, if there is one."""
    rows = rows_under(ctx, (Status.COMPLETED,))
    return next((row.snapshot_version for row in rows if row.snapshot_version is not None), None)


def any_row(ctx: Context) -> str | None:
    """The id of some batch of this collection that has a row of ours, if there is one. The seed's have no ledger."""
    return next((row.batch_id for row in rows_under(ctx, Status) if row.seq is not None), None)


def rows_under(ctx: Context, statuses: Iterable[Status]) -> Iterator[BatchRow]:
    """Rows of this collection that the index has under these statuses, each once and as the table itself says."""
    table, kind = ctx.table, ctx.kind
    names = iter(
        dict.fromkeys(name for status in sorted(statuses) for name in table.by_status(kind.batch_type, status))
    )
    while block := list(islice(names, ROWS_AT_ONCE)):
        yield from (row for row in healthy_rows(ctx, block).values() if row.serves(kind))


def download_catalog(ctx: Context, base: Base, folder: Path) -> Path | None:
    """The catalog of a version as a local file, its hash checked; None where there is no version."""
    from embedpipe.vectors import sha256_file

    if base.snapshot is None:
        return None
    key = ctx.layout.snapshot_prefix(ctx.kind.database, base.snapshot.version) + ctx.layout.catalog_file
    path = folder / f"catalog-{base.snapshot.version}.arrow"
    if not path.exists():
        restore = "Restore it from a backup or roll back."
        try:
            ctx.objects.download(key, path)
        except NotFound:
            raise CorruptData(f"{key} is missing.", hint=restore, key=key) from None
        if sha256_file(path) != base.snapshot.catalog_sha256:
            path.unlink()
            raise CorruptData(f"{key} fails its hash.", hint=restore, key=key)
    return path


def healthy_rows(ctx: Context, batch_ids: Iterable[str]) -> dict[str, BatchRow]:
    """The rows that exist and can be read, each id asked for once. One damaged row is reported and costs itself alone."""
    names = list(dict.fromkeys(batch_ids))
    try:
        return dict(ctx.table.get_many(names))
    except CorruptData as error:
        if len(names) == 1:
            ctx.on_event(events.RowUnreadable(execution_id="", batch_id=names[0], error=error.message))
            return {}
    middle = len(names) // 2
    return {**healthy_rows(ctx, names[:middle]), **healthy_rows(ctx, names[middle:])}


def rows_and_retries(ctx: Context, batch_ids: Sequence[str]) -> dict[str, BatchRow]:
    """The rows of these batches and, transitively, of their retries, where they exist and can be read."""
    found: dict[str, BatchRow] = {}
    wanted = list(batch_ids)
    while wanted:
        rows = healthy_rows(ctx, wanted)
        found.update(rows)
        wanted = [name for row in rows.values() for name in row.retry_batch_ids if name not in found]
    return found


def named(batch_ids: Iterable[str], rows: Mapping[str, BatchRow]) -> tuple[str, ...]:
    """These batches and every retry that one of the rows names, each once, whether it has a row or not."""
    return tuple(dict.fromkeys([*batch_ids, *(name for row in rows.values() for name in row.retry_batch_ids)]))


def read_result(ctx: Context, batch_id: str) -> tuple[Result, str] | None:
    """The register of a batch and its etag."""
    key = ctx.layout.result_key(batch_id)
    found = read(ctx, Result, key)
    if found and found[0].batch_id != batch_id:
        raise CorruptData(f"{key} holds batch_id {ascii(found[0].batch_id)[:80]}.", key=key, batch_id=batch_id)
    return found


def read_delta(ctx: Context, delta_key: str, delta_sha256: str | None) -> Delta:
    """`delta.json`, checked against the hash that the register pins. `NotFound`; `CorruptData`, also for a key that is none."""
    import hashlib

    key = delta_key + ctx.layout.delta_file
    try:
        data = ctx.objects.get(key).data
    except InvalidKey as error:
        raise CorruptData(f"A result names the delta {ascii(delta_key)[:80]}, which can't be one: {error}") from None
    if delta_sha256 is not None and hashlib.sha256(data).hexdigest() != delta_sha256:
        raise CorruptData(f"{key} fails its hash.", key=key)
    return Delta.load(data, key)


def download_checked(ctx: Context, delta_key: str, delta: Delta, name: str, folder: Path) -> Path:
    """One file of a delta as a local file, its hash checked."""
    from embedpipe.vectors import sha256_file

    entry = next((file for file in delta.files if file.name == name), None)
    if entry is None:
        raise CorruptData(f"{delta_key} does not name its {name}.", key=delta_key)
    path = folder / f"{delta.delta_id}-{name}"
    if not path.exists():
        ctx.objects.download(delta_key + name, path)
        if sha256_file(path) != entry.sha256:
            path.unlink()
            raise CorruptData(f"{delta_key}{name} fails its hash.", key=delta_key + name)
    return path
