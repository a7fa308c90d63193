"""Reading from the stores what the reports say: how an execution went, which batches are open, what is published."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress

import attrs

from embedpipe.engine import Walked
from embedpipe.errors import CorruptData
from embedpipe.lifecycle import OPEN, Status
from embedpipe.model import BatchRow, Claim
from embedpipe.reports import IngestReport, OpenBatch, StatusReport
from embedpipe.steps.context import Context, named, read_base, read_head, read_result, rows_and_retries, rows_under
from embedpipe.wire import MarkCounts, Marked, Rejected, Result


def ingest_report(ctx: Context, execution_id: str, walked: Walked, *, ambiguous: int) -> IngestReport:
    """What one execution did. `ambiguous`: creates without an answer while it ran."""
    counts = MarkCounts.load(walked.state["mark_result"], "mark_result")
    submitted = walked.state["submit_result"]
    key = ctx.layout.poll_results_key(execution_id)
    listed = Result.load_many(ctx.objects.get(key).data, key)
    results = {result.batch_id: result for result in listed}
    key = ctx.layout.marked_key(execution_id)
    marks = Marked.load(ctx.objects.get(key).data, key).marks
    marked = [mark for mark in marks if mark.outcome == "marked"]
    ended = [results[mark.batch_id] for mark in marked]
    return IngestReport(
        execution_id=execution_id,
        listed=counts.extracted,
        created=submitted["created"],
        marked=counts.batches_marked,
        waiting=len(open_rows(ctx)),
        vectors=sum(result.embedding_count for result in ended),
        rejected=sum(result.rejected_count or 0 for result in ended),
        reasons=_reasons(ctx, ended),
        retry_batches=sum(len(mark.retry_batch_ids) for mark in marked),
        ambiguous_creates=ambiguous,
        failed=len(walked.failed_polls),
        version=walked.state["final_merge_result"]["version"],
        refusals=tuple(submitted["refusals"]),
        unproven=tuple(mark.reason or "" for mark in marks if mark.unproven),
        stuck=len(
            {listed[at].batch_id for at in walked.failed_polls} | {mark.batch_id for mark in marks if mark.unproven}
        ),
    )


@attrs.frozen(kw_only=True)
class Ended:
    """What some batches gave."""

    batches: int
    vectors: int
    rejected: int
    reasons: Mapping[str, int]
    retry_batches: int


def ended_elsewhere(ctx: Context, watched: Iterable[str], ours: Collection[str]) -> Ended:
    """What became of the batches `watched`, and of their retries, that other executions than `ours` completed."""
    # What can't be read any more has been proven all the same; a summary is no place to fail.
    rows = [
        row
        for row in rows_and_retries(ctx, tuple(watched)).values()
        if row.status not in OPEN and row.completed_by not in ours
    ]
    results = list(_results(ctx, rows))
    return Ended(
        batches=len(rows),
        vectors=sum(result.embedding_count for result in results),
        rejected=sum(result.rejected_count or 0 for result in results),
        reasons=_reasons(ctx, results),
        retry_batches=sum(len(row.retry_batch_ids) for row in rows),
    )


def _results(ctx: Context, rows: Iterable[BatchRow]) -> Iterator[Result]:
    for row in rows:
        with suppress(CorruptData):
            found = read_result(ctx, row.batch_id)
            if found is not None:
                yield found[0]


def _reasons(ctx: Context, results: Iterable[Result]) -> dict[str, int]:
    found: Counter[str] = Counter()
    for result in results:
        if result.delta_key and result.rejected_count:
            key = result.delta_key + ctx.layout.rejected_file
            lines = ctx.objects.get(key).data.splitlines()
            found.update(Rejected.load(line, key).reason for line in lines)
    return dict(found)


def status_report(ctx: Context) -> StatusReport:
    """How many batches are in which state, which are open, and what is published."""
    counts = dict.fromkeys(map(str, Status), 0)
    still_open = []
    for row in rows_under(ctx, Status):
        counts[row.status] += 1
        if row.status in OPEN:
            still_open.append(row)
    base = read_base(ctx)
    return StatusReport(
        counts=counts,
        open=tuple(_open_batch(ctx, row) for row in sorted(still_open, key=_age)),
        version=base.version,
        collection_count=base.snapshot.count if base.snapshot else 0,
        unaccounted=unaccounted(ctx),
    )


def unaccounted(ctx: Context) -> tuple[str, ...]:
    """Batches that the ledger has as open, or that a row names as a retry, without a row that can be read.

    Nothing polls them, and their records count as on their way.
    """
    head, _ = read_head(ctx)
    roots = [root.batch_id for root in head.open] if head else []
    rows = rows_and_retries(ctx, roots)
    return tuple(name for name in named(roots, rows) if name not in rows)


def open_rows(ctx: Context) -> tuple[BatchRow, ...]:
    """Rows of this kind that are not terminal, as the table itself says, oldest claim first.

    Asked for status by status, so that a row which moves meanwhile may be missed: see `open_in_ledger`.
    """
    return tuple(sorted((row for row in rows_under(ctx, OPEN) if row.status in OPEN), key=_age))


def open_in_ledger(ctx: Context) -> tuple[BatchRow, ...]:
    """Open rows of the ledger's batches and of their retries, each read by its name."""
    head, _ = read_head(ctx)
    rows = rows_and_retries(ctx, [root.batch_id for root in head.open] if head else [])
    return tuple(row for row in rows.values() if row.status in OPEN)


def _age(row: BatchRow) -> tuple[Claim, str]:
    """Sorts the oldest claim first."""
    return row.claim, row.batch_id


def _open_batch(ctx: Context, row: BatchRow) -> OpenBatch:
    age_s = max(0.0, (ctx.clock.now() - row.submitted_at).total_seconds()) if row.submitted_at else None
    status = row.provider_status
    try:
        found = read_result(ctx, row.batch_id)
        status = found[0].batch_status if found else status
    except CorruptData:
        status = "unreadable result"
    return OpenBatch(batch_id=row.batch_id, status=str(row.status), provider_status=status, age_s=age_s)
