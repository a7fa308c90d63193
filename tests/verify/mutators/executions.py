"""Executions and their log lines, changed by hand after they really ran."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

import attrs

from tests.verify.recorded import GROUP, Told
from verify.audit.ports import LogLine, MapRun

ToldMutator = Callable[[Told], set[str]]
TOLD_MUTATORS: Final[dict[str, list[ToldMutator]]] = {}
KEY: Final = "poll_results_s3_key"
BUCKET: Final = "poll_results_s3_bucket"


def tells(code: str) -> Callable[[ToldMutator], ToldMutator]:
    """Enter a mutator in the table."""

    def enter(mutator: ToldMutator) -> ToldMutator:
        TOLD_MUTATORS.setdefault(code, []).append(mutator)
        return mutator

    return enter


def without(value: Any, name: str) -> Any:
    """The value without a field, at any depth."""
    if isinstance(value, dict):
        return {field: without(inner, name) for field, inner in value.items() if field != name}
    return [without(inner, name) for inner in value] if isinstance(value, list) else value


def replaced(value: Any, name: str, by: Any) -> Any:
    """The value with every field of that name changed."""
    if isinstance(value, dict):
        return {field: by if field == name else replaced(inner, name, by) for field, inner in value.items()}
    return [replaced(inner, name, by) for inner in value] if isinstance(value, list) else value


def _lose(told: Told, since: str, change: Callable[[Any], Any]) -> set[str]:
    told.states(since, change, until="MarkNotesBatchesComplete")
    told.given("MarkNotesBatchesComplete", change)
    return told.eligible


# --- X301: the seed's second verification --------------------------------------------------------------------------


@tells("X301")
def a_pass_replaces_the_state(told: Told) -> set[str]:
    return _lose(told, "SplitNotesIntoChunks", lambda state: without(state, KEY))


@tells("X301")
def the_merge_hides_it(told: Told) -> set[str]:
    return _lose(told, "NotesFinalMerge", lambda state: {"final_merge_result": {"more": False}})


@tells("X301")
def null_on_one_path(told: Told) -> set[str]:
    return _lose(told, "SplitNotesIntoChunks", lambda state: replaced(state, KEY, None))


@tells("X301")
def another_executions_results(told: Told) -> set[str]:
    return _lose(
        told, "SplitNotesIntoChunks", lambda state: replaced(state, KEY, "poll_results/other/poll_results.json")
    )


@tells("X301")
def the_bucket_is_null(told: Told) -> set[str]:
    return _lose(told, "NotesFinalMerge", lambda state: replaced(state, BUCKET, None))


@tells("X301")
def never_there(told: Told) -> set[str]:
    return _lose(told, "ListPending", lambda state: without(state, KEY))


@tells("X301")
def only_the_mark_step_is_given_none(told: Told) -> set[str]:
    told.given("MarkNotesBatchesComplete", lambda event: without(event, KEY))
    return told.eligible


# --- X302 ----------------------------------------------------------------------------------------------------------


def _marks_nothing(told: Told, output: Callable[[dict[str, Any]], Any]) -> set[str]:
    told.payloads("MarkNotesBatchesComplete", output)
    told.objects.delete(told.layout.marked_key(told.name))
    return told.eligible


@tells("X302")
def returns_before_its_loop(told: Told) -> set[str]:
    return _marks_nothing(told, lambda _: {"batches_marked": 0})


@tells("X302")
def extracts_no_ids(told: Told) -> set[str]:
    """79 % of the vectors missing, and the execution SUCCEEDED: what it extracted was empty."""
    return _marks_nothing(told, lambda output: dict.fromkeys(output, 0) | {"eligible": len(told.eligible)})


@tells("X302")
def leaves_one_out(told: Told) -> set[str]:
    key = told.layout.marked_key(told.name)
    marked = told.json(key)
    gone = told.random.choice(sorted(told.eligible))
    told.put_json(key, {**marked, "marks": [mark for mark in marked["marks"] if mark["batch_id"] != gone]})
    return {gone}


@tells("X302")
def skips_without_a_reason(told: Told) -> set[str]:
    key = told.layout.marked_key(told.name)
    marked = told.json(key)
    gone = told.random.choice(sorted(told.eligible))
    for mark in marked["marks"]:
        if mark["batch_id"] == gone:
            mark.update(outcome="skipped", reason=None)
    told.put_json(key, marked)
    return {gone}


# --- X303 ----------------------------------------------------------------------------------------------------------


def _forget(told: Told, batch_id: str) -> None:
    """Take it out of poll_results.json and of what was marked: nobody was told."""
    told.put_json(told.layout.poll_results_key(told.name), [one for one in told.quoted if one["batch_id"] != batch_id])
    key = told.layout.marked_key(told.name)
    marked = told.json(key)
    told.put_json(key, {**marked, "marks": [mark for mark in marked["marks"] if mark["batch_id"] != batch_id]})


@tells("X303")
def an_iteration_is_tolerated(told: Told) -> set[str]:
    gone = told.random.choice(sorted(one["batch_id"] for one in told.quoted))
    _forget(told, gone)
    for event in told.events:
        if event["type"] == "MapIterationSucceeded" and "Poll" in event["mapIterationSucceededEventDetails"]["name"]:
            event["type"] = "MapIterationFailed"
            event["mapIterationFailedEventDetails"] = event.pop("mapIterationSucceededEventDetails")
            break
    return set()


@tells("X303")
def the_map_is_given_less_than_was_listed(told: Told) -> set[str]:
    _forget(told, told.random.choice(sorted(one["batch_id"] for one in told.quoted)))
    for event in told.events:
        if event["type"] == "MapStateStarted":
            event["mapStateStartedEventDetails"]["length"] -= 1
            break
    return set()


@tells("X303")
def a_distributed_map_tolerates_failures(told: Told) -> set[str]:
    arn = "arn:aws:states:eu-central-1:123456789012:mapRun:ingest/poll:1"
    count = len(told.quoted)
    _forget(told, told.random.choice(sorted(one["batch_id"] for one in told.quoted)))
    for event in told.events:
        if event["type"] == "MapStateStarted":
            event["type"] = "MapRunStarted"
            del event["mapStateStartedEventDetails"]
            event["mapRunStartedEventDetails"] = {"mapRunArn": arn}
            break
    told.histories.map_runs[arn] = MapRun(total=count, succeeded=count - 1)
    return set()


@tells("X303")
def a_poll_returns_its_error(told: Told) -> set[str]:
    said = told.random.choice([{"statusCode": 500, "body": "no"}, {"errorMessage": "no", "errorType": "KeyError"}])
    told.payloads("PollNotesBatchesItem", lambda _: said)
    return {one["batch_id"] for one in told.quoted if "poll-fails" != told.name}


@tells("X303")
def a_merge_returns_its_error(told: Told) -> set[str]:
    told.payloads("NotesFinalMerge", lambda output: {**output, "error": "the lock was held"})
    return set()


# --- X304 ----------------------------------------------------------------------------------------------------------


@tells("X304")
def a_state_is_large(told: Told) -> set[str]:
    told.states("ListPending", lambda state: {**state, "padding": "x" * 205_000}, until="NormalizePoll")
    return set()


@tells("X304")
def an_event_is_large(told: Told) -> set[str]:
    told.given("NotesFinalMerge", lambda event: {**event, "padding": "x" * 230_000})
    return set()


@tells("X304")
def the_history_is_long(told: Told) -> set[str]:
    last = told.events[-1]
    for at in range(20_000 - len(told.events)):
        told.events.insert(
            -1,
            {
                "id": 30_000 + at,
                "previousEventId": last["previousEventId"],
                "type": "PassStateEntered",
                "stateEnteredEventDetails": {"name": "Again", "input": "{}"},
            },
        )
    return set()


# --- L801: the seed's third verification ---------------------------------------------------------------------------


def _lines(told: Told, change: Callable[[dict[str, Any]], str | None]) -> set[str]:
    kept: list[LogLine] = []
    for line in told.logs.groups[GROUP]:
        mine = f'"execution_id": "{told.name}"' in line.message  # another may have been cut in two
        text = change(json.loads(line.message)) if mine else line.message
        kept += [attrs.evolve(line, message=text)] if text is not None else []
    told.logs.groups[GROUP] = kept
    return {one["batch_id"] for one in told.quoted}


@tells("L801")
def no_line(told: Told) -> set[str]:
    return _lines(told, lambda _: None)


@tells("L801")
def a_line_that_counts_none(told: Told) -> set[str]:
    return _lines(told, lambda said: json.dumps({**said, "batches_marked": 0}))


@tells("L801")
def a_line_that_extracted_others(told: Told) -> set[str]:
    return _lines(told, lambda said: json.dumps({**said, "extracted": said["extracted"] + 1}))


@tells("L801")
def a_line_cut_in_two(told: Told) -> set[str]:
    return _lines(told, lambda said: json.dumps(said)[: told.random.randint(90, 110)])


@tells("L801")
def a_line_that_counts_what_another_marked(told: Told) -> set[str]:
    """The row says who ended it."""
    item = dict(told.table.read_raw(told.random.choice(sorted(told.eligible))) or {})
    told.table.write_raw({**item, "completed_by": "empty"})
    return {one["batch_id"] for one in told.quoted}
