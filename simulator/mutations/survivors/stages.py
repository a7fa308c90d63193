"""Why mutations of the stages survive. Tests that are named look at what no run does; file names are of `tests`."""

from __future__ import annotations

from typing import Final

from simulator.mutations.survivors.verdicts import Survivor, equivalent, gap, out

__all__ = ["STAGES"]

_SIZES: Final = "No text or file comes near its limit; unit/test_stage_submit.py."
_LATER: Final = "Only how long files are waited for: the counts say that all is there, or the wait ends with its time."
_DOUBLE_AND_LATE: Final = "A line that comes twice, in a file another line of which is still to come when it is read."
_ALONE: Final = (
    "Whether a batch alone is too large is asked of those above 100 requests; unit/test_stage_fates.py, "
    "protocol/test_too_large.py."
)
_DELETING: Final = "The provider's files stay in these scenarios; protocol/test_provider_files.py."
_DOUBLED: Final = "No submission names a record twice; unit/test_stage_submit.py."
_SEEDS: Final = "Batches without record files are the seed's; unit/test_stage_fates.py, protocol/test_deployed_seed.py."
_FUTURE: Final = (
    "A create whose time is ahead of the clock, in another's project for all of a run; unit/test_stage_poll.py."
)
_STRANGE: Final = (
    "Whether an execution ends early where the provider is another's: only waits are written either way; "
    "unit/test_stage_normalize.py."
)
_GROUPS: Final = "How many deltas are packed together: the same rows come."
_LONG: Final = "No stream is longer than one batch here"
_TOLD: Final = "What is told and decides nothing"

