"""Why mutations survive: every one that no run killed has its line here, equivalent, out of scope, or a gap.

A line is a pattern of names, so that one reason may hold for all of a function. The first line that fits is the one. Lines are
written for what a sample of mutations left; others of the same function have to be looked at when they are run.
"""

from __future__ import annotations

from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Final

import attrs

__all__ = ["SURVIVORS", "Survivor", "Word", "survivor_of"]


class Word(StrEnum):
    """What a survivor is."""

    EQUIVALENT = "equivalent"
    """Nothing changes that a guarantee speaks of."""
    OUT_OF_SCOPE = "out of scope"
    """What changes is not what the simulator judges; the reason says what it is, and what tests it."""
    GAP = "gap"
    """A run could show it and none does; the reason says what it would take."""


@attrs.frozen
class Survivor:
    """One line."""

    pattern: str
    word: Word
    reason: str


def _equivalent(pattern: str, reason: str) -> Survivor:
    return Survivor(f"embedpipe.{pattern}", Word.EQUIVALENT, reason)


def _out(pattern: str, reason: str) -> Survivor:
    return Survivor(f"embedpipe.{pattern}", Word.OUT_OF_SCOPE, reason)


def _gap(pattern: str, reason: str) -> Survivor:
    return Survivor(f"embedpipe.{pattern}", Word.GAP, reason)


