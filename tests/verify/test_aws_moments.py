"""Executions that can't be judged, and stories that were real: what is in flight, gone, elsewhere, or another pipeline's."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import attrs
import pytest

from embedpipe.backends.memory.objects import MemoryBlobStore
from embedpipe.backends.memory.table import MemoryBatchTable
from embedpipe.errors import Unauthorized
from tests.verify.mutators.executions import no_line, returns_before_its_loop
from tests.verify.recorded import GROUP, Told
from verify.audit.checks.logs import line_of
from verify.audit.history import read_history
from verify.audit.ports import Run
from verify.audit.report import Report
from verify.sources.memory import MemoryHistories, MemoryLogs


def line(report: Report, family: str) -> dict[str, Any]:
    (found,) = [each for each in report.coverage.lines if each.family == family and each.unit == "executions"]
    return {name: count for name, count in attrs.asdict(found).items() if isinstance(count, int) and count}


def change(told: Told, **changes: Any) -> None:
    """Let the machine say something else of the execution that is hit."""
    run = told.run
    for runs in told.histories.machines.values():
        if run in runs:
            runs[runs.index(run)] = attrs.evolve(run, **changes)


# --- what can't be judged ------------------------------------------------------------------------------------------


def test_an_execution_that_runs_is_in_flight() -> None:
    told = Told()
    change(told, status="RUNNING", stopped_at=None)
    told.payloads("MarkNotesBatchesComplete", lambda _: {"batches_marked": 0})
    no_line(told)
    report = told.audited()
    assert report.findings == ()
    assert line(report, "X") == {"total": 8, "checked": 7, "in_flight": 1}
    assert line(report, "L")["in_flight"] == 1


def test_a_history_that_is_gone_is_not_evaluated() -> None:
    """Its execution is still listed, or was a moment ago."""
    told = Told()
    del told.histories.histories[told.run.arn]
    report = told.audited()
    assert [(finding.code, finding.location) for finding in report.findings] == [("A901", f"history:{told.run.arn}")]
    assert line(report, "X") == {"total": 8, "checked": 7, "not_evaluated": 1}
    assert report.exit_code == 3


def test_an_execution_past_its_retention_is_not_evaluated() -> None:
    """Objects stay; after 90 days the engine does not know the execution any longer."""
    told = Told()
    for runs in told.histories.machines.values():
        runs[:] = [run for run in runs if run.name != told.name]
    key = told.layout.manifest_key(told.name)
    began = told.world.clock.now() - timedelta(days=91)
    told.put_json(key, {**told.json(key), "created_at": began.strftime("%Y-%m-%dT%H:%M:%SZ")})
    report = told.audited()
    assert {finding.code for finding in report.findings} == {"A901"}
    assert "90 days" in str(report.findings[0].evidence["reason"])
    assert line(report, "X")["not_evaluated"] == 1


def test_an_ingest_from_a_laptop_is_no_execution_of_the_machine() -> None:
    told = Told()
    for runs in told.histories.machines.values():
        runs[:] = [run for run in runs if run.name != told.name]
    no_line(told)
    report = told.audited()
    assert report.findings == ()
    assert line(report, "X") == {"total": 8, "checked": 7, "out_of_scope": 1}
    assert line(report, "L")["out_of_scope"] == 1
    assert line(told.audited(grace_s=10_000_000), "X")["in_flight"] == 1


def test_lines_past_the_retention_of_their_group_are_not_evaluated() -> None:
    told = Told()
    no_line(told)
    told.logs.days[GROUP] = -1
    report = told.audited()
    assert {finding.code for finding in report.findings} == {"A901"}
    assert line(report, "L")["not_evaluated"] == 1


def test_a_line_may_be_late() -> None:
    told = Told()
    no_line(told)
    assert told.audited(grace_s=10_000).findings == ()


def test_a_line_that_came_meanwhile_is_no_finding() -> None:
    """It is found at the second look."""
    told = Told()
    kept = list(told.logs.groups[GROUP])
    no_line(told)

    class Late(MemoryLogs):
        def lines(self, group: str, *, containing: str, **asked: Any) -> Any:
            if containing == told.name:
                self.groups[GROUP] = kept
            return super().lines(group, containing=containing, **asked)

    late = Late(groups=told.logs.groups)
    assert told.audited(changes={"logs": late}).findings == ()


def test_a_function_may_log_whatever_it_likes() -> None:
    told = Told()
    odd = ["mark_batches_complete", "{mark_batches_complete", '{"event": "mark_batches_complete"}', "[" * 100_000]
    odd += [
        'mark_batches_complete {"execution_id": 3, "event": "mark_batches_complete"}',
        "{" * 100_000 + "mark_batches_complete",
    ]
    for text in odd:
        assert line_of(text) is None
        told.logs.add(GROUP, told.world.clock.now(), text)
    assert told.audited().findings == ()


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '"text"', "null", "[1]"])
def test_a_payload_may_be_anything(text: str) -> None:
    """A history that is cut short, or that is another machine's, breaks nothing."""
    events = [
        {"id": 1, "previousEventId": 0, "type": "ExecutionStarted", "executionStartedEventDetails": {"input": text}},
        {
            "id": 2,
            "previousEventId": 1,
            "type": "TaskStateEntered",
            "stateEnteredEventDetails": {"name": "A", "input": text},
        },
        {"id": 3, "previousEventId": 77, "type": "TaskSucceeded", "taskSucceededEventDetails": {"output": text}},
        {"id": 4, "previousEventId": 3, "type": "ExecutionAborted"},
    ]
    seen = read_history(events)
    assert (seen.events, seen.status, seen.lost, seen.returned) == (4, "ABORTED", (), ())


