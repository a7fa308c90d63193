"""The real definitions, run by moto over the real handlers."""

from __future__ import annotations

import json

import attrs

from embedpipe.aws import state_machine
from embedpipe.backends.memory.behaviour import GOOD
from embedpipe.model import Record
from tests.aws.cloud import cloud
from tests.worlds import SmallWorld


def records(count: int) -> list[Record]:
    return [Record(id=f"r{at:05d}", text=f"text {at}") for at in range(count)]


def test_an_execution_ends_what_was_submitted():
    world = SmallWorld(lambda *_: attrs.evolve(GOOD, running=()))
    pipe = world.pipeline()
    pipe.submit(records(7))
    with cloud(lambda: pipe.context) as made:
        machine = made.deploy(state_machine.ingest(world.kind), "ingest")
        ended = made.run(machine, "first", {})
        assert ended["status"] == "SUCCEEDED", ended
        state = json.loads(ended["output"])
        assert state["mark_result"]["batches_marked"] == 3
    assert world.violations(settled=True) == []
