"""Poll one batch: ask the provider, read its files once as a stream, store the delta, move the register forward."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import attrs

from embedpipe import events
from embedpipe.errors import CorruptData, NewerSchema, NotFound, PreconditionFailed, Unauthorized
from embedpipe.lifecycle import TERMINAL_ACTIONS, Action, Status
from embedpipe.model import BatchRow, ProviderBatch
from embedpipe.stages import poll as decide
from embedpipe.stages.conclude import Conclusion, conclude, may_be_too_large, retry_lines, was_alone
from embedpipe.stages.creation import check_collection, created_changes
from embedpipe.stages.fold import Fold, settled
from embedpipe.stages.poll import WaitReason
from embedpipe.steps import delta
from embedpipe.steps.batch_files import records_file
from embedpipe.steps.context import Context, read_result, root_id
from embedpipe.steps.create import METADATA_BATCH_ID, METADATA_ROOT_ID
from embedpipe.wire import Reference, Result


@attrs.frozen(kw_only=True)
class _Poll:
    """One look at one batch."""

    ctx: Context
    row: BatchRow
    register: Result | None
    execution_id: str
    damaged: bool

    def wait(self, reason: WaitReason, status: str) -> Result:
        since = decide.waiting_since(self.register, reason, self.ctx.clock.now())
        return decide.wait_result(self.row, reason, status=status, since=since, execution_id=self.execution_id)

    def overdue(self, reason: WaitReason, limit_s: float) -> bool:
        now = self.ctx.clock.now()
        return decide.overdue(decide.waiting_since(self.register, reason, now), now, limit_s)

    def ended(self, conclusion: Conclusion, fold: Fold, records: Any, scratch: Any, folder: Path) -> Result:
        return delta.store(
            self.ctx,
            self.row,
            conclusion,
            fold=fold,
            records=records,
            scratch=scratch,
            folder=folder,
            execution_id=self.execution_id,
        )


def poll(ctx: Context, *, batch_id: str, execution_id: str) -> Reference:
    """Look at one batch and return where its result is. Repeating it changes a terminal result only to mend its delta."""
    reference = Reference(
        batch_id=batch_id, result_s3_key=ctx.layout.result_key(batch_id), result_s3_bucket=ctx.objects.bucket
    )
    register, etag = _read_register(ctx, batch_id)
    terminal = register is not None and register.action in TERMINAL_ACTIONS
    if register is not None and terminal and delta.is_whole(ctx, register):
        return reference
    row = ctx.table.get_many([batch_id]).get(batch_id)
    if row is None:
        raise NotFound(f"Batch {batch_id} has no row in the table.", hint="Was it deleted by hand?", batch_id=batch_id)
    if terminal and register is not None and delta.needs_none(register, row):
        return reference
    if row.model is not None and row.dimensions is not None:
        check_collection(ctx.kind, ctx.model, (row.model, row.dimensions))
    look = _Poll(ctx=ctx, row=row, register=register, execution_id=execution_id, damaged=terminal)
    result = _result(look)
    _store(look, result, etag)
    return reference


def _read_register(ctx: Context, batch_id: str) -> tuple[Result | None, str | None]:
    """The register and its etag. A damaged one counts as none and is written over: polling again says the same.

    So does one that says that it could not be read, which others may have put there.
    """
    try:
        register, etag = read_result(ctx, batch_id) or (None, None)
        return (None if register and register.action is Action.UNREADABLE_RESULT else register), etag
    except NewerSchema:
        raise
    except CorruptData:
        return None, ctx.objects.get(ctx.layout.result_key(batch_id)).etag


def _store(look: _Poll, result: Result, etag: str | None) -> None:
    ctx, key = look.ctx, look.ctx.layout.result_key(look.row.batch_id)
    stored = look.register
    while True:
        if not decide.may_replace(stored, result, damaged=look.damaged):
            if look.damaged and stored is look.register:
                raise _not_mended(look, result)
            return
        try:
            ctx.objects.put(key, result.dump(), if_none_match=etag is None, if_match=etag)
            break
        except PreconditionFailed:
            found = read_result(ctx, look.row.batch_id)
            stored, etag = found if found else (None, None)
    ctx.on_event(
        events.BatchPolled(
            execution_id=look.execution_id,
            batch_id=look.row.batch_id,
            provider_status=result.batch_status or "",
            action=result.action,
            vectors=result.embedding_count,
            rejected=result.rejected_count or 0,
            retry=result.retry_count or 0,
        )
    )


def _not_mended(look: _Poll, result: Result) -> CorruptData:
    """Why a terminal result whose delta can't be used stays as it is."""
    name, delta = look.row.batch_id, look.register.delta_key if look.register else None
    again = f"the provider says '{result.reason or result.batch_status}'"
    return CorruptData(
        f"The delta of batch {name} ({delta or 'none is named'}) is missing, damaged or of another format, and "
        + ("polling again gives another retry set." if result.action in TERMINAL_ACTIONS else f"{again} now."),
        hint="Restore the delta from a backup; the batch stays open until then.",
        batch_id=name,
    )


