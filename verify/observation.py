"""Reading what the stores hold, for the predicates of `verify.invariants`: everything of one kind, parsed, nothing judged."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import attrs

from embedpipe.errors import NotFound
from embedpipe.layout import SEED, Layout
from embedpipe.lifecycle import Status
from embedpipe.model import BatchRow, Claim, Kind
from embedpipe.ports import BatchTable, BlobStore, VectorStore
from embedpipe.wire import Delta, Head, Journal, Latest, Manifest, Marked, Rejected, Result, Retry, Snapshot

__all__ = ["DeltaContent", "Entry", "SubmittedRecord", "World", "observe"]


@attrs.frozen(kw_only=True)
class SubmittedRecord:
    """A record of a batch's record file."""

    id: str
    claim: Claim
    tries: int
    content_hash: bytes
    document: str


@attrs.frozen(kw_only=True)
class DeltaContent:
    """A delta as it stands in the object store."""

    delta: Delta
    vectors: Mapping[str, Claim]
    rejected: Mapping[str, Rejected]
    retry: Mapping[str, Retry]


@attrs.frozen(kw_only=True)
class Entry:
    """One id of a catalog."""

    claim: Claim
    content_hash: bytes


@attrs.frozen(kw_only=True)
class World:
    """What was found in the stores, for one kind."""

    kind: Kind
    layout: Layout
    rows: Mapping[str, BatchRow]
    head: Head | None
    records: Mapping[str, tuple[SubmittedRecord, ...]]
    """By batch_id, for each record file there is."""
    registers: Mapping[str, Result]
    deltas: Mapping[str, DeltaContent]
    """By delta key, of those that registers name."""
    manifests: Mapping[str, Manifest]
    poll_results: Mapping[str, tuple[Result, ...]]
    marked: Mapping[str, Marked]
    """The last three by execution_id."""
    snapshots: Mapping[str, Snapshot]
    catalogs: Mapping[str, Mapping[str, Entry]]
    """The last two by version."""
    latest: Latest | None
    journal: Journal | None
    collection: Mapping[str, str | None] | None
    """Id to document, of the collection itself; None where there is none."""
    creates: tuple[str, ...] = ()
    """The `batch_id` of each create that the provider carried out."""
    ambiguous: frozenset[str] = frozenset()
    """`batch_id`s whose create was reported as ambiguous."""

    @property
    def catalog(self) -> Mapping[str, Entry]:
        """The published catalog."""
        return self.catalogs.get(self.latest.version, {}) if self.latest else {}


# --- observing -----------------------------------------------------------------------------------------------------


def observe(
    *,
    kind: Kind,
    objects: BlobStore,
    table: BatchTable,
    vectors: VectorStore | None = None,
    layout: Layout = SEED,
    creates: Iterable[str] = (),
    ambiguous: Iterable[str] = (),
) -> World:
    """Read everything of one kind. For small worlds: all of it is held in memory. Needs the extra `vectors`."""
    found = table.get_many([name for status in Status for name in table.by_status(kind.batch_type, status)])
    rows = {name: row for name, row in found.items() if row.serves(kind)}
    head = _read(objects, Head, layout.head_key(kind.database, kind.collection))
    names = dict.fromkeys([*rows, *(root.batch_id for root in (head.open if head else ()))])
    registers = _by_name(names, lambda name: _read(objects, Result, layout.result_key(name)))
    keys = {result.delta_key for result in registers.values() if result.delta_key}
    executions = _executions(objects, layout)
    snapshots = _snapshots(objects, layout, kind)
    return World(
        kind=kind,
        layout=layout,
        rows=rows,
        head=head,
        records=_by_name(names, lambda name: _records(objects, layout.records_key(name))),
        registers=registers,
        deltas={key: _delta(objects, layout, key) for key in sorted(keys)},
        manifests=_by_name(executions, lambda name: _read(objects, Manifest, layout.manifest_key(name))),
        poll_results=_by_name(executions, lambda name: _many(objects, layout.poll_results_key(name))),
        marked=_by_name(executions, lambda name: _read(objects, Marked, layout.marked_key(name))),
        snapshots=snapshots,
        catalogs={name: _catalog(objects, layout, kind, name) for name in snapshots},
        latest=_read(objects, Latest, layout.latest_key(kind.database)),
        journal=_read(objects, Journal, layout.journal_key(kind.database)),
        collection=_collection(vectors, kind) if vectors is not None else None,
        creates=tuple(creates),
        ambiguous=frozenset(ambiguous),
    )


