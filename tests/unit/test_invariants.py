"""Each predicate sees its guarantee broken: a sound world, one thing changed, and the violation that must follow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import pytest

from embedpipe.backends.batch_files import ItemError
from embedpipe.backends.memory.behaviour import GOOD
from embedpipe.lifecycle import Action, Status
from embedpipe.limits import ITEM_BYTES_MAX
from embedpipe.model import Claim, Record
from embedpipe.wire import Journal, Mark
from tests.worlds import SmallWorld
from verify.invariants import (
    INVARIANTS,
    World,
    check,
    g4_no_stuck_batch,
    g7_idempotence,
)

FINAL = ItemError(status_code=400, code="invalid_request_error", message="no")
LATER = ItemError(status_code=500, code="server_error", message="later")


def sound() -> World:
    """Two submissions: one batch expires half-way and is retried, one record is rejected, one text changes."""

    def behave(nth: int, _: object) -> Any:
        fates = {"r1": FINAL, "r2": LATER} if nth == 1 else {}
        return attrs.evolve(GOOD, running=(), fates=fates, outcome="expired" if nth == 1 else "completed")

    world = SmallWorld(behave)
    pipe = world.pipeline()
    pipe.run([Record(id=f"r{number}", text="one") for number in range(6)])
    pipe.run([Record(id="r5", text="two")])
    return world.observe()


@pytest.fixture(scope="module")
def world() -> World:
    found = sound()
    assert check(found, settled=True) == []
    return found


def first(world: World, **wanted: object) -> Any:
    return next(
        row for row in world.rows.values() if all(getattr(row, name) == value for name, value in wanted.items())
    )


def parent(world: World) -> Any:
    return next(row for row in world.rows.values() if row.retry_batch_ids)


def without(mapping: Any, *names: object) -> dict[Any, Any]:
    return {name: value for name, value in mapping.items() if name not in names}


def result_lost(world: World) -> World:
    name, results = next((name, found) for name, found in world.poll_results.items() if found)
    return attrs.evolve(world, poll_results={**world.poll_results, name: results[1:]})


def result_doubled(world: World) -> World:
    name, results = next((name, found) for name, found in world.poll_results.items() if found)
    return attrs.evolve(world, poll_results={**world.poll_results, name: (*results, results[0])})


def result_of_another(world: World) -> World:
    name, results = next((name, found) for name, found in world.poll_results.items() if found)
    changed = attrs.evolve(results[0], openai_batch_id="batch_other")
    return attrs.evolve(world, poll_results={**world.poll_results, name: (changed, *results[1:])})


def catalog_changed(world: World, catalog: Any) -> World:
    assert world.latest is not None
    return attrs.evolve(world, catalogs={**world.catalogs, world.latest.version: catalog})


def vector_lost(world: World) -> World:
    return catalog_changed(world, without(world.catalog, "r0"))


def lesser_claim(world: World) -> World:
    entry = attrs.evolve(world.catalog["r5"], claim=Claim(seq=1, attempt=1))
    return catalog_changed(world, {**world.catalog, "r5": entry})


def retry_lost(world: World) -> World:
    return attrs.evolve(world, rows=without(world.rows, *parent(world).retry_batch_ids))


def claimed_twice(world: World) -> World:
    name, other = parent(world).batch_id, first(world, seq=2).batch_id
    records = {**world.records, other: (*world.records[other], world.records[name][0])}
    return attrs.evolve(world, records=records)


def rejection_without_reason(world: World) -> World:
    key, content = next((key, content) for key, content in world.deltas.items() if content.rejected)
    bare = {name: attrs.evolve(entry, reason="") for name, entry in content.rejected.items()}
    return attrs.evolve(world, deltas={**world.deltas, key: attrs.evolve(content, rejected=bare)})


def ended_while_waiting(world: World) -> World:
    name = first(world, seq=2).batch_id
    waiting = attrs.evolve(world.registers[name], action=Action.WAIT)
    return attrs.evolve(world, registers={**world.registers, name: waiting})


def paid_twice(world: World) -> World:
    return attrs.evolve(world, creates=(*world.creates, world.creates[0]))


def paid_unknown(world: World) -> World:
    return attrs.evolve(world, creates=(*world.creates, "nobody"))


def other_text(world: World) -> World:
    assert world.collection is not None
    return attrs.evolve(world, collection={**world.collection, "r5": "one"})


def orphan_vector(world: World) -> World:
    assert world.collection is not None
    return attrs.evolve(world, collection={**world.collection, "stranger": "text"})


def version_went_back(world: World) -> World:
    assert world.latest is not None
    older = world.snapshots[world.latest.version].parent
    assert older is not None
    future = attrs.evolve(world.catalogs[older]["r0"], claim=Claim(seq=9, attempt=1))
    return attrs.evolve(world, catalogs={**world.catalogs, older: {**world.catalogs[older], "r0": future}})


def huge_item(world: World) -> World:
    row = attrs.evolve(parent(world), reason="x" * ITEM_BYTES_MAX)
    return attrs.evolve(world, rows={**world.rows, row.batch_id: row})


def vectors_thrown_away(world: World) -> World:
    row = attrs.evolve(parent(world), status=Status.EXPIRED)
    return attrs.evolve(world, rows={**world.rows, row.batch_id: row})


def embedded_again(world: World) -> World:
    row = parent(world)
    retry = row.retry_batch_ids[0]
    again = attrs.evolve(world.records[row.batch_id][0], claim=world.records[retry][0].claim)
    return attrs.evolve(world, records={**world.records, retry: (*world.records[retry], again)})


def left_open_without_reason(world: World) -> World:
    row = attrs.evolve(first(world, seq=2), status=Status.PENDING)
    execution = next(name for name, found in world.poll_results.items() if row.batch_id in {r.batch_id for r in found})
    mark = Mark(batch_id=row.batch_id, outcome="skipped")
    marked = attrs.evolve(world.marked[execution], marks=(mark,))
    return attrs.evolve(world, rows={**world.rows, row.batch_id: row}, marked={**world.marked, execution: marked})


BROKEN: list[tuple[str, Callable[[World], World]]] = [
    ("G1", result_lost),
    ("G1", result_doubled),
    ("G1", result_of_another),
    ("G2", vector_lost),
    ("G2", lesser_claim),
    ("G2", retry_lost),
    ("G2", claimed_twice),
    ("G2", rejection_without_reason),
    ("G3", vector_lost),
    ("G3", retry_lost),
    ("G3", ended_while_waiting),
    ("G5", paid_twice),
    ("G5", paid_unknown),
    ("G6", other_text),
    ("G6", orphan_vector),
    ("G6", version_went_back),
    ("G8", huge_item),
    ("G9", vectors_thrown_away),
    ("G9", embedded_again),
    ("G10", left_open_without_reason),
]


@pytest.mark.parametrize(("guarantee", "change"), BROKEN, ids=lambda value: getattr(value, "__name__", value))
def test_a_broken_guarantee_is_seen(world: World, guarantee: str, change: Callable[[World], World]) -> None:
    assert [violation.guarantee for violation in INVARIANTS[guarantee](change(world))]


def test_an_ambiguous_create_excuses_one_more_payment_and_not_two(world: World) -> None:
    twice = attrs.evolve(paid_twice(world), ambiguous=frozenset({world.creates[0]}))
    assert list(INVARIANTS["G5"](twice)) == []
    assert list(INVARIANTS["G5"](paid_twice(twice)))


@pytest.mark.parametrize("what", ["row", "entry", "journal"])
def test_what_is_left_undone_is_seen_at_the_end(world: World, what: str) -> None:
    row = first(world, seq=2)
    broken = {
        "row": attrs.evolve(world, rows={**world.rows, row.batch_id: attrs.evolve(row, status=Status.PENDING)}),
        "entry": attrs.evolve(world, rows=without(world.rows, *(root.batch_id for root in _head(world).open))),
        "journal": attrs.evolve(
            world, journal=Journal(execution_id="e", intermediates=(), deltas=(), started_at="2026-01-01T00:00:00Z")
        ),
    }[what]
    assert list(g4_no_stuck_batch(world)) == []
    assert list(g4_no_stuck_batch(broken))


def _head(world: World) -> Any:
    assert world.head is not None
    return world.head


def test_a_repetition_that_changes_something_is_seen(world: World) -> None:
    assert list(g7_idempotence(world, sound())) == []
    assert [violation.what for violation in g7_idempotence(world, vector_lost(world))] == [
        "catalog: not the same after a repetition"
    ]