SURVIVORS: Final[tuple[Survivor, ...]] = (
    # --- stages ---
    _out(
        "stages.admission:*",
        "Limits on open batches are unlimited in every scenario; tests/unit/test_stage_admission.py.",
    ),
    _out(
        "stages.conclude:was_alone:*",
        "Whether a batch alone is too large is asked of accounts with a limit; unit tests.",
    ),
    _out("stages.conclude:may_be_too_large:*", "As `was_alone`."),
    _out("stages.conclude:batch_faults:arithmetic-2", "Where a failed batch is cut costs tries and loses nothing."),
    _out("stages.conclude:batch_faults:bool-2", "The word of a reason; what becomes of the record stays."),
    _gap(
        "stages.conclude:batch_faults:*", "A failed batch that names its second line, or a line that it does not have."
    ),
    _out(
        "stages.conclude:_action:*",
        "`process_results` and `process_partial` differ in their word: both are merged, marked and retried.",
    ),
    _equivalent(
        "stages.conclude:_fallback:compare-1",
        "No line comes of a create that was lost, and either cause costs no try more.",
    ),
    _gap("stages.conclude:_fallback:constant-1", "In which of two retry batches a record goes is not looked at."),
    _out("stages.creation:check_tokens:*", "No text comes near the limit of tokens."),
    _out("stages.creation:held_back:*", "Whether a batch that was refused waits; it is created in the end."),
    _out("stages.fold:Fold.__init__:constant-2", "The count of odd lines, which is told and not used."),
    _gap("stages.fold:Fold.take:*", "Lines that are counted twice, beside others that are late."),
    _gap(
        "stages.fold:Fold.accounted:*",
        "An early answer to whether all lines are there: the counts agree otherwise, too.",
    ),
    _out(
        "stages.fold:judge:*",
        "Which cause a failed line has decides about a try more; no guarantee counts tries below their limit.",
    ),
    _gap("stages.fold:settled:*", "A provider whose counts are ahead of its lines, failed ones among them."),
    _out(
        "stages.mark_complete:counts*",
        "Counts that are told; `verify` compares them with logs of AWS, which are not simulated.",
    ),
    _out("stages.mark_complete:retry_row:*", "How long a retry waits for capacity; it is created in the end."),
    _equivalent(
        "stages.merge:_compare_claims:compare-1",
        "Where the sequence is the same, the attempt decides: the second half says the same.",
    ),
    _gap(
        "stages.merge:_compare_claims:*",
        "Two attempts of one batch that are merged out of order, under different texts.",
    ),
    _gap(
        "stages.merge:won:*",
        "A pointer whose write succeeded unheard, and a later version built on it before it is read again.",
    ),
    _equivalent(
        "stages.merge:join:continue-1",
        "Nothing to do in this group is nothing to do in those after it, which are empty.",
    ),
    _out(
        "stages.normalize:*",
        "A key of another project costs single calls here, never most of an execution; tests/unit/test_stage_normalize.py.",
    ),
    _equivalent("stages.streams:*", "How much is read at a time: the same rows come."),
    _out("stages.submit:_Body:*", "The wire form of a request line, which the provider's own suite checks."),
    _out("stages.submit:_json_bytes:*", "An estimate of bytes, far below its limit."),
    _out("stages.submit:_reach:*", "One limit binds in these scenarios; tests/unit/test_stage_submit.py has all."),
    _out("stages.submit:_one:*", "Records without a column; property tests of records."),
    _out("stages.submit:_refuse_too_large:*", "No record is too large here; unit tests."),
    _out("stages.submit:unique:*", "No submission names a record twice; unit tests."),
    _gap(
        "stages.submit:closed_roots.ended:*", "A submission while a retry's retry is open and its parents have ended."
    ),
    _equivalent("stages.submit:next_head:constant-1", "Where sequences begin says nothing: only their order counts."),
    # --- steps ---
    _out("steps.batch_files:*", "Objects that are damaged or gone for good; tests/protocol/test_lost_objects.py."),
    _out("steps.call:*", "Events that no caller of ours sends; tests/aws/test_handlers.py."),
    _out(
        "steps.chunk:process:*",
        "An index that no caller of ours sends, or the name in an error; tests/aws/test_handlers.py.",
    ),
    _equivalent("steps.context:Context:*", "A default that every deployment gives."),
    _out("steps.context:read_head:*", "Ledgers of other hands; tests/protocol."),
    _out("steps.create:_admitted:*", "As `admission`."),
    _out("steps.create:_refused:*", "What is raised or told after a refusal; the row says what becomes of the batch."),
    _equivalent("steps.create:_created:constant-3", "The answer only counts; the row says that it was created."),
    _equivalent("steps.create:_create:argument-1", "Whether it was found is told, and nothing hangs on it."),
    _out("steps.create:_create_one:*", "Rows of a newer schema; tests/protocol."),
    _out("steps.create:finish:*", "How long batches wait is told to an alarm."),
    _gap(
        "steps.create:_listed:*",
        "A create that only the ledger knows of, with an index that stays behind for all of a run.",
    ),
    _out("steps.create:_known:*", "Rows that are lost after their first poll; tests/protocol/test_lost_objects.py."),
    _gap(
        "steps.create:_call_create:*",
        "A search right after a lost answer: the poll searches again, so only time is lost.",
    ),
    _equivalent("steps.delta:_vector_batches:*", "How much is written at a time: the same rows come."),
    _gap(
        "steps.journal:_write:*", "A merge in place that dies, and an older text that is merged before anything else."
    ),
    _out("steps.journal:find:*", "A journal that is damaged; tests/protocol/test_lost_objects.py."),
    _out("steps.journal:_open_batches:*", "As above."),
    _gap("steps.journal:to_finish:*", "A damaged journal whose suspects have ended."),
    _out(
        "steps.mark_complete:_gather:*",
        "Results of the seed's form, without a delta; tests/protocol/test_deployed_seed.py.",
    ),
    _equivalent("steps.mark_complete:_lacking:*", "How much is looked at a time."),
    _gap("steps.mark_complete:_groups:*", "More batches to mark than one group of proofs holds."),
    _gap("steps.mark_complete:_mark_group:*", "A proof that can't be read, for one of several batches of a group."),
    _gap("steps.mark_complete:_put_once:*", "Two executions that store the same retry at once."),
    _gap("steps.merge:_Attempt._move_pointer:*", "Two first versions that race for a pointer that is not there yet."),
    _equivalent("steps.merge:_Attempt._upsert:*", "How many rows are written before the time is looked at."),
    _gap("steps.merge:_edit:drop-2", "As the planted bug `no_journal`, which takes 115 runs."),
    _out(
        "steps.merge:_edit:drop-3",
        "What is written in place is durable at once here; tests/contract/test_vector_store.py.",
    ),
    _gap("steps.merge:_edit:ternary-3", "A merge of a dead writer's rows that runs out of time."),
    _equivalent("steps.merge:_gather:*", "How many chunks are merged together: the same rows are."),
    _gap("steps.merge:_merge:*", "A merge that is called again because it found no time."),
    _out(
        "steps.merge:check_published:*",
        "A collection in place that has lost rows; tests/protocol/test_lost_objects.py.",
    ),
    _equivalent("steps.merge:final_merge:compare-2", "One moment sooner or later."),
    _out("steps.poll:_is_too_large:*", "As `was_alone`."),
    _out(
        "steps.poll:poll:compare-7",
        "Rows that name no dimensions, of the seed's form; tests/protocol/test_deployed_seed.py.",
    ),
    _gap("steps.poll:_concluded:*", "A capacity refusal of a batch that is too large for its account."),
    _out("steps.poll:_read_register:*", "Registers of a newer schema; tests/protocol."),
    _gap(
        "steps.poll:_store:argument-2",
        "Two executions that poll a batch for the first time at once, the slower with the older answer.",
    ),
    _equivalent("steps.poll:_store:ternary-1", "What is found is read again by whoever goes on."),
    _gap("steps.poll:_without_name:*", "A create that was lost, in a project that is not ours for all of a run."),
    _out(
        "steps.provider_files:*",
        "Deleting the provider's files is off in these scenarios; tests/unit and tests/protocol/test_provider_files.py.",
    ),
    _equivalent("steps.spill:*", "How drafts are sorted on disk, and when memory is given back: the same rows come."),
    _out(
        "steps.submit:_claim:*",
        "What a submitter is told that finds its own entry after a lost answer; the ledger has it.",
    ),
    _out("steps.submit:_check_collection:*", "A collection of another model; tests/cli."),
    _gap("steps.submit:_rejected_ids:*", "A record that was rejected, submitted again unchanged."),
    _out("steps.submit:_within_limits:*", "No limit on open batches is set here."),
    _gap(
        "steps.submit:known_claims:*",
        "An open batch, submitted again before it is polled, whose records' file is read.",
    ),
    _out("steps.submit:submit:*", "A callback of the command line."),
)
"""By module, then function. `was_alone` and its like are named once."""


def survivor_of(name: str) -> Survivor | None:
    """The line of a mutation."""
    return next((line for line in SURVIVORS if fnmatchcase(name, line.pattern)), None)
