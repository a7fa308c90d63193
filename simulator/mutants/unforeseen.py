"""Planted bugs that somebody thought of who had not read the judges: most of them went unnoticed at first.

What had been missing were records that differ in more than their text, requests that say more than a text, and rules for what
is told and promised beside what is stored.
"""

from __future__ import annotations

from typing import Final

from simulator.mutants.model import mutant

__all__ = ["UNFORESEEN"]

UNFORESEEN: Final = (
    mutant(
        "given_up_at_once",
        "G5",
        "It was not found, so it is not there.",
        ("stages.poll", "    return overdue(began, now, policy.ambiguous_after_s)", "    return True"),
    ),
    mutant(
        "ambiguity_not_told",
        "G5",
        "Whether it was made shows soon enough.",
        (
            "steps.create",
            "        ctx.on_event(events.AmbiguousCreate(execution_id=execution_id, batch_id=row.batch_id))\n",
            "        pass\n",
        ),
    ),
    mutant(
        "metadata_not_merged",
        "G6",
        "A vector and its text are what is searched.",
        (
            "steps.upsert",
            'metadatas=[metadata_from_json(text or "") for text in rows.column("metadata").to_pylist()]',
            'metadatas=[{} for text in rows.column("metadata").to_pylist()]',
        ),
    ),
    mutant(
        "retry_without_metadata",
        "G6",
        "A retry needs the text.",
        (
            "steps.mark_complete",
            '    columns["tries"] = pa.array(tries, pa.int32())',
            '    columns["tries"] = pa.array(tries, pa.int32())\n    columns["metadata"] = pa.array([""] * len(positions))',
        ),
    ),
    mutant(
        "retry_without_text",
        "G6",
        "The text is in the request.",
        (
            "steps.mark_complete",
            '    columns["tries"] = pa.array(tries, pa.int32())',
            '    columns["tries"] = pa.array(tries, pa.int32())\n    columns["document"] = pa.array([""] * len(positions))',
        ),
    ),
    mutant(
        "ids_made_alike",
        "G2",
        "Ids are tidied before they are sent.",
        (
            "stages.submit",
            "        request.custom_id = record_id\n",
            "        request.custom_id = record_id.strip().lower()\n",
        ),
    ),
    mutant(
        "text_cut",
        "G2",
        "A model reads the beginning only.",
        ("stages.submit", "        request.body.input = text\n", "        request.body.input = text[:1000]\n"),
    ),
    mutant(
        "dimensions_not_asked_for",
        "G9",
        "The model knows how long its vectors are.",
        (
            "stages.submit",
            "    dimensions = model.dimensions if model.send_dimensions else msgspec.UNSET",
            "    dimensions = msgspec.UNSET",
        ),
    ),
    mutant(
        "file_size_not_looked_at",
        "G9",
        "So many requests are never that large.",
        (
            "stages.submit",
            'int(np.searchsorted(np.cumsum(line_bytes), limits.file_bytes - state.file_bytes, side="right"))',
            "len(line_bytes) + 1",
        ),
    ),
    mutant(
        "one_reason_for_all",
        "G2",
        "A request that is refused was invalid.",
        (
            "stages.conclude",
            "                reason=why,\n",
            '                reason="invalid_input" if why != "attempts_exhausted" else why,\n',
        ),
    ),
    mutant(
        "message_dropped",
        "G2",
        "The code says it.",
        ("stages.conclude", "                message=message,\n", '                message="",\n'),
    ),
    mutant(
        "row_lost_between_blocks",
        "G2",
        "The next block begins behind the last row.",
        ("steps.merge", "pending[:] = [rows.slice(most)] if", "pending[:] = [rows.slice(most + 1)] if"),
    ),
    mutant(
        "always_inline",
        "G8",
        "A listing is short.",
        ("stages.list_pending", "    inline = len(stored.batches) <= inline_max", "    inline = True"),
    ),
    mutant(
        "newest_first",
        "G4",
        "What was submitted last is wanted first.",
        (
            "stages.list_pending",
            "key=lambda row: (row.claim, row.batch_id)))",
            "key=lambda row: (row.claim, row.batch_id), reverse=True))",
        ),
    ),
    mutant(
        "doubled_record_dropped",
        "G2",
        "Of two records with one id the first is meant.",
        ("stages.submit", "    if differ.any():\n", "    if False:\n"),
        missed="No submission here names a record twice: tests/unit/test_stage_submit.py has it.",
    ),
    mutant(
        "model_not_compared",
        "G6",
        "A collection is made with one model.",
        ("stages.creation", "    if made_with != (model.name, model.dimensions):", "    if False:"),
        missed="No release here is of another model: tests/unit/test_stage_submit.py has it.",
    ),
    mutant(
        "not_read_back",
        "G3",
        "What was written is there.",
        ("steps.merge", "        read_back(collection, block)\n", ""),
        missed="A gap: no simulated store loses rows that it has accepted.",
    ),
    mutant(
        "oldest_submitters_kept",
        "G7",
        "The list is full.",
        (
            "stages.submit",
            "submitters=(*head.submitters, entry)[-SUBMITTERS_KEPT:]",
            "submitters=(*head.submitters, entry)[:SUBMITTERS_KEPT]",
        ),
        missed="A gap: it takes a thousand submitters.",
    ),
    mutant(
        "since_in_the_future_believed",
        "G4",
        "What a register says was so.",
        (
            "stages.poll",
            '        return min(parse_time(register.since, "since"), now)',
            '        return parse_time(register.since, "since")',
        ),
        missed="It waits hours longer, and ends: faults stop after two days at most.",
    ),
)
