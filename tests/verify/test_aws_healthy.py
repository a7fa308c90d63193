"""No false alarm from histories of healthy executions: of many batches, and of a deployment with the seed's fields only."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import attrs
import pytest

from embedpipe.aws import state_machine
from embedpipe.backends.memory.behaviour import GOOD
from embedpipe.errors import Unavailable
from embedpipe.model import WORD, Record
from tests.aws.cloud import QuickWorld, cloud
from tests.aws.functions import put_records
from tests.harness import Crash
from tests.protocol.test_deployed_seed import in_memory
from tests.verify.auditing import THOROUGH
from tests.verify.recorded import ONE_EACH, Lines
from tests.worlds import SmallWorld
from verify.audit.api import check
from verify.audit.findings import Finding, Severity, at_least
from verify.audit.report import Report
from verify.audit.sources import Source
from verify.sources.aws import StepFunctionsHistories
from verify.sources.memory import MemoryLogs

GROUP = "mark"


def source_of(world: SmallWorld, machine: str, lines: Lines, **changes: Any) -> Source:
    logs = MemoryLogs(groups={GROUP: []})
    for text in lines.lines:
        logs.add(GROUP, world.clock.now(), text)
    ports: dict[str, Any] = {"objects": world.objects, "table": world.table, "histories": StepFunctionsHistories()}
    told = {"machines": [machine], "logs": logs, "log_groups": [GROUP]}
    return Source.over("live", clock=world.clock, **{**ports, **told, **changes})


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


RUNS, TURNS = (12, 3) if THOROUGH else (1, 1)


@pytest.mark.parametrize("seed", range(RUNS))
def test_at_every_step_of_executions(seed: int) -> None:
    """Before and after each invocation of executions, whose functions die, are away and are called again, live."""
    worlds: list[SmallWorld] = []
    chance = random.Random(seed)
    found: list[Finding] = []
    audits: list[str] = []

    def look(lines: Lines, machines: tuple[str, ...]) -> None:
        depth = chance.choice(["metadata", "content", "vectors"])
        source = source_of(worlds[0], machines[0], lines, machines=machines, vectors=worlds[0].vectors)
        report = check(source, depth=depth)
        audits.append(depth)
        found.extend(one for one in report.findings if at_least(one.severity, Severity.WARNING))

    with Lines() as lines, cloud(lambda: worlds[0].pipeline().context) as made:
        worlds.append(QuickWorld(lambda *_: attrs.evolve(GOOD, running=()), config=ONE_EACH))
        submit = made.deploy(state_machine.submit(worlds[0].kind), "submit")
        ingest = made.deploy(state_machine.ingest(worlds[0].kind), "ingest")

        def deliver(_: str, event: Any, handle: Any) -> Any:
            look(lines, (submit, ingest))
            dies = chance.random()
            if dies < 0.1:
                raise Crash
            answer = handle(event, None)
            look(lines, (submit, ingest))
            if dies < 0.2:
                raise Unavailable("The answer was lost.")
            return answer

        for turn in range(TURNS):
            made.deliver = deliver
            records = [Record(id=f"r{turn}-{at}", text=f"text {at}") for at in range(3)]
            event = put_records(worlds[0], records, f"s{turn}")
            made.run(submit, f"s{turn}", {"records_s3_key": event["records_s3_key"]})
            made.run(ingest, f"e{turn}")
            worlds[0].clock.sleep(chance.choice([1, 70, 4_000]))
        made.deliver = lambda _, event, handle: handle(event, None)
        made.run(ingest, "last")
        report = audited(source_of(worlds[0], ingest, lines, machines=(submit, ingest), vectors=worlds[0].vectors))
    assert found == []
    assert [one for one in report.findings if at_least(one.severity, Severity.WARNING)] == []
    assert len(audits) >= 20 * TURNS
