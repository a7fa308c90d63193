"""The contract of the auditor's own ports: histories and logs, in memory and on moto."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest

from embedpipe.backends.memory.clock import MemoryClock
from embedpipe.errors import ConfigError, NotFound, Throttled
from tests.aws.cloud import ACCOUNT, REGION, _client, services
from verify.audit.calls import Calls
from verify.audit.ports import Histories, Logs, MapRun, Page, PagedHistories, PagedLogs, Run
from verify.sources.aws import CloudWatchLogs, StepFunctionsHistories
from verify.sources.memory import MemoryHistories, MemoryLogs

MACHINE = f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:one"
GROUP = "/aws/lambda/one"
BEGAN = datetime.now(UTC)
"""moto takes lines of the last days only."""


@attrs.frozen
class Given:
    """Both ports over the same two executions and three lines."""

    histories: Histories
    logs: Logs


def in_memory() -> Given:
    histories = MemoryHistories(page=1)
    for at, name in enumerate(("first", "second")):
        when = BEGAN + timedelta(seconds=at)
        arn = f"{MACHINE.replace('stateMachine', 'execution')}:{name}"
        run = Run(arn=arn, name=name, status="SUCCEEDED", started_at=when, stopped_at=when)
        types = ("ExecutionStarted", "PassStateEntered", "PassStateExited", "ExecutionSucceeded")
        histories.add(MACHINE, run, [{"id": number, "type": kind} for number, kind in enumerate(types, 1)])
    logs = MemoryLogs(page=1)
    for at, text in enumerate(LINES):
        logs.add(GROUP, BEGAN + timedelta(seconds=at), text)
    logs.days[GROUP] = 14
    return Given(histories, logs)


LINES = ['{"event": "mark", "n": 1}', "another", '{"event": "mark", "n": 2}']


def on_moto() -> Given:
    sfn, logs = _client("stepfunctions"), _client("logs")
    definition = json.dumps({"StartAt": "A", "States": {"A": {"Type": "Pass", "End": True}}})
    sfn.create_state_machine(name="one", definition=definition, roleArn=f"arn:aws:iam::{ACCOUNT}:role/sfn")
    for name in ("first", "second"):
        arn = sfn.start_execution(stateMachineArn=MACHINE, name=name)["executionArn"]
        while sfn.describe_execution(executionArn=arn)["status"] == "RUNNING":
            pass
    logs.create_log_group(logGroupName=GROUP)
    logs.put_retention_policy(logGroupName=GROUP, retentionInDays=14)
    logs.create_log_stream(logGroupName=GROUP, logStreamName="s")
    start = int(BEGAN.timestamp() * 1000)
    events = [{"timestamp": start + at * 1000, "message": text} for at, text in enumerate(LINES)]
    logs.put_log_events(logGroupName=GROUP, logStreamName="s", logEvents=events)
    return Given(StepFunctionsHistories(region=REGION), CloudWatchLogs(region=REGION))


@pytest.fixture(scope="module", params=["memory", "moto"])
def given(request: pytest.FixtureRequest) -> Iterator[Given]:
    if request.param == "memory":
        yield in_memory()
        return
    with services():
        yield on_moto()


@pytest.fixture
def histories(given: Given) -> PagedHistories:
    return PagedHistories(given.histories, Calls(clock=MemoryClock()))


@pytest.fixture
def logs(given: Given) -> PagedLogs:
    return PagedLogs(given.logs, Calls(clock=MemoryClock()))


def test_executions_come_newest_first(histories: PagedHistories) -> None:
    runs = list(histories.runs(MACHINE))
    assert [run.name for run in runs] == ["second", "first"]
    assert all(run.succeeded and not run.running and run.stopped_at for run in runs)
    assert all(run.started_at.tzinfo is UTC for run in runs)


def test_an_execution_is_found_by_its_name(histories: PagedHistories) -> None:
    run = histories.run(MACHINE, "first")
    assert run in list(histories.runs(MACHINE))
    with pytest.raises(NotFound):
        histories.run(MACHINE, "third")


def test_events_come_in_order(histories: PagedHistories) -> None:
    arn = histories.run(MACHINE, "first").arn
    events = list(histories.events(arn))
    assert [event["id"] for event in events] == [1, 2, 3, 4]
    assert events[0]["type"] == "ExecutionStarted"
    with pytest.raises(NotFound):
        list(histories.events(arn.replace("first", "third")))


def test_a_machine_has_a_type(histories: PagedHistories) -> None:
    assert histories.type_of(MACHINE) == "STANDARD"
    for odd in (MACHINE + "x", "one"):
        with pytest.raises(ConfigError, match="state machine"):
            histories.type_of(odd)


def test_lines_contain_the_text_and_lie_in_the_window(logs: PagedLogs) -> None:
    def found(text: str, first_s: float, last_s: float) -> list[str]:
        since, until = BEGAN + timedelta(seconds=first_s), BEGAN + timedelta(seconds=last_s)
        return sorted(line.message for line in logs.lines(GROUP, containing=text, since=since, until=until))

    assert found("mark", -1, 9) == [LINES[0], LINES[2]]
    assert found("mark", 1, 9) == [LINES[2]]
    assert found("another", -1, 9) == [LINES[1]]
    assert found("nothing", -1, 9) == []


def test_a_group_says_how_long_lines_are_kept(logs: PagedLogs) -> None:
    assert logs.kept_days(GROUP) == 14
    with pytest.raises(ConfigError, match="/aws/lambda/on"):
        logs.kept_days("/aws/lambda/on")  # the beginning of another's name


# --- pages and load ------------------------------------------------------------------------------------------------


class Throttling:
    """Refuses every second call."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self._calls = 0

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            self._calls += 1
            if self._calls % 2:
                raise Throttled("Too many calls.")
            return getattr(self._inner, name)(*args, **kwargs)

        return call


def test_a_page_that_is_refused_is_asked_again_alone() -> None:
    made = in_memory()
    calls = Calls(clock=MemoryClock())
    histories = PagedHistories(Throttling(made.histories), calls)
    arn = histories.run(MACHINE, "first").arn
    assert [event["id"] for event in histories.events(arn)] == [1, 2, 3, 4]
    logs = PagedLogs(Throttling(made.logs), calls)
    lines = list(logs.lines(GROUP, containing="mark", since=BEGAN, until=BEGAN + timedelta(seconds=9)))
    assert [line.message for line in lines] == [LINES[0], LINES[2]]
    assert calls.counts == {"histories.run": 1, "histories.events": 4, "logs.lines": 2}


def test_an_empty_page_may_have_others_behind_it() -> None:
    """CloudWatch searches a stretch of time with each call, and finds nothing in many of them."""

    class Sparse(MemoryLogs):
        def lines(self, group: str, *, token: str | None = None, **asked: Any) -> Page[Any]:
            if token is None:
                return Page(values=(), following="0")
            return super().lines(group, token=token, **asked)

    logs = PagedLogs(Sparse(groups=in_memory().logs.groups), Calls(clock=MemoryClock()))  # type: ignore[attr-defined]
    assert len(list(logs.lines(GROUP, containing="mark", since=BEGAN, until=BEGAN + timedelta(seconds=9)))) == 2


def test_map_runs() -> None:
    histories = MemoryHistories(map_runs={"m": MapRun(total=2, succeeded=1)})
    assert histories.map_run("m").succeeded == 1
    with pytest.raises(NotFound):
        histories.map_run("n")
