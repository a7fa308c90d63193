"""G1 to G10 as predicates: each takes what was observed in the stores and returns the violations it sees.

`observe` reads the stores through the ports and parses what it finds by itself; none of the pipeline's own code decides here.
The predicates are pure. They hold at any moment of a run, but for G4 and `settled`, which hold when nothing is left to do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Final

import attrs

from embedpipe.lifecycle import OPEN, TERMINAL, TERMINAL_ACTIONS, Status
from embedpipe.limits import ITEM_BYTES_MAX, STATE_BYTES_MAX
from embedpipe.model import BatchRow, Claim
from embedpipe.wire import Result, encode, row_to_item
from verify.observation import DeltaContent, SubmittedRecord, World, observe

__all__ = [
    "INVARIANTS",
    "Violation",
    "World",
    "check",
    "g1_batch_id_conservation",
    "g2_record_conservation",
    "g3_no_early_completion",
    "g4_no_stuck_batch",
    "g5_no_silent_double_payment",
    "g6_nothing_is_unlearned",
    "g7_idempotence",
    "g8_bounds",
    "g9_salvage",
    "g10_isolation",
    "observe",
    "outcome",
]


@attrs.frozen(kw_only=True)
class Violation:
    """One broken guarantee."""

    guarantee: str
    what: str
    batch_id: str | None = None
    record_id: str | None = None

    def __str__(self) -> str:
        about = [f"batch {self.batch_id}"] if self.batch_id else []
        about += [f"record {self.record_id}"] if self.record_id else []
        return f"{self.guarantee}: {self.what}" + (f" ({', '.join(about)})" if about else "")


# --- what cannot be read -------------------------------------------------------------------------------------------

NEEDS: Final[Mapping[str, tuple[str, ...]]] = {
    "G1": ("manifests", "poll_results"),
    "G2": ("rows", "head", "records", "registers", "deltas", "latest", "catalogs"),
    "G3": ("rows", "records", "registers", "deltas", "latest", "catalogs"),
    "G4": ("rows", "head", "journal"),
    "G5": ("rows",),
    "G6": ("latest", "snapshots", "catalogs", "collection", "records"),
    "G8": ("rows", "marked"),
    "G9": ("rows", "registers", "deltas", "records"),
    "G10": ("rows", "poll_results", "marked"),
}
"""Guarantee -> the fields of `World` that its predicate looks at: what is damaged there leaves it unproven."""
_OF_BATCHES: Final = frozenset({"rows", "records", "registers"})


def _unproven(world: World, guarantee: str) -> Iterator[Violation]:
    for found in world.damaged:
        if found.part in NEEDS[guarantee]:
            batch_id = found.name if found.part in _OF_BATCHES else None
            yield Violation(guarantee=guarantee, what=f"cannot be read: {found.key}: {found.reason}", batch_id=batch_id)


def _readable_batch(world: World, batch_id: str) -> bool:
    """Whether what proves the end of a batch can be read; where it can't, that is said once, and not of each record."""
    register = world.registers.get(batch_id)
    return not (
        world.unreadable("registers", batch_id)
        or world.unreadable("records", batch_id)
        or (register is not None and world.unreadable("deltas", register.delta_key or ""))
    )


def _readable_catalog(world: World) -> bool:
    if world.latest is None:
        return not world.unreadable("latest")
    return not world.unreadable("catalogs", world.latest.version)


# --- the predicates ------------------------------------------------------------------------------------------------


