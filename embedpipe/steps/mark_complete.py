"""Mark: prove each terminal batch against the published catalog, store its retry batches, then end its row.

This step alone ends rows. Retry files and rows come before the parent's end, so a crash in between loses nothing.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import attrs

from embedpipe import events
from embedpipe.errors import CorruptData, NotFound, PreconditionFailed
from embedpipe.lifecycle import OPEN
from embedpipe.model import BatchRow
from embedpipe.stages import mark_complete as decide
from embedpipe.steps.batch_files import records_file, request_file
from embedpipe.steps.context import (
    Base,
    Context,
    download_catalog,
    download_checked,
    healthy_rows,
    read_base,
    read_delta,
)
from embedpipe.steps.provider_files import delete_files
from embedpipe.wire import Delta, Mark, MarkCounts, Marked, Rejected, Result, Retry

log = logging.getLogger("embedpipe.mark_complete")

PROOF_RECORDS = 500_000
"""[ours] Records proven in one pass over the catalog; bounds memory."""


def mark_complete(ctx: Context, *, poll_results_s3_key: str, execution_id: str) -> MarkCounts:
    """End every batch of `poll_results.json` that is proven. What is not stays open, and `marked.json` says why."""
    results = Result.load_many(ctx.objects.get(poll_results_s3_key).data, poll_results_s3_key)
    rows = healthy_rows(ctx, (result.batch_id for result in results))
    marks, candidates = decide.before_proof(results, rows, execution_id)
    base = read_base(ctx)
    for group in _groups(candidates):
        ctx.checkpoint()
        with ctx.scratch() as folder:
            marks += _mark_group(ctx, group, rows, base, execution_id, folder)
    key = ctx.layout.marked_key(execution_id)
    ctx.objects.put(key, Marked(execution_id=execution_id, marks=tuple(marks)).dump())
    counts = decide.counts(marks, results, key=key, bucket=ctx.objects.bucket)
    _report(ctx, counts, execution_id)
    if ctx.policy.delete_provider_files:
        delete_files(ctx, [mark.batch_id for mark in marks if mark.outcome == "marked"], execution_id)
    return counts


def _report(ctx: Context, counts: MarkCounts, execution_id: str) -> None:
    figures = {name: value for name, value in counts.to_dict().items() if isinstance(value, int)}
    log.info(json.dumps({"event": "mark_batches_complete", "execution_id": execution_id, **figures}))
    ctx.on_event(events.MarkedComplete(execution_id=execution_id, **figures))


def _groups(candidates: Sequence[Result]) -> Iterator[list[Result]]:
    group: list[Result] = []
    records = 0
    for result in candidates:
        size = result.embedding_count + (result.rejected_count or 0) + (result.retry_count or 0)
        if group and records + size > PROOF_RECORDS:
            yield group
            group, records = [], 0
        group.append(result)
        records += size
    if group:
        yield group


@attrs.frozen(kw_only=True, eq=False)
class _Evidence:
    """What a batch's delta says of the records that need no vector, and its record file."""

    result: Result
    row: BatchRow
    rejected: tuple[Rejected, ...]
    retry: tuple[Retry, ...]
    needed: Any
    """Table of `proof.NEEDED_SCHEMA`, sorted by id: what has to be in the catalog."""


def _mark_group(
    ctx: Context, group: Sequence[Result], rows: Mapping[str, BatchRow], base: Base, execution_id: str, folder: Path
) -> list[Mark]:
    marks: list[Mark] = []
    evidence: list[_Evidence] = []
    for result in group:
        try:
            evidence.append(_gather(ctx, result, rows[result.batch_id], len(evidence), folder))
        except (CorruptData, NotFound) as error:
            marks.append(_unproven(rows[result.batch_id], f"unproven: {error.message}"))
    for found, lacking in zip(evidence, _lacking(ctx, evidence, base, folder), strict=True):
        if lacking:
            marks.append(_unproven(found.row, f"unproven: {lacking} records are not in the published catalog"))
        else:
            marks.append(_end(ctx, found, base, execution_id))
    return marks


def _skipped(row: BatchRow, reason: str) -> Mark:
    return Mark(batch_id=row.batch_id, outcome="skipped", status=row.status, reason=reason)


