"""D: is the delta of each polled batch there, whole, and what its result says? Did it reach a chunk?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from embedpipe.lifecycle import Status
from verify.audit.checks import BatchCheck, Moment, found
from verify.audit.deltas import DeltaSeen
from verify.audit.entries import Chunked, only
from verify.audit.findings import Finding
from verify.audit.objects import Unreadable, Why
from verify.audit.rows import Batch

__all__ = ["BATCH_CHECKS"]


def missing_delta(batch: Batch, _: Moment) -> Iterator[Finding]:
    """D401: none is named though there are vectors, or it is not there, or it is another's."""
    result = batch.terminal_result
    if result is None or batch.row is None:
        return
    row = batch.known_row
    location = f"objects:{batch.register_key}"
    if not result.delta_key:
        if result.embedding_count or (row is not None and row.request_count is not None):
            yield found(
                "D401",
                location,
                batch.batch_id,
                delta_key=None,
                embedding_count=result.embedding_count,
                delta="missing",
            )
        return
    seen = batch.delta
    if isinstance(seen, Unreadable) and seen.why is Why.MISSING:
        yield found("D401", f"objects:{result.delta_key}", batch.batch_id, delta_key=result.delta_key, delta="missing")
    elif isinstance(seen, DeltaSeen) and seen.delta.batch_id != batch.batch_id:
        yield found(
            "D401",
            f"objects:{result.delta_key}",
            batch.batch_id,
            result_batch_id=batch.batch_id,
            delta_batch_id=seen.delta.batch_id,
        )


def unreadable_delta(batch: Batch, _: Moment) -> Iterator[Finding]:
    """D402: it does not open, or fails its hash."""
    seen = batch.delta
    if isinstance(seen, Unreadable):
        if seen.why is Why.CORRUPT:
            yield found("D402", f"objects:{seen.key}", batch.batch_id, message=seen.reason)
        return
    for problem in seen.problems if seen is not None else ():
        if problem.is_fault:
            yield found("D402", f"objects:{problem.key}", batch.batch_id, message=problem.reason)


def uneven_delta(batch: Batch, _: Moment) -> Iterator[Finding]:
    """D403: vectors + rejected + retry = records, on every side that counts them."""
    result, seen, row = batch.terminal_result, batch.delta, batch.known_row
    if result is None or not isinstance(seen, DeltaSeen) or not seen.whole:
        return
    assert seen.rejected is not None
    assert seen.retry is not None
    counted = {"vectors": seen.keys.num_rows, "rejected": len(seen.rejected), "retry": len(seen.retry)}
    said = _said(seen.delta.embedding_count, seen.delta.rejected_count, seen.delta.retry_count)
    registered = _said(result.embedding_count, result.rejected_count, result.retry_count)
    records = row.request_count if row is not None else None
    wrong = (
        said != counted
        or any(registered[name] not in (None, counted[name]) for name in counted)
        or records not in (None, sum(counted.values()))
    )
    if wrong:
        yield found(
            "D403",
            f"objects:{seen.key}",
            batch.batch_id,
            files=counted,
            delta_json=said,
            result=registered,
            request_count=records,
        )


def _said(vectors: int | None, rejected: int | None, retry: int | None) -> dict[str, int | None]:
    return {"vectors": vectors, "rejected": rejected, "retry": retry}


def dropped_delta(batch: Batch, moment: Moment) -> Iterator[Finding]:
    """D404: the execution that completed the batch quotes its vectors, and no execution put them in a chunk."""
    row, result = batch.known_row, batch.terminal_result
    if row is None or row.status is not Status.COMPLETED or result is None or not moment.depth.reads_content:
        return
    quoted = {
        str(entry.facts.get("delta_key"))
        for entry in batch.polled
        if entry.execution_id == row.completed_by and entry.schema is not None and entry.facts.get("embedding_count")
        if entry.facts.get("delta_key")
    }
    chunked = {entry.delta_key for entry in only(batch.entries, Chunked)}
    if quoted and not quoted & chunked and result.delta_key not in chunked:
        yield found(
            "D404",
            f"objects:{moment.layout.chunks_key(row.completed_by or '')}",
            batch.batch_id,
            delta_key=sorted(quoted),
            dropped_at="chunk",
            vectors=result.embedding_count,
            chunked=sorted(chunked),
        )


BATCH_CHECKS: Final[tuple[BatchCheck, ...]] = (missing_delta, unreadable_delta, uneven_delta, dropped_delta)