STAGES: Final[tuple[Survivor, ...]] = (
    equivalent(
        "stages.admission:tokens_max", "arithmetic-1", "A token has one byte at least: by one, both are the same."
    ),
    out("stages.admission:*", "*", "No scenario limits what is open at once; unit/test_stage_admission.py."),
    # --- chunk ---
    out("stages.chunk:chunked", "constant-1 not-1", "A word for state machines; aws/test_state_machine.py."),
    equivalent("stages.chunk:chunks", "arithmetic-1 compare-1 compare-2 constant-1 constant-3 drop-3", _GROUPS),
    equivalent("stages.chunk:chunked", "compare-1 ternary-1", "Inline or by its key, the same chunks are packed."),
    equivalent("stages.chunk:deltas", "bool-1 compare-2", "A delta without vectors adds no row."),
    # --- conclude ---
    out("stages.conclude:refused_for_size", "bool-1 call-1 compare-1 compare-2", _ALONE),
    equivalent("stages.conclude:batch_faults", "constant-8", "What is rejected goes into no retry batch."),
    equivalent(
        "stages.conclude:batch_faults", "bool-1", "A batch that was refused for capacity goes again in two parts."
    ),
    out("stages.conclude:batch_faults", "compare-2", _ALONE),
    out("stages.conclude:_action", "ternary-1", "As `bool-1`: what there is is merged."),
    out("stages.conclude:_fallback", "argument-1", _ALONE),
    out("stages.conclude:batch_faults", "bool-2 bool-4", f"{_TOLD}: the word of a reason; unit/test_stage_fates.py."),
    out("stages.conclude:_action", "compare-1 not-1", "As `bool-1`."),
    equivalent("stages.conclude:was_alone", "break-1", "Older ones are looked at, and each is too old."),
    gap(
        "stages.conclude:batch_faults",
        "bool-3",
        "An issue that names no line, or none that there is, and speaks of no capacity.",
    ),
    equivalent("stages.conclude:conclude", "argument-1 argument-2", "Records come in the order of their ids."),
    equivalent(
        "stages.conclude:batch_faults",
        "arithmetic-1 constant-1 constant-2",
        "Where a batch is cut: both parts get smaller.",
    ),
    gap("stages.conclude:conclude", "compare-7", "A record that fails by itself in two batches, one after the other."),
    equivalent("stages.conclude:conclude", "constant-2", "In which retry batch a record goes: it is in one."),
    out("stages.conclude:conclude", "constant-3", _SEEDS),
    out(
        "stages.conclude:_action",
        "bool-1",
        "`process_results` and `process_partial` are merged, marked and retried alike; unit/test_stage_fates.py.",
    ),
    equivalent("stages.conclude:_fallback", "constant-1", "All go into one retry batch, whichever number it has."),
    out("stages.conclude:may_be_too_large", "*", _ALONE),
    out("stages.conclude:was_alone", "*", _ALONE),
    # --- creation ---
    out("stages.creation:adopted_row", "argument-3", f"{_TOLD}: the provider's word, until the next poll."),
    out(
        "stages.creation:refused_changes",
        "ternary-1",
        "An input file that the provider forgot; unit/test_step_create.py.",
    ),
    out("stages.creation:check_collection", "drop-1", "One model submits here; protocol/test_lost_objects.py."),
    out(
        "stages.creation:may_exceed_tokens",
        "*",
        "Whether tokens are counted; no text comes near their limit; unit/test_stage_creation.py.",
    ),
    out("stages.creation:check_tokens", "*", "No text comes near the limit of tokens; unit/test_stage_creation.py."),
    out("stages.creation:_time_of", "*", "A ledger with a time that is none; property/test_damage.py."),
    out("stages.creation:adopted_row", "*", "Rows that are lost; protocol/test_lost_objects.py."),
    out(
        "stages.creation:held_back",
        "*",
        "How long a batch that was refused waits: it is created in the end; unit/test_stage_creation.py.",
    ),
    out("stages.creation:next_try", "*", "As `held_back`."),
    # --- fold ---
    gap("stages.fold:Fold.take", "constant-3 drop-6 drop-7 drop-9", _DOUBLE_AND_LATE),
    out("stages.fold:judge", "compare-1 ternary-1", f"{_TOLD}: a reason; unit/test_stage_fates.py."),
    equivalent("stages.fold:Fold.take", "compare-5 compare-6 constant-8 drop-2", _LATER),
    equivalent("stages.fold:settled", "bool-1 compare-1 compare-2 constant-1 constant-2", _LATER),
    out("stages.fold:judge", "bool-2", "No line speaks of a full queue here; unit/test_stage_fates.py."),
    equivalent("stages.fold:Fold.take", "constant-6", "Any negative number says that there is none."),
    out(
        "stages.fold:judge",
        "bool-4",
        "Lines of a status above 500, or with a vector that is none; unit/test_stage_fates.py.",
    ),
    out("stages.fold:judge", "constant-2", "No line has the status 500; unit/test_stage_fates.py."),
    out("stages.fold:Fold.__init__", "constant-*", f"{_TOLD}: counts of odd lines; unit/test_stage_fates.py."),
    out("stages.fold:Fold.take", "constant-1 constant-4 drop-1 drop-3", f"{_TOLD}: counts of odd lines."),
    out("stages.fold:Fold.take", "constant-6 drop-4 drop-5", _SEEDS),
    gap(
        "stages.fold:Fold.take",
        "compare-3 constant-7",
        "The first line of a file twice, at a time when another line of the same file is still to come.",
    ),
    equivalent("stages.fold:Fold.accounted", "arithmetic-1", _LATER),
    gap("stages.fold:settled", "arithmetic-1", _DOUBLE_AND_LATE),
    out("stages.fold:Fold.notes", "*", f"{_TOLD}: what was odd; unit/test_stage_fates.py."),
    # --- list_pending ---
    out("stages.list_pending:listing", "not-1 ternary-1", "A word for state machines; aws/test_state_machine.py."),
    equivalent("stages.list_pending:pending", "bool-1", "What has ended meanwhile is asked for once more."),
    equivalent(
        "stages.list_pending:listing", "compare-1 ternary-2", "Inline or by its key, the same batches are polled."
    ),
    out("stages.list_pending:_problem", "*", "A listing of others; unit/test_stage_list_pending.py."),
    out("stages.list_pending:oldest_s", "*", "How long batches wait, told to an alarm; aws/test_alarms.py."),
    out("stages.list_pending:check_manifest", "*", "A listing of others; unit/test_stage_list_pending.py."),
    # --- mark_complete ---
    out("stages.mark_complete:before_proof", "drop-3", f"{_TOLD}: who ended it; unit/test_stage_mark_complete.py."),
    out(
        "stages.mark_complete:retry_row",
        "call-* ternary-1",
        "How long a retry waits: it is created in the end; unit/test_stage_mark_complete.py.",
    ),
    out(
        "stages.mark_complete:ended_mark",
        "compare-1 ternary-1",
        f"{_TOLD}: who ended it; unit/test_stage_mark_complete.py.",
    ),
    equivalent("stages.mark_complete:retry_batches", "call-2", "In which order retry batches are stored."),
    out("stages.mark_complete:retry_row", "argument-1 arithmetic-* constant-*", "As `waits_for_capacity`."),
    out("stages.mark_complete:skip_reason", "ternary-1", f"{_TOLD}: a reason; unit/test_stage_mark_complete.py."),
    equivalent(
        "stages.mark_complete:before_proof",
        "continue-1 drop-1",
        "No result comes twice: listings name each batch once.",
    ),
    out(
        "stages.mark_complete:before_proof",
        "drop-2 drop-4 drop-5",
        f"{_TOLD}: why a batch is not ended; unit/test_stage_mark_complete.py.",
    ),
    out(
        "stages.mark_complete:RetryBatch.waits_for_capacity",
        "*",
        "How long a retry waits: it is created in the end; unit/test_stage_mark_complete.py.",
    ),
    out("stages.mark_complete:may_delete_files", "*", _DELETING),
    out("stages.mark_complete:provider_files", "*", _DELETING),
    out(
        "stages.mark_complete:counts*", "*", f"{_TOLD}: how many batches were marked; unit/test_stage_mark_complete.py."
    ),
    # --- merge ---
    gap(
        "stages.merge:_compare_claims",
        "arithmetic-3 compare-4 compare-5",
        "As the planted bug `distrust_forgotten`: a dead writer, and an older text that is merged first.",
    ),
    gap(
        "stages.merge:_join_window",
        "condition-1 drop-1",
        "A dead writer whose delta can't be read, so that nothing is trusted, and an older text that is merged first.",
    ),
    gap(
        "stages.merge:_join_window",
        "arithmetic-2",
        "As the planted bug `distrust_forgotten`: a dead writer, and an older text that is merged first.",
    ),
    equivalent(
        "stages.merge:_stands_at", "compare-1", "Beyond the end it is held against the last id, which is smaller."
    ),
    equivalent(
        "stages.merge:_compare_claims", "compare-1", "Of one sequence one attempt gives a vector: no record has two."
    ),
    out("stages.merge:Counts*", "arithmetic-3", f"{_TOLD}: counts of a merge; unit/test_stage_merge.py."),
    out("stages.merge:_join_window", "arithmetic-6", f"{_TOLD}: how many are superseded; unit/test_stage_merge.py."),
    gap(
        "stages.merge:_join_window",
        "arithmetic-3",
        "A dead writer's delta that is merged again, when a newer text is published.",
    ),
    equivalent("stages.merge:_join_window", "arithmetic-4", "A version more, with the same rows."),
    out("stages.merge:Counts*", "arithmetic-1 arithmetic-2 arithmetic-4 constant-*", f"{_TOLD}: counts of a merge."),
    out("stages.merge:join", "continue-1 drop-1", f"{_LONG}; unit/test_stage_merge.py."),
    out("stages.merge:_join_window", "arithmetic-5", f"{_TOLD}: how many are replaced, where one is changed at all."),
    equivalent(
        "stages.merge:_compare_claims", "compare-3", "An equal claim is merged again with its own text and vector."
    ),
    gap(
        "stages.merge:won",
        "*",
        "A pointer whose write succeeded unheard, and a later version built on it before it is read again.",
    ),
    # --- normalize ---
    out(
        "stages.normalize:unreadable",
        "compare-1",
        f"{_TOLD}: which results can't be read; unit/test_stage_normalize.py.",
    ),
    out("stages.normalize:one", "compare-3", "Results that a Map hands over whole; protocol/test_deployed_seed.py."),
    out("stages.normalize:one", "bool-1", "Registers of others; unit/test_stage_normalize.py."),
    out(
        "stages.normalize:given_results",
        "*",
        "Results that a Map hands over whole, as the seed's did; protocol/test_deployed_seed.py.",
    ),
    out("stages.normalize:_mismatch", "*", "Registers of others; unit/test_stage_normalize.py."),
    out("stages.normalize:with_own_name", "*", "Registers of the seed's form; protocol/test_deployed_seed.py."),
    out("stages.normalize:check_provider", "*", _STRANGE),
    # --- poll ---
    out("stages.poll:waiting_since", "except-1", "A register with a time that is none; unit/test_stage_poll.py."),
    gap("stages.poll:search_overdue", "bool-1", "A create that is under way when its batch was submitted long ago."),
    out(
        "stages.poll:search_overdue", "bool-2", "A clock that is behind the one which created; unit/test_stage_poll.py."
    ),
    equivalent("stages.poll:overdue", "compare-1", "One moment sooner or later."),
    equivalent("stages.poll:search_overdue", "compare-2", "One moment sooner or later."),
    equivalent(
        "stages.poll:search_overdue",
        "compare-1",
        "The search is counted from the first poll on, and takes so much longer.",
    ),
    out("stages.poll:search_overdue", "bool-3 compare-3 compare-4 compare-5 constant-1", _FUTURE),
    out(
        "stages.poll:may_replace",
        "compare-3 compare-4",
        "A terminal result whose delta is damaged for good; unit/test_stage_poll.py, property/test_damage.py.",
    ),
    gap(
        "stages.poll:may_replace",
        "bool-2",
        "Two executions that poll a batch for the first time at once, and are told different ends.",
    ),
    out(
        "stages.poll:unknown_reason",
        "*",
        "From when on a batch that is not shown counts as unknown; unit/test_stage_poll.py.",
    ),
    # --- proof ---
    gap(
        "stages.proof:_proven",
        "compare-1",
        "As the planted bug `older_claim_proves`, which takes some 300 runs.",
    ),
    # --- streams ---
    equivalent("stages.streams:_read_on", "compare-1 constant-1", "How much is read at a time."),
    out("stages.streams:windows", "bool-1 constant-2 constant-3 drop-1", f"{_LONG}; unit/test_stage_streams.py."),
    out("stages.streams:_joined", "compare-1 constant-1 ternary-1", f"{_LONG}; unit/test_stage_streams.py."),
    out("stages.streams:_Head.read", "compare-2 constant-2", f"{_LONG}; unit/test_stage_streams.py."),
    equivalent("stages.streams:rebatched", "compare-1 constant-1 drop-2", "How many rows a batch has."),
    equivalent("stages.streams:_read_on", "drop-3", "Windows are cut more often: the same rows come."),
    equivalent("stages.streams:ascends", "constant-2", "What is in order is sorted again."),
    out("stages.streams:_read_on", "bool-2", f"{_LONG}; unit/test_stage_streams.py."),
    out("stages.streams:_Head.read", "drop-1", "A stream that goes back; unit/test_stage_streams.py."),
    equivalent("stages.streams:_Head.__init__", "drop-1", "Who needs the first batch reads it."),
    equivalent("stages.streams:_Head.read", "constant-4", "How much is read at a time."),
    out("stages.streams:rebatched", "constant-2 drop-3", f"{_LONG}; unit/test_stage_streams.py."),
    out("stages.streams:_Head.take", "*", f"{_LONG}; unit/test_stage_streams.py."),
    out("stages.streams:_count_below", "*", f"{_LONG}; unit/test_stage_streams.py."),
    # --- submit ---
    out("stages.submit:_Body", "constant-1", "What a request has that says nothing; unit/test_stage_submit.py."),
    out(
        "stages.submit:_request",
        "argument-3 argument-4 ternary-1",
        "The provider here gives what a request does not ask for, too; unit/test_stage_submit.py.",
    ),
    out("stages.submit:_reach", "arithmetic-1", f"{_LONG}; unit/test_stage_submit.py."),
    equivalent(
        "stages.submit:next_head",
        "constant-1 constant-2",
        "Where sequences begin says nothing: only their order counts.",
    ),
    out(
        "stages.submit:_reach",
        "argument-1 argument-2 arithmetic-2 arithmetic-3 call-1 condition-1 constant-1 not-1",
        _SIZES,
    ),
    equivalent("stages.submit:request_lines", "argument-1 constant-1", "There are as many of each."),
    equivalent("stages.submit:_one", "bool-1 compare-1 constant-1 ternary-1", "The column is in one piece already."),
    out(
        "stages.submit:closed_roots.ended",
        "constant-2",
        "A ledger that keeps what has ended, and grows; unit/test_stage_submit.py.",
    ),
    equivalent("stages.submit:closed_roots.ended", "drop-2", "No batch is the retry of two."),
    equivalent("stages.submit:_refuse_double", "constant-1", "The first row of two is the row."),
    equivalent("stages.submit:_json_bytes", "compare-1", "A space takes no more bytes in JSON."),
    equivalent("stages.submit:_reach", "compare-1", "A part that is full ends at once, or before the next record."),
    out("stages.submit:new_drafts", "continue-1", f"{_LONG}; unit/test_stage_submit.py."),
    out("stages.submit:new_drafts", "arithmetic-1", f"{_TOLD}: how many records are skipped."),
    out("stages.submit:_Open", "constant-2 constant-3", _SIZES),
    out("stages.submit:pieces", "arithmetic-1 arithmetic-2 drop-1 drop-3 drop-4", _SIZES),
    equivalent("stages.submit:pieces", "argument-2", "The numbers are small enough for either type."),
    equivalent(
        "stages.submit:pieces", "arithmetic-3 constant-1 constant-3", "How parts are numbered: each has its own."
    ),
    out("stages.submit:unique", "*", _DOUBLED),
    out("stages.submit:_refuse_double", "*", _DOUBLED),
    out("stages.submit:request_bytes", "*", _SIZES),
    out("stages.submit:_json_bytes", "*", _SIZES),
    out("stages.submit:_refuse_too_large", "*", _SIZES),
)
"""By module, then function."""
