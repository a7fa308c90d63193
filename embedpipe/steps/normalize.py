"""Normalise: gather every listed register into one array and store it as `poll_results.json`."""

from __future__ import annotations

from collections.abc import Sequence

from embedpipe import events
from embedpipe.errors import CorruptData, NotFound
from embedpipe.stages import normalize as decide
from embedpipe.steps.context import Context, read_result
from embedpipe.steps.list_pending import read_manifest
from embedpipe.wire import Manifest, Normalised, Result, dump_many


def normalize(ctx: Context, *, execution_id: str, poll_results: Sequence[object] | None = None) -> Normalised:
    """Exactly the listed batches, each once. Raises `ProviderMismatch` where the provider is probably not ours.

    `poll_results`: what the Map returned: references, full results or nulls; None above the inline limit.
    """
    manifest = _manifest(ctx, execution_id)
    given = decide.given_results(poll_results)
    results = [
        decide.with_own_name(batch, decide.one(batch, _register(ctx, batch.batch_id), given.get(batch.batch_id)))
        for batch in manifest.batches
    ]
    decide.check_provider(results, execution_id)
    key = ctx.layout.poll_results_key(execution_id)
    ctx.objects.put(key, dump_many(results))
    for result in decide.unreadable(results):
        reason = result.reason or ""
        ctx.on_event(events.ResultUnreadable(execution_id=execution_id, batch_id=result.batch_id, reason=reason))
    return Normalised(batch_id=execution_id, poll_results_s3_key=key, poll_results_s3_bucket=ctx.objects.bucket)


def _manifest(ctx: Context, execution_id: str) -> Manifest:
    found = read_manifest(ctx, execution_id)
    if found is None:
        key = ctx.layout.manifest_key(execution_id)
        raise NotFound(f"{key} is missing: this execution has no listing.", hint="Start a new one.", key=key)
    return found[0]


def _register(ctx: Context, batch_id: str) -> Result | str:
    try:
        found = read_result(ctx, batch_id)
    except CorruptData as error:
        return error.message
    return found[0] if found else "there is no result: its poll failed"
