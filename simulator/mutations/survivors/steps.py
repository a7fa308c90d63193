"""Why mutations of the steps survive, but for those that merge. Tests that are named look at what no run does."""

from __future__ import annotations

from typing import Final

from simulator.mutations.survivors.verdicts import Survivor, equivalent, gap, out

__all__ = ["STEPS"]

_NEWER: Final = "What a newer version wrote; property/test_damage.py."
_GONE: Final = "Objects that are damaged or gone for good; protocol/test_lost_objects.py."
_SEEDS: Final = "What a deployment of the seed left; protocol/test_deployed_seed.py."
_TOLD: Final = "What is told and decides nothing"
_LIMITS: Final = "No scenario limits what is open at once; unit/test_stage_admission.py."
_DAMAGED_TWICE: Final = "A file that comes damaged, and is wanted once more by the same call."
_LOST_ROW: Final = "Rows that are lost; protocol/test_lost_objects.py."
_DELETING: Final = "The provider's files stay in these scenarios; protocol/test_provider_files.py."
_MODEL: Final = "One model submits here; protocol/test_lost_objects.py."
_TOKENS: Final = "No tokenizer is at hand here; unit/test_stage_creation.py."
_BAD_EVENT: Final = "Events that no caller of ours sends; aws/test_handlers.py."
_FOREIGN: Final = "A create without an answer that a search finds late, by two at once; unit/test_step_poll.py."
_MANY_ROWS: Final = "How many records are held or written at a time: none of it is reached by so few."

