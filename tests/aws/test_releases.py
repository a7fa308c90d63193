"""An execution that began under an earlier release is finished by today's functions, whatever its state machine hands them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from embedpipe.errors import CorruptData, MisuseError
from tests.aws.cloud import QuickWorld, cloud
from tests.aws.functions import Functions, put_records
from tests.aws.recording import LAST, behaviour, invocations, name_of, releases, restored, resume, rows, stored
from tests.protocol.scenes import records, settle
from tests.worlds import SmallWorld

PLACES = [
    pytest.param(release, at, id=f"{release.name}-{at}-{invocation['step']}")
    for release in releases()
    for at, invocation in enumerate(invocations(release))
]
FRESH = {"version"}
"""Fields of results that are new each time."""
VARIED: Mapping[str, Callable[[dict[str, Any], str], None]] = {
    "missing": lambda event, field: event.pop(field),
    "null": lambda event, field: event.update({field: None}),
    "of another type": lambda event, field: event.update({field: {"odd": True}}),
    "beside others": lambda event, field: event.update({f"{field}_of_a_later_release": [1, {"a": None}]}),
}


def comparable(result: Mapping[str, Any]) -> dict[str, Any]:
    return {field: value for field, value in result.items() if field not in FRESH}


@pytest.mark.parametrize(("release", "at"), PLACES)
def test_an_execution_is_finished_from_any_place(release: Path, at: int) -> None:
    """What came before is as the release left it, this invocation has the event that the release made, the rest is today's."""
    made = invocations(release)
    world = restored(made, at)
    functions = Functions(world)
    now = name_of(made[at]["step"], made[at]["event"])

    def deliver(step: str, event: Mapping[str, Any]) -> dict[str, Any]:
        if name_of(step, event) != now:
            return functions(step, event)
        result, before = functions(step, made[at]["event"]), made[at]["result"]
        assert {field: result.get(field) for field in comparable(before)} == comparable(before)
        return result

    resume(made, at, world, deliver)
    settle(world, LAST)
    assert len(world.provider.paid) == 5


@pytest.mark.parametrize("release", releases(), ids=lambda path: path.name)
def test_the_state_machines_of_an_earlier_release_run_with_todays_functions(release: Path) -> None:
    """Functions are replaced under an execution, its definition is not."""
    with cloud(lambda: world.pipeline().context) as made:
        world = QuickWorld(behaviour())
        machines = {
            name: made.deploy(json.loads((release / f"{name}.asl.json").read_text()), name)
            for name in ("submit", "ingest")
        }
        for number, given in enumerate([records("a b", "1"), records("a b c d", "2")]):
            event = put_records(world, given, f"s{number}")
            ended = [
                made.run(machines["submit"], f"s{number}", {"records_s3_key": event["records_s3_key"]}),
                made.run(machines["ingest"], f"e{number}"),
            ]
            assert [one["status"] for one in ended] == ["SUCCEEDED"] * 2
        settle(world, LAST)


def everything(world: SmallWorld) -> object:
    return stored(world), rows(world), len(world.provider.creates)


@pytest.mark.parametrize("how", VARIED)
@pytest.mark.parametrize(("release", "at"), PLACES)
def test_a_field_that_is_odd_is_done_without_or_named(release: Path, at: int, how: str) -> None:
    """A missing value and a null are one. What can't be done without is named, before anything has been changed."""
    made = invocations(release)
    step, given, expected = made[at]["step"], made[at]["event"], comparable(made[at]["result"])
    for field in given:
        event = dict(given)
        VARIED[how](event, field)
        world = restored(made, at)
        world.pipeline()  # whoever opens a root first gives it its id
        before = everything(world)
        result, refused = attempt(lambda world=world, event=event: Functions(world)(step, event))
        if refused is None:
            assert {name: result.get(name) for name in expected} == expected, field
        else:
            assert how != "beside others"
            assert field in str(refused)
            assert everything(world) == before


def attempt(call: Callable[[], dict[str, Any]]) -> tuple[dict[str, Any], Exception | None]:
    """What it returns, or how it refuses what it was given."""
    try:
        return call(), None
    except (CorruptData, MisuseError) as error:
        return {}, error
