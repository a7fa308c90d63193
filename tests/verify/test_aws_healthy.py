"""No false alarm from histories of healthy executions: of many batches, and of a deployment with the seed's fields only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest

from embedpipe.aws import state_machine
from embedpipe.backends.memory.behaviour import GOOD
from embedpipe.model import WORD, Record
from tests.aws.cloud import QuickWorld, cloud
from tests.protocol.test_deployed_seed import in_memory
from tests.verify.recorded import ONE_EACH, Lines
from tests.worlds import SmallWorld
from verify.audit.api import check
from verify.audit.report import Report
from verify.audit.sources import Source
from verify.sources.aws import StepFunctionsHistories
from verify.sources.memory import MemoryLogs

GROUP = "mark"


def source_of(world: SmallWorld, machine: str, lines: Lines) -> Source:
    logs = MemoryLogs(groups={GROUP: []})
    for text in lines.lines:
        logs.add(GROUP, world.clock.now(), text)
    ports: dict[str, Any] = {"objects": world.objects, "table": world.table, "histories": StepFunctionsHistories()}
    return Source.over("live", clock=world.clock, machines=[machine], logs=logs, log_groups=[GROUP], **ports)


def audited(source: Source) -> Report:
    return check(source, grace_s=-1)


@pytest.mark.parametrize("batches", [50, 62])
def test_many_batches(batches: int) -> None:
    """Fifty are polled by an inline Map, 62 by a Distributed one, whose iterations have histories of their own."""
    worlds: list[SmallWorld] = []
    with Lines() as lines, cloud(lambda: worlds[0].pipeline().context) as made:
        worlds.append(QuickWorld(lambda *_: attrs.evolve(GOOD, running=()), config=ONE_EACH))
        worlds[0].pipeline().submit([Record(id=f"r{at}", text=f"text {at}") for at in range(batches)])
        machine = made.deploy(state_machine.ingest(worlds[0].kind), "ingest")
        assert made.run(machine, "first")["status"] == "SUCCEEDED"
        source = source_of(worlds[0], machine, lines)
        report = audited(source)
    assert report.findings == ()
    assert report.calls.get("histories.map_run", 0) == (batches > 50)
    assert {line.family for line in report.coverage.lines if line.checked} >= {"X", "L", "P", "B"}


def test_a_deployment_of_the_seed_ingested_by_our_machine(tmp_path: Path) -> None:
    """What it began before us has listings and no execution of the machine; G2 stays unproven."""
    world = in_memory(tmp_path).world
    with Lines() as lines, cloud(lambda: world.pipeline().context) as made:
        machine = made.deploy(state_machine.ingest(WORD), "ingest")
        for name in ("first", "second"):
            made.run(machine, name)
            world.clock.sleep(100)
        report = audited(source_of(world, machine, lines))
    assert [finding for finding in report.findings if finding.code[0] in "XL"] == []
    (line,) = [line for line in report.coverage.lines if line.family == "X"]
    assert line.checked == 2
