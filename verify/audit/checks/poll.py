"""P: is `batch_id` in each result, is each result the one that was polled, and is every listed batch there once?

The first of the seed's four verifications. Registers by batch; listings and poll_results.json by execution.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from embedpipe.lifecycle import Action
from embedpipe.wire import Manifest, ManifestBatch, Result
from verify.audit.checks import BatchCheck, Moment, found
from verify.audit.entries import Polled, Stored, only
from verify.audit.executions import Execution, facts_of, is_terminal
from verify.audit.findings import Finding
from verify.audit.objects import Unreadable, Why
from verify.audit.rows import Batch

__all__ = ["BATCH_CHECKS", "execution_findings"]

IDS_SHOWN_MAX: Final = 50


# --- registers -----------------------------------------------------------------------------------------------------


def missing_result(batch: Batch, _: Moment) -> Iterator[Finding]:
    """P201: it has ended, or somebody quotes its result."""
    if not batch.register_missing:
        return
    known = batch.row is not None or batch.opened or batch.listed  # else it is a foreign element, and P204 says so
    quoted = [entry.execution_id for entry in batch.polled if known and entry.action != Action.UNREADABLE_RESULT]
    row = batch.known_row
    if batch.is_terminal or quoted:
        yield found(
            "P201",
            f"objects:{batch.register_key}",
            batch.batch_id,
            row_status=str(row.status) if row else None,
            quoted_by=quoted,
            register="missing",
        )


def unreadable_result(batch: Batch, _: Moment) -> Iterator[Finding]:
    """P202."""
    seen = batch.register
    if isinstance(seen, Unreadable) and seen.why is Why.CORRUPT:
        yield found("P202", f"objects:{batch.register_key}", batch.batch_id, message=seen.reason)


def foreign_result(batch: Batch, _: Moment) -> Iterator[Finding]:
    """P203: the register is another batch's, by our name or by the provider's."""
    seen, row = batch.register, batch.known_row
    if not isinstance(seen, Result):
        return
    location = f"objects:{batch.register_key}"
    if seen.batch_id != batch.batch_id:
        yield found("P203", location, batch.batch_id, key_batch_id=batch.batch_id, body_batch_id=seen.batch_id)
        return
    names = {row.provider_batch_id if row else None, seen.openai_batch_id} - {None}
    if len(names) > 1 and row is not None:
        yield found(
            "P203",
            location,
            batch.batch_id,
            row_openai_batch_id=row.provider_batch_id,
            body_openai_batch_id=seen.openai_batch_id,
        )


def other_than_quoted(batch: Batch, _: Moment) -> Iterator[Finding]:
    """P204: a terminal element of a poll_results.json is not its register."""
    register = batch.result
    if register is None:
        return
    for entry in batch.polled:
        if is_terminal(entry.action):
            differing = _differing(entry, register)
            if differing:
                yield found(
                    "P204",
                    f"objects:{entry.key}#{batch.batch_id}",
                    batch.batch_id,
                    poll_results={name: entry.facts.get(name) for name in differing},
                    register={name: facts_of(register)[name] for name in differing},
                )


REVISED: Final = frozenset({"delta_id", "delta_key", "delta_sha256", "execution_id", "results_count"})
"""What changes where a batch is polled again because its delta is damaged, or came damaged: by a later execution, or by a
second delivery of the same one, which may come when the results are gathered already."""
REVISIONS: Final = frozenset({"delta_id", "execution_id"})
"""Of these, those that are new each time."""


def _differing(entry: Polled, register: Result) -> list[str]:
    now = facts_of(register)
    differing = [name for name, value in entry.facts.items() if now.get(name) != value]
    if entry.facts.get("openai_batch_id") is not None and now["openai_batch_id"] is None:
        differing.remove("openai_batch_id")  # normalising fills it in from the listing
    revised = not REVISIONS.isdisjoint(differing) and is_terminal(str(now["action"]))
    return [name for name in differing if not (revised and name in REVISED)]


def stray_result(batch: Batch, moment: Moment) -> Iterator[Finding]:
    """P207: a register of no batch that anybody knows."""
    if batch.row is not None or batch.opened or batch.listed or batch.polled:
        return
    for entry in only(batch.entries, Stored):
        age_s = moment.now.timestamp() - entry.modified_at
        if age_s > moment.grace_s:
            yield found("P207", f"objects:{batch.register_key}", batch.batch_id, age_s=round(age_s))


BATCH_CHECKS: Final[tuple[BatchCheck, ...]] = (
    missing_result,
    unreadable_result,
    foreign_result,
    other_than_quoted,
    stray_result,
)


# --- executions ----------------------------------------------------------------------------------------------------


def execution_findings(execution: Execution, moment: Moment) -> Iterator[Finding]:
    """P203 to P206 of one execution."""
    yield from _manifest(execution, moment)
    yield from _results(execution, moment)


def _manifest(execution: Execution, moment: Moment) -> Iterator[Finding]:
    """P206: count, indices and ids agree, and items.json lists the same."""
    key = moment.layout.manifest_key(execution.execution_id)
    manifest = execution.manifest
    if isinstance(manifest, Unreadable) and manifest.why is Why.CORRUPT:
        yield found("P206", f"objects:{key}", message=manifest.reason)
    if manifest is None and isinstance(execution.items, tuple) and execution.went_on:
        yield found("P206", f"objects:{key}", message="missing, and items.json is there", items=len(execution.items))
    if not isinstance(manifest, Manifest):
        return
    ids = [batch.batch_id for batch in manifest.batches]
    doubled = _more_than_once(ids)
    indices = [batch.index for batch in manifest.batches]
    if manifest.total_batches != len(ids) or doubled or indices != list(range(len(ids))):
        yield found(
            "P206",
            f"objects:{key}",
            *doubled,
            total_batches=manifest.total_batches,
            batches=len(ids),
            doubled=doubled,
            indices_out_of_place=[at for at, index in enumerate(indices) if at != index][:IDS_SHOWN_MAX],
            execution_id=execution.execution_id,
        )
    yield from _items(execution, manifest, moment)


def _items(execution: Execution, manifest: Manifest, moment: Moment) -> Iterator[Finding]:
    items = execution.items
    location = f"objects:{moment.layout.items_key(execution.execution_id)}"
    if isinstance(items, Unreadable) and items.why is Why.CORRUPT:
        yield found("P206", location, message=items.reason)
    if isinstance(items, tuple) and _names(items) != _names(manifest.batches):
        differing = sorted({name for name, _ in set(_names(items)) ^ set(_names(manifest.batches))})
        count = {"items": len(items), "manifest": len(manifest.batches)}
        yield found("P206", location, *differing, **count, only_in_one=differing[:IDS_SHOWN_MAX])


def _names(listing: tuple[ManifestBatch, ...]) -> list[tuple[str, str | None]]:
    return [(batch.batch_id, batch.openai_batch_id) for batch in listing]


def _results(execution: Execution, moment: Moment) -> Iterator[Finding]:
    location = f"objects:{moment.layout.poll_results_key(execution.execution_id)}"
    results = execution.results
    if "poll_results" not in execution.present:
        if execution.went_on:
            ids = [batch.batch_id for batch in execution.listed]
            yield found("P205", location, *ids, message="missing", left_behind=sorted(execution.present))
        return
    if isinstance(results, Unreadable):
        if results.is_fault:
            yield found("P205", location, *(batch.batch_id for batch in execution.listed), message=results.reason)
        return
    if results is None:
        return
    named = {result.batch_id for result in results}
    lacking = [batch.batch_id for batch in execution.listed if batch.batch_id not in named]
    if execution.odd:
        first = execution.odd[0]
        yield found(
            "P203", location, *lacking, elements_without=len(execution.odd), index=first.index, element=first.text
        )
    yield from _once_each(execution, results, lacking[len(execution.odd) :], location)


def _once_each(
    execution: Execution, results: tuple[Result, ...], missing: list[str], location: str
) -> Iterator[Finding]:
    """P204: exactly the listed ids, each once, each under its own name. Those `missing` have no nameless element either."""
    ids = [result.batch_id for result in results]
    doubled = _more_than_once(ids)
    listed = {batch.batch_id: batch.openai_batch_id for batch in execution.listed}
    known = execution.has_listing
    foreign = sorted(set(ids) - listed.keys()) if known else []
    renamed = [
        result.batch_id
        for result in results
        if None not in (result.openai_batch_id, listed.get(result.batch_id))
        and result.openai_batch_id != listed[result.batch_id]
    ]
    wrong = dict.fromkeys([*missing, *doubled, *foreign, *renamed])
    if wrong:
        yield found(
            "P204",
            location,
            *wrong,
            listed=len(listed) if known else None,
            elements=len(ids) + len(execution.odd),
            missing=missing[:IDS_SHOWN_MAX] or None,
            doubled=doubled[:IDS_SHOWN_MAX] or None,
            foreign=foreign[:IDS_SHOWN_MAX] or None,
            other_openai_batch_id=renamed[:IDS_SHOWN_MAX] or None,
        )


def _more_than_once(ids: list[str]) -> list[str]:
    return [name for name, count in Counter(ids).items() if count > 1]