# --- asking the provider -------------------------------------------------------------------------------------------


class _ProviderRefuses(Exception):
    """The provider answered 401 or 403. A store that does is another matter, and no `wait`."""


@contextmanager
def _asking_provider() -> Iterator[None]:
    try:
        yield
    except Unauthorized as error:
        raise _ProviderRefuses from error


def _result(look: _Poll) -> Result:
    name = look.row.provider_batch_id
    try:
        return _without_name(look) if name is None else _asked(look, name)
    except _ProviderRefuses:
        return look.wait(WaitReason.UNAUTHORIZED, "unauthorized")


def _asked(look: _Poll, provider_batch_id: str) -> Result:
    try:
        with _asking_provider():
            batch = look.ctx.provider.retrieve(provider_batch_id)
    except NotFound:
        return _unknown(look)
    reason = decide.look(batch)
    return look.wait(reason, batch.status) if reason else _collect(look, batch)


def _unknown(look: _Poll) -> Result:
    """404: a wait, until it has lasted its limit in a project that surely is ours, or very long in any."""
    ctx, row, policy = look.ctx, look.row, look.ctx.policy
    if look.overdue(WaitReason.NOT_FOUND, policy.lost_after_s):
        seen = _project_is_ours(ctx, row)
        if seen or look.overdue(WaitReason.NOT_FOUND, policy.give_up_after_s):
            ctx.on_event(
                events.BatchLost(
                    execution_id=look.execution_id,
                    batch_id=row.batch_id,
                    provider_batch_id=row.provider_batch_id or "",
                    project_seen=seen,
                )
            )
            return _conclude_without_files(look, decide.ended_without_batch("lost"))
    return look.wait(decide.unknown_reason(row, ctx.clock.now(), policy), "not_found")


def _project_is_ours(ctx: Context, row: BatchRow) -> bool:
    """Whether the provider knows the input file of this batch, or any batch of this root."""
    identity = root_id(ctx)
    with _asking_provider():
        if row.input_file_id is not None:
            try:
                next(iter(ctx.provider.content(row.input_file_id)), b"")
            except NotFound:
                pass
            else:
                return True
        return any(batch.metadata.get(METADATA_ROOT_ID) == identity for batch in ctx.provider.list())


def _without_name(look: _Poll) -> Result:
    """A row that was never answered: search, and after the limit give its create up as lost."""
    ctx, row = look.ctx, look.row
    if not decide.search_overdue(row, look.register, ctx.clock.now(), ctx.policy):
        return look.wait(WaitReason.CREATING, "creating")
    with _asking_provider():
        found = next((b for b in ctx.provider.list() if b.metadata.get(METADATA_BATCH_ID) == row.batch_id), None)
    if found is None:
        given_up = look.overdue(WaitReason.NOT_FOUND, ctx.policy.give_up_after_s)
        if not given_up and not _project_is_ours(ctx, row):
            return look.wait(WaitReason.NOT_FOUND, "not_found")  # the list of another project says nothing
        ctx.on_event(events.AmbiguousCreate(execution_id=look.execution_id, batch_id=row.batch_id, lost=True))
        return _conclude_without_files(look, decide.ended_without_batch("create_lost"))
    if row.status is Status.CREATING:
        changes = created_changes(found.id, found.status)
        try:
            row = ctx.table.update(row.batch_id, changes, status=row.status, revision=row.revision)
        except PreconditionFailed:
            row = ctx.table.get_many([row.batch_id]).get(row.batch_id, row)
    return _asked(attrs.evolve(look, row=attrs.evolve(row, provider_batch_id=found.id)), found.id)


