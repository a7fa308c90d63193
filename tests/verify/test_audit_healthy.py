"""No false alarm: whatever a provider does, and wherever processes die, a run that loses nothing has no finding."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from functools import partial

import attrs
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from embedpipe.backends.batch_files import EXPIRED
from embedpipe.backends.memory.behaviour import GOOD, Behaviour
from embedpipe.errors import CorruptData, ServiceError
from embedpipe.model import Record
from tests.harness import Crash, Faults, SnapshotVectors, Watched, crash, dies
from tests.verify.auditing import THOROUGH, alarms, audited, source_of
from tests.worlds import KIND, SmallWorld
from verify.audit.api import check
from verify.strategies import behaviours, submissions

IDS = [f"r{number}" for number in range(8)] + ["../x", "a/b", "\U0001f600", "\uffff"]
EXAMPLES = 300 if THOROUGH else 12
HEALTHY = settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


MADE: Counter[str] = Counter()
"""Audits by depth, at arbitrary moments."""


def chooser(drawn: list[Behaviour]):  # type: ignore[no-untyped-def]
    """The first creates behave as drawn, all later ones well."""
    return lambda nth, _: drawn[nth - 1] if nth <= len(drawn) else GOOD


def check_at(world: SmallWorld, depth: str, *, provider: bool = False) -> None:
    MADE[depth] += 1
    found = alarms(world, depth=depth, provider=world.provider if provider else None)
    assert found == [], found


def test_a_healthy_run_has_no_finding_at_any_moment() -> None:
    """A thousand audits where there is time for them."""
    MADE.clear()
    healthy_at_any_moment()
    assert MADE.total() >= 3 * EXAMPLES
    assert set(MADE) == {"metadata", "content", "vectors"}


@HEALTHY
@given(submissions(), st.lists(behaviours(IDS), max_size=4), st.data())
def healthy_at_any_moment(texts, drawn, data):  # type: ignore[no-untyped-def]
    """Each process may die at any of its calls; at any other of them, and after it, the world is audited."""
    well_behaved = data.draw(st.booleans(), label="a provider that is audited, too")
    world = SmallWorld(chooser([] if well_behaved else drawn))
    if data.draw(st.booleans(), label="a snapshot for each version"):
        world.vectors = SnapshotVectors()  # type: ignore[assignment]
    depths = st.sampled_from(["metadata", "content", "vectors"])
    waiting = list(texts)
    for _ in range(data.draw(st.integers(1, 5), label="processes")):
        depth, moment = data.draw(depths), data.draw(st.integers(1, 60))
        faults = Faults().before("", partial(check_at, world, depth, provider=well_behaved), nth=moment)
        if data.draw(st.booleans(), label="dies"):
            plan = faults.before if data.draw(st.booleans(), label="before the call") else faults.after
            plan("", crash, nth=data.draw(st.integers(1, 80)))
        pipe = faults.pipeline(world)
        with suppress(Crash, ServiceError, CorruptData):
            if waiting and data.draw(st.booleans(), label="submits"):
                pipe.submit(waiting.pop(0))
            else:
                pipe.ingest()
        world.clock.sleep(data.draw(st.sampled_from([0, 10, 70])))
        check_at(world, data.draw(depths), provider=well_behaved)
    for records in waiting:
        world.pipeline().submit(records)
    world.pipeline().run(timeout_s=3_000)
    report = audited(world)
    assert [finding for finding in report.findings if finding.code != "R105"] == []
    assert report.verdict == "clean"
    assert report.coverage.complete


@HEALTHY
@given(submissions(most=2), st.lists(behaviours(IDS), max_size=3), st.data())
def test_a_pipeline_that_runs_during_the_audit_is_no_finding(texts, drawn, data):  # type: ignore[no-untyped-def]
    """Between any two reads of the audit an execution, or a submission, may begin and end."""
    world = SmallWorld(chooser(drawn))
    if data.draw(st.booleans(), label="a snapshot for each version"):
        world.vectors = SnapshotVectors()  # type: ignore[assignment]
    waiting = list(texts)

    def something() -> None:
        with suppress(ServiceError, CorruptData):
            if waiting:
                world.pipeline().submit(waiting.pop())
            world.pipeline().ingest()

    for _ in range(data.draw(st.integers(0, 2), label="before")):
        something()
    faults = Faults()
    for nth in data.draw(st.lists(st.integers(1, 90), min_size=1, max_size=4, unique=True), label="at the reads"):
        faults.before("", something, nth=nth)
    faults.armed = True
    ports = {
        "objects": Watched(world.objects, "objects", faults),
        "table": Watched(world.table, "table", faults),
        "provider": None,
    }
    depth = data.draw(st.sampled_from(["metadata", "content", "vectors"]))
    report = check(source_of(world, **ports), depth=depth)
    assert [finding for finding in report.findings if finding.code != "R105"] == []


# --- moments that chance seldom meets ------------------------------------------------------------------------------

TEN = [Record(id=f"r{number}", text=f"text {number}") for number in range(10)]


def quick(number: int, _: object) -> Behaviour:
    """The first batch expires in part, all others end well and at once."""
    now = attrs.evolve(GOOD, running=())
    return attrs.evolve(now, outcome="expired", fates={"r0": EXPIRED, "r1": EXPIRED}) if number == 1 else now


def test_a_retry_that_appears_during_the_audit_is_no_lost_record() -> None:
    """The index was read, then an execution ends the parent: its retry has a row, and no index entry that was seen."""
    world = SmallWorld(lambda number, _: quick(number, None))
    world.pipeline().submit(TEN[:3])
    for effect in ("table.get_many", "objects.get", "objects.download"):
        faults = Faults().before(effect, lambda: world.pipeline().ingest(), nth=1)
        faults.armed = True
        ports = {"objects": Watched(world.objects, "objects", faults), "table": Watched(world.table, "table", faults)}
        assert check(source_of(world, **ports), depth="vectors").findings == ()
        faults.assert_struck()


@pytest.mark.parametrize(
    "moment", ["collection.upsert", "edition.seal", "objects.upload notes/snapshot", "objects.put notes/snapshot"]
)
def test_a_merge_that_died_is_in_flight(moment: str) -> None:
    """Rows that no catalog names, and a journal: nothing is wrong until it is past the grace period."""
    world = SmallWorld(lambda number, _: quick(number, None))
    world.pipeline().submit(TEN)
    effect, _, on = moment.partition(" ")
    faults = Faults().after(effect, crash, on=on, nth=2 if on and "put" in effect else 1)
    assert dies(lambda: faults.pipeline(world).ingest())
    assert world.objects.get(world.config.layout.journal_key(KIND.database))
    for depth in ("metadata", "content", "vectors"):
        assert alarms(world, depth=depth) == []
    world.clock.sleep(2 * 3_600)
    assert {finding.code for finding in alarms(world)} == {"S505"}
    (line,) = [line for line in audited(world).coverage.lines if line.family == "V"]
    assert line.in_flight == 1
    world.pipeline().run(timeout_s=3_000)
    assert audited(world).findings == ()
