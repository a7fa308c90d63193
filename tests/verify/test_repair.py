"""Every safe repair: plan, apply, ingest where the plan says so, and `check` is clean.

Applied again it changes nothing, killed anywhere it goes on, and undone all is as before.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import attrs
import pytest

from embedpipe.errors import CorruptData, NewerSchema
from embedpipe.lifecycle import Status
from tests.harness import Faults, Watched, crash, dies, lose_answer
from tests.verify.auditing import audited, source_of
from tests.verify.mutators import MUTATORS, Mutator
from tests.verify.planting import Plant, seen
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


def items(world: SmallWorld, *, but: Iterable[str] = ()) -> dict[str, Any]:
    """Raw items, but for their revision: what is put back is one more update."""
    found = {name: world.table.read_raw(name) for name in seen().rows.keys() - set(but)}
    return {name: {**item, "revision": None} for name, item in found.items() if item is not None}


def one_way(plan: Plan) -> set[str]:
    """Rows whose way there has no way back: index keys follow from the status, and no row is ever deleted."""
    return {action.target for action in plan.actions if action.do in (Do.REINDEX, Do.PUT)}


@pytest.mark.parametrize(("code", "mutator"), MENDED)
def test_what_a_plan_mends_is_mended(code: str, mutator: Mutator) -> None:
    plant = Plant(0)
    mutator(plant)
    world, before = plant.world, (contents(plant.world), items(plant.world))
    plan = planned(plant)
    assert (contents(world), items(world)) == before
    mine = [action for action in plan.actions if code in action.mends]
    said = [proposal for proposal in plan.proposals if proposal.code == code]
    assert mine or said, plan
    plan = parse_plan(plan.dump().encode(), "plan")
    live = stores(world)
    assert {done.came for done in apply_plan(plan, live)} <= {Came.DONE}
    after = contents(world), items(world)
    assert {done.came for done in apply_plan(plan, live)} <= {Came.ALREADY}
    assert (contents(world), items(world)) == after
    if [proposal for proposal in plan.proposals if not proposal.by_ingest]:
        return
    if plan.then_ingest:
        paid = len(world.provider.paid)
        world.pipeline().ingest()
        assert len(world.provider.paid) == paid
        since = contents(world), items(world)
        assert {done.came for done in apply_plan(plan, live)} <= {Came.ALREADY}
        assert (contents(world), items(world)) == since
    left = [each for each in audited(world, grace_s=-1).findings if each.code != "R105"]
    assert left == []


@pytest.mark.parametrize(("code", "mutator"), MENDED)
def test_a_whole_plan_is_undone(code: str, mutator: Mutator) -> None:
    """Every body and every row comes back, also where the pipeline was to go on; a second undo changes nothing."""
    plant = Plant(0)
    mutator(plant)
    plan = planned(plant)
    if not plan.actions:
        return
    world, live = plant.world, stores(plant.world)
    before = contents(world), items(world, but=one_way(plan))
    list(apply_plan(plan, live))
    after = contents(world), items(world, but=one_way(plan))
    assert {done.came for done in undo(plan.id, live)} <= {Came.UNDONE, Came.LEFT}
    assert (contents(world), items(world, but=one_way(plan))) == before
    assert {done.came for done in undo(plan.id, live)} <= {Came.ALREADY, Came.LEFT}
    again = planned(plant)
    assert [(action.do, action.target, action.body) for action in again.actions] == [
        (action.do, action.target, action.body) for action in plan.actions if action.target not in one_way(plan)
    ]
    list(apply_plan(again, live))
    assert (contents(world), items(world, but=one_way(plan))) == after


KILLED_IN = {"B702": -3, "D403": 1}
"""Which fault of a code a plan mends by the actions that are looked at here; the first of the others."""
KILLED = [
    pytest.param(code, way, id=f"{code}-{way}")
    for code in ("P201", "P202", "P204", "P206", "P207", "D401", "D403", "D404", "R102", "R103", "B702")
    for way in ("apply", "undo")
]


@pytest.mark.parametrize(("code", "way"), KILLED)
def test_killed_at_each_of_its_writes_it_goes_on(code: str, way: str) -> None:
    mutator = MUTATORS[code][KILLED_IN.get(code, 0)]
    whole = Plant(0)
    mutator(whole)
    plan = planned(whole)
    assert plan.actions
    list(apply_plan(plan, stores(whole.world)))
    if way == "undo":
        list(undo(plan.id, stores(whole.world)))
    wanted = contents(whole.world), items(whole.world)
    work = partial(undo, plan.id) if way == "undo" else partial(apply_plan, plan)
    for effect in ("objects.put", "objects.delete", "table.update", "table.put_new"):
        for nth in count(1):
            for moment in ("before", "after"):
                plant = Plant(0)
                mutator(plant)
                faults = Faults()
                getattr(faults, moment)(effect, crash, nth=nth)
                dying = watched(plant.world, faults)
                if way == "undo":
                    list(apply_plan(plan, dying))
                faults.armed = True
                if dies(lambda dying=dying: list(work(dying))):  # type: ignore[misc]
                    came = {done.came for done in work(stores(plant.world)) if done.action.target not in one_way(plan)}
                    assert came <= {Came.DONE, Came.UNDONE, Came.ALREADY}
                assert (contents(plant.world), items(plant.world)) == wanted
            if not faults.planned[0].struck:
                break


def watched(world: SmallWorld, faults: Faults) -> Stores:
    return stores(world, objects=Watched(world.objects, "objects", faults), table=Watched(world.table, "table", faults))


@pytest.mark.parametrize("code", ["P201", "P207", "D404", "R102"])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_service_that_fails_once_is_asked_again(code: str, moment: str) -> None:
    plant, whole = Plant(0), Plant(0)
    MUTATORS[code][0](plant)
    MUTATORS[code][0](whole)
    plan = planned(plant)
    list(apply_plan(plan, stores(whole.world)))
    faults = Faults()
    for effect in ("objects.put", "objects.delete", "table.update", "table.put_new"):
        getattr(faults, moment)(effect, lose_answer, nth=1)
    faults.armed = True
    assert {done.came for done in apply_plan(plan, watched(plant.world, faults))} <= {Came.DONE, Came.ALREADY}
    assert (contents(plant.world), items(plant.world)) == (contents(whole.world), items(whole.world))


def test_a_plan_that_has_grown_old_is_refused() -> None:
    plant = Plant(0)
    MUTATORS["P205"][0](plant)
    plan = planned(plant)
    (action,) = plan.actions
    plant.world.objects.put(action.target, b"[]")
    before = plant.world.objects.contents()
    for dry_run in (True, False):
        (done,) = apply_plan(plan, stores(plant.world), dry_run=dry_run)
        assert done.came is Came.STALE
        assert plant.world.objects.contents() == before


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


BETWEEN = [
    pytest.param("P204", "objects.put", 1, id="P204-put"),
    pytest.param("P204", "objects.get", 2, id="P204-get"),
    pytest.param("P207", "objects.put", 1, id="P207-put"),
    pytest.param("D404", "table.update", 1, id="D404"),
]


@pytest.mark.parametrize(("code", "effect", "nth"), BETWEEN)
@pytest.mark.parametrize("way", ["apply", "undo"])
def test_what_is_written_in_between_stands(code: str, effect: str, nth: int, way: str) -> None:
    """After the last look: the store's own condition refuses, both ways. A delete has none."""
    plant, faults = Plant(0), Faults()
    MUTATORS[code][0](plant)
    plan = planned(plant)
    target = plan.actions[0].target

    def theirs() -> None:
        row = plant.world.table.get_many([target]).get(target)
        if row is None:
            plant.world.objects.put(target, b"theirs")
        else:
            plant.world.table.update(target, {"reason": "theirs"}, status=row.status, revision=row.revision)

    faults.before(effect, theirs, on=target if effect.startswith("objects") else "", nth=nth)
    if way == "undo":
        list(apply_plan(plan, stores(plant.world)))
    faults.armed = True
    work = partial(undo, plan.id) if way == "undo" else partial(apply_plan, plan)
    came = [done.came for done in work(watched(plant.world, faults))]
    if (code, way) == ("P207", "apply"):
        return
    faults.assert_struck()
    assert came == [Came.LEFT if way == "undo" else Came.STALE]
    row = plant.world.table.get_many([target]).get(target)
    assert row.reason == "theirs" if row is not None else contents(plant.world)[target] == b"theirs"


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
