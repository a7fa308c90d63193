"""Submit: claim what is new in the ledger, then finish what the ledger and the table say is begun.

Order matters: files first, then the ledger, then rows, then the provider. A crash anywhere leaves work that `finish` of any
later submit or ingest takes up. A submitter that finds its own execution in the ledger claims nothing again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from embedpipe import events, retry
from embedpipe.blocks import RecordBlock, RecordStream, blocks_of
from embedpipe.errors import CollectionMismatch, CorruptData, NotFound, PreconditionFailed, WriteConflict
from embedpipe.lifecycle import OPEN, TERMINAL_ACTIONS
from embedpipe.limits import UTF8_BYTES_MAX
from embedpipe.model import BatchRow, Record
from embedpipe.retry import RetryPolicy
from embedpipe.stages.creation import check_collection, check_tokens, may_exceed_tokens
from embedpipe.steps.batch_files import records_file
from embedpipe.steps.context import (
    Base,
    Context,
    any_row,
    download_catalog,
    download_checked,
    named,
    read_base,
    read_delta,
    read_head,
    read_result,
    root_id,
    rows_and_retries,
)
from embedpipe.steps.create import finish
from embedpipe.wire import Head, OpenRoot, Rejected, SubmitCounts

if TYPE_CHECKING:
    from embedpipe.stages.streams import Stream

PROGRESS_RECORDS = 1_000
"""[ours] Records between two looks at whether to stop."""


ONCE: Final = RetryPolicy(attempts=1)

_Claimed = tuple[int | None, tuple[str, ...], int, int]
"""The seq, the `batch_id`s, the records claimed or skipped, and the skipped."""

NOTHING: _Claimed = (None, (), 0, 0)
"""What a submission without records claims. It reads nothing, so what is wrong with one batch does not keep others back."""


def submit(
    ctx: Context,
    records: Iterable[Record],
    *,
    execution_id: str,
    policy: RetryPolicy = ONCE,
    on_claimed: Callable[[Sequence[str]], None] = lambda _: None,
) -> SubmitCounts:
    """Submit what is new of `records`. Repeating it with the same `execution_id` claims nothing twice.

    `policy`: for a caller that can't repeat the whole step, since its records can be read only once. `on_claimed` is told
    the `batch_id`s of this submission before one of them is created.
    """
    from embedpipe.steps.spill import sorted_drafts

    with ctx.scratch() as folder, sorted_drafts(_counted(ctx, records, execution_id), ctx.model, folder) as runs:
        claimed: _Claimed | None = None if runs else NOTHING
        attempts: list[_Claimed] = []
        while claimed is None:
            claimed = retry.call(lambda: _claim(ctx, runs, folder, execution_id, attempts), policy, ctx.clock)
    seq, batch_ids, total, skipped = claimed
    ctx.on_event(
        events.Submitted(
            execution_id=execution_id, seq=seq or 0, batches=len(batch_ids), records=total, skipped=skipped
        )
    )
    on_claimed(batch_ids)
    done = retry.call(lambda: finish(ctx, execution_id=execution_id, fresh=batch_ids), policy, ctx.clock)
    return SubmitCounts(
        execution_id=execution_id,
        seq=seq,
        records=total,
        skipped=skipped,
        batches=len(batch_ids),
        created=done.created,
        waiting=done.waiting,
    )


def within_limits(ctx: Context, records: Iterable[Record]) -> RecordStream:
    """The same records; `InvalidInput` at the first whose text has too many tokens, where they can be counted."""
    return RecordStream(_within_limits(ctx, blocks_of(records)))


def _within_limits(ctx: Context, blocks: Iterator[RecordBlock]) -> Iterator[RecordBlock]:
    for block in blocks:
        longest_chars = max(map(len, block.texts), default=0)
        if ctx.count_tokens is not None and longest_chars * UTF8_BYTES_MAX > ctx.limits.tokens_per_input:
            for record in block:
                if may_exceed_tokens(record.text, ctx.limits):
                    check_tokens(record, ctx.count_tokens([record.text])[0], ctx.limits)
        yield block


def _counted(ctx: Context, records: Iterable[Record], execution_id: str) -> RecordStream:
    return RecordStream(_counted_blocks(ctx, within_limits(ctx, records).blocks(), execution_id))


def _counted_blocks(ctx: Context, blocks: Iterator[RecordBlock], execution_id: str) -> Iterator[RecordBlock]:
    count = reported = 0
    for block in blocks:
        count += len(block)
        if count - reported >= PROGRESS_RECORDS:
            reported = count
            ctx.checkpoint()
            ctx.on_event(events.RecordsRead(execution_id=execution_id, records=count))
        yield block
    ctx.on_event(events.RecordsRead(execution_id=execution_id, records=count))


def _claim(
    ctx: Context, runs: list[Path], folder: Path, execution_id: str, attempts: list[_Claimed]
) -> _Claimed | None:
    """One attempt to move the ledger; None where the race was lost. `attempts`: those made before, this one added.

    Who finds its own execution in the ledger has moved it by its last attempt, whose answer was lost, or in another life.
    """
    from embedpipe.stages import submit as decide

    # This order: a batch that ends in between is then seen as open, or in the catalog, and never in neither.
    head, etag = read_head(ctx)
    rows = rows_and_retries(ctx, [root.batch_id for root in head.open] if head else [])
    base = read_base(ctx)
    if (seq := decide.seq_of(head, execution_id)) is not None:
        return attempts[-1] if attempts else (seq, (), 0, 0)
    if head is None:
        _refuse_second_collection(ctx)
        earlier = _earlier_submission(ctx, base)
        if earlier is not None and read_head(ctx)[0] is not None:
            return None  # it came just now
        if earlier is not None:
            raise _lost_ledger(ctx, earlier)
    _check_collection(ctx, head, base)
    with known_claims(ctx, rows, base, head, folder) as known:
        roots, total, skipped = _write_parts(ctx, runs, known, (head.seq if head else 0) + 1, folder)
    moved = decide.next_head(
        head, ctx.kind, execution_id=execution_id, roots=roots, closed=decide.closed_roots(head, rows)
    )
    key = ctx.layout.head_key(ctx.kind.database, ctx.kind.collection)
    attempts.append(((moved.seq if roots else None), tuple(root.batch_id for root in roots), total, skipped))
    try:
        ctx.objects.put(key, moved.dump(), if_none_match=etag is None, if_match=etag)
    except (PreconditionFailed, WriteConflict):
        return None  # another's move, or our own first try, whose answer was lost
    return attempts[-1]


def _refuse_second_collection(ctx: Context) -> None:
    prefix, suffix = ctx.layout.head_pattern(ctx.kind.database)
    other = next((info.key for info in ctx.objects.list(prefix) if info.key.endswith(suffix)), None)
    if other not in (None, ctx.layout.head_key(ctx.kind.database, ctx.kind.collection)):
        raise CollectionMismatch(
            f"Database '{ctx.kind.database}' has another collection already: {other} is its ledger.",
            hint="One database holds one collection: use another database.",
        )


def _earlier_submission(ctx: Context, base: Base) -> str | None:
    """What shows that the database has had a submission; None where this is the first."""
    if base.version is not None:
        return f"version {base.version} was published"
    row = any_row(ctx)
    return None if row is None else f"batch {row} was submitted"


def _lost_ledger(ctx: Context, earlier: str) -> CorruptData:
    key = ctx.layout.head_key(ctx.kind.database, ctx.kind.collection)
    return CorruptData(
        f"{key} is missing, and {earlier}.",
        hint="Restore it from a backup: claims of a ledger begun anew would lose to older texts.",
        key=key,
    )


def _check_collection(ctx: Context, head: Head | None, base: Base) -> None:
    if base.snapshot is not None:
        check_collection(ctx.kind, ctx.model, (base.snapshot.model, base.snapshot.dimensions))
    elif head is not None and head.open:
        found = [(root.model, root.dimensions) for root in head.open]
        if (ctx.model.name, ctx.model.dimensions) not in found:  # one entry may be damaged
            check_collection(ctx.kind, ctx.model, found[-1])


@contextmanager
def known_claims(
    ctx: Context, rows: Mapping[str, BatchRow], base: Base, head: Head | None, folder: Path
) -> Iterator[list[Stream]]:
    """All standing claims as sorted streams: the catalog's, and those of each open batch less what it rejected."""
    from embedpipe.stages.submit import KNOWN_SCHEMA
    from embedpipe.vectors import open_arrow

    # A batch whose row is not there yet, or can't be read, is as open as one whose row says so.
    names = named((root.batch_id for root in (head.open if head else ())), rows)
    open_ids = {name for name in names if name not in rows or rows[name].status in OPEN}
    hashes = {root.batch_id: root.records_sha256 for root in (head.open if head else ())}
    hashes |= {name: row.records_sha256 for name, row in rows.items() if row.records_sha256 is not None}
    with ExitStack() as stack:
        streams: list[Stream] = []
        catalog = download_catalog(ctx, base, folder)
        if catalog is not None:
            streams.append(stack.enter_context(open_arrow(catalog)).batches())
        for name in sorted(open_ids):
            path = records_file(ctx, name, hashes.get(name), folder)
            with open_arrow(path) as file:  # mapped and closed again: more may be open batches than files
                batches = file.table().to_batches()
            streams.append(_standing(batches, _rejected_ids(ctx, name, folder), KNOWN_SCHEMA))
        yield streams


