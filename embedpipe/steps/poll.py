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
from embedpipe.stages.conclude import Conclusion, conclude, may_be_too_large, rejected_lines, retry_lines, was_alone
from embedpipe.stages.creation import created_changes
from embedpipe.stages.fold import Fold, settled
from embedpipe.stages.poll import WaitReason
from embedpipe.steps.batch_files import records_file
from embedpipe.steps.context import Context, download_checked, read_delta, read_result, root_id
from embedpipe.steps.create import METADATA_BATCH_ID, METADATA_ROOT_ID
from embedpipe.wire import Delta, FileHash, Reference, Result


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


def poll(ctx: Context, *, batch_id: str, execution_id: str) -> Reference:
    """Look at one batch and return where its result is. Repeating it changes a terminal result only to mend its delta."""
    reference = Reference(
        batch_id=batch_id, result_s3_key=ctx.layout.result_key(batch_id), result_s3_bucket=ctx.objects.bucket
    )
    register, etag = _read_register(ctx, batch_id)
    terminal = register is not None and register.action in TERMINAL_ACTIONS
    if register is not None and terminal and delta_is_whole(ctx, register):
        return reference
    row = ctx.table.get_many([batch_id]).get(batch_id)
    if row is None:
        raise NotFound(f"Batch {batch_id} has no row in the table.", hint="Was it deleted by hand?", batch_id=batch_id)
    look = _Poll(ctx=ctx, row=row, register=register, execution_id=execution_id, damaged=terminal)
    result = _result(look)
    _store(look, result, etag)
    return reference


def _read_register(ctx: Context, batch_id: str) -> tuple[Result | None, str | None]:
    """The register and its etag. A damaged one counts as none and is written over: polling again says the same."""
    try:
        return read_result(ctx, batch_id) or (None, None)
    except NewerSchema:
        raise
    except CorruptData:
        return None, ctx.objects.get(ctx.layout.result_key(batch_id)).etag


def delta_is_whole(ctx: Context, result: Result) -> bool:
    """Whether the delta of a terminal result is there and passes its hashes."""
    if not result.delta_key:
        # The seed's failures have none. Neither have its partial results, but those have vectors to be read again.
        return result.action is Action.HANDLE_FAILURE
    try:
        delta = read_delta(ctx, result.delta_key, result.delta_sha256)
        for file in delta.files:
            with ctx.scratch() as folder:
                download_checked(ctx, result.delta_key, delta, file.name, folder)
    except (CorruptData, NotFound):
        return False
    return True


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
        conclusion = conclude(
            batch,
            fold,
            row=row,
            tries=tries,
            attempts_max=ctx.policy.attempts_max,
            too_large=_is_too_large(look, batch),
        )
        return _terminal(look, conclusion, fold, records, scratch, folder)


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
        return _terminal(look, conclusion, fold, records, scratch, folder)


# --- the delta -----------------------------------------------------------------------------------------------------


def _terminal(look: _Poll, conclusion: Conclusion, fold: Fold, records: Any, scratch: Any, folder: Path) -> Result:
    """Store the delta under a fresh id, `delta.json` last, and return the result that names it."""
    ctx, row = look.ctx, look.row
    delta_id = ctx.clock.new_id()
    prefix = ctx.layout.delta_prefix(ctx.kind.database, ctx.kind.collection, delta_id)
    vectors_path = folder / ctx.layout.vectors_file
    dimensions = scratch.dimensions or row.dimensions or ctx.model.dimensions
    write_vectors(vectors_path, row, conclusion.order, fold, records, scratch, dimensions)
    bodies = {
        ctx.layout.rejected_file: rejected_lines(conclusion.rejected),
        ctx.layout.retry_file: retry_lines(conclusion.retry),
    }
    files = [_upload_file(ctx, prefix, ctx.layout.vectors_file, vectors_path)]
    for name, data in bodies.items():
        ctx.objects.put(prefix + name, data)
        files.append(FileHash(name=name, sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data)))
    delta = Delta(
        delta_id=delta_id,
        batch_id=row.batch_id,
        database=ctx.kind.database,
        collection=ctx.kind.collection,
        model=row.model or ctx.model.name,
        dimensions=dimensions,
        batch_status=conclusion.status,
        request_count=row.request_count,
        embedding_count=len(conclusion.order),
        rejected_count=len(conclusion.rejected),
        retry_count=len(conclusion.retry),
        files=tuple(files),
        notes=conclusion.notes,
        created_at=ctx.now_text(),
    )
    data = delta.dump()
    ctx.objects.put(prefix + ctx.layout.delta_file, data)
    return Result(
        batch_id=row.batch_id,
        openai_batch_id=row.provider_batch_id,
        batch_status=conclusion.status,
        action=conclusion.action,
        results_count=fold.lines,
        delta_id=delta_id,
        delta_key=prefix,
        embedding_count=delta.embedding_count,
        storage="s3_delta",
        collection=ctx.kind.collection,
        database=ctx.kind.database,
        rejected_count=delta.rejected_count,
        retry_count=delta.retry_count,
        delta_sha256=hashlib.sha256(data).hexdigest(),
        retry_sha256=files[2].sha256,
        execution_id=look.execution_id,
    )


def _upload_file(ctx: Context, prefix: str, name: str, path: Path) -> FileHash:
    from embedpipe.vectors import sha256_file

    entry = FileHash(name=name, sha256=sha256_file(path), size_bytes=path.stat().st_size)
    ctx.objects.upload(prefix + name, path)
    return entry


def write_vectors(
    path: Path, row: BatchRow, order: Sequence[int], fold: Fold, records: Any, scratch: Any, dimensions: int
) -> None:
    """Write `vectors.arrow`, sorted by id, block by block from the scratch file."""
    from embedpipe.vectors import vectors_schema, write_arrow

    schema = vectors_schema(dimensions)
    write_arrow(path, schema, _vector_batches(row, order, fold, records, scratch, schema))


def _vector_batches(
    row: BatchRow, order: Sequence[int], fold: Fold, records: Any, scratch: Any, schema: Any
) -> Iterator[Any]:
    import numpy as np
    import pyarrow as pa

    if not order:
        return
    slots = np.fromiter((fold.slots[at] for at in order), np.int64, len(order))
    start = 0
    for block in scratch.batches(slots):
        positions = order[start : start + len(block)]
        start += len(block)
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(block.reshape(-1)), block.shape[1])
        columns = {**_columns(row, positions, fold, records, block), "vector": vectors}
        yield pa.record_batch([columns[field.name] for field in schema], schema=schema)


def _columns(row: BatchRow, positions: Sequence[int], fold: Fold, records: Any, block: Any) -> dict[str, Any]:
    import pyarrow as pa

    if records is not None:
        taken = records.take(pa.array(positions)).combine_chunks()
        return {name: taken.column(name).chunk(0) for name in taken.schema.names}
    count = len(positions)
    hashes = [hashlib.blake2b(vector.tobytes(), digest_size=16).digest() for vector in block]
    return {
        "id": pa.array([fold.ids[at] for at in positions]),
        "seq": pa.array([row.claim.seq] * count, pa.int64()),
        "attempt": pa.array([row.attempt] * count, pa.int32()),
        # Without its text, a vector is its own content.
        "content_hash": pa.array(hashes, pa.binary(16)),
        "document": pa.nulls(count, pa.string()),
        "metadata": pa.array([""] * count),
    }