def _by_name(names: Iterable[str], read: Callable[[str], Any]) -> dict[str, Any]:
    found = ((name, read(name)) for name in names)
    return {name: value for name, value in found if value is not None}


def _read(objects: BlobStore, kind: Any, key: str) -> Any:
    try:
        return kind.load(objects.get(key).data, key)
    except NotFound:
        return None


def _many(objects: BlobStore, key: str) -> tuple[Result, ...] | None:
    try:
        return Result.load_many(objects.get(key).data, key)
    except NotFound:
        return None


def _executions(objects: BlobStore, layout: Layout) -> list[str]:
    prefix, _, rest = layout.manifest.partition("{execution_id}")
    keys = (info.key for info in objects.list(prefix))
    return [key.removeprefix(prefix).removesuffix(rest) for key in keys if key.endswith(rest)]


def _snapshots(objects: BlobStore, layout: Layout, kind: Kind) -> dict[str, Snapshot]:
    prefix = layout.snapshot_prefix(kind.database, "x").removesuffix("x/")
    found = (info.key for info in objects.list(prefix) if info.key.endswith("/" + layout.snapshot_file))
    loaded = (_read(objects, Snapshot, key) for key in found)
    return {snapshot.version: snapshot for snapshot in loaded if snapshot is not None}


def _arrow(objects: BlobStore, key: str, columns: Sequence[str]) -> list[dict[str, Any]] | None:
    from embedpipe.vectors import open_arrow

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file.arrow"
        try:
            objects.download(key, path)
        except NotFound:
            return None
        with open_arrow(path) as file:
            rows: list[dict[str, Any]] = file.table().select(list(columns)).to_pylist()
            return rows


def _claim(row: Mapping[str, Any]) -> Claim:
    return Claim(seq=row["seq"], attempt=row["attempt"])


def _records(objects: BlobStore, key: str) -> tuple[SubmittedRecord, ...] | None:
    rows = _arrow(objects, key, ("id", "seq", "attempt", "tries", "content_hash", "document"))
    if rows is None:
        return None
    return tuple(
        SubmittedRecord(
            id=row["id"],
            claim=_claim(row),
            tries=row["tries"],
            content_hash=row["content_hash"],
            document=row["document"],
        )
        for row in rows
    )


def _lines(objects: BlobStore, key: str, kind: Any) -> dict[str, Any]:
    entries = (kind.load(line, key) for line in objects.get(key).data.splitlines())
    return {entry.id: entry for entry in entries}


def _delta(objects: BlobStore, layout: Layout, key: str) -> DeltaContent:
    return DeltaContent(
        delta=_read(objects, Delta, key + layout.delta_file),
        vectors={row["id"]: _claim(row) for row in _arrow(objects, key + layout.vectors_file, _KEYS) or ()},
        rejected=_lines(objects, key + layout.rejected_file, Rejected),
        retry=_lines(objects, key + layout.retry_file, Retry),
    )


_KEYS: Final = ("id", "seq", "attempt", "content_hash")


def _catalog(objects: BlobStore, layout: Layout, kind: Kind, version: str) -> dict[str, Entry]:
    key = layout.snapshot_prefix(kind.database, version) + layout.catalog_file
    rows = _arrow(objects, key, _KEYS) or ()
    return {row["id"]: Entry(claim=_claim(row), content_hash=row["content_hash"]) for row in rows}


def _collection(vectors: VectorStore, kind: Kind) -> dict[str, str | None] | None:
    try:
        with vectors.reading(kind.database, kind.collection, version="") as collection:
            rows = collection.get(list(collection.ids()))
    except NotFound:
        return None
    return dict(zip(rows.ids, rows.documents, strict=True))
