"""Deleting the provider's files of completed batches, where that is asked for: after all else, and in nobody's way.

A file that can't be deleted is reported and left: the provider removes it by itself in the end. A repeated delivery of the
step begins again, and finds most of the work done.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from embedpipe import events
from embedpipe.errors import CorruptData, MisuseError, NotFound, ServiceError
from embedpipe.model import BatchRow
from embedpipe.stages import mark_complete as decide
from embedpipe.steps import journal
from embedpipe.steps.context import Context, healthy_rows

BUDGET_S: Final = 300.0
"""[ours] A third of what a function on AWS may take; 1,000 batches or so."""


_FAILURES: Final = (ServiceError, MisuseError, CorruptData)


def delete_files(ctx: Context, batch_ids: Sequence[str], execution_id: str) -> None:
    """Delete what the decision allows, batch by batch, while the budget lasts. What fails is an event."""
    end_s = ctx.clock.monotonic_s() + BUDGET_S

    def report(batch_id: str, error: str) -> None:
        ctx.on_event(events.FilesNotDeleted(execution_id=execution_id, batch_id=batch_id, error=error))

    try:
        rows = _deletable(ctx, batch_ids)
    except _FAILURES as error:
        for batch_id in batch_ids:
            report(batch_id, str(error))
        return
    for row in rows:
        try:
            if ctx.clock.monotonic_s() < end_s:
                _delete(ctx, row)
            else:
                report(row.batch_id, f"no time was left after {BUDGET_S:.0f} s")
        except _FAILURES as error:
            report(row.batch_id, str(error))


def _deletable(ctx: Context, batch_ids: Sequence[str]) -> list[BatchRow]:
    found = journal.find(ctx)
    journaled = {*found.suspects, *(ref.batch_id for ref in found.deltas)} if found else set()
    rows = healthy_rows(ctx, batch_ids).values()
    return [row for row in rows if decide.may_delete_files(row, ctx.policy, journaled=journaled)]


def _delete(ctx: Context, row: BatchRow) -> None:
    if row.provider_batch_id is None:
        return
    try:
        batch = ctx.provider.retrieve(row.provider_batch_id)
    except NotFound:
        return  # and so are its files
    for file_id in decide.provider_files(batch):
        ctx.provider.delete_file(file_id)
