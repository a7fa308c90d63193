"""From findings to actions: one planner a code, from what is stored and from nothing else. Reads only.

A planner that can't be sure gives a proposal: what a repair needs is there and readable, or it is not done. What the next
ingest mends by itself is said, and left to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Final

import attrs

from embedpipe.errors import EmbedpipeError
from embedpipe.lifecycle import OPEN, TERMINAL_ACTIONS
from embedpipe.lifecycle import Action as PollAction
from embedpipe.model import BatchRow, Kind
from embedpipe.wire import (
    DeltaRef,
    Journal,
    Latest,
    Manifest,
    ManifestBatch,
    Result,
    Snapshot,
    dump_many,
    format_time,
)
from verify.audit.catalogue import RULES
from verify.audit.enumeration import kind_of
from verify.audit.findings import Finding, Repair
from verify.audit.keys import is_id
from verify.audit.objects import envelope, envelopes
from verify.audit.report import Report
from verify.audit.sources import Source
from verify.repair.plan import MERGE_AGAIN, Action, Do, Plan, Proposal
from verify.repair.reading import Reader, Step, proposed
from verify.repair.rows import ROW_PLANNERS, reopen

__all__ = ["plan_repair"]


def plan_repair(source: Source, report: Report) -> Plan:
    """What mends the findings of a report."""
    reader = Reader(source)
    steps: list[Step] = []
    for finding in report.findings:
        steps += _steps(reader, finding)
    return Plan(
        source=source.name,
        place=source.place,
        watermark=format_time(report.watermark),
        actions=tuple(_joined(step for step in steps if isinstance(step, Action))),
        proposals=tuple(dict.fromkeys(step for step in steps if isinstance(step, Proposal))),
    )


def _steps(reader: Reader, finding: Finding) -> Iterator[Step]:
    rule = RULES[finding.code]
    planner = PLANNERS.get(finding.code)
    if rule.repair is Repair.NONE or finding.code == "R105":
        return
    if finding.caused_by is not None and planner is None:
        return  # what mends the cause mends it
    if rule.repair is not Repair.SAFE or planner is None:
        yield proposed(finding, rule.fix)
        return
    yield from planner(reader, finding)


def _joined(actions: Iterable[Action]) -> Iterator[Action]:
    """Each target once: several findings may ask for the same write."""
    by_target: dict[tuple[str, str], Action] = {}
    actions = tuple(actions)
    updated = {action.target for action in actions if action.do is Do.UPDATE}
    for action in actions:
        if action.do is Do.REINDEX and action.target in updated:
            continue  # an update of the status writes the index keys, too
        where = (action.do.value, action.target)
        known = by_target.get(where, action)
        if known.body != action.body:
            continue  # the first mends what it can; what is left shows in the next audit
        by_target[where] = attrs.evolve(
            known,
            mends=tuple(dict.fromkeys([*known.mends, *action.mends])),
            batch_ids=tuple(dict.fromkeys([*known.batch_ids, *action.batch_ids])),
        )
    yield from by_target.values()


# --- the planners --------------------------------------------------------------------------------------------------


def _left_to_ingest(_: Reader, finding: Finding) -> Iterator[Step]:
    yield proposed(finding, "the next ingest mends it: embedpipe ingest", by_ingest=True)


def _taken_over(reader: Reader, finding: Finding) -> Iterator[Step]:
    """S505: the next merge takes a journal over; one that does not say what it is about stays until that can be no more."""
    keys = [reader.layout.journal_key(kind.database) for kind in _kinds_of(reader, finding)]
    journals = [envelope(reader.objects, Journal, key) for key in keys]
    if journals and all(isinstance(journal, Journal) and not journal.suspects for journal in journals):
        yield from _left_to_ingest(reader, finding)
    else:
        advice = (
            "it stays until each batch that it may be about has ended and is merged: ingest until then, and look again"
        )
        yield proposed(finding, advice)


def _kinds_of(reader: Reader, finding: Finding) -> set[Kind]:
    return {kind for name in finding.batch_ids if (kind := _kind_of(reader.row(name)))}


def _register(reader: Reader, finding: Finding) -> Iterator[Step]:
    """P201, P202: from what an execution quoted, where the batch has ended; else it is polled again."""
    for batch_id in finding.batch_ids:
        row = reader.row(batch_id)
        key = reader.layout.result_key(batch_id)
        quoted = reader.elements(row.completed_by).get(batch_id) if row is not None and row.completed_by else None
        if row is not None and row.status in OPEN:
            yield from reader.quarantine(key, finding, "the batch is open, and is polled again")
            yield proposed(finding, "the next ingest polls it again: embedpipe ingest", by_ingest=True)
        elif quoted is not None and quoted.action in TERMINAL_ACTIONS:
            reason = f"as execution {row.completed_by if row else ''} quoted it when it ended the batch"
            yield reader.write(key, quoted.dump(), finding, reason)
        else:
            yield proposed(finding, "no execution quotes its result: restore the object from a backup")


def _results(reader: Reader, finding: Finding) -> Iterator[Step]:
    """P204, P205: the listed ids once each, from elements that fit and else from registers."""
    execution_id = _execution_of(reader, finding)
    manifest = reader.manifest(execution_id) if execution_id else None
    if execution_id is None or manifest is None:
        yield proposed(finding, "its listing can't be read: mend or restore that first")
        return
    known, built = reader.elements(execution_id), []
    for batch in manifest.batches:
        element, register = known.get(batch.batch_id), reader.register(batch.batch_id)
        if element is not None and _fits(element, batch, register):
            built.append(element)
        elif register is not None:
            name = register.openai_batch_id or batch.openai_batch_id
            built.append(attrs.evolve(register, openai_batch_id=name))
        else:
            yield proposed(finding, f"the result of batch {batch.batch_id} can't be read: mend that first")
            return
    key = reader.layout.poll_results_key(execution_id)
    yield reader.write(key, dump_many(built), finding, "rebuilt from the listing and the registers")


def _fits(element: Result, batch: ManifestBatch, register: Result | None) -> bool:
    names = {element.openai_batch_id, batch.openai_batch_id} - {None}
    if len(names) > 1:
        return False
    if element.action not in TERMINAL_ACTIONS:
        return element.action != PollAction.UNREADABLE_RESULT or register is None
    return (
        register is None
        or register.to_dict() == attrs.evolve(element, openai_batch_id=register.openai_batch_id).to_dict()
    )


def _execution_of(reader: Reader, finding: Finding) -> str | None:
    """The execution whose object a finding names."""
    key = finding.location.partition(":")[2].partition("#")[0]
    for template in (reader.layout.poll_results, reader.layout.manifest, reader.layout.items):
        before, _, after = template.partition("{execution_id}")
        if key.startswith(before) and key.endswith(after):
            name = key.removeprefix(before).removesuffix(after)
            if is_id(name):
                return name
    return None


def _listing(reader: Reader, finding: Finding) -> Iterator[Step]:
    """P206: the manifest, each batch once and numbered from 0, and items.json the same."""
    execution_id = _execution_of(reader, finding)
    manifest = reader.manifest(execution_id) if execution_id else None
    if execution_id is None or manifest is None:
        yield from _from_items(reader, finding, execution_id)
        return
    names = dict.fromkeys(batch.batch_id for batch in manifest.batches)
    first = {batch.batch_id: batch for batch in reversed(manifest.batches)}
    batches = tuple(attrs.evolve(first[name], index=at) for at, name in enumerate(names))
    whole = attrs.evolve(manifest, batches=batches, total_batches=len(batches))
    if whole != manifest:
        key = reader.layout.manifest_key(execution_id)
        yield reader.write(key, whole.dump(), finding, "each listed batch once, counted and numbered")
    items = reader.layout.items_key(execution_id)
    if reader.body(items) not in (None, dump_many(batches)):
        yield reader.write(items, dump_many(batches), finding, "as the manifest lists them")


def _from_items(reader: Reader, finding: Finding, execution_id: str | None) -> Iterator[Step]:
    """A manifest that can't be read, from the same listing in items.json."""
    found = envelopes(reader.objects, ManifestBatch, reader.layout.items_key(execution_id)) if execution_id else ()
    times = [row.creating_at for name in finding.batch_ids if (row := reader.row(name)) is not None and row.creating_at]
    if execution_id is None or not isinstance(found, tuple) or not found:
        yield proposed(finding, "neither the manifest nor items.json can be read: restore one from a backup")
        return
    rows = [row for item in found if (row := reader.row(item.batch_id)) is not None]
    when = max(times or [row.creating_at for row in rows if row.creating_at], default=None)
    if not rows or when is None:
        yield proposed(finding, "its batches have no rows: restore the manifest from a backup")
        return
    made = Manifest(
        execution_id=execution_id,
        created_at=format_time(when),
        total_batches=len(found),
        batch_type=rows[0].batch_type,
        batches=found,
    )
    yield reader.write(reader.layout.manifest_key(execution_id), made.dump(), finding, "from items.json")