def test_a_denied_history_costs_its_own_family() -> None:
    class Denied(MemoryHistories):
        def events(self, arn: str, token: str | None = None) -> Any:
            raise Unauthorized("Denied.", hint="Allow states:GetExecutionHistory.")

    told = Told()
    report = told.audited(changes={"histories": Denied(machines=told.histories.machines)})
    assert {finding.code for finding in report.findings} == {"A901"}
    assert line(report, "X") == {"total": 8, "not_evaluated": 8}


# --- a pipeline that holds only the seed's fields ------------------------------------------------------------------


def seed(**mark: Any) -> tuple[Told, dict[str, Any]]:
    """One execution of the original design: `MarkWordBatchesComplete`, no `marked.json`, no line that anybody promised."""
    told = Told()
    key, bucket = "poll_results/e/poll_results.json", "vectors"
    state = {"poll_results_data": {"poll_results_s3_key": key, "poll_results_s3_bucket": bucket}}
    result = {"batch_id": "b1", "openai_batch_id": "o1", "batch_status": "completed", "action": "process_results"}
    result |= {"delta_id": "d", "delta_key": "words/delta/d/", "embedding_count": 3, "results_count": 3}
    objects = MemoryBlobStore(clock=told.world.clock)
    objects.write_raw(key, json.dumps([result]).encode())
    objects.write_raw("poll_results/b1/result.json", json.dumps(result).encode())
    table = MemoryBatchTable()
    item = {"PK": "BATCH#b1", "SK": "STATUS", "TYPE": "BATCH_SUMMARY", "status": mark.pop("row", "COMPLETED")}
    item |= {"openai_batch_id": "o1", "batch_type": "WORD_EMBEDDING", "submitted_at": "2025-01-01T00:00:00Z"}
    table.write_raw(item | {"GSI1PK": f"STATUS#{item['status']}", "GSI1SK": "BATCH_TYPE#WORD_EMBEDDING#BATCH_ID#b1"})
    name = "MarkWordBatchesComplete"
    events: list[dict[str, Any]] = [
        {"type": "ExecutionStarted", "executionStartedEventDetails": {"input": "{}"}},
        {"type": "TaskStateEntered", "stateEnteredEventDetails": {"name": "NormalizePoll", "input": "{}"}},
        {"type": "TaskStateExited", "stateExitedEventDetails": {"name": "NormalizePoll", "output": json.dumps(state)}},
        {"type": "TaskStateEntered", "stateEnteredEventDetails": {"name": name, "input": json.dumps(state)}},
        {"type": "TaskSucceeded", "taskSucceededEventDetails": {"output": json.dumps(mark)}},
        {"type": "TaskStateExited", "stateExitedEventDetails": {"name": name, "output": json.dumps(mark)}},
        {"type": "ExecutionSucceeded", "executionSucceededEventDetails": {"output": json.dumps(mark)}},
    ]
    events = [{"id": at, "previousEventId": at - 1, **event} for at, event in enumerate(events, 1)]
    now = told.world.clock.now()
    run = Run(arn="arn:e", name="e", status="SUCCEEDED", started_at=now, stopped_at=now)
    histories = MemoryHistories()
    histories.add("m", run, events)
    ports: dict[str, Any] = {
        "objects": objects,
        "table": table,
        "histories": histories,
        "machines": ("m",),
        "vectors": None,
    }
    ports |= {"logs": MemoryLogs(groups={"g": []}), "log_groups": ("g",)}
    return told, ports


