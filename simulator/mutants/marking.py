"""Planted bugs of marking: what counts as proven, and in which order a batch and its retries end and begin."""

from __future__ import annotations

from typing import Final

from simulator.mutants.model import mutant

__all__ = ["MARKING"]

MARKING: Final = (
    mutant(
        "wait_is_marked",
        "G3",
        "A result is a result: whatever was polled is marked.",
        (
            "stages.mark_complete",
            "    if result.action in TERMINAL_ACTIONS:\n        return None\n",
            "    return None\n",
        ),
        ("steps.mark_complete", "if result.embedding_count or row.request_count is not None:", "if False:"),
    ),
    mutant(
        "proof_is_skipped",
        "G3",
        "The merge has succeeded, so its rows are in the catalog.",
        ("steps.mark_complete", "        if lacking:\n", "        if False:\n"),
    ),
    mutant(
        "failed_merge_is_success",
        "G3",
        "There is a version, so the merge has succeeded.",
        ("steps.mark_complete", "        if lacking:\n", "        if lacking and base.version is None:\n"),
    ),
    mutant(
        "older_claim_proves",
        "G3",
        "The record is in the catalog.",
        (
            "stages.proof",
            "proven[found] = (seq > own_seq) | ((seq == own_seq) & (attempt >= own_attempt))",
            "proven[found] = True",
        ),
    ),
    mutant(
        "zero_results_never_marked",
        "G4",
        "Without a vector there is nothing to mark.",
        (
            "stages.mark_complete",
            "    if result.action in TERMINAL_ACTIONS:\n        return None\n",
            "    if result.action in TERMINAL_ACTIONS and result.embedding_count:\n        return None\n",
        ),
    ),
    mutant(
        "failures_never_marked",
        "G4",
        "A failure is handled by people.",
        (
            "stages.mark_complete",
            "    if result.action in TERMINAL_ACTIONS:\n        return None\n",
            '    if result.action in TERMINAL_ACTIONS and result.batch_status != "failed":\n        return None\n',
        ),
    ),
    mutant(
        "parent_before_retry",
        "G2",
        "First end the parent, then store what has to be sent again. (T13)",
        (
            "steps.mark_complete",
            "        for batch in retry:\n            _store_retry(ctx, found.row, batch)\n",
            "",
        ),
        (
            "steps.mark_complete",
            "    except PreconditionFailed:\n        return _changed_meanwhile(ctx, found.row, execution_id)\n",
            "        for batch in retry:\n            _store_retry(ctx, found.row, batch)\n"
            "    except PreconditionFailed:\n        return _changed_meanwhile(ctx, found.row, execution_id)\n",
        ),
    ),
    mutant(
        "retry_row_before_its_files",
        "G2",
        "The row says what has to be sent; the files follow.",
        ("steps.mark_complete", "    ctx.table.put_new(row)\n", "    pass\n"),
        (
            "steps.mark_complete",
            "        hashes = [\n            _put_once(ctx, ctx.layout.requests_key(retry.batch_id), requests, folder),\n",
            "        from embedpipe.vectors import sha256_file\n\n"
            "        early = decide.retry_row(\n            parent,\n            retry,\n"
            "            request_sha256=sha256_file(requests),\n            records_sha256=sha256_file(records),\n"
            "            now=ctx.clock.now(),\n            policy=ctx.policy,\n        )\n"
            "        ctx.table.put_new(early)\n"
            "        hashes = [\n            _put_once(ctx, ctx.layout.requests_key(retry.batch_id), requests, folder),\n",
        ),
    ),
    mutant(
        "retry_named_by_execution",
        "G5",
        "Each execution names the retries that it makes.",
        (
            "steps.mark_complete",
            "    retry = decide.retry_batches(found.row, found.retry)\n",
            "    from uuid import uuid5\n\n"
            "    retry = tuple(\n"
            "        attrs.evolve(batch, batch_id=str(uuid5(decide.RETRY_NAMESPACE, batch.batch_id + execution_id)))\n"
            "        for batch in decide.retry_batches(found.row, found.retry)\n    )\n",
        ),
    ),
    mutant(
        "retries_not_named",
        "G5",
        "A retry names its parent; that is enough.",
        (
            "stages.mark_complete",
            '        "retry_batch_ids": tuple(batch.batch_id for batch in retry),\n',
            '        "retry_batch_ids": (),\n',
        ),
    ),
    mutant(
        "retry_keeps_its_claim",
        "G6",
        "The same records, the same claim. (T9)",
        ("stages.mark_complete", "    attempt = row.attempt + 1\n", "    attempt = row.attempt\n"),
    ),
    mutant(
        "rejected_not_looked_at",
        "G4",
        "A batch is complete when all of its records are in the catalog.",
        (
            "steps.mark_complete",
            "    without = {entry.id for entry in rejected} | {entry.id for entry in retry}\n",
            "    without = {entry.id for entry in retry}\n",
        ),
    ),
    mutant(
        "everything_ends_completed",
        "G3",
        "Marked is marked.",
        (
            "stages.mark_complete",
            '    return ENDINGS.get(result.batch_status or "completed", Event.PROVEN)\n',
            "    return Event.PROVEN\n",
        ),
    ),
    mutant(
        "ended_by_listing",
        "G3",
        "What two executions both look at, both may end: the last one is right.",
        (
            "steps.mark_complete",
            "        row = ctx.table.update(found.row.batch_id, changes, status=found.row.status, "
            "revision=found.row.revision)\n",
            "        now = ctx.table.get_many([found.row.batch_id])[found.row.batch_id]\n"
            "        row = ctx.table.update(now.batch_id, changes, status=now.status, revision=now.revision)\n",
        ),
    ),
)
