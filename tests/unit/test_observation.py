"""Observing goes on where something is damaged: it is named, the predicates that need it say so, and nothing else is blamed."""

from __future__ import annotations

import re
from typing import Any

import attrs
import pytest

from embedpipe.backends.batch_files import ItemError
from embedpipe.backends.memory.behaviour import GOOD
from embedpipe.model import Kind, Record
from tests.worlds import SmallWorld
from verify.invariants import check, g4_no_stuck_batch

FINAL = ItemError(status_code=400, code="invalid_request_error", message="no")
LATER = ItemError(status_code=500, code="server_error", message="later")
UNSEEN = re.compile(r"embedpipe\.json|manifests/.*items\.json|requests/.*\.jsonl|chunks/.*|intermediate/.*")
"""Objects that no predicate looks at."""
ANYTHING = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}|[0-9a-f]{16}|\d+")


def sound() -> SmallWorld:
    """Two submissions: one batch expires half-way and is retried, one record is rejected, one text changes."""

    def behave(nth: int, _: object) -> Any:
        fates = {"r1": FINAL, "r2": LATER} if nth == 1 else {}
        return attrs.evolve(GOOD, running=(), fates=fates, outcome="expired" if nth == 1 else "completed")

    world = SmallWorld(behave)
    pipe = world.pipeline()
    pipe.run([Record(id=f"r{number}", text="one") for number in range(6)])
    pipe.run([Record(id="r5", text="two")])
    assert world.violations(settled=True) == []
    return world


WORLD = sound()
KEYS = [info.key for info in WORLD.objects.list("")]
SEEN = {ANYTHING.sub("#", key): key for key in reversed(KEYS) if not UNSEEN.fullmatch(key)}


def test_every_kind_of_object_is_tried() -> None:
    assert {key.rpartition("/")[2] for key in SEEN} == {
        "batches.json",
        "catalog.arrow",
        "delta.json",
        "head.json",
        "latest.json",
        "marked.json",
        "poll_results.json",
        "records.arrow",
        "rejected.jsonl",
        "result.json",
        "retry.jsonl",
        "snapshot.json",
        "vectors.arrow",
    }


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"schema": 99}'], ids=["empty", "torn", "array", "newer"])
@pytest.mark.parametrize("key", SEEN.values(), ids=SEEN)
def test_a_damaged_object_is_named_and_nothing_else_is_blamed(key: str, damage: bytes) -> None:
    whole = WORLD.objects.get(key).data
    if (key.endswith(".jsonl") and not damage) or (key.endswith("poll_results.json") and damage == b"[]"):
        pytest.skip("this is a whole list, of nothing")
    WORLD.objects.put(key, damage)
    try:
        world = WORLD.observe()
    finally:
        WORLD.objects.put(key, whole)
    (found,) = world.damaged
    assert key.startswith(found.key)
    violations = check(world, settled=True)
    assert violations
    assert {violation.what for violation in violations} == {f"cannot be read: {found.key}: {found.reason}"}
    assert all(violation.batch_id in (None, found.name) for violation in violations)


@pytest.mark.parametrize("ending", ["records.arrow", "vectors.arrow", "rejected.jsonl", "delta.json", "catalog.arrow"])
def test_an_object_that_has_to_be_there_and_is_not_is_damaged(ending: str) -> None:
    key = next(key for key in KEYS if key.endswith(ending))
    whole = WORLD.objects.get(key).data
    WORLD.objects.delete(key)
    try:
        world = WORLD.observe()
    finally:
        WORLD.objects.put(key, whole)
    assert [key.startswith(found.key) for found in world.damaged] == [True]
    assert check(world)


def test_a_damaged_journal_is_seen_at_the_end() -> None:
    key = WORLD.config.layout.journal_key(WORLD.kind.database)
    WORLD.objects.put(key, b"{")
    try:
        world = WORLD.observe()
    finally:
        WORLD.objects.delete(key)
    assert [violation.guarantee for violation in check(world, settled=True)] == ["G4"]


def test_a_damaged_row_is_named() -> None:
    world = sound()
    name = next(iter(world.observe().rows))
    item = world.table.read_raw(name)
    assert item is not None
    world.table.write_raw({**item, "request_count": "many"})
    found = world.observe()
    assert [(one.part, one.name) for one in found.damaged] == [("rows", name)]
    assert len(found.rows) > 1
    assert {violation.batch_id for violation in check(found, settled=True)} == {name}
    assert name in {violation.batch_id for violation in g4_no_stuck_batch(found)}


def test_creates_of_another_kind_are_not_ours() -> None:
    """Two kinds share provider, table and object store."""
    first = SmallWorld()
    second = SmallWorld(kind=Kind("articles"))
    second.objects, second.table, second.vectors = first.objects, first.table, first.vectors
    second.provider, second.clock = first.provider, first.clock
    for world in (first, second):
        world.pipeline().run([Record(id=f"r{number}", text="one") for number in range(4)])
    for world in (first, second):
        assert world.violations(settled=True) == []
        assert len(world.observe().creates) == 2
    paid = [create.metadata["batch_id"] for create in first.provider.paid]
    assert sorted(paid) == sorted((*first.observe().creates, *second.observe().creates))
