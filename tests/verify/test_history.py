"""Where a value got lost, in histories that moto's engine wrote."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from hypothesis import given
from hypothesis import strategies as st
from moto import mock_aws

from tests.cli.conftest import Run, run  # noqa: F401  a fixture
from verify.audit.findings import WrongQuestion
from verify.history.reading import of_execution, of_file
from verify.history.trail import Came, Trail, follow

REGION = "eu-central-1"
ROLE = "arn:aws:iam::123456789012:role/sfn"


def passing(**changes: Any) -> dict[str, Any]:
    return {"Type": "Pass", **changes}


RESULTS = {"poll_results_s3_key": "poll_results/e/poll_results.json", "poll_results_s3_bucket": "b"}
NORMALIZE = passing(Result=RESULTS, ResultPath="$.poll_results_data", Next="Between")
BETWEEN = {
    "kept": passing(Next="MarkWordBatchesComplete"),
    "dropped": passing(Parameters={"execution_id.$": "$.execution_id"}, Next="MarkWordBatchesComplete"),
    "null": passing(
        Result={"poll_results_s3_key": None, "poll_results_s3_bucket": None},
        ResultPath="$.poll_results_data",
        Next="MarkWordBatchesComplete",
    ),
    "changed": passing(
        Result={**RESULTS, "poll_results_s3_key": "other"},
        ResultPath="$.poll_results_data",
        Next="MarkWordBatchesComplete",
    ),
    "map": {
        "Type": "Map",
        "ItemsPath": "$.items",
        "ItemProcessor": {"StartAt": "Inner", "States": {"Inner": passing(End=True)}},
        "ResultPath": "$.made",
        "Next": "MarkWordBatchesComplete",
    },
    "end": passing(End=True),
}
WANTED = {
    "kept": Came.THERE,
    "dropped": Came.ABSENT,
    "null": Came.NULL,
    "changed": Came.CHANGED,
    "map": Came.THERE,
    "end": Came.NOT_REACHED,
}
ENTERED = passing(End=True)
"""In place of the task, where moto has no such service: it is entered, and that is asked about."""


@pytest.fixture(scope="module")
def histories() -> Iterator[dict[str, tuple[str, list[Any]]]]:
    """What lies between -> the execution's ARN and its events."""
    with (
        pytest.MonkeyPatch.context() as patch,
        mock_aws(config={"stepfunctions": {"execute_state_machine": True}}),
    ):
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        states = boto3.client("stepfunctions", region_name=REGION)
        found = {}
        for name, between in BETWEEN.items():
            machine = {
                "StartAt": "Normalize",
                "States": {"Normalize": NORMALIZE, "Between": between, "MarkWordBatchesComplete": ENTERED},
            }
            made = states.create_state_machine(name=name, definition=json.dumps(machine), roleArn=ROLE)
            given_ = json.dumps({"execution_id": "e", "items": [{"a": 1}, {"a": 2}]})
            started = states.start_execution(stateMachineArn=made["stateMachineArn"], name="e", input=given_)
            arn = started["executionArn"]
            while states.describe_execution(executionArn=arn)["status"] == "RUNNING":
                time.sleep(0.01)
            events = states.get_execution_history(executionArn=arn)["events"]
            found[name] = (arn, json.loads(json.dumps(events, default=str)))
        yield found


def trail_of(events: list[Any]) -> Trail:
    return follow(events, fields=("poll_results_s3_key",))


@pytest.mark.parametrize("name", BETWEEN)
def test_the_state_that_lost_it_is_named(histories: Any, name: str) -> None:
    trail = trail_of(histories[name][1])
    (answer,) = trail.answers
    assert answer.came is WANTED[name], answer
    assert answer.lost_in == ("Between" if WANTED[name] in (Came.ABSENT, Came.NULL, Came.CHANGED) else "")
    assert trail.exit_code == {"kept": 0, "map": 0, "end": 3}.get(name, 1)
    assert trail.status == "SUCCEEDED"