def _unproven(row: BatchRow, reason: str) -> Mark:
    return attrs.evolve(_skipped(row, reason), unproven=True)


# --- proof ---------------------------------------------------------------------------------------------------------


def _gather(ctx: Context, result: Result, row: BatchRow, index: int, folder: Path) -> _Evidence:
    if not result.delta_key:
        if result.embedding_count or row.request_count is not None:
            raise CorruptData(f"The result of batch {row.batch_id} names no delta.", batch_id=row.batch_id)
        return _Evidence(result=result, row=row, rejected=(), retry=(), needed=_needed(None, (), index))
    delta = read_delta(ctx, result.delta_key, result.delta_sha256)
    if delta.batch_id != row.batch_id:
        raise CorruptData(
            f"{result.delta_key} is the delta of batch {ascii(delta.batch_id)[:80]}.", batch_id=row.batch_id
        )
    rejected_path = download_checked(ctx, result.delta_key, delta, ctx.layout.rejected_file, folder)
    retry_path = download_checked(ctx, result.delta_key, delta, ctx.layout.retry_file, folder)
    rejected = tuple(Rejected.load(line, rejected_path.name) for line in rejected_path.read_bytes().splitlines())
    retry = tuple(Retry.load(line, retry_path.name) for line in retry_path.read_bytes().splitlines())
    records = _promised(ctx, result.delta_key, delta, row, folder)
    without = {entry.id for entry in rejected} | {entry.id for entry in retry}
    needed = _needed(records, without, index)
    _check_sum(delta, row, records, without, needed.num_rows)
    return _Evidence(result=result, row=row, rejected=rejected, retry=retry, needed=needed)


def _check_sum(delta: Delta, row: BatchRow, records: Any, without: set[str], needed: int) -> None:
    count = row.request_count if row.request_count is not None else records.num_rows + len(without)
    if needed != delta.embedding_count or needed + len(without) != count:
        raise CorruptData(
            f"The delta of batch {row.batch_id} accounts for {needed} vectors, {len(without)} rejected or to retry, "
            f"of {count} records.",
            batch_id=row.batch_id,
        )


def _promised(ctx: Context, delta_key: str, delta: Delta, row: BatchRow, folder: Path) -> Any:
    """The batch's own records, not the delta's: what was submitted is what has to be proven."""
    from embedpipe.vectors import open_arrow, records_schema

    columns = ["id", "seq", "attempt"]
    if row.request_count is None:
        path = download_checked(ctx, delta_key, delta, ctx.layout.vectors_file, folder)
        with open_arrow(path) as file:
            return file.table().select(columns).combine_chunks()
    path = records_file(ctx, row.batch_id, row.records_sha256, folder)
    with open_arrow(path, records_schema()) as file:
        return file.table().select(columns).combine_chunks()


def _needed(records: Any, without: set[str] | tuple[()], index: int) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    from embedpipe.stages.proof import NEEDED_SCHEMA

    if records is None:
        return NEEDED_SCHEMA.empty_table()
    if without:
        gone = pa.array(sorted(without), pa.string())
        records = records.filter(pc.invert(pc.is_in(records.column("id"), value_set=gone)))
    batch = pa.array([index], pa.int32()).take(pa.array([0] * records.num_rows, pa.int64()))
    return pa.table([*(records.column(name) for name in ("id", "seq", "attempt")), batch], schema=NEEDED_SCHEMA)


def _lacking(ctx: Context, evidence: Sequence[_Evidence], base: Base, folder: Path) -> list[int]:
    import pyarrow as pa

    from embedpipe.stages.proof import NEEDED_SCHEMA, unproven
    from embedpipe.vectors import catalog_schema, open_arrow

    if not evidence:
        return []
    needed = pa.concat_tables([found.needed for found in evidence], promote_options="default").cast(NEEDED_SCHEMA)
    needed = needed.sort_by("id")
    with ExitStack() as stack:
        path = download_catalog(ctx, base, folder)
        catalog = stack.enter_context(open_arrow(path, catalog_schema())).batches() if path else ()
        return unproven(
            catalog,
            needed.to_batches(max_chunksize=65_536),
            batches=len(evidence),
            catalog_schema=catalog_schema(),
        )


