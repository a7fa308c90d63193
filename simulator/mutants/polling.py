"""Planted bugs of listing, polling and normalising: what is looked at, what is believed, and what is kept of it."""

from __future__ import annotations

from typing import Final

from simulator.mutants.model import mutant

__all__ = ["POLLING"]

POLLING: Final = (
    mutant(
        "another_collection_listed",
        "G3",
        "T11: What is pending in the table is pending.",
        (
            "stages.list_pending",
            "if row.status in LISTED and row.serves(kind)}",
            "if row.status in LISTED}",
        ),
        (
            "steps.context",
            "for row in healthy_rows(ctx, block).values() if row.serves(kind))",
            "for row in healthy_rows(ctx, block).values())",
        ),
    ),
    mutant(
        "listing_without_creating",
        "G4",
        "Only what was created can be polled.",
        ("stages.list_pending", "LISTED = (Status.PENDING, Status.CREATING)", "LISTED = (Status.PENDING,)"),
    ),
    mutant(
        "capped_listing",
        "G4",
        "One batch at a time keeps an execution short.",
        (
            "stages.list_pending",
            "return tuple(sorted(listed.values(), key=lambda row: (row.claim, row.batch_id)))",
            "return tuple(sorted(listed.values(), key=lambda row: row.batch_id))[:1]",
        ),
    ),
    mutant(
        "listed_once",
        "G4",
        "A batch that was polled is in somebody's hands.",
        (
            "steps.list_pending",
            "        _check_model(ctx, rows)\n",
            "        from embedpipe.steps.context import read_result\n\n"
            "        rows = tuple(row for row in rows if read_result(ctx, row.batch_id) is None)\n"
            "        _check_model(ctx, rows)\n",
        ),
    ),
    mutant(
        "listing_overwritten",
        "G1",
        "A repeated delivery lists again: the newer listing is the truer one.",
        (
            "steps.list_pending",
            "    stored = read_manifest(ctx, execution_id)\n    if stored is None:\n        names",
            "    stored = None\n    if stored is None:\n        names",
        ),
        (
            "steps.list_pending",
            "ctx.objects.put(key, fresh.dump(), if_none_match=True)",
            "ctx.objects.put(key, fresh.dump())",
        ),
    ),
    mutant(
        "late_wait_overwrites",
        "G3",
        "The newest look at a batch is the truest. (T12)",
        (
            "stages.poll",
            "    if stored is not None and stored.action in TERMINAL_ACTIONS:\n",
            "    if proposed.action is Action.WAIT:\n        return True\n"
            "    if stored is not None and stored.action in TERMINAL_ACTIONS:\n",
        ),
    ),
    mutant(
        "register_unconditional",
        "G3",
        "One execution polls a batch, so nobody else writes its register.",
        (
            "steps.poll",
            "ctx.objects.put(key, result.dump(), if_none_match=etag is None, if_match=etag)",
            "ctx.objects.put(key, result.dump())",
        ),
    ),
    mutant(
        "lost_create_ends_its_row",
        "G2",
        "A create that was lost has failed: say so at once. (T3)",
        (
            "steps.poll",
            '        return _conclude_without_files(look, decide.ended_without_batch("create_lost"))\n',
            '        ctx.table.update(row.batch_id, {"status": Status.FAILED}, status=row.status, revision=row.revision)\n'
            '        return _conclude_without_files(look, decide.ended_without_batch("create_lost"))\n',
        ),
    ),
    mutant(
        "unknown_is_lost",
        "G5",
        "404: the batch is gone. (T15)",
        ("steps.poll", "    if look.overdue(WaitReason.NOT_FOUND, policy.lost_after_s):\n", "    if True:\n"),
    ),
    mutant(
        "no_settling",
        "G9",
        "Completed is completed: what has no line by now has failed. (T16)",
        ("steps.poll", "if not settled(batch, fold, output_absent=absent) and not _settle_overdue(look):", "if False:"),
    ),
    mutant(
        "null_output_is_none",
        "G9",
        "Without an output file there is no output.",
        (
            "steps.poll",
            "batch.output_file_id is None and batch.counts.completed > 0 and not _settle_overdue(look)",
            "False",
        ),
        (
            "stages.fold",
            "    if output_absent and batch.counts.completed > 0:\n        return False\n",
            "    if output_absent:\n        return True\n",
        ),
    ),
    mutant(
        "partial_thrown_away",
        "G9",
        "A batch that has expired has failed.",
        (
            "stages.conclude",
            "    rejected: list[Rejected] = []\n",
            "    if batch.status != 'completed':\n        fold.slots[:] = [-1] * len(fold.ids)\n"
            "    rejected: list[Rejected] = []\n",
        ),
    ),
    mutant(
        "files_of_completed_only",
        "G9",
        "Only a completed batch has files.",
        (
            "steps.poll",
            "    if file_id is None:\n        return False\n    try:",
            "    if file_id is None or 'expired' in str(file_id):\n        return False\n    try:",
        ),
        (
            "steps.poll",
            "        absent = not _read_file(look, batch.output_file_id, fold, scratch)\n",
            '        absent = batch.status != "completed" or not _read_file(look, batch.output_file_id, fold, scratch)\n',
        ),
        (
            "steps.poll",
            "if not settled(batch, fold, output_absent=absent) and",
            'if batch.status == "completed" and not settled(batch, fold, output_absent=absent) and',
        ),
    ),
    mutant(
        "lines_in_order",
        "G2",
        "The provider answers in the order of the requests.",
        (
            "stages.fold",
            "        at = self._index.get(line.custom_id)\n",
            "        at = self.lines - 1 if self.lines <= len(self.ids) else None\n",
        ),
    ),
    mutant(
        "last_line_wins",
        "G9",
        "The newest line of an id is its answer, also where it is an error.",
        (
            "stages.fold",
            "        if self.slots[at] >= 0:\n            self.doubled += 1\n            return False\n"
            "        if line.vector is None:\n",
            "        if line.vector is None:\n            self.slots[at] = -1\n",
        ),
        missed="No line contradicts another here: an id with a vector and an error is tested with the fold.",
    ),
    mutant(
        "first_error_rejects",
        "G9",
        "An error is an error: the record is at fault.",
        ("stages.fold", "    if final and code not in RETRIED_CODES:\n", "    if True:\n"),
    ),
    mutant(
        "one_bad_line_fails_all",
        "G10",
        "A batch that failed its validation has failed. (T19)",
        (
            "stages.conclude",
            "    rest = Fault(Cause.BATCH, code, message)\n",
            "    rest = Fault(None, code, message)\n",
        ),
    ),
    mutant(
        "halves_forget_one",
        "G2",
        "A batch that fails is halved; the second half waits for the first.",
        (
            "stages.mark_complete",
            "        for part in sorted({entry.part for entry in retry})\n",
            "        for part in sorted({entry.part for entry in retry})[:1]\n",
        ),
    ),
    mutant(
        "capacity_costs_the_record",
        "G9",
        "A queue that is full is an error as any other.",
        (
            "stages.conclude",
            "            refusal = Fault(Cause.CAPACITY, issue.code, issue.message)\n",
            "            refusal = Fault(None, issue.code, issue.message)\n",
        ),
    ),
    mutant(
        "delta_has_the_name_of_its_batch",
        "G6",
        "A name that can be worked out again needs no clean-up. (T20)",
        ("steps.delta", "delta_id = ctx.clock.new_id()", "delta_id = row.batch_id"),
    ),
    mutant(
        "unreadable_is_left_out",
        "G1",
        "What can't be read is no result.",
        (
            "steps.normalize",
            "        for batch in manifest.batches\n",
            "        for batch in manifest.batches\n        if not isinstance(_register(ctx, batch.batch_id), str)\n",
        ),
    ),
    mutant(
        "one_bad_result_stops_all",
        "G10",
        "A result that is missing is an error.",
        (
            "steps.normalize",
            '    return found[0] if found else "there is no result: its poll failed"\n',
            '    if found is None:\n        raise NotFound("there is no result: its poll failed")\n    return found[0]\n',
        ),
    ),
    mutant(
        "wrong_project_not_noticed",
        "G5",
        "Each batch is judged by itself.",
        ("stages.normalize", "    if not strange or 2 * len(strange) <= len(results):\n", "    if True:\n"),
        missed="A defence in depth: a 404 is a wait for so long that a wrong key is noticed by people.",
    ),
)
