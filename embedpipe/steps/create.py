"""Finish what is begun: rows for the ledger's entries, and one provider batch for each row that has none.

Only the invocation that wins INTENT to CREATING calls create, once; the win lives in this call's memory. Everyone else, and
the winner after a lost answer, only searches the provider's list. Run by every submit and as step 0 of every ingest.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Final

import attrs

from embedpipe import events
from embedpipe.errors import (
    CorruptData,
    EmbedpipeError,
    NewerSchema,
    NotFound,
    PreconditionFailed,
    RefusedRequest,
    ServiceError,
    Throttled,
    Transient,
    Unauthorized,
)
from embedpipe.lifecycle import CAPACITY_REASONS, TERMINAL_ACTIONS, Status
from embedpipe.model import BatchRow, ProviderBatch, provider_text, provider_word
from embedpipe.stages.admission import Load, admitted, is_limited, tokens_max
from embedpipe.stages.creation import (
    adopted_row,
    claim_changes,
    created_changes,
    held_back,
    next_try,
    refused_changes,
    row_of,
)
from embedpipe.stages.list_pending import oldest_s
from embedpipe.steps.batch_files import request_file
from embedpipe.steps.context import Context, healthy_rows, read_head, read_result, root_id

BUDGET_S: Final = 600.0
"""[ours] Two thirds of what a function on AWS may take: one that is ended in a create leaves an ambiguity behind."""

METADATA_BATCH_ID = "batch_id"
METADATA_ROOT_ID = "root_id"


@attrs.frozen(kw_only=True)
class Finished:
    """What `finish` did."""

    created: int = 0
    waiting: int = 0
    """Rows that are still INTENT: refused, held back for capacity, in line for it or for time, or with damaged files."""
    ambiguous: int = 0
    refusals: tuple[str, ...] = ()
    """Why batches are not created, where waiting does not help: the provider's words, or what is damaged and what to do."""


def finish(ctx: Context, *, execution_id: str, fresh: Collection[str] = ()) -> Finished:
    """Put the rows that ledger entries lack, search the provider for CREATING rows, create what is INTENT.

    `fresh`: the `batch_id`s that this very call has claimed, so that nobody can have created them. What a call has no time
    for is created by a later one.
    """
    until_s = ctx.clock.monotonic_s() + BUDGET_S
    _put_rows(ctx, execution_id, fresh)
    found = _search(ctx, _listed(ctx, Status.CREATING), execution_id)
    created = found
    waiting = ambiguous = 0
    refusals: list[str] = []
    held: list[BatchRow] = []
    waiting_rows = _listed(ctx, Status.INTENT)
    may_be_created = _admitted(ctx, waiting_rows)
    for row in waiting_rows:
        ctx.checkpoint()
        its_turn = row.batch_id in may_be_created and ctx.clock.monotonic_s() < until_s
        outcome = _create_one(ctx, row, execution_id) if its_turn else "in_line"
        created += outcome == "created"
        ambiguous += outcome == "ambiguous"
        waiting += outcome not in ("created", "ambiguous", "lost_race")
        if outcome == "held_back" or outcome.startswith("refused:"):
            held.append(row)
        if outcome.startswith("refused:"):
            refusals.append(outcome.removeprefix("refused:"))
    oldest = oldest_s(held, ctx.clock.now())
    ctx.on_event(events.Waiting(execution_id=execution_id, batches=waiting, oldest_s=oldest))
    return Finished(created=created, waiting=waiting, ambiguous=ambiguous, refusals=tuple(refusals))


def _put_rows(ctx: Context, execution_id: str, fresh: Collection[str]) -> None:
    """The rows that entries of the ledger lack. An entry that is not fresh may have had one, and a batch that is paid for."""
    head, _ = read_head(ctx)
    if head is None:
        return
    rows = healthy_rows(ctx, (root.batch_id for root in head.open))
    lacking = [row_of(root, ctx.kind) for root in head.open if root.batch_id not in rows]
    there = dict(_in_list(ctx, (row.batch_id for row in lacking if row.batch_id not in fresh)))
    for row in lacking:
        batch = there.get(row.batch_id)
        put = ctx.table.put_new(row if batch is None else adopted_row(row, batch))
        if put and batch is not None:
            ctx.on_event(_found(execution_id, row, batch))