# --- ending --------------------------------------------------------------------------------------------------------


def _end(ctx: Context, found: _Evidence, base: Base, execution_id: str) -> Mark:
    retry = decide.retry_batches(found.row, found.retry)
    try:
        for batch in retry:
            _store_retry(ctx, found.row, batch)
        changes = decide.end_changes(
            found.row, found.result, retry=retry, execution_id=execution_id, version=base.version
        )
        row = ctx.table.update(found.row.batch_id, changes, status=found.row.status, revision=found.row.revision)
    except PreconditionFailed:
        return _changed_meanwhile(ctx, found.row, execution_id)
    except (CorruptData, NotFound) as error:
        return _unproven(found.row, f"retry not stored: {error.message}")
    return decide.ended_mark(row, execution_id)


def _changed_meanwhile(ctx: Context, before: BatchRow, execution_id: str) -> Mark:
    row = healthy_rows(ctx, [before.batch_id]).get(before.batch_id)
    if row is not None and row.status not in OPEN:
        return decide.ended_mark(row, execution_id)
    return _skipped(before, "the row changed meanwhile")


def _store_retry(ctx: Context, parent: BatchRow, retry: decide.RetryBatch) -> None:
    """Write the two files, if nobody has, then the row, if nobody has."""
    with ctx.scratch() as folder:
        requests, records = folder / "request.jsonl", folder / "records.arrow"
        _write_retry_files(ctx, parent, retry, requests, records, folder)
        hashes = [
            _put_once(ctx, ctx.layout.requests_key(retry.batch_id), requests, folder),
            _put_once(ctx, ctx.layout.records_key(retry.batch_id), records, folder),
        ]
    row = decide.retry_row(
        parent,
        retry,
        request_sha256=hashes[0],
        records_sha256=hashes[1],
        now=ctx.clock.now(),
        policy=ctx.policy,
    )
    ctx.table.put_new(row)


def _put_once(ctx: Context, key: str, path: Path, folder: Path) -> str:
    """Upload where nothing is. What is there must be the same: the content is a function of the delta."""
    from embedpipe.vectors import sha256_file

    ours = sha256_file(path)
    try:
        ctx.objects.upload(key, path, if_none_match=True)
    except PreconditionFailed:
        stored = folder / "stored"
        ctx.objects.download(key, stored)
        if sha256_file(stored) != ours:
            raise CorruptData(f"{key} holds another retry than the delta says.", key=key) from None
        stored.unlink()
    return ours


def _write_retry_files(
    ctx: Context, parent: BatchRow, retry: decide.RetryBatch, requests: Path, records: Path, folder: Path
) -> None:
    """The retry's lines of the parent's request file and rows of its record file, in the same order."""
    from embedpipe.vectors import open_arrow, records_schema, write_arrow

    parent_records = records_file(ctx, parent.batch_id, parent.records_sha256, folder)
    parent_requests = request_file(ctx, parent, folder)
    tries = {entry.id: entry.tries for entry in retry.entries}
    with open_arrow(parent_records, records_schema()) as file:
        ids = file.table().column("id").to_pylist()
        positions = [at for at, record_id in enumerate(ids) if record_id in tries]
        if len(positions) != len(tries):
            raise CorruptData(f"The retry of batch {parent.batch_id} names records that the batch does not have.")
        batch = _retry_rows(file.table(), positions, [tries[ids[at]] for at in positions], retry.attempt)
        write_arrow(records, records_schema(), [batch] if positions else [])
    wanted = set(positions)
    with parent_requests.open("rb") as source, requests.open("wb") as target:
        target.writelines(line for at, line in enumerate(source) if at in wanted)


def _retry_rows(table: Any, positions: Sequence[int], tries: Sequence[int], attempt: int) -> Any:
    import pyarrow as pa

    taken = table.take(pa.array(positions, pa.int64())).combine_chunks()
    columns = {name: taken.column(name).chunk(0) for name in taken.schema.names}
    columns["attempt"] = pa.array([attempt] * len(positions), pa.int32())
    columns["tries"] = pa.array(tries, pa.int32())
    return pa.record_batch([columns[field.name] for field in table.schema], schema=table.schema)