def _stray(reader: Reader, finding: Finding) -> Iterator[Step]:
    """P207."""
    for batch_id in finding.batch_ids:
        yield from reader.quarantine(reader.layout.result_key(batch_id), finding, "of no batch that anybody knows")


def _merge_again(reader: Reader, finding: Finding) -> Iterator[Step]:
    """R103, S504, V603: a journal that names the deltas, as of a dead writer; the next merge takes them over."""
    names = finding.batch_ids or reader.ended(finding.location)
    registers = [reader.register(name) for name in names]
    refs = tuple(
        DeltaRef(
            batch_id=found.batch_id,
            delta_key=found.delta_key,
            embedding_count=found.embedding_count,
            delta_sha256=found.delta_sha256,
        )
        for found in registers
        if found is not None and found.delta_key
    )
    kinds = {kind for name in names if (kind := _kind_of(reader.row(name)))}
    if len(kinds) != 1 or not refs or len(refs) < len(registers):
        yield proposed(finding, "it names no batch whose delta is known: merge it from a backup, or submit again")
        return
    (kind,) = kinds
    key = reader.layout.journal_key(kind.database)
    if finding.code == "R103" and not _in_place(reader, kind):
        yield from reopen(reader, finding, names, "the next ingest merges the greater claim")
        return
    if not _in_place(reader, kind) or reader.body(key) is not None:
        yield proposed(
            finding, "its collection is not merged in place, or a merge is in progress: ingest, then look again"
        )
        return
    if _has_lost_rows(reader, kind):
        yield proposed(finding, "the collection has lost rows, and nothing is merged into it: restore it from a backup")
        return
    journal = Journal(
        execution_id="repair",
        intermediates=(),
        deltas=refs,
        started_at=format_time(reader.source.clock.now()),
    )
    yield reader.write(key, journal.dump(), finding, f"{MERGE_AGAIN}: the next ingest takes these deltas over")