def g1_batch_id_conservation(world: World) -> Iterator[Violation]:
    """Each `poll_results.json` holds exactly the listed ids, each once, each with its own `openai_batch_id`."""
    yield from _unproven(world, "G1")
    for execution, results in world.poll_results.items():
        manifest = world.manifests.get(execution)
        if manifest is None and world.unreadable("manifests", execution):
            continue
        if manifest is None:
            yield Violation(guarantee="G1", what=f"execution {execution} has results and no listing")
            continue
        listed = {batch.batch_id: batch.openai_batch_id for batch in manifest.batches}
        counted = Counter(result.batch_id for result in results)
        if len(listed) != len(manifest.batches) or manifest.total_batches != len(manifest.batches):
            yield Violation(guarantee="G1", what=f"the listing of {execution} counts {manifest.total_batches}")
        for name in sorted(listed.keys() | counted.keys()):
            if counted[name] != (name in listed):
                what = f"{counted[name]} times in the results of {execution}, {int(name in listed)} times listed"
                yield Violation(guarantee="G1", what=what, batch_id=name)
        for result in results:
            own = listed.get(result.batch_id)
            if own is not None and result.openai_batch_id != own:
                what = f"{result.openai_batch_id} in place of {own} in {execution}"
                yield Violation(guarantee="G1", what=what, batch_id=result.batch_id)


def _content(world: World, batch_id: str) -> DeltaContent | None:
    register = world.registers.get(batch_id)
    return world.deltas.get(register.delta_key or "") if register else None


def _gap(world: World, row: BatchRow, record: SubmittedRecord) -> str | None:  # noqa: PLR0911  one line a place
    """Why a record of a terminal batch is in no place; None where it is in one."""
    held = world.catalog.get(record.id)
    content = _content(world, row.batch_id)
    if content is None:
        return "the batch has no delta"
    if record.id in content.rejected:
        return None
    if record.id in content.retry:
        for name in row.retry_batch_ids:
            found = {retried.id: retried.claim for retried in world.records.get(name, ())}
            if world.unreadable("rows", name) or world.unreadable("records", name):
                return None  # that is said of the batch itself
            if name in world.rows and record.id in found:
                after = Claim(seq=record.claim.seq, attempt=record.claim.attempt + 1)
                return None if found[record.id] == after else f"its retry has claim {found[record.id]}"
        return "no retry batch with a row holds it"
    if record.id not in content.vectors:
        return "its delta does not mention it"
    if held is None:
        return "it is not in the catalog" if _readable_catalog(world) else None
    if held.claim < record.claim:
        return f"the catalog holds the lesser claim {held.claim}"
    if held.claim == record.claim and held.content_hash != record.content_hash:
        return "the catalog holds other content under its claim"
    return None


def _unaccounted(world: World, statuses: Iterable[Status], guarantee: str) -> Iterator[Violation]:
    wanted = frozenset(statuses)
    for row in world.rows.values():
        if row.status not in wanted or not _readable_batch(world, row.batch_id):
            continue
        for record in world.records.get(row.batch_id, ()):
            gap = _gap(world, row, record)
            if gap:
                yield Violation(guarantee=guarantee, what=gap, batch_id=row.batch_id, record_id=record.id)


def g2_record_conservation(world: World) -> Iterator[Violation]:
    """Every submitted record is present, superseded, rejected with its reason, or in a named open batch; in one of them."""
    yield from _unproven(world, "G2")
    yield from _unaccounted(world, TERMINAL, "G2")
    for name, register in world.registers.items():
        content = _content(world, name)
        if content is not None and name in world.records:
            yield from _not_conserved(name, register, content, world.records[name])
    claimed: dict[tuple[str, Claim], str] = {}
    for name in sorted(world.records):
        if name in world.rows or any(root.batch_id == name for root in (world.head.open if world.head else ())):
            for record in world.records[name]:
                other = claimed.setdefault((record.id, record.claim), name)
                if other != name:
                    what = f"batch {other} holds the same claim {record.claim}"
                    yield Violation(guarantee="G2", what=what, batch_id=name, record_id=record.id)