def test_files_of_one_or_several_pages_and_the_engine_say_the_same(histories: Any, tmp_path: Path) -> None:
    arn, events = histories["dropped"]
    path = tmp_path / "h.json"
    wanted = trail_of(events)
    pages = "\n".join(json.dumps({"events": part}) for part in (events[3:], events[:3]))
    for text in (json.dumps({"events": events}), json.dumps(events), pages):
        path.write_text(text)
        assert trail_of(of_file(path)) == wanted
    assert trail_of(list(of_execution(arn, region=None, endpoint_url=None))) == wanted


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "nonsense", '{"events": [1]}', "[" * 100_000, '{"events": [{"id": "x"}]}']
)
def test_what_is_no_history_is_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "odd.json"
    path.write_text(text)
    with pytest.raises(WrongQuestion, match="no history"):
        of_file(path)
    with pytest.raises(WrongQuestion):
        of_file(tmp_path / "none.json")


def test_a_payload_that_was_cut_off_is_not_known(histories: Any) -> None:
    events = json.loads(json.dumps(histories["kept"][1]))
    for event in events:
        for details in event.values():
            if isinstance(details, dict) and details.get("name") == "MarkWordBatchesComplete":
                details["inputDetails"] = {"truncated": True}
                details["outputDetails"] = {"truncated": True}
    assert trail_of(events).answers[0].came is Came.UNKNOWN


@pytest.mark.parametrize("name", ["dropped", "null"])
def test_where_an_end_was_not_seen_the_state_before_is_named(histories: Any, name: str) -> None:
    """The output of the state that lost it is cut off, or its event is not in the file: the next state has done nothing."""
    events = json.loads(json.dumps(histories[name][1]))
    left = next(event for event in events if event.get("stateExitedEventDetails", {}).get("name") == "Between")
    left["stateExitedEventDetails"]["outputDetails"] = {"truncated": True}
    assert trail_of(events).answers[0].lost_in == "Between"
    assert trail_of([event for event in events if event is not left]).answers[0].lost_in == "Between"


@pytest.mark.parametrize("arn", ["arn:aws:states:bogus", "arn:aws:states:eu-central-1:1:stateMachine:m", "arn:x"])
def test_what_is_no_arn_of_an_execution_is_one_line(arn: str) -> None:
    with pytest.raises(WrongQuestion, match="is no ARN of an execution"):
        list(of_execution(arn, region=None, endpoint_url=None))


@given(st.data())
def test_damaged_events_are_no_crash(histories: Any, data: st.DataObject) -> None:
    events = json.loads(json.dumps(histories["dropped"][1]))
    for _ in range(data.draw(st.integers(1, 5))):
        event = data.draw(st.sampled_from(events))
        name = data.draw(st.sampled_from(sorted(event)))
        event[name] = data.draw(st.one_of(st.none(), st.just("x"), st.just({})))
    for number, event in enumerate(events):
        event["id"], event["previousEventId"] = number, number - 1
    follow(events, fields=("poll_results_s3_key",))


def test_the_command_line(histories: Any, tmp_path: Path, run: Run) -> None:  # noqa: F811  the fixture
    path = tmp_path / "h.json"
    path.write_text(json.dumps({"events": histories["dropped"][1]}))
    shown = run("verify", "history", str(path))
    assert shown.exit_code == 1
    assert "lost in Between: poll_results/e/poll_results.json -> absent" in shown.stdout
    document = run("verify", "history", str(path), "--json", "--field", "poll_results_s3_key").document
    assert [answer["came"] for answer in document["answers"]] == ["absent"]
    assert run("verify", "history", str(tmp_path / "none")).exit_code == 2
    gone = histories["kept"][0] + "x"
    assert run("verify", "history", gone).exit_code == 3
    express = "arn:aws:states:eu-central-1:123456789012:express:m:e:1"
    assert "keeps no history" in run("verify", "history", express).stderr