def _standing(batches: Stream, rejected: frozenset[str], schema: object) -> Stream:
    import pyarrow as pa
    import pyarrow.compute as pc

    gone = pa.array(sorted(rejected), pa.string())
    for batch in batches:
        known = batch.select(schema.names)  # type: ignore[attr-defined]  # pyarrow has no types
        if rejected:
            known = known.filter(pc.invert(pc.is_in(known.column("id"), value_set=gone)))
        yield known


def _rejected_ids(ctx: Context, batch_id: str, folder: Path) -> frozenset[str]:
    """What the batch has rejected. Where that can't be read, nothing: its claims stand until a poll has mended it."""
    try:
        found = read_result(ctx, batch_id)
        if found is None or found[0].action not in TERMINAL_ACTIONS or not found[0].delta_key:
            return frozenset()
        delta = read_delta(ctx, found[0].delta_key, found[0].delta_sha256)
        path = download_checked(ctx, found[0].delta_key, delta, ctx.layout.rejected_file, folder)
    except (CorruptData, NotFound):
        return frozenset()
    return frozenset(Rejected.load(line, str(path)).id for line in path.read_bytes().splitlines() if line)


class _PartFiles:
    """The two files of the part that is being written."""

    def __init__(self, folder: Path, part: int, stack: ExitStack) -> None:
        from embedpipe.vectors import arrow_writer, records_schema

        self.requests_path = folder / f"part-{part}.jsonl"
        self.records_path = folder / f"part-{part}.arrow"
        self._stack = stack
        self._digest = hashlib.sha256()
        self._requests = stack.enter_context(self.requests_path.open("wb"))
        self._records = stack.enter_context(arrow_writer(self.records_path, records_schema()))

    def write(self, lines: Iterable[bytes], batch: object) -> None:
        data = b"".join(lines)
        self._digest.update(data)
        self._requests.write(data)
        self._records.write(batch)

    def close(self) -> tuple[str, str]:
        """The hashes of the request and the record file."""
        from embedpipe.vectors import sha256_file

        self._stack.close()
        return self._digest.hexdigest(), sha256_file(self.records_path)


