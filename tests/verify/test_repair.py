"""Every safe repair: plan, apply, ingest where the plan says so, and `check` is clean.

Applied again it changes nothing, killed anywhere it goes on, and undone all is as before.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest

from embedpipe.errors import CorruptData, NewerSchema
from embedpipe.lifecycle import Status
from tests.harness import Crash, Faults, Watched, crash
from tests.verify.auditing import audited, source_of
from tests.verify.mutators import MUTATORS, Mutator
from tests.verify.planting import Plant
from tests.worlds import SmallWorld
from verify.audit.findings import WrongQuestion
from verify.repair.applying import Came, Stores, apply_plan, undo
from verify.repair.plan import Do, Plan, parse_plan, read_plan
from verify.repair.planning import PLANNERS, plan_repair

MENDED = [
    pytest.param(code, mutator, id=f"{code}-{mutator.__name__}")
    for code in PLANNERS
    for mutator in MUTATORS.get(code, [])
]


def planned(plant: Plant, **ports: Any) -> Plan:
    source = source_of(plant.world, provider=plant.provider, **ports)
    report = audited(plant.world, grace_s=-1, provider=plant.provider)
    return plan_repair(source, report)


def stores(world: SmallWorld, **ports: Any) -> Stores:
    return Stores(**{"objects": world.objects, "table": world.table, "clock": world.clock, **ports})


def contents(world: SmallWorld) -> dict[str, bytes]:
    return {key: data for key, data in world.objects.contents().items() if not key.startswith("quarantine/")}


@pytest.mark.parametrize(("code", "mutator"), MENDED)
def test_what_a_plan_mends_is_mended(code: str, mutator: Mutator) -> None:
    plant = Plant(0)
    mutator(plant)
    before = contents(plant.world)
    plan = planned(plant)
    assert contents(plant.world) == before
    mine = [action for action in plan.actions if code in action.mends]
    said = [proposal for proposal in plan.proposals if proposal.code == code]
    assert mine or said, plan
    plan = parse_plan(plan.dump().encode(), "plan")
    live = stores(plant.world)
    assert {done.came for done in apply_plan(plan, live)} <= {Came.DONE}
    after = contents(plant.world)
    assert {done.came for done in apply_plan(plan, live)} <= {Came.ALREADY}
    assert contents(plant.world) == after
    if not plan.actions:
        return
    if not [proposal for proposal in plan.proposals if not proposal.by_ingest]:
        if plan.then_ingest:
            plant.world.pipeline().ingest()
            since = contents(plant.world)
            assert {done.came for done in apply_plan(plan, live)} == {Came.ALREADY}
            assert contents(plant.world) == since
        left = [each for each in audited(plant.world, grace_s=-1).findings if each.code != "R105"]
        assert left == []
    if not plan.then_ingest:
        assert {done.came for done in undo(plan.id, live)} <= {Came.UNDONE, Came.LEFT}
        assert contents(plant.world) == before
        assert {done.came for done in undo(plan.id, live)} <= {Came.ALREADY, Came.LEFT}
        if any(action.do is not Do.REINDEX for action in plan.actions):
            assert {done.came for done in apply_plan(plan, live)} == {Came.DONE}
            assert contents(plant.world) == after


KILLED = [pytest.param(code, id=code) for code in ("P201", "P204", "P205", "P206", "P207", "R103", "V603")]


@pytest.mark.parametrize("code", KILLED)
def test_killed_at_each_of_its_writes_it_goes_on(code: str) -> None:
    mutator = MUTATORS[code][0]
    whole = Plant(0)
    mutator(whole)
    plan = planned(whole)
    assert plan.actions
    list(apply_plan(plan, stores(whole.world)))
    wanted = contents(whole.world)
    for nth in range(1, 40):
        for moment in ("before", "after"):
            plant = Plant(0)
            mutator(plant)
            faults = Faults()
            for effect in ("objects.put", "objects.delete", "table.update"):
                getattr(faults, moment)(effect, crash, nth=nth)
            faults.armed = True
            dying = stores(
                plant.world,
                objects=Watched(plant.world.objects, "objects", faults),
                table=Watched(plant.world.table, "table", faults),
            )
            try:
                list(apply_plan(plan, dying))
            except Crash:
                came = {done.came for done in apply_plan(plan, stores(plant.world))}
                assert came <= {Came.DONE, Came.ALREADY}
                assert contents(plant.world) == wanted
            else:
                return
    raise AssertionError("it never ended")


def test_a_plan_that_has_grown_old_is_refused() -> None:
    plant = Plant(0)
    MUTATORS["P205"][0](plant)
    plan = planned(plant)
    (action,) = plan.actions
    plant.world.objects.put(action.target, b"[]")
    before = contents(plant.world)
    (done,) = apply_plan(plan, stores(plant.world))
    assert done.came is Came.STALE
    assert contents(plant.world) == before


def test_a_rehearsal_changes_nothing() -> None:
    plant = Plant(0)
    MUTATORS["P205"][0](plant)
    plan = planned(plant)
    everything = plant.world.objects.contents()
    assert [done.came for done in apply_plan(plan, stores(plant.world), dry_run=True)] == [Came.DONE]
    assert plant.world.objects.contents() == everything


def test_what_was_written_since_is_not_undone() -> None:
    plant = Plant(0)
    MUTATORS["P205"][0](plant)
    plan = planned(plant)
    live = stores(plant.world)
    list(apply_plan(plan, live))
    plant.world.objects.put(plan.actions[0].target, b"[1]")
    assert [done.came for done in undo(plan.id, live)] == [Came.LEFT]
    assert plant.world.objects.get(plan.actions[0].target).data == b"[1]"
    with pytest.raises(WrongQuestion):
        list(undo("nobody", live))


def test_a_file_that_is_no_plan_is_named(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    with pytest.raises(WrongQuestion):
        read_plan(path)
    for text, error in (("{}", CorruptData), ("[]", CorruptData), ('{"format": 9}', NewerSchema)):
        path.write_text(text)
        with pytest.raises(error):
            read_plan(path)
    plan = Plan(source="x", watermark="2026-01-01T00:00:00Z")
    path.write_text(plan.dump())
    assert read_plan(path) == plan
    assert attrs.evolve(plan, source="y").id != plan.id


def test_what_moves_a_register_away_is_put_back_where_nothing_newer_stands() -> None:
    """Polled again, the register is newer; before that, it comes back."""
    for ingests in (False, True):
        plant = Plant(0)
        row = plant.some(Status.PENDING)
        key = plant.result_key(row)
        plant.put(key, b"")
        plan = planned(plant)
        assert [(action.do, action.target) for action in plan.actions] == [(Do.QUARANTINE, key)]
        live = stores(plant.world)
        list(apply_plan(plan, live))
        assert key not in contents(plant.world)
        if ingests:
            plant.world.pipeline().ingest()
        assert [done.came for done in undo(plan.id, live)] == [Came.LEFT if ingests else Came.UNDONE]
        assert (contents(plant.world)[key] == b"") is not ingests


def test_another_writers_revision_is_no_work_of_ours() -> None:
    plant = Plant(0)
    MUTATORS["B702"][0](plant)
    plan = planned(plant)
    (action,) = [one for one in plan.actions if one.do is Do.REINDEX]
    row = plant.world.table.get_many([action.target])[action.target]
    plant.world.table.update(row.batch_id, {"reason": "theirs"}, status=row.status, revision=row.revision)
    assert [done.came for done in apply_plan(plan, stores(plant.world))] == [Came.STALE]
