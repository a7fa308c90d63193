"""Why mutations of the steps survive. Tests that are named look at what no run does; file names are of `tests`."""

from __future__ import annotations

from typing import Final

from simulator.mutants.verdicts import Survivor, equivalent, gap, out

__all__ = ["STEPS"]

_NEWER: Final = "What a newer version wrote; property/test_damage.py."
_GONE: Final = "Objects that are damaged or gone for good; protocol/test_lost_objects.py."
_SEEDS: Final = "What a deployment of the seed left; protocol/test_deployed_seed.py."
_TOLD: Final = "What is told and decides nothing"
_LIMITS: Final = "No scenario limits what is open at once; unit/test_stage_admission.py."
_NO_JOURNAL: Final = (
    "As the planted bugs `no_journal` and `distrust_forgotten`: a merge in place that dies half-way, twice."
)
_DAMAGED_TWICE: Final = "A file that comes damaged, and is wanted once more by the same call."
_LOST_ROW: Final = "Rows that are lost; protocol/test_lost_objects.py."
_MERGE_TIME: Final = "A merge that runs out of its time; unit/test_merge_budget.py."
_DELETING: Final = "The provider's files stay in these scenarios; protocol/test_provider_files.py."
_MODEL: Final = "One model submits here; protocol/test_lost_objects.py."
_TOKENS: Final = "No tokenizer is at hand here; unit/test_stage_creation.py."
_BAD_EVENT: Final = "Events that no caller of ours sends; aws/test_handlers.py."
_FOREIGN: Final = "A create without an answer that a search finds late, by two at once; unit/test_step_poll.py."
_MANY_ROWS: Final = "How many records are held or written at a time: none of it is reached by so few."