def _write_parts(
    ctx: Context, runs: list[Path], known: list[Stream], seq: int, folder: Path
) -> tuple[list[OpenRoot], int, int]:
    """Write the files of every part to the object store: (ledger entries, records seen, records skipped)."""
    from embedpipe.stages import submit as decide
    from embedpipe.steps.spill import streams

    total = skipped = 0

    def fresh(drafts: list[Stream]) -> Iterator[object]:
        nonlocal total, skipped
        for kept, passed in decide.new_drafts(drafts, known):
            total += kept.num_rows + passed
            skipped += passed
            if kept.num_rows:
                yield kept

    roots: list[OpenRoot] = []
    submitted_at = ctx.now_text()
    identity = root_id(ctx)
    with streams(runs) as drafts, ExitStack() as stack:
        files: _PartFiles | None = None
        for piece in decide.pieces(fresh(drafts), ctx.model, ctx.limits):
            files = files or _PartFiles(folder, piece.part, stack)
            if piece.rows.num_rows:
                files.write(piece.lines, decide.records_batch(piece.rows, seq=seq, attempt=1, tries=1))
            if piece.cut is not None:
                roots.append(_store_part(ctx, files, piece.cut, seq, submitted_at, identity))
                files = None
    return roots, total, skipped


def _store_part(ctx: Context, files: _PartFiles, cut: object, seq: int, submitted_at: str, identity: str) -> OpenRoot:
    from embedpipe.stages.submit import Cut, batch_id

    assert isinstance(cut, Cut)
    request_sha256, records_sha256 = files.close()
    name = batch_id(identity, ctx.kind, seq, cut.part, request_sha256, records_sha256)
    ctx.objects.upload(ctx.layout.requests_key(name), files.requests_path)
    ctx.objects.upload(ctx.layout.records_key(name), files.records_path)
    files.requests_path.unlink()
    files.records_path.unlink()
    return OpenRoot(
        batch_id=name,
        seq=seq,
        part=cut.part,
        request_sha256=request_sha256,
        records_sha256=records_sha256,
        request_count=cut.requests,
        model=ctx.model.name,
        dimensions=ctx.model.dimensions,
        submitted_at=submitted_at,
    )