def _not_conserved(
    name: str, register: Result, content: DeltaContent, records: Sequence[SubmittedRecord]
) -> Iterator[Violation]:
    parts = [*content.vectors, *content.rejected, *content.retry]
    if sorted(parts) != sorted(record.id for record in records):
        what = f"{len(parts)} vectors, rejected and to retry, of {len(records)} records"
        yield Violation(guarantee="G2", what=what, batch_id=name)
    if register.embedding_count != len(content.vectors):
        what = f"the register counts {register.embedding_count} vectors, its delta {len(content.vectors)}"
        yield Violation(guarantee="G2", what=what, batch_id=name)
    for entry in content.rejected.values():
        if not entry.reason:
            yield Violation(guarantee="G2", what="rejected without a reason", batch_id=name, record_id=entry.id)


def g3_no_early_completion(world: World) -> Iterator[Violation]:
    """COMPLETED implies the proof: each record in the published catalog, or rejected, or in a retry with a row."""
    yield from _unproven(world, "G3")
    yield from _unaccounted(world, [Status.COMPLETED], "G3")
    for row in world.rows.values():
        if world.unreadable("registers", row.batch_id):
            continue
        if row.batch_id in world.deployed and row.completed_by is None:
            continue  # somebody else has ended it, by rules of their own
        register = world.registers.get(row.batch_id)
        if row.status in TERMINAL and (register is None or register.action not in TERMINAL_ACTIONS):
            yield Violation(guarantee="G3", what=f"{row.status} without a terminal result", batch_id=row.batch_id)


def g4_no_stuck_batch(world: World) -> Iterator[Violation]:
    """When nothing is left to do, every batch is terminal, every ledger entry has its row, and no journal stays."""
    yield from _unproven(world, "G4")
    for row in world.rows.values():
        if row.status in OPEN:
            yield Violation(guarantee="G4", what=f"still {row.status}", batch_id=row.batch_id)
    for root in world.head.open if world.head else ():
        if root.batch_id not in world.rows and not world.unreadable("rows", root.batch_id):
            yield Violation(guarantee="G4", what="ledger entry without a row", batch_id=root.batch_id)
    if world.journal is not None:
        yield Violation(guarantee="G4", what="a merge journal was left behind")


def g5_no_silent_double_payment(world: World) -> Iterator[Violation]:
    """At most one paid batch for each `batch_id`, plus one if its create was reported as ambiguous."""
    yield from _unproven(world, "G5")
    for name, count in Counter(world.creates).items():
        if count > 1 + (name in world.ambiguous):
            yield Violation(guarantee="G5", what=f"created {count} times", batch_id=name)
        if name not in world.rows and not world.unreadable("rows", name):
            yield Violation(guarantee="G5", what="created and has no row", batch_id=name)


def g6_nothing_is_unlearned(world: World) -> Iterator[Violation]:
    """The greater claim wins; along the published versions no id goes away and no claim goes back."""
    yield from _unproven(world, "G6")
    chain = [version for version in _lineage(world) if version in world.catalogs]
    for before, after in pairwise(chain):
        older, newer = world.catalogs[before], world.catalogs[after]
        for name, entry in older.items():
            if name not in newer:
                yield Violation(guarantee="G6", what=f"version {after} lost it", record_id=name)
            elif newer[name].claim < entry.claim:
                yield Violation(guarantee="G6", what=f"version {after} went back to a lesser claim", record_id=name)
    yield from _collection_agrees(world)


def _lineage(world: World) -> list[str]:
    """Versions from the first to the published one."""
    chain: list[str] = []
    version = world.latest.version if world.latest else None
    while version is not None and version in world.snapshots and version not in chain:
        chain.append(version)
        version = world.snapshots[version].parent
    return chain[::-1]


def _collection_agrees(world: World) -> Iterator[Violation]:
    """Where no merge is in progress, the collection holds the catalog's ids with the texts of their claims."""
    if world.collection is None or world.journal is not None or world.unreadable("journal"):
        return
    if not _readable_catalog(world):
        return
    for name in sorted(world.collection.keys() ^ world.catalog.keys()):
        where = "collection" if name in world.collection else "catalog"
        yield Violation(guarantee="G6", what=f"only in the {where}", record_id=name)
    texts = {(record.id, record.claim): record.document for records in world.records.values() for record in records}
    for name, entry in world.catalog.items():
        text = texts.get((name, entry.claim))
        if text is not None and name in world.collection and world.collection[name] != text:
            yield Violation(guarantee="G6", what="the collection holds another text than its claim", record_id=name)