# --- reading its files ---------------------------------------------------------------------------------------------


def _collect(look: _Poll, batch: ProviderBatch) -> Result:
    from embedpipe.vectors import Scratch

    ctx, row = look.ctx, look.row
    if batch.output_file_id is None and batch.counts.completed > 0 and not _settle_overdue(look):
        return look.wait(WaitReason.SETTLING, batch.status)
    with ctx.scratch() as folder, ExitStack() as stack:
        records = _records(ctx, row, folder, stack)
        fold = Fold(records.column("id").to_pylist() if records is not None else None)
        scratch = stack.enter_context(Scratch(folder / "vectors.f32", row.dimensions))
        absent = not _read_file(look, batch.output_file_id, fold, scratch)
        _read_file(look, batch.error_file_id, fold, scratch)
        if not settled(batch, fold, output_absent=absent) and not _settle_overdue(look):
            return look.wait(WaitReason.SETTLING, batch.status)
        tries = records.column("tries").to_pylist() if records is not None else None
        conclusion = _concluded(look, batch, fold, tries)
        return look.ended(conclusion, fold, records, scratch, folder)


def _concluded(look: _Poll, batch: ProviderBatch, fold: Fold, tries: Sequence[int] | None) -> Conclusion:
    """Whether a batch is too large alone is a judgement of its time: where a delta is mended, the first one stands."""
    judged = _is_too_large(look, batch)
    conclusions = [
        conclude(
            batch,
            fold,
            row=look.row,
            tries=tries,
            attempts_max=look.ctx.policy.attempts_max,
            too_large=too_large,
        )
        for too_large in ((judged, not judged) if look.damaged else (judged,))
    ]
    before = look.register.retry_sha256 if look.register else None
    same = (found for found in conclusions if hashlib.sha256(retry_lines(found.retry)).hexdigest() == before)
    return next(same, conclusions[0])


def _is_too_large(look: _Poll, batch: ProviderBatch) -> bool:
    if not may_be_too_large(batch, look.row):
        return False
    with _asking_provider():
        return was_alone(batch, look.ctx.provider.list())


def _settle_overdue(look: _Poll) -> bool:
    return look.overdue(WaitReason.SETTLING, look.ctx.policy.settle_max_s)


def _read_file(look: _Poll, file_id: str | None, fold: Fold, scratch: Any) -> bool:
    """Fold the lines of one file; False where there is none."""
    from embedpipe.vectors import parse_output

    if file_id is None:
        return False
    try:
        with _asking_provider():
            for line in parse_output(look.ctx.provider.content(file_id), scratch.dimensions):
                if fold.take(line):
                    scratch.append(line.vector)
    except NotFound:
        return False
    return True


def _records(ctx: Context, row: BatchRow, folder: Path, stack: ExitStack) -> Any:
    """The batch's records as a table; None for a batch of a deployment that keeps none."""
    from embedpipe.vectors import open_arrow, records_schema

    if row.request_count is None:
        return None
    path = records_file(ctx, row.batch_id, row.records_sha256, folder)
    return stack.enter_context(open_arrow(path, records_schema())).table()


def _conclude_without_files(look: _Poll, batch: ProviderBatch) -> Result:
    from embedpipe.vectors import Scratch

    with look.ctx.scratch() as folder, ExitStack() as stack:
        records = _records(look.ctx, look.row, folder, stack)
        fold = Fold(records.column("id").to_pylist() if records is not None else None)
        tries = records.column("tries").to_pylist() if records is not None else None
        conclusion = conclude(batch, fold, row=look.row, tries=tries, attempts_max=look.ctx.policy.attempts_max)
        scratch = stack.enter_context(Scratch(folder / "vectors.f32", look.row.dimensions))
        return look.ended(conclusion, fold, records, scratch, folder)