def _in_list(ctx: Context, batch_ids: Iterable[str]) -> Iterator[tuple[str, ProviderBatch]]:
    """Those of them that the provider lists, as they come. Nothing is asked where none is wanted."""
    wanted = set(batch_ids)
    for batch in ctx.provider.list() if wanted else ():
        name = batch.metadata.get(METADATA_BATCH_ID, "")
        if name in wanted:
            wanted.remove(name)
            yield name, batch
        if not wanted:
            return


def _found(execution_id: str, row: BatchRow, batch: ProviderBatch, *, found: bool = True) -> events.BatchCreated:
    return events.BatchCreated(
        execution_id=execution_id, batch_id=row.batch_id, provider_batch_id=batch.id, found=found
    )


def _listed(ctx: Context, status: Status) -> list[BatchRow]:
    """Rows in `status`, as the table itself says, oldest claim first. The ledger's own are found without the index."""
    names = list(ctx.table.by_status(ctx.kind.batch_type, status))
    if status is Status.INTENT:
        head, _ = read_head(ctx)
        names += [root.batch_id for root in head.open] if head else []
    rows = healthy_rows(ctx, names)
    mine = [row for row in rows.values() if row.status is status and row.serves(ctx.kind)]
    return sorted(mine, key=lambda row: (row.claim, row.batch_id))


def _admitted(ctx: Context, rows: list[BatchRow]) -> frozenset[str]:
    """Those that the limits on open batches let through; where there are none, all, and nothing is looked up."""
    if not is_limited(ctx.limits):
        return frozenset(row.batch_id for row in rows)
    now = ctx.clock.now()
    ready = [row for row in rows if not held_back(row.not_before, now)]
    open_rows = [*_listed(ctx, Status.CREATING), *_listed(ctx, Status.PENDING)] if ready else []
    return frozenset(
        admitted([_load(ctx, row) for row in ready], [_load(ctx, row) for row in open_rows], now, ctx.limits)
    )


def _load(ctx: Context, row: BatchRow) -> Load:
    """What a batch weighs. One whose request file is gone weighs its requests: its create says what is missing."""
    key = ctx.layout.requests_key(row.batch_id)
    sizes = (info.size_bytes for info in ctx.objects.list(key) if info.key == key) if ctx.limits.enqueued_tokens else ()
    tokens = tokens_max(next(iter(sizes), 0), row.request_count or 0)
    return Load(batch_id=row.batch_id, tokens_max=tokens, creating_at=row.creating_at)


def _create_one(ctx: Context, row: BatchRow, execution_id: str) -> str:
    """`_create`, where what is wrong with this batch costs it alone."""
    try:
        return _create(ctx, row, execution_id)
    except NewerSchema:
        raise
    except (Transient, Unauthorized):
        raise  # not of this batch: the whole step is repeated, or ends
    except (CorruptData, ServiceError) as error:
        ctx.on_event(events.CreateRefused(execution_id=execution_id, batch_id=row.batch_id, reason=error.code))
        return f"refused:batch {row.batch_id}: {_shown(error)}"


def _shown(error: EmbedpipeError) -> str:
    """Message and hint, short enough for the state of a workflow."""
    return f"{provider_text(error.message)} {provider_text(error.hint)}".strip()


def _create(ctx: Context, row: BatchRow, execution_id: str) -> str:
    if held_back(row.not_before, ctx.clock.now()):
        return "held_back"
    given_up, known = _known(ctx, row)
    identity = root_id(ctx)  # now: nothing is to come between the claim and the create, whose time begins with it
    try:
        if row.input_file_id is None and known is None:  # given up: the file shows a poll that the project is ours
            row = _update(ctx, row, {"input_file_id": _upload(ctx, row)})
        row = _update(ctx, row, claim_changes(ctx.clock.now()))
    except PreconditionFailed:
        return "lost_race"
    if known is not None:
        return "created" if _created(ctx, row, known, execution_id, found=True) else "lost_race"
    if given_up:
        return "lost_race"  # its create was given up as lost: it is listed as CREATING, and mark ends it
    return _call_create(ctx, row, identity, execution_id)


