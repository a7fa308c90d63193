"""Repairs of rows: when one is refused, that nobody pays twice, and plans and journals that are not what they should be."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest

from embedpipe.backends.memory.behaviour import GOOD
from embedpipe.backends.memory.provider import MemoryProvider
from embedpipe.errors import CorruptData, EmbedpipeError, NewerSchema
from embedpipe.lifecycle import Status
from tests.verify.auditing import audited, source_of
from tests.verify.mutators import MUTATORS
from tests.verify.planting import Plant
from tests.verify.test_repair import contents, items, planned, stores
from verify.audit.findings import WrongQuestion
from verify.repair.applying import Came, apply_plan, undo
from verify.repair.plan import Do, Plan, parse_plan
from verify.repair.planning import plan_repair


def unclean(plant: Plant) -> list[str]:
    return [one.code for one in audited(plant.world, grace_s=-1).findings if one.code != "R105"]


# --- retries -------------------------------------------------------------------------------------------------------


def lost_before_its_create(plant: Plant) -> str:
    """The row of a retry that nobody has created is gone; its name."""
    parent = plant.some(Status.COMPLETED, where=lambda row: bool(row.retry_batch_ids))
    (name,) = parent.retry_batch_ids
    plant.delete(plant.layout.result_key(name))
    plant.provider.hide(plant.rows[name].provider_batch_id or "")
    for key in plant.world.objects.contents():
        if "poll_results" in key and key.endswith("poll_results.json"):
            plant.put_json(key, [one for one in plant.json(key) if one["batch_id"] != name])
    plant.drop_row(name)
    return name


def test_a_retry_that_was_never_created_is_put_by_the_mark_step_and_paid_for_once() -> None:
    plant = Plant(0)
    name = lost_before_its_create(plant)
    source = source_of(plant.world, provider=plant.provider)
    plan = plan_repair(source, audited(plant.world, grace_s=-1, select=["R102"], provider=plant.provider))
    assert [(action.do, name in action.batch_ids) for action in plan.actions] == [(Do.UPDATE, False)]
    list(apply_plan(plan, stores(plant.world)))
    plant.world.provider = MemoryProvider(
        plant.world.clock, behaviour=lambda *_: GOOD
    )  # it has never heard of any of them
    for _ in range(3):
        plant.world.pipeline().ingest()
    assert [batch.metadata["batch_id"] for batch in plant.world.provider.paid] == [name]
    row = plant.world.table.get_many([name])[name]
    assert (row.status, row.parent_batch_id) == (Status.PENDING, plan.actions[0].target)


def test_whether_a_retry_was_created_is_not_guessed() -> None:
    """Without a register only the provider knows; where it is out of scope, nothing is planned."""
    plant = Plant(0)
    lost_before_its_create(plant)
    plan = plan_repair(source_of(plant.world), audited(plant.world, grace_s=-1, select=["R102"]))
    assert plan.actions == ()
    assert "--config" in plan.proposals[0].advice


def test_a_retry_that_the_provider_lists_gets_its_row_back() -> None:
    plant = Plant(0)
    parent = plant.some(Status.COMPLETED, where=lambda row: bool(row.retry_batch_ids))
    (name,) = parent.retry_batch_ids
    plant.delete(plant.layout.result_key(name))
    plant.drop_row(name)
    source = source_of(plant.world, provider=plant.provider)
    plan = plan_repair(source, audited(plant.world, grace_s=-1, select=["R102"], provider=plant.provider))
    (action,) = plan.actions
    assert (action.do, action.target) == (Do.PUT, name)
    list(apply_plan(plan, stores(plant.world)))
    row = plant.world.table.get_many([name])[name]
    was = plant.rows[name]
    promised = ("provider_batch_id", "request_count", "request_sha256", "records_sha256", "seq", "attempt")
    assert [getattr(row, field) for field in promised] == [getattr(was, field) for field in promised]


def test_another_batchs_files_make_no_retry() -> None:
    plant = Plant(0)
    MUTATORS["R102"][0](plant)
    (target,) = [action.target for action in planned(plant).actions if action.do is Do.PUT]
    other = plant.some(Status.COMPLETED, where=lambda row: row.attempt == 1)
    plant.put(plant.layout.records_key(target), plant.get(plant.layout.records_key(other.batch_id)))
    plan = planned(plant)
    assert Do.PUT not in {action.do for action in plan.actions}
    assert any("is no retry of batch" in proposal.advice for proposal in plan.proposals)


# --- opening again -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda plant, row: plant.delete(plant.delta_key(row) + plant.layout.delta_file), "delta is not whole"),
        (lambda plant, row: plant.put(plant.delta_key(row) + plant.layout.vectors_file, b"x"), "delta is not whole"),
        (lambda plant, row: plant.delete(plant.layout.records_key(row.batch_id)), "can't be read"),
        (lambda plant, row: plant.put(plant.layout.records_key(row.batch_id), b"x"), "not what was submitted"),
        (lambda plant, row: plant.delete(plant.result_key(row)), "names no delta"),
        (lambda plant, row: plant.write_row(row.batch_id, provider_batch_id=None), "no openai_batch_id"),
    ],
)
def test_a_batch_that_could_not_end_again_stays_as_it_is(harm: object, said: str) -> None:
    """Opened, it would wait for ever, or be paid for once more."""
    plant = Plant(0)
    row = plant.merged()
    plant.write_row(row.batch_id, snapshot_version="2-0000000000000000")
    report = audited(plant.world, grace_s=-1)
    harm(plant, row)  # type: ignore[operator]
    plan = plan_repair(source_of(plant.world), report)
    assert plan.actions == ()
    assert any(said in proposal.advice for proposal in plan.proposals), plan.proposals


def test_all_rows_of_a_lost_version_are_opened_though_a_finding_names_twenty() -> None:
    plant = Plant(0)
    rows = [row for row in plant.rows.values() if row.status is Status.COMPLETED]
    for row in rows:
        plant.write_row(row.batch_id, snapshot_version="2-0000000000000000")
    report = audited(plant.world, grace_s=-1)
    (finding,) = [one for one in report.findings if one.code == "S503"]
    report = attrs.evolve(report, findings=(attrs.evolve(finding, batch_ids=finding.batch_ids[:1]),))
    plan = plan_repair(source_of(plant.world), report)
    assert {action.target for action in plan.actions} == {row.batch_id for row in rows}
    list(apply_plan(plan, stores(plant.world)))
    plant.world.pipeline().ingest()
    assert unclean(plant) == []
    assert plant.world.violations() == []


def test_a_row_that_was_written_since_is_left_alone() -> None:
    """Before the plan is applied, and before it is undone."""
    plant = Plant(0)
    MUTATORS["D404"][0](plant)
    plan, live = planned(plant), stores(plant.world)
    (action,) = plan.actions
    row = plant.world.table.get_many([action.target])[action.target]
    other = plant.world.table.update(row.batch_id, {"reason": "theirs"}, status=row.status, revision=row.revision)
    assert [done.came for done in apply_plan(plan, live)] == [Came.STALE]
    assert plant.world.table.get_many([action.target])[action.target] == other
    plan = planned(plant)
    list(apply_plan(plan, live))
    plant.world.pipeline().ingest()
    since = contents(plant.world), items(plant.world)
    assert [done.came for done in undo(plan.id, live)] == [Came.LEFT]
    assert (contents(plant.world), items(plant.world)) == since


def test_a_collection_of_versions_gets_its_greater_claim_by_a_merge_of_its_own() -> None:
    """It has no journal to hand over."""
    plant = Plant(0)
    MUTATORS["R103"][0](plant)
    plant.seal(in_place=False)
    plan = planned(plant)
    assert {action.do for action in plan.actions} == {Do.UPDATE}
    list(apply_plan(plan, stores(plant.world)))
    plant.world.pipeline().ingest()
    assert unclean(plant) == []


@pytest.mark.parametrize("code", ["D401", "D402", "D403"])
@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda plant, row: plant.provider.hide(row.provider_batch_id), "There is no batch"),
        (
            lambda plant, row: plant.provider.change(row.provider_batch_id, output_file_id=None, error_file_id=None),
            "has no files",
        ),
        (lambda plant, row: plant.provider.change(row.provider_batch_id, output_file_id="gone"), "gone"),
        (lambda plant, row: plant.put(plant.layout.records_key(row.batch_id), b"x"), "not the Arrow file"),
        (None, "not in scope"),
    ],
)
def test_a_delta_that_nobody_can_make_again_is_left_to_a_person(code: str, harm: Any, said: str) -> None:
    plant = Plant(0)
    (batch_id,) = MUTATORS[code][1](plant)
    report = audited(plant.world, grace_s=-1)
    if harm is not None:
        harm(plant, plant.rows[batch_id])
    plan = plan_repair(source_of(plant.world, provider=plant.provider if harm is not None else None), report)
    assert [action for action in plan.actions if code in action.mends] == []
    assert any(said in proposal.advice for proposal in plan.proposals if proposal.code == code), plan.proposals


# --- plans and journals --------------------------------------------------------------------------------------------


def a_plan() -> tuple[Plant, Plan]:
    plant = Plant(0)
    MUTATORS["P205"][0](plant)
    return plant, planned(plant)


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"format": 9}, NewerSchema, "has format 9"),
        ({"format": 0}, CorruptData, "was changed after it was planned"),
        ({"place": "elsewhere"}, CorruptData, "was changed after it was planned"),
        ({"actions": []}, CorruptData, "was changed after it was planned"),
        ({"id": "0" * 16}, CorruptData, "was changed after it was planned"),
        ({"actions": [{}]}, CorruptData, "is no plan of repair"),
        ({"id": None}, CorruptData, "is no plan of repair"),
    ],
)
def test_a_plan_edited_by_hand_is_refused(change: dict[str, object], error: type[EmbedpipeError], said: str) -> None:
    _, plan = a_plan()
    text = json.dumps({**json.loads(plan.dump()), **change})
    with pytest.raises(error, match=said):
        parse_plan(text.encode(), "p.json")


def test_a_plan_of_another_root_is_refused() -> None:
    plant, plan = a_plan()
    before = plant.world.objects.contents()
    with pytest.raises(WrongQuestion, match="This plan is for stores without a name, and not for s3:other"):
        list(apply_plan(plan, stores(plant.world, place="s3:other")))
    assert plant.world.objects.contents() == before


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_journal_of_another_plan_is_refused(dry_run: bool) -> None:
    plant, plan = a_plan()
    live = stores(plant.world)
    list(apply_plan(plan, live))
    key = f"quarantine/{plan.id}/000000.json"
    entry = plant.json(key)
    plant.put_json(key, {**entry, "action": {**entry["action"], "target": "another"}})
    with pytest.raises(CorruptData, match="is of another plan"):
        list(apply_plan(plan, live, dry_run=dry_run))


@pytest.mark.parametrize(
    ("change", "error"),
    [({"schema": 2}, NewerSchema), ({"ended": "yes"}, CorruptData), ({"action": {"do": "burn"}}, CorruptData)],
)
def test_a_journal_that_is_none_is_named(change: dict[str, object], error: type[EmbedpipeError]) -> None:
    plant, plan = a_plan()
    live = stores(plant.world)
    list(apply_plan(plan, live))
    key = f"quarantine/{plan.id}/000000.json"
    plant.put_json(key, {**plant.json(key), **change})
    for work in (partial(apply_plan, plan), partial(undo, plan.id)):
        with pytest.raises(error, match="000000.json"):
            list(work(live))


@pytest.mark.parametrize("name", ["", "..", "0f3a9c1e5b7d2846", "repair.json", str(Path("a") / "b")])
def test_a_journal_that_is_not_there_is_a_wrong_question(name: str) -> None:
    with pytest.raises(WrongQuestion, match="There is no journal"):
        list(undo(name, stores(Plant(0).world)))