STEPS: Final[tuple[Survivor, ...]] = (
    # --- batch_files ---
    out(
        "steps.batch_files:_write_again", "drop-1", "A request file that is damaged for good; property/test_damage.py."
    ),
    equivalent("steps.batch_files:_write_again", "argument-* bool-*", "Batch and settings say the same."),
    gap("steps.batch_files:records_file", "drop-3", _DAMAGED_TWICE),
    equivalent(
        "steps.batch_files:request_file", "bool-1 compare-1", "The file is made again from the records, byte by byte."
    ),
    out("steps.batch_files:records_file", "*", _GONE),
    out("steps.batch_files:request_file", "*", _GONE),
    # --- call ---
    out("steps.call:_final_merge", "argument-2", "A merge that runs out of its time; unit/test_merge_budget.py."),
    out("steps.call:_normalize", "compare-1", "Listings too long for a workflow's state; aws/test_state_machine.py."),
    out("steps.call:_normalize", "drop-1", _BAD_EVENT),
    out("steps.call:_normalize", "argument-2", _SEEDS),
    out("steps.call:_create_pending", "*", f"{_TOLD}: why batches are refused."),
    out("steps.call:_text", "*", _BAD_EVENT),
    out("steps.call:_number", "*", _BAD_EVENT),
    out("steps.call:_results", "*", _BAD_EVENT),
    out("steps.call:_submit", "*", "Submissions come from the command line here; aws/test_handlers.py."),
    # --- context ---
    out("steps.context:read_base", "bool-2 drop-*", _GONE),
    equivalent(
        "steps.context:rows_and_retries",
        "compare-1 drop-1",
        "What has ended stays in the ledger; what it claims is in the catalog, too.",
    ),
    out("steps.context:_published_version", "compare-1", "A pointer that is lost; protocol/test_lost_objects.py."),
    equivalent("steps.context:Context.scratch", "bool-1", "The system's place is the default of both."),
    gap(
        "steps.context:read_base",
        "compare-1 compare-2",
        "A first version that is published between two reads of the pointer.",
    ),
    out("steps.context:any_row", "compare-1", _GONE),
    out("steps.context:download_catalog", "drop-2 except-1", _GONE),
    equivalent("steps.context:rows_under", "call-1", "In which order statuses are asked for."),
    equivalent("steps.context:Context", "argument-*", "A default that every deployment gives."),
    out("steps.context:rows_under", "condition-1", "A ledger or pointer that is lost; protocol/test_lost_objects.py."),
    out("steps.context:read_delta", "except-1", "A register that names what is no delta; unit/test_step_poll.py."),
    gap("steps.context:download_catalog", "drop-3", _DAMAGED_TWICE),
    out("steps.context:root_id", "drop-2", "A store that has not what was written; contract/test_blob_store.py."),
    out("steps.context:read_result", "drop-1", _GONE),
    out("steps.context:read_delta", "compare-1 drop-*", _GONE),
    out("steps.context:download_checked", "drop-1", _GONE),
    gap("steps.context:download_checked", "drop-3", _DAMAGED_TWICE),
    out("steps.context:check_root", "*", "Asked by commands, not by steps; cli/test_damage.py."),
    out("steps.context:read_head", "*", "A ledger of other hands; protocol/test_true_endings.py."),
    out("steps.context:healthy_rows", "*", "Rows that are damaged; property/test_damage.py."),
    # --- create ---
    out("steps.create:_refused", "argument-1", "An input file that the provider forgot; unit/test_step_create.py."),
    out("steps.create:finish", "condition-1 drop-7", f"{_TOLD}: why batches are refused; unit/test_step_create.py."),
    gap(
        "steps.create:_known",
        "compare-2 compare-3",
        "A create that is given up as lost, and whose refusal is heard after that.",
    ),
    out("steps.create:finish", "bool-2 drop-6", "How long batches wait, told to an alarm; aws/test_alarms.py."),
    gap(
        "steps.create:_listed",
        "compare-1 drop-1",
        "An index that stays behind for all of a run; unit/test_step_create.py has it.",
    ),
    equivalent(
        "steps.create:_created", "drop-1", "The row is CREATING still, and its batch is searched for and found."
    ),
    out(
        "steps.create:finish",
        "compare-3 compare-4 compare-5 compare-6 constant-1 drop-3 drop-4 drop-5",
        f"{_TOLD}: how many batches are created and wait; unit/test_step_create.py.",
    ),
    out("steps.create:_known", "drop-1 except-1", _NEWER),
    out("steps.create:_refused", "ternary-3", f"{_TOLD}: why batches are refused; unit/test_step_create.py."),
    equivalent("steps.create:_known", "constant-4", "Whether it is given up is not asked where it is known."),
    equivalent("steps.create:_refused", "except-1", "Who loses the race is counted as refused."),
    out(
        "steps.create:_created",
        "constant-2 drop-2 except-2 except-3",
        "Rows that are damaged; property/test_damage.py.",
    ),
    out(
        "steps.create:_create_one",
        "except-3",
        "A request file that is damaged or refused; protocol/test_lost_objects.py.",
    ),
    out("steps.create:_created", "constant-1 constant-3", f"{_TOLD}: how many batches are created."),
    out("steps.create:_create_one", "drop-1 except-1", _NEWER),
    equivalent(
        "steps.create:_create_one", "except-2", "A fault that passes is called a refusal: the next execution creates."
    ),
    out("steps.create:_known", "bool-1", f"{_TOLD}: the provider's word, until the next poll."),
    equivalent("steps.create:_in_list", "drop-1 not-1 ternary-1", "The poll searches again: only time is lost."),
    out("steps.create:_known", "constant-1 except-2", _GONE),
    out("steps.create:_refused", "ternary-2", "How long a batch that was refused waits; unit/test_step_create.py."),
    equivalent(
        "steps.create:_refused",
        "drop-1",
        "A refusal is taken for a lost answer: given up, and submitted again at no cost.",
    ),
    out("steps.create:_search", "constant-1", f"{_TOLD}: whether a search found it; unit/test_step_create.py."),
    out("steps.create:finish", "drop-2", "A call of whoever wants to stop; cli/test_work.py."),
    out("steps.create:finish", "bool-1 compare-2", "How much is created in one call; unit/test_step_create.py."),
    out("steps.create:_put_rows", "compare-3", _LOST_ROW),
    equivalent("steps.create:_admitted", "not-1", "Without limits all are let through."),
    equivalent("steps.create:_create", "bool-1", "An input file is uploaded once more."),
    equivalent("steps.create:_create", "except-1", "Who loses the race is counted as refused, and creates nothing."),
    out("steps.create:_create", "argument-1 constant-1 ternary-1", _LOST_ROW),
    equivalent(
        "steps.create:_call_create",
        "except-1",
        "A refusal is taken for a lost answer: searched for, given up, and submitted again at no cost.",
    ),
    equivalent(
        "steps.create:_call_create", "except-2", "The step is repeated, searches, and does not create a second time."
    ),
    out("steps.create:_call_create", "constant-1 ternary-1 ternary-2", f"{_TOLD}: how many batches are created."),
    out(
        "steps.create:_refused",
        "compare-1 condition-1 drop-2",
        "How long a batch that was refused waits, and what is told; unit/test_step_create.py.",
    ),
    equivalent(
        "steps.create:_created", "except-1", "Who comes second is counted as refused: the row says who was first."
    ),
    out("steps.create:Finished", "*", f"{_TOLD}: how many batches wait."),
    out("steps.create:_admitted", "*", _LIMITS),
    out("steps.create:_load", "*", _LIMITS),
    # --- list_pending ---
    out("steps.list_pending:list_pending", "drop-1", _MODEL),
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
    out("steps.list_pending:_check_ours", "drop-1", "Executions of another collection; unit/test_step_create.py."),
    out("steps.list_pending:_check_model", "*", _MODEL),
    # --- normalize ---
    out("steps.normalize:_register", "except-1", _GONE),
    out("steps.normalize:normalize", "bool-1", f"{_TOLD}: a reason."),
    out(
        "steps.normalize:normalize",
        "drop-1",
        "Whether an execution ends early where the provider is another's; protocol/test_cloud_faults.py.",
    ),
    out("steps.normalize:_manifest", "*", "An execution without a listing; aws/test_handlers.py."),
    # --- poll ---
    equivalent(
        "steps.poll:_read_file",
        "constant-1 constant-2 constant-3",
        "The counts say the same of a file that is not there.",
    ),
    equivalent("steps.poll:poll", "compare-3", "What is whole is made again, with the same retry set."),
    gap("steps.poll:_collect", "not-1", "An output file that is counted and never named, until its time is over."),
    out("steps.poll:poll", "compare-5", _SEEDS),
    gap("steps.poll:_asking_provider", "drop-2 except-1", "A provider that refuses the key of a poll."),
    gap("steps.poll:_without_name", "not-2", "A create without an answer, searched for in a project that is not ours."),
    out("steps.poll:_read_register", "drop-1 except-1", _NEWER),
    out("steps.poll:_read_register", "except-2", _GONE),
    gap("steps.poll:_result", "except-1", "A provider that refuses the key of a poll."),
    out("steps.poll:_store", "argument-1 bool-1 compare-1 drop-1", _GONE),
    out("steps.poll:_concluded", "not-1", "Whether a batch alone is too large; protocol/test_too_large.py."),
    gap(
        "steps.poll:_store",
        "argument-2 ternary-1",
        "Two executions that poll a batch for the first time at once, the slower with the older answer.",
    ),
    out(
        "steps.poll:_is_too_large",
        "constant-1 not-1",
        "Whether a batch alone is too large; protocol/test_too_large.py.",
    ),
    out("steps.poll:poll", "bool-4 compare-6 compare-7 drop-2", _MODEL),
    gap("steps.poll:_store", "except-1", "Two executions that poll a batch for the first time at once."),
    gap(
        "steps.poll:_project_is_ours",
        "call-1 compare-2 except-1",
        "A batch that is lost, whose input file is gone, too.",
    ),
    gap("steps.poll:_project_is_ours", "drop-1", "A batch that is unknown for hours, in a project that is not ours."),
    equivalent("steps.poll:_collect", "not-2", "The counts say the same of a file that is not there."),
    equivalent(
        "steps.poll:_collect", "constant-1", "A batch of one without output: its file is waited for all the same."
    ),
    equivalent("steps.poll:poll", "compare-2", "What has ended is asked for again, and its register stays."),
    out("steps.poll:poll", "drop-1", _LOST_ROW),
    gap(
        "steps.poll:_store",
        "argument-3",
        "As the planted bug `register_unconditional`: a poll that is overtaken by one of another end.",
    ),
    equivalent("steps.poll:_collect", "compare-2", "A batch without output waits for its time."),
    out(
        "steps.poll:_concluded",
        "argument-4 compare-1 ternary-1",
        "Whether a batch alone is too large, and damaged deltas; protocol/test_too_large.py, protocol/test_true_endings.py.",
    ),
    out("steps.poll:_not_mended", "*", f"{_TOLD}: an error; unit/test_step_poll.py."),
    out("steps.poll:_without_name", "*", _FOREIGN),
    out("steps.provider_files:*", "*", _DELETING),
    # --- spill ---
    equivalent("steps.spill:sorted_drafts", "argument-1", "How many rows a batch has."),
    equivalent("steps.spill:sorted_drafts", "drop-3 drop-4", "When memory is given back."),
    equivalent("steps.spill:draft_batches", "call-1 ternary-1", "No record has metadata: both ways give none."),
    equivalent("steps.spill:_runs", "bool-1 compare-1 compare-2 constant-1 drop-2 drop-3", _MANY_ROWS),
    out(
        "steps.spill:_runs",
        "constant-2 constant-3 drop-4",
        "More records than are sorted at once; unit/test_stage_submit.py.",
    ),
    equivalent("steps.spill:_batch_rows", "*", "How many rows are in memory at a time: the same come."),
    # --- submit ---
    equivalent(
        "steps.submit:_claim", "arithmetic-1 constant-6", "Where sequences begin says nothing: only their order counts."
    ),
    out("steps.submit:_write_parts.fresh", "arithmetic-1 drop-1", f"{_TOLD}: how many records there were."),
    equivalent("steps.submit:_PartFiles.write", "drop-2", "The request file is made again from the records."),
    out("steps.submit:_write_parts.fresh", "drop-2", f"{_TOLD}: how many records were skipped."),
    out("steps.submit:submit", "drop-1", "A callback of the command line; cli/test_work.py."),
    gap(
        "steps.submit:_rejected_ids",
        "compare-2 condition-1 not-1",
        "A record that was rejected, submitted again unchanged.",
    ),
    equivalent("steps.submit:_claim", "constant-4", "A ledger and its etag are there together."),
    out("steps.submit:_claim", "ternary-4", f"{_TOLD}: the number of a submission."),
    out("steps.submit:_claim", "drop-1", "A second collection; protocol/test_lost_objects.py."),
    equivalent("steps.submit:known_claims", "call-1", "In which order open batches are read."),
    gap("steps.submit:_claim", "constant-1", "A ledger that was moved without an answer, by a call that then goes on."),
    out("steps.submit:_claim", "constant-2 constant-3", f"{_TOLD}: how many records were claimed."),
    out(
        "steps.submit:_refuse_second_collection",
        "condition-1 drop-1",
        "A second collection; protocol/test_lost_objects.py.",
    ),
    out("steps.submit:known_claims", "compare-3 drop-1", _GONE),
    gap("steps.submit:_standing", "condition-1", "A record that was rejected, submitted again unchanged."),
    out("steps.submit:_rejected_ids", "except-1", _GONE),
    equivalent("steps.submit:submit", "argument-2", "The provider's list is searched once more."),
    out("steps.submit:_claim", "bool-1 drop-2", "A ledger that is lost; protocol/test_lost_objects.py."),
    out("steps.submit:_claim", "drop-3", _MODEL),
    equivalent("steps.submit:_standing", "call-1", "A set of ids has no order."),
    out("steps.submit:_write_parts", "constant-1", f"{_TOLD}: how many records were skipped."),
    equivalent("steps.submit:_store_part", "drop-1", "The request file is made again from the records."),
    equivalent("steps.submit:_store_part", "drop-3 drop-4", "Temporary files go with their folder."),
    out("steps.submit:_within_limits", "*", _TOKENS),
    out("steps.submit:_counted_blocks", "*", f"{_TOLD}: how many records were read; cli/test_progress.py."),
    out("steps.submit:_check_collection", "*", _MODEL),
)
"""By module, then function."""
