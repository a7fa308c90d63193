"""List: find the open rows through the index, confirm each by a consistent read, store the manifest once."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from embedpipe import events
from embedpipe.errors import InvalidInput, NotFound, PreconditionFailed
from embedpipe.model import BatchRow
from embedpipe.stages import list_pending as decide
from embedpipe.stages.creation import check_collection
from embedpipe.steps.context import Context, healthy_rows, read
from embedpipe.wire import Listing, Manifest, dump_many


def list_pending(ctx: Context, *, execution_id: str) -> Listing:
    """The batches that this execution looks at. The first manifest stored for an execution is its listing for good."""
    key = ctx.layout.manifest_key(execution_id)
    stored = read_manifest(ctx, execution_id)
    if stored is None:
        names = [name for status in decide.LISTED for name in ctx.table.by_status(ctx.kind.batch_type, status)]
        rows = decide.pending(healthy_rows(ctx, names).values(), ctx.kind)
        _check_model(ctx, rows)
        fresh = decide.manifest(rows, ctx.kind, execution_id=execution_id, created_at=ctx.now_text())
        with suppress(PreconditionFailed):  # a delivery of the same execution was first: its manifest is the listing
            ctx.objects.put(key, fresh.dump(), if_none_match=True)
        stored = read_manifest(ctx, execution_id)
    else:
        rows = _check_ours(ctx, stored[0])
    if stored is None:
        raise NotFound(f"{key} was written and can't be read.", hint="Check the object store.", key=key)
    manifest, key = stored
    oldest_s = decide.oldest_s(rows, ctx.clock.now())
    ctx.on_event(events.Listed(execution_id=execution_id, batches=manifest.total_batches, oldest_s=oldest_s))
    ctx.objects.put(ctx.layout.items_key(execution_id), dump_many(manifest.batches))
    return decide.listing(manifest, inline_max=ctx.policy.inline_batches_max, key=key, bucket=ctx.objects.bucket)


def read_manifest(ctx: Context, execution_id: str) -> tuple[Manifest, str] | None:
    """The listing of an execution and its key: ours, else what a deployment of the seed's design laid down. `CorruptData`."""
    for key in (ctx.layout.manifest_key(execution_id), ctx.layout.deployed_manifest_key(execution_id)):
        found = read(ctx, Manifest, key)
        if found is not None:
            decide.check_manifest(found[0], execution_id=execution_id, key=key)
            return found[0], key
    return None


def _check_model(ctx: Context, rows: Iterable[BatchRow]) -> None:
    """Refuse to poll what was submitted for another model: its vectors would fit nowhere. The seed's rows name none.

    Where some rows name this model, another's row is damaged: its own poll says so, and costs nobody else.
    """
    found = [(row.model, row.dimensions) for row in rows if row.model is not None and row.dimensions is not None]
    if found and (ctx.model.name, ctx.model.dimensions) not in found:
        check_collection(ctx.kind, ctx.model, found[0])


def _check_ours(ctx: Context, manifest: Manifest) -> tuple[BatchRow, ...]:
    """The rows to poll. Refuses the listing of an execution of another collection: its deltas would be merged into ours."""
    rows = healthy_rows(ctx, (batch.batch_id for batch in manifest.batches))
    if not all(row.serves(ctx.kind) for row in rows.values()):
        raise InvalidInput(
            f"Execution {manifest.execution_id} listed batches of another collection than '{ctx.kind.collection}'.",
            hint="Give each execution an id of its own.",
            execution_id=manifest.execution_id,
        )
    return decide.pending(rows.values(), ctx.kind)
