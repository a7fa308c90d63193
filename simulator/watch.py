"""What must hold at every moment, checked where the stores change: cheap, and named by the event that broke it.

The guarantees are judged at the end, where a later step may have mended what an earlier one broke for a while, or hidden it.
Here stand the rules that no step may break even for a moment: what is final stays, what counts only grows, what is named is
there. It sees the services from inside, so a write whose answer was lost counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs
import msgspec
import pyarrow as pa

from embedpipe.backends.memory.job import Job
from embedpipe.backends.memory.objects import MemoryBlobStore
from embedpipe.backends.memory.provider import MemoryProvider
from embedpipe.backends.memory.table import MemoryBatchTable
from embedpipe.errors import PreconditionFailed
from embedpipe.layout import SEED
from embedpipe.lifecycle import OPEN, TERMINAL, TERMINAL_ACTIONS, TRANSITIONS, Status
from embedpipe.limits import ITEM_BYTES_MAX
from embedpipe.model import BatchRow, ProviderBatch

__all__ = ["Watch", "WatchedObjects", "WatchedProvider", "WatchedTable"]

MOVES: Final = frozenset((before, after) for (before, _), after in TRANSITIONS.items())


@attrs.define
class Watch:
    """What was seen to be broken, each in one line, with the guarantee first."""

    now: Callable[[], str]
    broken: list[str] = attrs.field(factory=list)

    def saw(self, guarantee: str, what: str) -> None:
        """Note it."""
        self.broken.append(f"{guarantee}: {what}, at {self.now()}")


class WatchedTable(MemoryBatchTable):
    """A row comes after its files and only goes forward; at its end its retries are there, and its vectors published."""

    stored: Callable[[str], bool]
    """Whether there is an object under a key."""
    unpublished: Callable[[BatchRow], str | None]
    """A record of a batch whose vector is there, and not in what is published; None where all are."""

    def __init__(self, watch: Watch) -> None:
        super().__init__(item_bytes_max=ITEM_BYTES_MAX)
        self._watch = watch

    def put_new(self, row: BatchRow) -> bool:
        """As the port says."""
        for key in (SEED.requests_key(row.batch_id), SEED.records_key(row.batch_id)):
            if not self.stored(key):
                self._watch.saw("G2", f"the row of {row.batch_id} was stored before {key}")
        return super().put_new(row)

    def update(self, batch_id: str, changes: Mapping[str, object], *, status: Status, revision: int) -> BatchRow:
        """As the port says."""
        row = super().update(batch_id, changes, status=status, revision=revision)
        if status != row.status and (status, row.status) not in MOVES:
            self._watch.saw("G3", f"the row of {batch_id} went from {status} to {row.status}")
        if status in TERMINAL:
            self._watch.saw("G3", f"the row of {batch_id} was changed after its end")
        lacking = set(row.retry_batch_ids) - self.get_many(row.retry_batch_ids).keys()
        if row.status in TERMINAL and lacking:
            self._watch.saw("G2", f"the row of {batch_id} ended before its retry {min(lacking)} was stored")
        if row.status in TERMINAL and (lost := self.unpublished(row)):
            self._watch.saw("G3", f"the row of {batch_id} ended before its record {lost} was published")
        return row


class WatchedProvider(MemoryProvider):
    """A batch is created only for a row that says so, and once, unless somebody was told of a doubt."""

    table: MemoryBatchTable
    watch: Watch
    registers: Callable[[str], dict[str, Any]]
    """The register of a batch, as it is now; empty where it has none."""

    @property
    def jobs(self) -> list[Job]:
        """All batches that it has made, oldest first."""
        return list(self._jobs.values())

    def create(self, input_file_id: str, metadata: Mapping[str, str]) -> ProviderBatch:
        """As the port says."""
        batch_id = metadata.get("batch_id", "")
        row = self.table.get_many([batch_id]).get(batch_id)
        if row is None or not (row.status is Status.CREATING or self._given_up(row)):
            self.watch.saw("G5", f"a create for {batch_id}, whose row is {row.status if row else 'not there'}")
        if any(create.metadata.get("batch_id") == batch_id for create in self.paid):
            self.watch.saw("G5", f"a second create for {batch_id}")
        return super().create(input_file_id, metadata)

    def _given_up(self, row: BatchRow) -> bool:
        """Whether its create was slow for so long that it counts as lost, and was reported: what it pays is known."""
        register = self.registers(row.batch_id)
        return row.status is Status.FAILED and register.get("batch_status") == "create_lost"


class WatchedObjects(MemoryBlobStore):
    """Objects by what their keys say they are. `in_place`: whether who publishes holds the collection's lock."""

    contents_of: Callable[[str], Mapping[str, bytes]]
    """Of a database, the content hashes of the rows that its collection holds in place."""

    def __init__(self, table: MemoryBatchTable, watch: Watch, *, in_place: bool, **options: Any) -> None:
        super().__init__(**options)
        self._in_place = in_place
        self._table = table
        self._watch = watch
        self.given_up_s: dict[str, float] = {}
        """By `batch_id`, when its register first said that its create is lost."""
        self._parsed: dict[str, dict[str, tuple[int, int]]] = {}
        """ETag -> the claims in that content: a catalog is asked for once for each batch that it ends."""

    def put(self, key: str, data: bytes, *, if_none_match: bool = False, if_match: str | None = None) -> str:
        """As the port says."""
        before = self._objects.get(key)
        try:
            etag = super().put(key, data, if_none_match=if_none_match, if_match=if_match)
        except PreconditionFailed:
            if self._in_place and POINTER.fullmatch(key):
                self._watch.saw("G6", f"rows were written in place on a version that {key} had left")
            raise
        if JOURNAL.fullmatch(key):
            self._journal(key, data)
        if GIVEN_UP in data and (register := REGISTER.fullmatch(key)):
            self.given_up_s.setdefault(register[1], self._clock.monotonic_s())
        if before is not None and before.data != data:
            for pattern, rule in RULES:
                if pattern.fullmatch(key):
                    rule(self, key, before.data, data)
        return etag

    def delete(self, key: str) -> None:
        """As the port says."""
        super().delete(key)
        if JOURNAL.fullmatch(key):
            self._journal(key, None)

    def has(self, key: str) -> bool:
        """Whether there is an object."""
        return key in self._objects

    def register_of(self, batch_id: str) -> dict[str, Any]:
        """The register of a batch; empty where it has none."""
        stored = self._objects.get(SEED.result_key(batch_id))
        return _read(stored.data) if stored else {}

    def unpublished(self, row: BatchRow) -> str | None:
        """A record of a batch whose vector is there, and not in the published catalog under its claim or a greater one."""
        delta_key = self.register_of(row.batch_id).get("delta_key")
        claims = self._claims(f"{delta_key}{SEED.vectors_file}")
        if not claims:
            return None
        key = self._catalog_key(row.database or "")
        published = self._claims(key) if key else {}
        return next((name for name, claim in claims.items() if published.get(name, (0, 0)) < claim), None)

    def _journal(self, key: str, data: bytes | None) -> None:
        """What a collection in place holds is what is published, or its journal names it, or knows that it does not know."""
        database = key.partition("/")[0]
        journal = _read(data) if data else {"deltas": [], "suspects": []}
        if journal["suspects"]:
            return
        named = {name for ref in journal["deltas"] for name in self._claims(ref["delta_key"] + SEED.vectors_file)}
        published = self._published(database)
        for name, content in self.contents_of(database).items():
            if name not in named and published.get(name) != content:
                self._watch.saw("G6", f"{key} does not name record {name}, whose row is not as it was published")

    def _catalog_key(self, database: str) -> str | None:
        """Where the published catalog is; None where nothing is published."""
        latest = self._objects.get(SEED.latest_key(database))
        return SEED.snapshot_prefix(database, _read(latest.data)["version"]) + SEED.catalog_file if latest else None

    def _published(self, database: str) -> dict[str, bytes]:
        """Content hashes by id, as the published catalog has them."""
        key = self._catalog_key(database)
        if key is None:
            return {}
        rows = pa.ipc.open_file(pa.py_buffer(self._objects[key].data)).read_all()
        return dict(zip(rows.column("id").to_pylist(), rows.column("content_hash").to_pylist(), strict=True))

    def _claims(self, key: str) -> dict[str, tuple[int, int]]:
        """By id, those of an Arrow file; none where there is no such file."""
        stored = self._objects.get(key)
        if stored is None:
            return {}
        known = self._parsed.get(stored.etag)
        if known is None:
            rows = pa.ipc.open_file(pa.py_buffer(stored.data)).read_all()
            ids, seqs, attempts = (rows.column(name).to_pylist() for name in ("id", "seq", "attempt"))
            known = self._parsed[stored.etag] = dict(zip(ids, zip(seqs, attempts, strict=True), strict=True))
        return known

    def final(self, key: str, before: bytes, after: bytes) -> None:  # noqa: ARG002  whatever they are, they differ
        """It may be written again, and only as it is."""
        self._watch.saw("G6", f"{key} was overwritten with something else")

    def register(self, key: str, before: bytes, after: bytes) -> None:
        """A terminal result stays, or is one again with the same retry set."""
        old, new = _read(before), _read(after)
        if old.get("action") not in TERMINAL_ACTIONS:
            return
        if new.get("action") not in TERMINAL_ACTIONS:
            self._watch.saw("G3", f"{key} went from {old['action']} back to {new.get('action')}")
        elif old.get("retry_sha256") != new.get("retry_sha256"):
            self._watch.saw("G2", f"{key} has another retry set than before")

    def pointer(self, key: str, before: bytes, after: bytes) -> None:
        """Versions are counted up."""
        if _read(after)["n"] <= _read(before)["n"]:
            self._watch.saw("G6", f"{key} went from version {_read(before)['version']} to {_read(after)['version']}")

    def ledger(self, key: str, before: bytes, after: bytes) -> None:
        """Claims are counted up, and an entry stays until all that it became has ended."""
        old, new = _read(before), _read(after)
        if new["seq"] < old["seq"]:
            self._watch.saw("G6", f"{key} went from seq {old['seq']} back to {new['seq']}")
        names = [entry["execution_id"] for entry in new["submitters"]]
        if len(set(names)) < len(names):
            self._watch.saw("G7", f"{key} has a submission of {names[-1]} twice")
        kept = {entry["batch_id"] for entry in new["open"]}
        for name in sorted({entry["batch_id"] for entry in old["open"]} - kept):
            if unfinished := self._unfinished(name):
                self._watch.saw("G2", f"{key} dropped {name} while {unfinished} was open")

    def _unfinished(self, batch_id: str) -> str | None:
        """A batch that has not ended: this one, or a retry of it."""
        waiting = [batch_id]
        while waiting:
            name = waiting.pop()
            row = self._table.get_many([name]).get(name)
            if row is None or row.status in OPEN:
                return name
            waiting += row.retry_batch_ids
        return None


def _read(data: bytes) -> dict[str, Any]:
    document: dict[str, Any] = msgspec.json.decode(data)
    return document


GIVEN_UP: Final = b'"create_lost"'
REGISTER: Final = re.compile(r"poll_results/([^/]+)/result\.json")
POINTER: Final = re.compile(r"[^/]+/snapshot/latest\.json")
JOURNAL: Final = re.compile(r"[^/]+/snapshot/merging\.json")

RULES: Final = tuple(
    (re.compile(pattern), rule)
    for pattern, rule in (
        (REGISTER.pattern, WatchedObjects.register),
        (POINTER.pattern, WatchedObjects.pointer),
        (r"[^/]+/snapshot/[^/]+/.+", WatchedObjects.final),
        (r"[^/]+/submissions/[^/]+/head\.json", WatchedObjects.ledger),
        (r"[^/]+/delta/.+", WatchedObjects.final),
        (r"requests/.+", WatchedObjects.final),
        (r"manifests/[^/]+/batches\.json", WatchedObjects.final),
        (r"chunks/.+", WatchedObjects.final),
        (re.escape(SEED.root_key()), WatchedObjects.final),
    )
)
"""What a key is, and what may become of the object there."""
