"""Planted bugs of submitting and creating: what is new, the ledger, and who calls create."""

from __future__ import annotations

from typing import Final

from simulator.mutants.model import mutant

__all__ = ["SUBMISSION"]

SUBMISSION: Final = (
    mutant(
        "keys_of_seq",
        "G2",
        "A batch is named well enough by its number; the hashes only make the name long. (T1)",
        (
            "steps.submit",
            "cut.part, request_sha256, records_sha256)\n    ctx.objects.upload(ctx.layout.requests_key(name)",
            'cut.part, "", "")\n    ctx.objects.upload(ctx.layout.requests_key(name)',
        ),
    ),
    mutant(
        "keys_of_seq_written_once",
        "G4",
        "Two submitters of one name must not overwrite each other, so the second is refused. (T2)",
        (
            "steps.submit",
            "cut.part, request_sha256, records_sha256)\n    ctx.objects.upload(ctx.layout.requests_key(name), "
            "files.requests_path)",
            'cut.part, "", "")\n    ctx.objects.upload(ctx.layout.requests_key(name), files.requests_path, '
            "if_none_match=True)",
        ),
    ),
    mutant(
        "any_claim_counts",
        "G6",
        "A text that is being embedded already need not be submitted. (T4)",
        (
            "stages.streams",
            '("seq", "descending"), ("attempt", "descending")])\n    rows',
            '("seq", "ascending"), ("attempt", "ascending")])\n    rows',
        ),
    ),
    mutant(
        "known_by_id",
        "G6",
        "A record that is known is known.",
        (
            "stages.submit",
            'equal = pc.fill_null(pc.equal(rows.column("content_hash"), pa.chunked_array([claimed])), False)',
            "equal = pa.chunked_array([pc.is_valid(claimed)])",
        ),
    ),
    mutant(
        "open_batches_unknown",
        "G5",
        "The catalog says what is there.",
        (
            "steps.submit",
            "open_ids = {name for name in names if name not in rows or rows[name].status in OPEN}",
            "open_ids = set(names[:0])",
        ),
    ),
    mutant(
        "batches_without_a_row_unknown",
        "G5",
        "A batch that has no row is none.",
        (
            "steps.submit",
            "if name not in rows or rows[name].status in OPEN}",
            "if name in rows and rows[name].status in OPEN}",
        ),
    ),
    mutant(
        "root_ends_with_its_parent",
        "G5",
        "A batch that has ended leaves the ledger; its retries have rows of their own. (T5)",
        (
            "stages.submit",
            "            below += [retry for retry in row.retry_batch_ids if retry not in seen]\n",
            "",
        ),
    ),
    mutant(
        "catalog_before_ledger",
        "G5",
        "The order of reads does not matter, since the ledger is moved conditionally. (T6)",
        (
            "steps.submit",
            "    head, etag = read_head(ctx)\n    rows = rows_and_retries",
            "    base = read_base(ctx)\n    head, etag = read_head(ctx)\n    rows = rows_and_retries",
        ),
        ("steps.submit", "if head else [])\n    base = read_base(ctx)\n", "if head else [])\n"),
    ),
    mutant(
        "submitters_forgotten",
        "G7",
        "Who finds nothing new submits nothing, so a repetition is harmless. (T7)",
        ("stages.submit", "entries = head.submitters if head else ()", "entries = head.submitters[:0] if head else ()"),
    ),
    mutant(
        "ledger_unconditional",
        "G2",
        "Two submissions at once are rare, and a conflict is a nuisance.",
        (
            "steps.submit",
            "ctx.objects.put(key, moved.dump(), if_none_match=etag is None, if_match=etag)",
            "ctx.objects.put(key, moved.dump())",
        ),
    ),
    mutant(
        "seq_stands_still",
        "G6",
        "The number of a submission need only differ within a batch.",
        ("steps.submit", "(head.seq if head else 0) + 1, folder)", "1, folder)"),
        ("stages.submit", "seq = head.seq + 1 if roots else head.seq", "seq = 1 if roots else head.seq"),
    ),
    mutant(
        "rows_put_at_submission",
        "G4",
        "A ledger that has its rows is whole: one look at the first is enough.",
        (
            "steps.create",
            "lacking = [row_of(root, ctx.kind) for root in head.open if root.batch_id not in rows]",
            "lacking = [row_of(root, ctx.kind) for root in head.open if not rows]",
        ),
    ),
    mutant(
        "create_again",
        "G5",
        "A batch that is still being created was not created: create it. (T8)",
        (
            "steps.create",
            "    waiting_rows = _listed(ctx, Status.INTENT)\n",
            "    waiting_rows = [*_listed(ctx, Status.INTENT), *_listed(ctx, Status.CREATING)]\n",
        ),
    ),
    mutant(
        "create_retried",
        "G5",
        "A call that got no answer is repeated, as any other.",
        (
            "steps.create",
            "        batch = ctx.provider.create(row.input_file_id, metadata)\n    except (Refused",
            "        try:\n            batch = ctx.provider.create(row.input_file_id, metadata)\n"
            "        except Transient:\n            batch = ctx.provider.create(row.input_file_id, metadata)\n"
            "    except (Refused",
        ),
    ),
    mutant(
        "claim_after_create",
        "G5",
        "The row is written when there is something to write: after the create.",
        ("steps.create", "        row = _update(ctx, row, claim_changes(ctx.clock.now()))\n", ""),
        (
            "steps.create",
            '    return "created" if _created(ctx, row, batch, execution_id, found=False)',
            "    row = _update(ctx, row, claim_changes(ctx.clock.now()))\n"
            '    return "created" if _created(ctx, row, batch, execution_id, found=False)',
        ),
    ),
    mutant(
        "both_win",
        "G5",
        "The row is CREATING: who has set it does not matter.",
        (
            "steps.create",
            '    except PreconditionFailed:\n        return "lost_race"\n    if known is not None:',
            "    except PreconditionFailed:\n        pass\n    if known is not None:",
        ),
    ),
    mutant(
        "stale_index_believed",
        "G5",
        "The index says INTENT, so the row is.",
        (
            "steps.create",
            "mine = [row for row in rows.values() if row.status is status and row.serves(ctx.kind)]",
            "mine = [row for row in rows.values() if row.serves(ctx.kind) and row.status not in "
            "(Status.COMPLETED, Status.FAILED, Status.EXPIRED, Status.CANCELLED)]",
        ),
    ),
    mutant(
        "lost_answer_is_refusal",
        "G5",
        "No answer means no batch: the row goes back and is created again.",
        (
            "steps.create",
            "    except Transient:\n        ctx.on_event(",
            '    except Transient:\n        _update(ctx, row, refused_changes("unavailable", None))\n'
            '        return "held_back"\n        ctx.on_event(',
        ),
    ),
    mutant(
        "a_page_of_keys",
        "G4",
        "A BatchGet returns all that it was asked for; what it leaves out comes the next time.",
        ("steps.context", "return dict(ctx.table.get_many(names))", "return dict(ctx.table.get_many(names[:2]))"),
    ),
)