STEPS: Final[tuple[Survivor, ...]] = (
    # --- batch_files ---
    equivalent("steps.batch_files:_write_again", "argument-*", "Batch and settings say the same."),
    gap("steps.batch_files:records_file", "drop-3", _DAMAGED_TWICE),
    out("steps.batch_files:records_file", "*", _GONE),
    equivalent(
        "steps.batch_files:request_file", "bool-1 compare-1", "The file is made again from the records, byte by byte."
    ),
    out("steps.batch_files:request_file", "*", _GONE),
    equivalent("steps.batch_files:_write_again", "bool-*", "Batch and settings say the same."),
    # --- call ---
    out("steps.call:_text", "*", _BAD_EVENT),
    out("steps.call:_number", "*", _BAD_EVENT),
    out("steps.call:_results", "*", _BAD_EVENT),
    out("steps.call:_submit", "*", "Submissions come from the command line here; aws/test_handlers.py."),
    out("steps.call:_normalize", "drop-1", _BAD_EVENT),
    out("steps.call:_normalize", "argument-2", _SEEDS),
    # --- chunk ---
    out("steps.chunk:packed_file", "except-1", _NEWER),
    gap("steps.chunk:split", "argument-3", "As the planted bug `chunks_replaced`: two calls delivered twice."),
    out("steps.chunk:process", "drop-2", f"{_TOLD}: what is left out."),
    out("steps.chunk:packed_file", "drop-3", f"{_TOLD}: what is left out."),
    equivalent(
        "steps.chunk:mapped_delta", "except-1", "The whole chunk is left out, and merged by the next execution."
    ),
    gap("steps.chunk:mapped_delta", "drop-4", "A dead writer whose delta can't be read, and then an older text."),
    out("steps.chunk:process", "compare-1 drop-1", _BAD_EVENT),
    out("steps.chunk:process", "argument-1 argument-2", f"{_TOLD}; the hash of what is packed is looked at."),
    out("steps.chunk:packed_file", "drop-2", _NEWER),
    out("steps.chunk:mapped_delta", "drop-1 drop-2 drop-3", "Deltas of others; unit/test_step_poll.py."),
    # --- context ---
    equivalent("steps.context:Context", "argument-*", "A default that every deployment gives."),
    gap("steps.context:read_base", "compare-1", "A first version that is published between two reads of the pointer."),
    out("steps.context:rows_under", "condition-1", "A ledger or pointer that is lost; protocol/test_lost_objects.py."),
    out("steps.context:read_delta", "except-1", "A register that names what is no delta; unit/test_step_poll.py."),
    gap("steps.context:download_catalog", "drop-3", _DAMAGED_TWICE),
    out("steps.context:check_root", "*", "Asked by commands, not by steps; cli/test_damage.py."),
    gap(
        "steps.context:root_id",
        "argument-1",
        "Two first submissions at the same moment: found at run 44 of `constant-1`.",
    ),
    out("steps.context:root_id", "drop-2", "A store that has not what was written; contract/test_blob_store.py."),
    out("steps.context:read_head", "*", "A ledger of other hands; protocol/test_true_endings.py."),
    out("steps.context:read_base", "drop-*", _GONE),
    out("steps.context:download_catalog", "drop-2", _GONE),
    out("steps.context:healthy_rows", "*", "Rows that are damaged; property/test_damage.py."),
    out("steps.context:read_result", "drop-1", _GONE),
    out("steps.context:read_delta", "drop-* compare-1", _GONE),
    out("steps.context:download_checked", "drop-1", _GONE),
    gap("steps.context:download_checked", "drop-3", _DAMAGED_TWICE),
    # --- create ---
    out("steps.create:finish", "condition-1", f"{_TOLD}: why batches are refused; unit/test_step_create.py."),
    equivalent("steps.create:_in_list", "not-1", "The poll searches again: only time is lost."),
    gap(
        "steps.create:_listed",
        "compare-1",
        "An index that stays behind for all of a run; unit/test_step_create.py has it.",
    ),
    out("steps.create:_known", "except-2", _GONE),
    out("steps.create:_refused", "ternary-2", "How long a batch that was refused waits; unit/test_step_create.py."),
    equivalent(
        "steps.create:_refused",
        "drop-1",
        "A refusal is taken for a lost answer: given up, and submitted again at no cost.",
    ),
    out("steps.create:_search", "constant-1", f"{_TOLD}: whether a search found it; unit/test_step_create.py."),
    out("steps.create:Finished", "*", f"{_TOLD}: how many batches wait."),
    out("steps.create:finish", "drop-2", "A call of whoever wants to stop; cli/test_work.py."),
    out("steps.create:finish", "bool-1 compare-2", "How much is created in one call; unit/test_step_create.py."),
    out(
        "steps.create:finish",
        "compare-3 compare-4 compare-5 compare-6 drop-3 drop-4 drop-5",
        f"{_TOLD}: how many batches are created and wait; unit/test_step_create.py.",
    ),
    out("steps.create:_put_rows", "compare-3", _LOST_ROW),
    equivalent("steps.create:_in_list", "ternary-1 drop-1", "The poll searches again: only time is lost."),
    equivalent("steps.create:_admitted", "not-1", "Without limits all are let through."),
    out("steps.create:_admitted", "*", _LIMITS),
    out("steps.create:_load", "*", _LIMITS),
    out("steps.create:_create_one", "drop-1", _NEWER),
    out(
        "steps.create:_create_one",
        "except-2",
        "A request file that is damaged or refused; protocol/test_lost_objects.py.",
    ),
    equivalent("steps.create:_create", "bool-1", "An input file is uploaded once more."),
    equivalent("steps.create:_create", "except-1", "Who loses the race is counted as refused, and creates nothing."),
    out("steps.create:_create", "constant-1 ternary-1 argument-1", _LOST_ROW),
    out("steps.create:_known", "drop-1", _NEWER),
    out("steps.create:_known", "constant-1", _GONE),
    gap(
        "steps.create:_known",
        "compare-3",
        "A create that is given up as lost, and whose refusal is heard after that.",
    ),
    equivalent(
        "steps.create:_call_create",
        "except-1",
        "A refusal is taken for a lost answer: searched for, given up, and submitted again at no cost.",
    ),
    equivalent(
        "steps.create:_call_create", "except-2", "The step is repeated, searches, and does not create a second time."
    ),
    out("steps.create:_call_create", "ternary-1 ternary-2 constant-1", f"{_TOLD}: how many batches are created."),
    out(
        "steps.create:_refused",
        "compare-1 condition-1 drop-2",
        "How long a batch that was refused waits, and what is told; unit/test_step_create.py.",
    ),
    equivalent(
        "steps.create:_created", "except-1", "Who comes second is counted as refused: the row says who was first."
    ),
    out("steps.create:_created", "except-2 drop-2 constant-2", "Rows that are damaged; property/test_damage.py."),
    # --- delta ---
    equivalent("steps.delta:_vector_batches", "constant-2", "Any negative length is the one that is left."),
    out("steps.delta:is_whole", "*", "Deltas that are damaged for good; property/test_damage.py."),
    out("steps.delta:needs_none", "*", _SEEDS),
    equivalent("steps.delta:store", "bool-2", "Batch and settings name the same model."),
    equivalent("steps.delta:_vector_batches", "drop-1", "All vectors are in one block: so few are."),
    out("steps.delta:_columns", "*", _SEEDS),
    # --- journal ---
    equivalent("steps.journal:to_finish", "not-1", "A merge of nothing is begun, and finds nothing."),
    gap("steps.journal:Inheritance.ids", "not-1", _NO_JOURNAL),
    equivalent("steps.journal:to_finish", "constant-1", "A merge of nothing is begun, and finds nothing."),
    out("steps.journal:find", "*", _NEWER),
    gap("steps.journal:begin", "drop-1", _NO_JOURNAL),
    gap("steps.journal:end", "drop-1", "A dead writer whose delta can't be read, and then an older text."),
    out("steps.journal:_open_batches", "*", "A journal that is damaged; protocol/test_lost_objects.py."),
    # --- list_pending ---
    out(
        "steps.list_pending:list_pending",
        "drop-4",
        "Listings too long for a workflow's state; aws/test_state_machine.py.",
    ),
    out(
        "steps.list_pending:list_pending",
        "drop-3",
        "A store that has not what was written; contract/test_blob_store.py.",
    ),
    out("steps.list_pending:read_manifest", "drop-1", "Listings of others; unit/test_stage_list_pending.py."),
    out("steps.list_pending:_check_model", "*", _MODEL),
    out("steps.list_pending:_check_ours", "drop-1", "Executions of another collection; unit/test_step_create.py."),
    # --- mark_complete ---
    equivalent("steps.mark_complete:_groups", "bool-1 compare-1 constant-1", "How many batches are proven together."),
    equivalent("steps.mark_complete:_mark_group", "argument-1", "There are as many of each."),
    out("steps.mark_complete:_unproven", "constant-1", f"{_TOLD}: how a run ends; protocol/test_true_endings.py."),
    equivalent("steps.mark_complete:_lacking", "argument-1", "All have the same columns."),
    out("steps.mark_complete:mark_complete", "drop-1", "A call of whoever wants to stop; cli/test_work.py."),
    out("steps.mark_complete:mark_complete", "drop-4", f"{_TOLD}."),
    equivalent(
        "steps.mark_complete:mark_complete", "condition-1", "Whether files may go is asked again for each batch."
    ),
    out("steps.mark_complete:mark_complete", "drop-5 compare-1", _DELETING),
    equivalent("steps.mark_complete:_groups", "arithmetic-2 bool-2 drop-3", "How many batches are proven together."),
    gap("steps.mark_complete:_groups", "drop-1 constant-4", "More than 500,000 records to prove: the groups' limit."),
    out(
        "steps.mark_complete:_gather",
        "drop-2 drop-3",
        "Deltas that are not the batch's; unit/test_step_mark_complete.py.",
    ),
    out("steps.mark_complete:_gather", "*", f"{_SEEDS[:-1]}, unit/test_step_mark_complete.py."),
    out("steps.mark_complete:_check_sum", "*", "Deltas that don't add up; unit/test_step_mark_complete.py."),
    out(
        "steps.mark_complete:_promised",
        "compare-1",
        "Deltas of other records than the batch's; unit/test_step_mark_complete.py.",
    ),
    equivalent("steps.mark_complete:_lacking", "constant-1", "How much is looked at at a time."),
    out(
        "steps.mark_complete:_changed_meanwhile",
        "*",
        f"{_TOLD}: whether a row had ended; unit/test_stage_mark_complete.py.",
    ),
    out("steps.mark_complete:_put_once", "drop-3", "Retries of other hands; unit/test_step_mark_complete.py."),
    out(
        "steps.mark_complete:_write_retry_files", "drop-1", "Deltas of other records; unit/test_step_mark_complete.py."
    ),
    # --- merge ---
    gap("steps.merge:_Outcome", "constant-1", "An execution none of whose chunks could be packed."),
    out("steps.merge:final_merge", "drop-2", f"{_TOLD}: counts of a merge."),
    equivalent("steps.merge:_gather", "drop-3", "How many chunks are merged together: the same rows are."),
    out("steps.merge:_edit", "drop-1", f"{_TOLD}: what is left out."),
    out("steps.merge:_Attempt._upsert", "call-1", f"{_TOLD}: how far a merge is."),
    equivalent(
        "steps.merge:_Attempt.publish",
        "not-1 constant-4",
        "As the planted bugs of winner and loser: the proof is made against what is published.",
    ),
    equivalent("steps.merge:final_merge", "arithmetic-1 not-1", "One group a call: more calls do the same."),
    out("steps.merge:final_merge", "drop-1", "A call of whoever wants to stop; cli/test_work.py."),
    out("steps.merge:final_merge", "bool-2", "A word for state machines; aws/test_state_machine.py."),
    gap("steps.merge:_gather", "drop-1", _NO_JOURNAL),
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
    out("steps.merge:_merge_once", "condition-2", "A collection that has lost rows; protocol/test_lost_objects.py."),
    equivalent(
        "steps.merge:_edit", "arithmetic-1 constant-1 constant-2", "The name of a version has an id of its own, too."
    ),
    out("steps.merge:_edit", "ternary-3 argument-10", _MERGE_TIME),
    equivalent(
        "steps.merge:_edit",
        "not-1",
        "As the planted bugs of winner and loser: the proof is made against what is published.",
    ),
    out(
        "steps.merge:_edit",
        "drop-3",
        "What is written in place is durable at once here; contract/test_vector_store.py.",
    ),
    out("steps.merge:check_published", "*", "A collection that has lost rows; protocol/test_lost_objects.py."),
    out("steps.merge:_check_count", "drop-1", "A collection that has lost rows; protocol/test_lost_objects.py."),
    out("steps.merge:_Attempt.write", "constant-1", _MERGE_TIME),
    out("steps.merge:_Attempt.write.taken", "*", _MERGE_TIME),
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
    # --- normalize ---
    out("steps.normalize:normalize", "bool-1", f"{_TOLD}: a reason."),
    out(
        "steps.normalize:normalize",
        "drop-1",
        "Whether an execution ends early where the provider is another's; protocol/test_cloud_faults.py.",
    ),
    out("steps.normalize:_manifest", "*", "An execution without a listing; aws/test_handlers.py."),
    # --- poll ---
    out("steps.poll:poll", "compare-6", _MODEL),
    out("steps.poll:_store", "argument-1", _GONE),
    gap("steps.poll:_store", "except-1", "Two executions that poll a batch for the first time at once."),
    gap(
        "steps.poll:_result",
        "compare-1",
        "A create without an answer that a poll finds before any later execution does.",
    ),
    gap("steps.poll:_project_is_ours", "except-1", "A batch that is lost, whose input file is gone, too."),
    gap("steps.poll:_project_is_ours", "drop-1", "A batch that is unknown for hours, in a project that is not ours."),
    equivalent("steps.poll:_collect", "not-2", "The counts say the same of a file that is not there."),
    equivalent(
        "steps.poll:_collect", "constant-1", "A batch of one without output: its file is waited for all the same."
    ),
    out("steps.poll:_is_too_large", "constant-1", "Whether a batch alone is too large; protocol/test_too_large.py."),
    equivalent("steps.poll:_read_file", "constant-3", "The counts say the same of a file that is not there."),
    equivalent("steps.poll:poll", "compare-2", "What has ended is asked for again, and its register stays."),
    out("steps.poll:poll", "drop-1", _LOST_ROW),
    out("steps.poll:poll", "bool-4 compare-7 drop-2", _MODEL),
    out("steps.poll:_read_register", "drop-1", _NEWER),
    out("steps.poll:_store", "drop-1", _GONE),
    gap(
        "steps.poll:_store",
        "argument-3",
        "As the planted bug `register_unconditional`: a poll that is overtaken by one of another end.",
    ),
    out("steps.poll:_not_mended", "*", f"{_TOLD}: an error; unit/test_step_poll.py."),
    gap("steps.poll:_asking_provider", "drop-2", "A provider that refuses the key of a poll."),
    gap("steps.poll:_project_is_ours", "call-1 compare-2", "A batch that is lost, whose input file is gone, too."),
    out("steps.poll:_without_name", "*", _FOREIGN),
    equivalent("steps.poll:_collect", "compare-2", "A batch without output waits for its time."),
    out(
        "steps.poll:_concluded",
        "argument-4 ternary-1 compare-1",
        "Whether a batch alone is too large, and damaged deltas; protocol/test_too_large.py, protocol/test_true_endings.py.",
    ),
    out("steps.provider_files:*", "*", _DELETING),
    # --- spill ---
    equivalent("steps.spill:sorted_drafts", "drop-3 drop-4", "When memory is given back."),
    equivalent("steps.spill:draft_batches", "ternary-1 call-1", "No record has metadata: both ways give none."),
    equivalent("steps.spill:_runs", "constant-1 compare-1 compare-2 drop-2 drop-3 bool-1", _MANY_ROWS),
    out(
        "steps.spill:_runs",
        "drop-4 constant-2 constant-3",
        "More records than are sorted at once; unit/test_stage_submit.py.",
    ),
    equivalent("steps.spill:_batch_rows", "*", "How many rows are in memory at a time: the same come."),
    # --- submit ---
    out("steps.submit:_claim", "drop-1", "A second collection; protocol/test_lost_objects.py."),
    equivalent("steps.submit:known_claims", "call-1", "In which order open batches are read."),
    gap("steps.submit:_claim", "constant-1", "A ledger that was moved without an answer, by a call that then goes on."),
    out("steps.submit:_claim", "constant-2", f"{_TOLD}: how many records were claimed."),
    out("steps.submit:_refuse_second_collection", "condition-1", "A second collection; protocol/test_lost_objects.py."),
    out("steps.submit:known_claims", "compare-3 drop-1", _GONE),
    gap("steps.submit:_standing", "condition-1", "A record that was rejected, submitted again unchanged."),
    out("steps.submit:_rejected_ids", "except-1", _GONE),
    equivalent("steps.submit:submit", "argument-2", "The provider's list is searched once more."),
    out("steps.submit:_within_limits", "*", _TOKENS),
    out("steps.submit:_counted_blocks", "*", f"{_TOLD}: how many records were read; cli/test_progress.py."),
    out("steps.submit:_claim", "constant-3", f"{_TOLD}: how many records were claimed."),
    out("steps.submit:_claim", "bool-1 drop-2", "A ledger that is lost; protocol/test_lost_objects.py."),
    out("steps.submit:_claim", "drop-3", _MODEL),
    out(
        "steps.submit:_refuse_second_collection",
        "drop-1",
        "A second collection; protocol/test_lost_objects.py.",
    ),
    out("steps.submit:_check_collection", "*", _MODEL),
    equivalent("steps.submit:_standing", "call-1", "A set of ids has no order."),
    gap(
        "steps.submit:_rejected_ids", "compare-2 condition-1", "A record that was rejected, submitted again unchanged."
    ),
    out("steps.submit:_write_parts", "constant-1", f"{_TOLD}: how many records were skipped."),
    out("steps.submit:_write_parts.fresh", "drop-1", f"{_TOLD}: how many records there were."),
    equivalent("steps.submit:_store_part", "drop-1", "The request file is made again from the records."),
    equivalent("steps.submit:_store_part", "drop-3 drop-4", "Temporary files go with their folder."),
    # --- upsert ---
    equivalent("steps.upsert:to_vector_rows", "constant-1", "Any negative length is the one that is left."),
    out("steps.upsert:read_back", "*", "A collection that keeps less than it says; contract/test_vector_store.py."),
)
"""By module, then function."""
