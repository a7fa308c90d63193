"""The part of an audit that looks at collections: what is published, the proof of each record against it, its vectors.

It is given each batch as it is joined, and looks at the published version afterwards: what was completed before is then in
it. Where a newer version appears meanwhile, it looks again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import attrs

from embedpipe.errors import CorruptData, NotFound, ServiceError
from embedpipe.lifecycle import Status
from embedpipe.model import BUILT_IN_KINDS, BatchRow, Kind
from embedpipe.wire import Snapshot
from verify.audit.checks import Depth, Moment, found, not_covered
from verify.audit.checks.records import without_retry_row
from verify.audit.checks.snapshots import collection_findings
from verify.audit.collections import CollectionSeen, Named, read_collection
from verify.audit.coverage import State
from verify.audit.deltas import KEY_COLUMNS, arrow_batches, keys_schema
from verify.audit.entries import Checked
from verify.audit.findings import Finding, shown_ids
from verify.audit.gather import Gatherer
from verify.audit.objects import Unreadable, Why
from verify.audit.resuming import Stored
from verify.audit.rows import Batch, healthy_rows
from verify.audit.sources import Source

__all__ = ["Published"]

READINGS_MAX: Final = 3
"""[ours] Looks at a collection that is published anew while it is looked at."""
SEED_SHOWN_MAX: Final = 1_000


@attrs.define(kw_only=True, eq=False)
class _Collection:
    """What was gathered for one collection while batches were joined."""

    kind: Kind
    claims: Any = None
    """`claims.Claims`, once a batch with content was seen."""
    named: dict[str, Named] = attrs.field(factory=dict)
    unretried: set[str] = attrs.field(factory=set)
    retries: dict[str, frozenset[str]] = attrs.field(factory=dict)
    """Ended batch -> its retry batches that have a row."""
    seeds: list[str] = attrs.field(factory=list)
    """Terminal batches without record files, the first of them."""
    seeds_count: int = 0
    proven_by_catalog: int = 0
    """Batches that the ledger counts as checked because this collection's catalog proves them."""


@attrs.define(kw_only=True, eq=False)
class Outcome:
    """What an audit of one collection came to."""

    kind: Kind
    findings: list[Finding] = attrs.field(factory=list)
    snapshots: State = State.CHECKED
    vectors: State = State.CHECKED
    records_hidden: int = 0
    """Batches whose records could not be looked up in a catalog."""


