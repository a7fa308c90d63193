"""Why mutations of the steps survive that carry vectors into the collection: deltas, chunks, merge, journal and mark."""

from __future__ import annotations

from typing import Final

from simulator.mutations.survivors.verdicts import Survivor, equivalent, gap, out

__all__ = ["MERGING"]

_NEWER: Final = "What a newer version wrote; property/test_damage.py."
_SEEDS: Final = "What a deployment of the seed left; protocol/test_deployed_seed.py."
_GONE: Final = "Objects that are damaged or gone for good; protocol/test_lost_objects.py."
_TOLD: Final = "What is told and decides nothing"
_NO_JOURNAL: Final = (
    "As the planted bugs `no_journal` and `distrust_forgotten`: a merge in place that dies half-way, twice."
)
_MERGE_TIME: Final = "A merge that runs out of its time; unit/test_merge_budget.py."
_DELETING: Final = "The provider's files stay in these scenarios; protocol/test_provider_files.py."
_BAD_EVENT: Final = "Events that no caller of ours sends; aws/test_handlers.py."
_MANY_ROWS: Final = "How many records are held or written at a time: none of it is reached by so few."

MERGING: Final[tuple[Survivor, ...]] = (
    # --- chunk ---
    out("steps.chunk:split", "bool-1", "A word for state machines; aws/test_state_machine.py."),
    gap(
        "steps.chunk:split",
        "argument-3 constant-1",
        "As the planted bug `chunks_replaced`, which takes two runs of `flips` under `echoes`, and 50 of `mix`.",
    ),
    out("steps.chunk:packed_file", "except-2", _GONE),
    out("steps.chunk:packed_file", "drop-2 except-1", _NEWER),
    out("steps.chunk:process", "drop-2", f"{_TOLD}: what is left out."),
    out("steps.chunk:packed_file", "drop-3", f"{_TOLD}: what is left out."),
    equivalent(
        "steps.chunk:mapped_delta", "except-1", "The whole chunk is left out, and merged by the next execution."
    ),
    gap("steps.chunk:mapped_delta", "drop-4", "A dead writer whose delta can't be read, and then an older text."),
    out("steps.chunk:process", "compare-1 drop-1", _BAD_EVENT),
    out("steps.chunk:process", "argument-1 argument-2", f"{_TOLD}; the hash of what is packed is looked at."),
    out("steps.chunk:mapped_delta", "drop-1 drop-2 drop-3", "Deltas of others; unit/test_step_poll.py."),
    # --- delta ---
    equivalent("steps.delta:store", "bool-1", "Vectors, batch and settings say the same."),
    equivalent("steps.delta:is_whole", "compare-1", "What is whole is made again, with the same retry set."),
    equivalent("steps.delta:_vector_batches", "constant-2", "Any negative length is the one that is left."),
    equivalent("steps.delta:store", "bool-2", "Batch and settings name the same model."),
    equivalent("steps.delta:_vector_batches", "drop-1", "All vectors are in one block: so few are."),
    out("steps.delta:is_whole", "*", "Deltas that are damaged for good; property/test_damage.py."),
    out("steps.delta:needs_none", "*", _SEEDS),
    out("steps.delta:_columns", "*", _SEEDS),
    # --- journal ---
    gap(
        "steps.journal:_not_ended",
        "bool-1 compare-2",
        "A dead writer whose delta can't be read, and then an older text.",
    ),
    equivalent("steps.journal:to_finish", "constant-1 not-1", "A merge of nothing is begun, and finds nothing."),
    gap("steps.journal:Inheritance.ids", "not-1", _NO_JOURNAL),
    gap("steps.journal:end", "drop-1", "A dead writer whose delta can't be read, and then an older text."),
    out("steps.journal:find", "*", _NEWER),
    out("steps.journal:_open_batches", "*", "A journal that is damaged; protocol/test_lost_objects.py."),
    # --- mark_complete ---
    equivalent(
        "steps.mark_complete:_groups",
        "arithmetic-1 arithmetic-2 arithmetic-3 bool-1 bool-2 bool-3 compare-1 constant-1 constant-2 constant-3 drop-3",
        "How many batches are proven together.",
    ),
    out(
        "steps.mark_complete:_put_once",
        "argument-1 constant-1 drop-3",
        "Retries of other hands; unit/test_step_mark_complete.py.",
    ),
    equivalent("steps.mark_complete:_put_once", "drop-4", "Temporary files go with their folder."),
    out(
        "steps.mark_complete:_mark_group",
        "drop-2 drop-3",
        f"{_TOLD}: why a batch is not ended; unit/test_step_mark_complete.py.",
    ),
    equivalent("steps.mark_complete:_needed", "call-1", "A set of ids has no order."),
    gap("steps.mark_complete:_end", "except-2", "A record file that comes damaged when a retry is made of it."),
    out(
        "steps.mark_complete:mark_complete",
        "drop-3",
        f"{_TOLD}: what an execution did with each batch; unit/test_step_mark_complete.py.",
    ),
    equivalent("steps.mark_complete:_lacking", "argument-4 constant-1", "How much is looked at at a time."),
    equivalent("steps.mark_complete:_mark_group", "argument-1 constant-1", "There are as many of each."),
    out(
        "steps.mark_complete:_unproven",
        "argument-1 constant-1",
        f"{_TOLD}: how a run ends; protocol/test_true_endings.py.",
    ),
    equivalent("steps.mark_complete:_lacking", "argument-1", "All have the same columns."),
    out("steps.mark_complete:mark_complete", "drop-1", "A call of whoever wants to stop; cli/test_work.py."),
    out("steps.mark_complete:mark_complete", "drop-4", f"{_TOLD}."),
    equivalent(
        "steps.mark_complete:mark_complete", "condition-1", "Whether files may go is asked again for each batch."
    ),
    out("steps.mark_complete:mark_complete", "compare-1 drop-5", _DELETING),
    gap("steps.mark_complete:_groups", "constant-4 drop-1", "More than 500,000 records to prove: the groups' limit."),
    out(
        "steps.mark_complete:_gather",
        "drop-2 drop-3",
        "Deltas that are not the batch's; unit/test_step_mark_complete.py.",
    ),
    out(
        "steps.mark_complete:_promised",
        "compare-1",
        "Deltas of other records than the batch's; unit/test_step_mark_complete.py.",
    ),
    out(
        "steps.mark_complete:_write_retry_files", "drop-1", "Deltas of other records; unit/test_step_mark_complete.py."
    ),
    out("steps.mark_complete:_report", "*", f"{_TOLD}: a line of the log; aws/test_alarms.py."),
    out("steps.mark_complete:_gather", "*", f"{_SEEDS[:-1]}, unit/test_step_mark_complete.py."),
    out("steps.mark_complete:_check_sum", "*", "Deltas that don't add up; unit/test_step_mark_complete.py."),
    out(
        "steps.mark_complete:_changed_meanwhile",
        "*",
        f"{_TOLD}: whether a row had ended; unit/test_stage_mark_complete.py.",
    ),
    # --- merge ---
    out("steps.merge:_gather", "drop-5", f"{_TOLD}: what is left out."),
    equivalent("steps.merge:_Attempt._upsert", "compare-1", _MANY_ROWS),
    out("steps.merge:_edit", "argument-8", f"{_TOLD}: counts of a merge."),
    out("steps.merge:_merge_once", "drop-1", "One model submits here; protocol/test_lost_objects.py."),
    equivalent("steps.merge:final_merge", "compare-2", "One moment sooner or later."),
    out("steps.merge:_Attempt._upsert", "arithmetic-1 call-1", f"{_TOLD}: how far a merge is."),
    equivalent("steps.merge:final_merge", "arithmetic-1 compare-1 not-1", "One group a call: more calls do the same."),
    equivalent(
        "steps.merge:_gather",
        "arithmetic-1 compare-2 constant-1 drop-3",
        "How many chunks are merged together: the same rows are.",
    ),
    equivalent("steps.merge:_merge", "compare-2", "One moment sooner or later."),
    gap("steps.merge:_edit", "ternary-1", _NO_JOURNAL),
    gap("steps.merge:_Attempt.write", "argument-3", _NO_JOURNAL),
    out(
        "steps.merge:_Attempt._upsert",
        "drop-2",
        "A collection that keeps less than it says; contract/test_vector_store.py.",
    ),
    out(
        "steps.merge:_edit",
        "drop-3 not-2",
        "What is written in place is durable at once here; contract/test_vector_store.py.",
    ),
    out(
        "steps.merge:_merge_once",
        "condition-2 drop-2",
        "A collection that has lost rows; protocol/test_lost_objects.py.",
    ),
    out("steps.merge:final_merge", "drop-2", f"{_TOLD}: counts of a merge."),
    out("steps.merge:_edit", "drop-1", f"{_TOLD}: what is left out."),
    equivalent(
        "steps.merge:_Attempt.publish",
        "constant-4 not-1",
        "As the planted bugs of winner and loser: the proof is made against what is published.",
    ),
    out("steps.merge:final_merge", "drop-1", "A call of whoever wants to stop; cli/test_work.py."),
    out("steps.merge:final_merge", "bool-2", "A word for state machines; aws/test_state_machine.py."),
    equivalent(
        "steps.merge:_gather", "constant-2", "A chunk that is passed over keeps its batches open: merged later."
    ),
    out("steps.merge:_merge", "argument-2 argument-3 constant-1", _MERGE_TIME),
    gap("steps.merge:_merge", "drop-1", "A merge that loses all the races that it may."),
    gap(
        "steps.merge:_merge_once",
        "condition-1",
        "As the planted bug `base_from_before_the_lock`: a version that is published between two reads of the pointer.",
    ),
    equivalent(
        "steps.merge:_edit", "arithmetic-1 constant-1 constant-2", "The name of a version has an id of its own, too."
    ),
    out("steps.merge:_edit", "argument-10 ternary-3", _MERGE_TIME),
    equivalent(
        "steps.merge:_edit",
        "not-1",
        "As the planted bugs of winner and loser: the proof is made against what is published.",
    ),
    out("steps.merge:_check_count", "drop-1", "A collection that has lost rows; protocol/test_lost_objects.py."),
    out("steps.merge:_Attempt.write", "constant-1", _MERGE_TIME),
    gap("steps.merge:_Attempt.write", "argument-4", "A dead writer whose delta can't be read, and then an older text."),
    equivalent("steps.merge:_Attempt.write.kept", "compare-2 drop-4", _MANY_ROWS),
    equivalent(
        "steps.merge:_Attempt.publish", "constant-2", "Where versions begin says nothing: only their order counts."
    ),
    gap(
        "steps.merge:_Attempt._move_pointer",
        "argument-2",
        "As the planted bug `pointer_unconditional`, which takes 25 runs.",
    ),
    equivalent(
        "steps.merge:_Attempt._move_pointer",
        "constant-1",
        "Who thinks that it lost merges again, and finds its own rows under its own claims.",
    ),
    out("steps.merge:check_published", "*", "A collection that has lost rows; protocol/test_lost_objects.py."),
    out("steps.merge:_Attempt.write.taken", "*", _MERGE_TIME),
    # --- upsert ---
    out("steps.upsert:to_vector_rows", "bool-1", "No record has metadata here; cli/test_work.py."),
    equivalent("steps.upsert:to_vector_rows", "constant-1", "Any negative length is the one that is left."),
    out("steps.upsert:read_back", "*", "A collection that keeps less than it says; contract/test_vector_store.py."),
)
"""By module, then function."""