def _kind_of(row: BatchRow | None) -> Kind | None:
    if row is None or row.database is None or row.collection is None:
        return None
    return kind_of(row.database, row.collection)


def _snapshot(reader: Reader, kind: Kind) -> Snapshot | None:
    latest = envelope(reader.objects, Latest, reader.layout.latest_key(kind.database))
    if not isinstance(latest, Latest):
        return None
    key = reader.layout.snapshot_prefix(kind.database, latest.version) + reader.layout.snapshot_file
    snapshot = envelope(reader.objects, Snapshot, key)
    return snapshot if isinstance(snapshot, Snapshot) else None


def _in_place(reader: Reader, kind: Kind) -> bool:
    snapshot = _snapshot(reader, kind)
    return snapshot is not None and bool(snapshot.in_place)


def _has_lost_rows(reader: Reader, kind: Kind) -> bool:
    """A merge refuses such a collection; also where nobody can tell."""
    snapshot, vectors = _snapshot(reader, kind), reader.source.vectors
    if snapshot is None or vectors is None:
        return True
    try:
        with vectors.reading(kind.database, kind.collection, version=snapshot.version) as collection:
            return collection.count() < snapshot.count
    except EmbedpipeError:
        return True


PLANNERS: Final[Mapping[str, Callable[[Reader, Finding], Iterator[Step]]]] = MappingProxyType(
    {
        "O102": _left_to_ingest,
        "O107": _left_to_ingest,
        "P201": _register,
        "P202": _register,
        "P204": _results,
        "P205": _results,
        "P206": _listing,
        "P207": _stray,
        "R103": _merge_again,
        "S504": _merge_again,
        "S505": _taken_over,
        "V603": _merge_again,
        "B704": _left_to_ingest,
        **ROW_PLANNERS,
    }
)
"""Code -> what mends it. Codes of class S that are not here are proposed with the words of the catalogue."""
