"""Reading what the stores hold, for the predicates of `verify.invariants`: everything of one kind, parsed, nothing judged.

The rule kept here: what cannot be read costs itself alone. It is named in `World.damaged`, and all else is still there.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import attrs

from embedpipe.errors import CorruptData, NotFound
from embedpipe.layout import SEED, Layout
from embedpipe.lifecycle import Status
from embedpipe.model import BatchRow, Claim, Kind
from embedpipe.ports import BatchTable, BlobStore, VectorStore
from embedpipe.wire import Delta, Envelope, Head, Journal, Latest, Manifest, Marked, Rejected, Result, Retry, Snapshot

__all__ = ["DamagedObject", "DeltaContent", "Entry", "SubmittedRecord", "World", "observe"]


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
class DamagedObject:
    """Something that is there, or ought to be, and cannot be read."""

    part: str
    """Which field of `World` lacks it."""
    name: str
    """Under which name it would stand there; empty where the field holds one thing."""
    key: str
    """Object key, batch_id of a row, or database and collection."""
    reason: str


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
    """The `batch_id` of each create that the provider carried out, but of those whose row is of another kind."""
    ambiguous: frozenset[str] = frozenset()
    """`batch_id`s whose create was reported as ambiguous."""
    damaged: tuple[DamagedObject, ...] = ()

    def unreadable(self, part: str, name: str = "") -> bool:
        """Whether that entry of that field is missing because it cannot be read."""
        return any((found.part, found.name) == (part, name) for found in self.damaged)

    @property
    def deployed(self) -> frozenset[str]:
        """Batches of a deployment that keeps neither ledger nor record files: what they promised is not known."""
        return _deployed(self.rows)

    @property
    def catalog(self) -> Mapping[str, Entry]:
        """The published catalog."""
        return self.catalogs.get(self.latest.version, {}) if self.latest else {}


def _deployed(rows: Mapping[str, BatchRow]) -> frozenset[str]:
    return frozenset(name for name, row in rows.items() if row.seq is None and row.request_count is None)


_KEYS: Final = ("id", "seq", "attempt", "content_hash")

T = TypeVar("T")
E = TypeVar("E", bound=Envelope)
L = TypeVar("L", Rejected, Retry)


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
    """Read everything of one kind. For small worlds: all of it is held in memory. Needs the extra `vectors`.

    What cannot be read is in `World.damaged` and nowhere else. `creates` may hold those of other kinds in the same table.
    """
    with tempfile.TemporaryDirectory() as folder:
        reader = _Reader(objects, layout, kind, Path(folder))
        latest = reader.read("latest", "", Latest, layout.latest_key(kind.database))
        found = reader.rows(table, [name for status in Status for name in table.by_status(kind.batch_type, status)])
        rows = {name: row for name, row in found.items() if row.serves(kind)}
        head = reader.read("head", "", Head, layout.head_key(kind.database, kind.collection))
        names = dict.fromkeys([*rows, *(root.batch_id for root in (head.open if head else ()))])
        registers = _by_name(names, lambda name: reader.read("registers", name, Result, layout.result_key(name)))
        theirs = _deployed(rows)
        # A delta without a hash in its register is one of theirs, in a format of their own.
        keys = {
            result.delta_key
            for name, result in registers.items()
            if result.delta_key and (name not in theirs or result.delta_sha256 is not None)
        }
        executions = _executions(objects, layout)
        snapshots = reader.snapshots()
        creates = tuple(creates)
        others = {
            name for name, row in reader.rows(table, list(dict.fromkeys(creates))).items() if not row.serves(kind)
        }
        return World(
            kind=kind,
            layout=layout,
            rows=rows,
            head=head,
            records=_by_name([name for name in names if name not in theirs], reader.records),
            registers=registers,
            deltas=_by_name(sorted(keys), reader.delta),
            manifests=_by_name(executions, reader.manifest),
            poll_results=_by_name(executions, reader.poll_results),
            marked=_by_name(executions, lambda name: reader.read("marked", name, Marked, layout.marked_key(name))),
            snapshots=snapshots,
            catalogs=_by_name(snapshots, reader.catalog),
            latest=latest,
            journal=reader.read("journal", "", Journal, layout.journal_key(kind.database)),
            collection=reader.collection(vectors, latest) if vectors is not None else None,
            creates=tuple(name for name in creates if name not in others),
            ambiguous=frozenset(ambiguous),
            damaged=tuple(dict.fromkeys(reader.damaged)),
        )


def _by_name(names: Iterable[str], read: Callable[[str], T | None]) -> dict[str, T]:
    found = ((name, read(name)) for name in names)
    return {name: value for name, value in found if value is not None}


def _executions(objects: BlobStore, layout: Layout) -> list[str]:
    found: dict[str, None] = {}
    for template in (layout.manifest, layout.deployed_manifest):
        prefix, _, rest = template.partition("{execution_id}")
        keys = (info.key for info in objects.list(prefix))
        found.update(dict.fromkeys(key.removeprefix(prefix).removesuffix(rest) for key in keys if key.endswith(rest)))
    return list(found)


class _Reader:
    """Reads one thing at a time, and notes what it cannot read."""

    def __init__(self, objects: BlobStore, layout: Layout, kind: Kind, folder: Path) -> None:
        self._folder = folder
        """Where one file at a time is kept while it is read."""
        self._objects = objects
        self._layout = layout
        self._kind = kind
        self.damaged: list[DamagedObject] = []

    def _guarded(self, part: str, name: str, key: str, read: Callable[[], T], *, needed: bool = False) -> T | None:
        """What `read` gives; None where it cannot be read, which is noted, or is not there, noted where it is needed."""
        try:
            return read()
        except NotFound as error:
            if needed:
                self._note(part, name, key, error.message)
        except (ValueError, TypeError) as error:  # `CorruptData` among them; others are values that no claim or id has
            self._note(part, name, key, str(error))
        return None

    def _note(self, part: str, name: str, key: str, reason: str) -> None:
        self.damaged.append(DamagedObject(part=part, name=name, key=key, reason=reason))

    def read(self, part: str, name: str, kind: type[E], key: str) -> E | None:
        """An envelope."""
        return self._guarded(part, name, key, lambda: kind.load(self._objects.get(key).data, key))

    def manifest(self, execution: str) -> Manifest | None:
        """The listing of an execution, ours or theirs."""
        keys = (self._layout.manifest_key(execution), self._layout.deployed_manifest_key(execution))
        found = (self.read("manifests", execution, Manifest, key) for key in keys)
        return next((manifest for manifest in found if manifest is not None), None)

    def rows(self, table: BatchTable, names: Sequence[str]) -> dict[str, BatchRow]:
        """The rows that can be read. Asked for together; one by one where one of them is damaged."""
        try:
            return dict(table.get_many(names))
        except CorruptData as error:
            if len(names) == 1:
                self._note("rows", names[0], names[0], error.message)
                return {}
        return {name: row for one in names for name, row in self.rows(table, [one]).items()}

    def poll_results(self, execution: str) -> tuple[Result, ...] | None:
        """All results of an execution."""
        key = self._layout.poll_results_key(execution)
        return self._guarded("poll_results", execution, key, lambda: Result.load_many(self._objects.get(key).data, key))

    def snapshots(self) -> dict[str, Snapshot]:
        """Every version there is."""
        prefix = self._layout.snapshot_prefix(self._kind.database, "x").removesuffix("x/")
        ending = f"/{self._layout.snapshot_file}"
        keys = [info.key for info in self._objects.list(prefix) if info.key.endswith(ending)]
        names = {key.removeprefix(prefix).removesuffix(ending): key for key in keys}
        return _by_name(names, lambda name: self.read("snapshots", name, Snapshot, names[name]))

    def records(self, batch_id: str) -> tuple[SubmittedRecord, ...] | None:
        """The record file of a batch, which is there before its ledger entry and its row are."""
        key = self._layout.records_key(batch_id)
        columns = ("id", "seq", "attempt", "tries", "content_hash", "document")
        return self._guarded(
            "records", batch_id, key, lambda: tuple(map(_record, self._arrow(key, columns))), needed=True
        )

    def delta(self, key: str) -> DeltaContent | None:
        """All files of a delta, which are there before a register names it."""
        layout = self._layout

        def parsed() -> DeltaContent:
            return DeltaContent(
                delta=Delta.load(self._objects.get(key + layout.delta_file).data, key + layout.delta_file),
                vectors={row["id"]: _claim(row) for row in self._arrow(key + layout.vectors_file, _KEYS)},
                rejected=self._lines(key + layout.rejected_file, Rejected),
                retry=self._lines(key + layout.retry_file, Retry),
            )

        return self._guarded("deltas", key, key, parsed, needed=True)

    def _lines(self, key: str, kind: type[L]) -> dict[str, L]:
        entries = [kind.load(line, key) for line in self._objects.get(key).data.splitlines()]
        return {entry.id: entry for entry in entries}

    def catalog(self, version: str) -> dict[str, Entry] | None:
        """The catalog of a version, which is there before its snapshot."""
        key = self._layout.snapshot_prefix(self._kind.database, version) + self._layout.catalog_file
        return self._guarded(
            "catalogs", version, key, lambda: {row["id"]: _entry(row) for row in self._arrow(key, _KEYS)}, needed=True
        )

    def collection(self, vectors: VectorStore, latest: Latest | None) -> dict[str, str | None] | None:
        """Id to document, of the collection itself. Where a version is published there has to be one."""
        version = latest.version if latest else ""
        database, name = self._kind.database, self._kind.collection

        def documents() -> dict[str, str | None]:
            with vectors.reading(database, name, version=version) as collection:
                rows = collection.get(list(collection.ids()))
            return dict(zip(rows.ids, rows.documents, strict=True))

        return self._guarded("collection", "", f"{database}/{name}", documents, needed=latest is not None)

    def _arrow(self, key: str, columns: Sequence[str]) -> list[dict[str, Any]]:
        from embedpipe.vectors import open_arrow

        path = self._folder / "file.arrow"
        self._objects.download(key, path)
        with open_arrow(path) as file:
            missing = set(columns) - set(file.schema.names)
            if missing:
                raise CorruptData(f"{key} has no columns {sorted(missing)}.", key=key)
            rows: list[dict[str, Any]] = file.table().select(list(columns)).to_pylist()
            return rows


def _claim(row: Mapping[str, Any]) -> Claim:
    return Claim(seq=row["seq"], attempt=row["attempt"])


def _entry(row: Mapping[str, Any]) -> Entry:
    return Entry(claim=_claim(row), content_hash=row["content_hash"])


def _record(row: Mapping[str, Any]) -> SubmittedRecord:
    return SubmittedRecord(
        id=row["id"],
        claim=_claim(row),
        tries=row["tries"],
        content_hash=row["content_hash"],
        document=row["document"],
    )