@pytest.mark.parametrize("mark", [{"batches_marked": 1}, {"statusCode": 200, "marked": ["b1"]}, {}])
def test_a_healthy_execution_of_the_seed_has_no_finding(mark: dict[str, Any]) -> None:
    told, ports = seed(**mark)
    report = told.audited(changes=ports)
    assert [finding.code for finding in report.findings if finding.code[0] in "XL"] == []
    assert line(report, "X") == {"total": 1, "checked": 1}
    assert line(report, "L") == {"total": 1, "not_evaluated": 1}  # it promises no line that could be compared


@pytest.mark.parametrize("mark", [{"batches_marked": 0}, {"batches_marked": 0, "row": "PENDING"}, {"row": "PENDING"}])
def test_an_execution_of_the_seed_that_marked_nothing(mark: dict[str, Any]) -> None:
    """SUCCEEDED, `batches_marked: 0`: whether or not the rows have been mended since, and where nobody counts, by the rows."""
    told, ports = seed(**mark)
    found = [finding for finding in told.audited(changes=ports).findings if finding.code == "X302"]
    assert [finding.batch_ids for finding in found] == [("b1",)]


# --- stories -------------------------------------------------------------------------------------------------------


def test_x302_succeeded_with_no_batch_marked() -> None:
    """The execution ended SUCCEEDED, its mark step said `batches_marked: 0`, and its batches stayed open."""
    told = Told()
    ids = returns_before_its_loop(told)
    (finding,) = [finding for finding in told.audited().findings if finding.code == "X302"]
    assert finding.evidence["status"] == "SUCCEEDED"
    assert finding.evidence["counts"] == {"batches_marked": 0}
    assert finding.evidence["eligible"] == len(ids) == len(finding.batch_ids)


def test_l801_alarms_that_read_the_log_were_blind() -> None:
    """The seed's third verification: how many ids were extracted stands in the log, or it does not."""
    told = Told()
    no_line(told)
    (finding,) = told.audited().findings
    assert (finding.code, finding.evidence["line"]) == ("L801", "absent")
    assert finding.evidence["table"]["extracted"] == len(told.quoted)


def test_x304_a_listing_that_grew_towards_the_limit() -> None:
    """2,000 batches inline: the state of every later step had them all."""
    told = Told()
    pending = [{"batch_id": f"{at:036d}", "openai_batch_id": f"batch_{at:026d}"} for at in range(2_000)]
    told.states("ListPending", lambda state: {**state, "pending_batches": pending}, until="Mark")
    (finding,) = told.audited().findings
    assert finding.code == "X304"
    assert 204_800 <= finding.evidence["largest_bytes"] < 262_144  # type: ignore[operator]


def test_a_submission_and_an_ingest_may_have_one_name() -> None:
    """Each is judged by its own history; the objects belong to the one that began with them."""
    told = Told()
    submission = next(run for runs in told.histories.machines.values() for run in runs if run.name == "s1")
    for runs in told.histories.machines.values():
        runs[:] = [attrs.evolve(run, name=told.name) if run is submission else run for run in runs]
    report = told.audited()
    assert report.findings == ()
    assert line(report, "X") == {"total": 7, "checked": 7}
    returns_before_its_loop(told)
    (finding,) = [finding for finding in told.audited().findings if finding.code == "X302"]
    assert finding.location != f"history:{submission.arn}"