class Published:
    """Collections of one audit."""

    def __init__(self, source: Source, moment: Moment, gatherer: Gatherer, folder: Path) -> None:
        self.restored: Mapping[str, Stored] = {}
        """Collection -> the claims of an audit that goes on."""
        self._source = source
        self._gatherer = gatherer
        self._moment = moment
        self._folder = folder
        self._collections: dict[tuple[str, str], _Collection] = {}

    def know(self, kind: Kind) -> _Collection:
        """A collection that exists, whether a batch of it is seen or not."""
        key = (kind.database, kind.collection)
        return self._collections.setdefault(key, _Collection(kind=kind))

    def add(self, batch: Batch, *, checked: bool, known: Checked | None = None) -> tuple[int, bool]:
        """Take in a batch. `checked`: the ledger counts its records as checked; `known`: what is known of one not read again.

        The number of its claims (-1: none), and whether its retry has no row.
        """
        row = batch.known_row
        if row is None:
            return -1, False
        place = self.know(self._kind_of(row))
        if row.snapshot_version is not None and row.status is Status.COMPLETED:
            place.named.setdefault(row.snapshot_version, Named()).add(batch.batch_id)
        if not batch.is_ours and batch.is_terminal:
            place.seeds_count += 1
            place.seeds += [batch.batch_id] if len(place.seeds) < SEED_SHOWN_MAX else []
        if not self._moment.depth.reads_content:
            return -1, False
        place.proven_by_catalog += checked
        unretried = any(without_retry_row(batch, self._moment)) if known is None else known.unretried
        if unretried:
            place.unretried.add(batch.batch_id)
        if batch.retry_rows:
            place.retries[batch.batch_id] = batch.retry_rows
        claims = self._claims_of(place)
        if known is None:
            return claims.add(batch), unretried
        if known.number >= 0:
            claims.keep(known.number, batch.batch_id)
        return known.number, unretried

    def _claims_of(self, place: _Collection) -> Any:
        if place.claims is None:
            from verify.audit.claims import Claims

            place.claims = Claims(self._folder, f"claims-{place.kind.database}-{place.kind.collection}")
            stored = self.restored.get(_name(place.kind))
            if stored is not None:
                place.claims.restore(stored.files, stored.batches)
        return place.claims

    def stored(self) -> dict[str, Stored]:
        """The claims of every collection, on disk. `StorageFull`."""
        made = [place for place in self._collections.values() if place.claims is not None]
        now = {_name(place.kind): Stored(place.claims.files, len(place.claims.batches)) for place in made}
        return {**self.restored, **now}

    def forget(self) -> None:
        """Remove files that no checkpoint names any more."""
        for place in self._collections.values():
            if place.claims is not None:
                for path in place.claims.obsolete:
                    path.unlink()
                place.claims.obsolete = []

    def _kind_of(self, row: BatchRow) -> Kind:
        if row.database is not None and row.collection is not None:
            return Kind(_kind_name(row), database=row.database, collection=row.collection)
        for kind in (*self._source.kinds, *BUILT_IN_KINDS.values(), *(c.kind for c in self._collections.values())):
            if kind.batch_type == row.batch_type:
                return kind
        return Kind(_kind_name(row))

    def finish(self) -> Iterator[Outcome]:
        """Look at each collection."""
        for place in list(self._collections.values()):
            try:
                yield self._one(place)
            except (ServiceError, CorruptData) as error:
                yield Outcome(
                    kind=place.kind,
                    findings=[found("A901", f"collection:{_name(place.kind)}", reason=error.message)],
                    snapshots=State.NOT_EVALUATED,
                    vectors=State.NOT_EVALUATED,
                    records_hidden=place.proven_by_catalog,
                )

    # --- one collection --------------------------------------------------------------------------------------------

    def _join_late(self, place: _Collection) -> None:
        """Retry batches that appeared after the others were joined; what still has no claims hides its parent's."""
        if place.claims is None:
            return
        joined = set(place.claims.batches)
        waiting = [name for names in place.retries.values() for name in names if name not in joined]
        while waiting:
            name = waiting.pop()
            if name not in joined:
                joined.add(name)
                batch = next(self._gatherer.batches([(name, ())]))
                place.claims.add(batch)
                place.retries[name] = batch.retry_rows
                waiting += batch.retry_rows
        known = set(place.claims.batches)
        place.unretried |= {name for name, retries in place.retries.items() if not retries <= known}

    def _one(self, place: _Collection) -> Outcome:
        outcome = Outcome(kind=place.kind)
        self._join_late(place)
        seen, again = self._read(place), None
        first = list(self._findings(place, seen))
        for _ in range(READINGS_MAX):
            again = self._read(place)
            if again.version == seen.version and _journal_id(again) == _journal_id(seen):
                break
            seen, first = again, list(self._findings(place, again))
        if first and again is not None:
            outcome.findings += self._confirmed(first, self._findings(place, again))
        self._states(outcome, place, seen)
        if place.seeds_count:
            outcome.findings.append(_unproven_seeds(place))
        return outcome

    def _read(self, place: _Collection) -> CollectionSeen:
        return read_collection(
            self._source.objects,
            self._source.layout,
            place.kind,
            self._folder,
            content=self._moment.depth.reads_content,
        )

    def _findings(self, place: _Collection, seen: CollectionSeen) -> Iterator[Finding]:
        yield from collection_findings(seen, place.named, self._moment)
        if self._moment.depth.reads_content and self._proves(place, seen):
            yield from self._content(place, seen)

    def _confirmed(self, first: Iterable[Finding], second: Iterable[Finding]) -> Iterator[Finding]:
        """What two readings found, of rows that are still as they were."""
        before = {finding.identity for finding in first}
        both = [finding for finding in second if finding.identity in before]
        completed = [finding.batch_ids[0] for finding in both if finding.code == "B701"]
        rows = healthy_rows(self._source.table, completed)
        for finding in both:
            row = rows.get(finding.batch_ids[0]) if finding.code == "B701" else None
            if finding.code != "B701" or (isinstance(row, BatchRow) and row.status is Status.COMPLETED):
                yield finding

    def _states(self, outcome: Outcome, place: _Collection, seen: CollectionSeen) -> None:
        parts = (seen.pointer, seen.snapshot, seen.catalog, seen.journal, seen.broken_at)
        blind = [part for part in parts if isinstance(part, Unreadable) and not part.is_fault]
        outcome.findings += [not_covered(part) for part in blind]
        outcome.snapshots = State.NOT_EVALUATED if blind else State.CHECKED
        if not self._proves(place, seen):
            outcome.records_hidden = place.proven_by_catalog
        if "vectors" in self._source.unreachable and self._moment.depth.reads_content:
            outcome.vectors = State.NOT_EVALUATED
        elif self._source.vectors is None or not self._moment.depth.reads_content:
            outcome.vectors = State.OUT_OF_SCOPE
        elif self._merging(seen):
            outcome.vectors = State.IN_FLIGHT
        elif not self._proves(place, seen) or any(finding.code == "A901" for finding in outcome.findings):
            outcome.vectors = State.NOT_EVALUATED

    def _proves(self, place: _Collection, seen: CollectionSeen) -> bool:
        """Whether records can be looked up in its catalog. Where rows name a version, there has to be one."""
        return seen.proves and (seen.pointer is not None or not place.named)

    def _merging(self, seen: CollectionSeen) -> bool:
        """Whether rows may be in the collection that the catalog does not name yet."""
        return seen.journal is not None

    # --- its records and vectors -----------------------------------------------------------------------------------

    def _content(self, place: _Collection, seen: CollectionSeen) -> Iterator[Finding]:
        """One pass over catalog, claims and collection, all sorted by id."""
        with ExitStack() as stack:
            yield from self._pass(place, seen, self._opened(seen, stack))

    def _opened(self, seen: CollectionSeen, stack: ExitStack) -> Any:
        """The collection for reading, or why there is none."""
        if self._source.vectors is None or self._merging(seen) or seen.version is None:
            return None
        try:
            return stack.enter_context(
                self._source.vectors.reading(seen.kind.database, seen.kind.collection, version=seen.version)
            )
        except NotFound as error:
            return Unreadable(key=_name(seen.kind), why=Why.MISSING, reason=error.message)
        except CorruptData as error:
            return Unreadable(key=_name(seen.kind), why=Why.CORRUPT, reason=error.message)
        except ServiceError as error:
            return Unreadable(key=_name(seen.kind), why=Why.UNREACHABLE, reason=error.message)

    def _pass(self, place: _Collection, seen: CollectionSeen, collection: Any) -> Iterator[Finding]:
        import pyarrow as pa

        from verify.audit.claims import CLAIMS_SCHEMA, windows
        from verify.audit.proof import Gaps, look
        from verify.audit.vectors import Comparison, id_batches

        location = f"vectors:{_name(seen.kind)}"
        if isinstance(collection, Unreadable):
            yield _without_collection(collection, seen, location)
            collection = None
        numbers = {name: number for number, name in enumerate(place.claims.batches)} if place.claims else {}
        gaps = Gaps(unretried=frozenset(numbers[name] for name in place.unretried if name in numbers))
        comparison = None
        if collection is not None and isinstance(seen.snapshot, Snapshot):
            comparison = Comparison(
                collection=collection,
                location=location,
                dimensions=seen.snapshot.dimensions,
                every_vector=self._moment.depth is Depth.VECTORS,
            )
        catalog = arrow_batches(seen.catalog, KEY_COLUMNS) if isinstance(seen.catalog, Path) else ()
        ids = id_batches(collection.ids()) if comparison is not None else ()
        runs = place.claims.streams() if place.claims else []
        names = [seen.catalog_key, location, *("claims" for _ in runs)]
        for catalog_part, ids_part, *claim_parts in windows([catalog, ids, *runs], names, side_by_side=len(runs)):
            held = pa.Table.from_batches(catalog_part, schema=keys_schema())
            claimed = pa.Table.from_batches([b for part in claim_parts for b in part], schema=CLAIMS_SCHEMA)
            look(held, claimed, gaps)
            if comparison is not None:
                found_ids = pa.concat_arrays([batch.column("id") for batch in ids_part]) if ids_part else _none()
                comparison.take(held, claimed, found_ids)
        batches = place.claims.batches if place.claims else []
        yield from gaps.findings(batches, version=seen.version, catalog_key=seen.catalog_key)
        if comparison is not None:
            yield from comparison.findings()


def _none() -> Any:
    import pyarrow as pa

    return pa.array([], pa.string())


def _name(kind: Kind) -> str:
    return f"{kind.database}/{kind.collection}"


def _kind_name(row: BatchRow) -> str:
    name = row.batch_type.removesuffix("_EMBEDDING").lower().replace("_", "-")
    return name if row.database is None else row.database


def _journal_id(seen: CollectionSeen) -> object:
    return getattr(seen.journal, "started_at", None), getattr(seen.journal, "execution_id", None)


def _without_collection(collection: Unreadable, seen: CollectionSeen, location: str) -> Finding:
    if collection.why is Why.MISSING:
        return found("S501", location, pointer_version=seen.version, collection=collection.reason)
    if collection.why is Why.CORRUPT:
        return found("V602", location, message=collection.reason)
    return found("A901", location, reason=collection.reason)


def _unproven_seeds(place: _Collection) -> Finding:
    return found(
        "A902",
        f"table:{_name(place.kind)}",
        guarantee="G2: no record files, so nobody knows what was submitted",
        schema=None,
        batches=place.seeds_count,
        first=shown_ids(place.seeds)["ids"],
    )