def _known(ctx: Context, row: BatchRow) -> tuple[bool, ProviderBatch | None]:
    """What the register of a row that has no provider batch says: given up, or polled already under this name.

    The latter where the row was lost and put again from the ledger. A register that can't be read may say either, and is
    polled anew.
    """
    try:
        found = read_result(ctx, row.batch_id)
    except NewerSchema:
        raise
    except CorruptData:
        return True, None
    if found is None:
        return False, None
    register = found[0]
    if register.openai_batch_id is not None:
        return False, ProviderBatch(id=register.openai_batch_id, status=register.batch_status or "")
    return register.action in TERMINAL_ACTIONS, None


def _call_create(ctx: Context, row: BatchRow, identity: str, execution_id: str) -> str:
    metadata = {METADATA_BATCH_ID: row.batch_id, METADATA_ROOT_ID: identity}
    assert row.input_file_id is not None
    try:
        batch = ctx.provider.create(row.input_file_id, metadata)
    except (RefusedRequest, Throttled, Unauthorized, NotFound) as error:
        return _refused(ctx, row, error, execution_id)
    except Transient:
        ctx.on_event(events.AmbiguousCreate(execution_id=execution_id, batch_id=row.batch_id))
        return "created" if _search(ctx, [row], execution_id) else "ambiguous"
    return "created" if _created(ctx, row, batch, execution_id, found=False) else "lost_race"


def _refused(ctx: Context, row: BatchRow, error: ServiceError, execution_id: str) -> str:
    reason = _refusal(error)
    capacity = reason in CAPACITY_REASONS
    advice_s = error.retry_after_s if isinstance(error, Throttled) else None
    not_before = next_try(ctx.clock.now(), advice_s, ctx.policy) if capacity else None
    # An input file that the provider does not know is uploaded again.
    changes = refused_changes(reason, not_before, forget_input=isinstance(error, NotFound))
    try:
        _update(ctx, row, changes)
    except PreconditionFailed:
        return "lost_race"
    ctx.on_event(events.CreateRefused(execution_id=execution_id, batch_id=row.batch_id, reason=reason))
    if isinstance(error, Unauthorized):
        raise error
    return "held_back" if capacity else f"refused:{reason}: {_shown(error)}"


def _refusal(error: Exception) -> str:
    if isinstance(error, RefusedRequest):
        return provider_word(error.reason)
    return {Throttled: "throttled", NotFound: "input_file_not_found"}.get(type(error), "unauthorized")


def _upload(ctx: Context, row: BatchRow) -> str:
    with ctx.scratch() as folder:
        return ctx.provider.upload(request_file(ctx, row, folder))


def _update(ctx: Context, row: BatchRow, changes: dict[str, object]) -> BatchRow:
    return ctx.table.update(row.batch_id, changes, status=row.status, revision=row.revision)


def _search(ctx: Context, rows: list[BatchRow], execution_id: str) -> int:
    """Look for rows in the provider's list: how many are found there."""
    wanted = {row.batch_id: row for row in rows}
    return sum(_created(ctx, wanted[name], batch, execution_id, found=True) for name, batch in _in_list(ctx, wanted))


def _created(ctx: Context, row: BatchRow, batch: ProviderBatch, execution_id: str, *, found: bool) -> bool:
    try:
        _update(ctx, row, created_changes(batch.id, batch.status))
    except PreconditionFailed:
        return False  # another invocation found it first
    except NewerSchema:
        raise
    except CorruptData as error:  # the row was damaged since it was read; a poll finds its batch once it is mended
        ctx.on_event(events.RowUnreadable(execution_id=execution_id, batch_id=row.batch_id, error=error.message))
        return False
    ctx.on_event(_found(execution_id, row, batch, found=found))
    return True
