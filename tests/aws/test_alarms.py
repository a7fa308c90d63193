"""Alarms: each metric that one watches is written by a function, under the same name, namespace and dimension.

A metric that nobody writes is an alarm that never sounds, and no checker of templates can tell.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest

from embedpipe import events
from embedpipe.aws import telemetry
from embedpipe.aws.alarms import PENDING_MAX_S
from embedpipe.aws.template import template
from embedpipe.backends.memory.behaviour import FOR_EVER, Behaviour, CreateFault
from embedpipe.errors import ProviderMismatch
from embedpipe.lifecycle import Status
from embedpipe.model import BatchRow
from embedpipe.stages.list_pending import oldest_s
from tests.aws.functions import Functions, ingest, submit
from tests.protocol.scenes import QUICK_ONE, behaviours, records
from tests.worlds import KIND, SmallWorld

DOCUMENT = template(KIND)
ALARMS: dict[str, Mapping[str, Any]] = {
    body["Properties"]["MetricName"]: body["Properties"]
    for body in DOCUMENT["Resources"].values()
    if body["Type"] == "AWS::CloudWatch::Alarm"
}
OWN = sorted(metric for metric, alarm in ALARMS.items() if alarm["Namespace"] == telemetry.NAMESPACE)


class LoggingWorld(SmallWorld):
    """A world whose functions log as the deployed ones do."""

    def note(self, event: events.RunEvent) -> None:
        super().note(event)
        telemetry.to_log(self.kind.name, self.clock.now)(event)


def run(world: SmallWorld, *names: str) -> None:
    for name in names:
        with suppress(ProviderMismatch):  # while the only batch is unknown
            ingest(world, name, Functions(world))
        world.clock.sleep(world.config.policy.lost_after_s)


def lost(world: SmallWorld) -> None:
    """The provider forgets a batch, and knows another one of ours."""
    world.provider.behaviour = lambda *_: attrs.evolve(QUICK_ONE, unknown_retrieves=FOR_EVER)
    submit(world, records("a", "1"), "s", Functions(world))
    world.clock.sleep(world.config.policy.not_found_grace_s)
    run(world, "e1", "e2")


def without_an_answer(world: SmallWorld) -> None:
    world.provider.behaviour = lambda *_: Behaviour(create=CreateFault.LOST)
    submit(world, records("a", "1"), "s", Functions(world))


def pending(world: SmallWorld) -> None:
    world.provider.behaviour = lambda *_: attrs.evolve(QUICK_ONE, outcome=None, running=("in_progress",))
    submit(world, records("a", "1"), "s", Functions(world))
    world.clock.sleep(PENDING_MAX_S)
    run(world, "e")


def refused(world: SmallWorld) -> None:
    """There is no credit, for days; nothing fails."""
    world.provider.behaviour = lambda *_: Behaviour(create=CreateFault.REFUSED)
    submit(world, records("a", "1"), "s", Functions(world))
    world.clock.sleep(PENDING_MAX_S)
    run(world, "e")


def damaged(key_part: str, step: str) -> Callable[[SmallWorld], None]:
    """Just before a step, everything whose key has that part is damaged."""

    def happens(world: SmallWorld) -> None:
        functions = Functions(world)
        submit(world, records("a", "1"), "s", functions)

        def deliver(name: str, event: Mapping[str, Any]) -> dict[str, Any]:
            if name == step:
                for info in list(world.objects.list("")):
                    if key_part in info.key:
                        world.objects.put(info.key, b"damaged")
            return functions(name, event)

        ingest(world, "e", deliver)

    return happens


def row_damaged(world: SmallWorld) -> None:
    submit(world, records("a", "1"), "s", Functions(world))
    (name,) = (row.batch_id for row in world.pipeline().open_rows())
    world.table.write_raw({**(world.table.read_raw(name) or {}), "request_count": "many"})
    run(world, "e")


HAPPENS: Mapping[str, Callable[[SmallWorld], None]] = {
    "ambiguous_create_events": without_an_answer,
    "batch_lost_events": lost,
    "delta_left_out_events": damaged("/delta.json", "process_chunk"),
    "listed_oldest_s": pending,
    "result_unreadable_events": damaged("/result.json", "normalize"),
    "row_unreadable_events": row_damaged,
    "waiting_oldest_s": refused,
}


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[dict[str, Any]]]:
    caplog.set_level(logging.INFO, logger="embedpipe")
    return lambda: [json.loads(record.getMessage()) for record in caplog.records]


def figures(lines: list[dict[str, Any]], alarm: Mapping[str, Any]) -> list[float]:
    """What CloudWatch would make of the lines for one alarm, by the rules of the embedded metric format."""
    dimensions = {dimension["Name"]: dimension["Value"] for dimension in alarm["Dimensions"]}
    found: list[float] = []
    for line in lines:
        for directive in line.get("_aws", {}).get("CloudWatchMetrics", ()):
            if directive["Namespace"] != alarm["Namespace"]:
                continue
            names = [metric["Name"] for metric in directive["Metrics"]]
            sets = [{name: line[name] for name in each} for each in directive["Dimensions"]]
            if alarm["MetricName"] in names and dimensions in sets:
                found.append(line[alarm["MetricName"]])
    return found


@pytest.mark.parametrize("metric", OWN)
def test_what_an_alarm_watches_is_written_when_it_happens(
    metric: str, lines: Callable[[], list[dict[str, Any]]]
) -> None:
    world = LoggingWorld(behaviours())
    submit(world, records("z", "1"), "before", Functions(world))
    run(world, "before")
    alarm = ALARMS[metric]
    quiet = figures(lines(), alarm)
    assert not quiet or max(quiet) < alarm["Threshold"]
    HAPPENS[metric](world)
    said = figures(lines(), alarm)
    total = {"Sum": sum, "Maximum": max}[alarm["Statistic"]](said)
    assert total >= alarm["Threshold"]


@pytest.mark.parametrize(
    ("submitted_s", "creating_s", "expected"),
    [(None, None, 0), (50, None, 50), (50, 40, 40), (-10, None, 0), (90, 70, 70)],
)
def test_a_batch_is_pending_since_it_was_handed_over(
    submitted_s: float | None, creating_s: float | None, expected: int
) -> None:
    """What waits for a retry has not begun, and a time in the future is no time."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    submitted, creating = (None if ago is None else now - timedelta(seconds=ago) for ago in (submitted_s, creating_s))
    one = BatchRow(batch_id="b", batch_type="X", status=Status.PENDING, submitted_at=submitted, creating_at=creating)
    young = attrs.evolve(one, submitted_at=now, creating_at=None)
    assert oldest_s([young, one], now) == expected