def outcome(world: World) -> Mapping[str, object]:
    """What a run comes to, without the ids of executions, versions, deltas and the times: equal for equal runs."""
    rows = {
        name: (row.status, row.request_count, row.attempt, row.retry_batch_ids, row.parent_batch_id)
        for name, row in world.rows.items()
    }
    catalog = {name: (entry.claim, entry.content_hash) for name, entry in world.catalog.items()}
    return {"rows": rows, "catalog": catalog, "collection": world.collection}


def g7_idempotence(once: World, again: World) -> Iterator[Violation]:
    """Repeating a step, or resuming anywhere, leaves the state of one run."""
    for (part, one), two in zip(outcome(once).items(), outcome(again).values(), strict=True):
        if one != two:
            yield Violation(guarantee="G7", what=f"{part}: not the same after a repetition")


def g8_bounds(world: World) -> Iterator[Violation]:
    """No table item over 400 KB; no listing in the workflow's state over its limit."""
    yield from _unproven(world, "G8")
    for row in world.rows.values():
        size_bytes = len(encode(row_to_item(row, world.layout)))
        if size_bytes > ITEM_BYTES_MAX:
            yield Violation(guarantee="G8", what=f"an item of {size_bytes} bytes", batch_id=row.batch_id)
    for execution, marked in world.marked.items():
        size_bytes = max((len(encode(mark.to_dict())) for mark in marked.marks), default=0)
        if size_bytes > STATE_BYTES_MAX:
            yield Violation(guarantee="G8", what=f"a mark of {size_bytes} bytes in {execution}")


def g9_salvage(world: World) -> Iterator[Violation]:
    """What an unfinished batch did embed is kept; only the rest is submitted again."""
    yield from _unproven(world, "G9")
    for name, register in world.registers.items():
        content, row = _content(world, name), world.rows.get(name)
        if content is None or row is None or row.status in OPEN:
            continue
        if register.batch_status != "completed" and content.vectors and row.status is not Status.COMPLETED:
            yield Violation(guarantee="G9", what=f"{row.status} with {len(content.vectors)} vectors", batch_id=name)
        again = {record.id for retry in row.retry_batch_ids for record in world.records.get(retry, ())}
        if again & content.vectors.keys():
            yield Violation(guarantee="G9", what="records that have a vector are submitted again", batch_id=name)


def g10_isolation(world: World) -> Iterator[Violation]:
    """What is provable is marked: a bad line, delta or batch beside it is no reason to leave a batch open."""
    yield from _unproven(world, "G10")
    for execution, marked in world.marked.items():
        results = {result.batch_id: result for result in world.poll_results.get(execution, ())}
        for mark in marked.marks:
            result, row = results.get(mark.batch_id), world.rows.get(mark.batch_id)
            if mark.outcome != "skipped" or result is None or row is None or row.status not in OPEN:
                continue
            if not mark.reason:
                yield Violation(guarantee="G10", what="skipped without a reason", batch_id=mark.batch_id)


INVARIANTS: Final[Mapping[str, Callable[[World], Iterator[Violation]]]] = {
    "G1": g1_batch_id_conservation,
    "G2": g2_record_conservation,
    "G3": g3_no_early_completion,
    "G5": g5_no_silent_double_payment,
    "G6": g6_nothing_is_unlearned,
    "G8": g8_bounds,
    "G9": g9_salvage,
    "G10": g10_isolation,
}
"""Those that hold at any moment."""


def check(world: World, *, settled: bool = False) -> list[Violation]:
    """All violations. `settled`: nothing is left to do, so G4 has to hold too."""
    found = [violation for predicate in INVARIANTS.values() for violation in predicate(world)]
    return found + (list(g4_no_stuck_batch(world)) if settled else [])