def test_failed_executions_are_told_of_both_machines() -> None:
    alarms = {
        body["Properties"]["Dimensions"][0]["Value"]["Ref"]: body["Properties"]["MetricName"]
        for body in DOCUMENT["Resources"].values()
        if body["Type"] == "AWS::CloudWatch::Alarm" and body["Properties"]["Namespace"] == "AWS/States"
    }
    assert alarms == {"SubmitMachine": "ExecutionsFailed", "IngestMachine": "ExecutionsFailed"}


def test_every_alarm_is_told_to_the_topic() -> None:
    assert "AlarmTopicArn" in DOCUMENT["Parameters"]
    assert all("AlarmTopicArn" in json.dumps(alarm["AlarmActions"]) for alarm in ALARMS.values())


def test_a_function_writes_lines_of_json_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    """The one of the seed's third verification is among them."""
    ours = logging.getLogger("embedpipe")
    before = ours.handlers[:], ours.level, ours.propagate
    try:
        telemetry.configure()
        world = LoggingWorld(behaviours())
        submit(world, records("a b", "1"), "s", Functions(world))
        run(world, "e")
    finally:
        ours.handlers[:], ours.level, ours.propagate = before
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert all(line["event"] for line in said)
    (marked,) = (line for line in said if line["event"] == "mark_batches_complete")
    assert (marked["execution_id"], marked["eligible"], marked["batches_marked"]) == ("e", 1, 1)
    assert {"submitted", "batch_created", "listed", "batch_polled", "published", "marked_complete"} <= {
        line["event"] for line in said
    }
