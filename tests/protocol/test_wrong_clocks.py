"""Times that a wrong clock wrote, advice that makes no sense, and a provider that forgot everything: nothing waits for ever."""

from __future__ import annotations

import math
from contextlib import suppress
from datetime import timedelta

import attrs
import pytest

from embedpipe.backends.memory.behaviour import FOR_EVER, CreateFault
from embedpipe.backends.memory.clock import START, MemoryClock
from embedpipe.errors import ProviderMismatch, Throttled
from embedpipe.events import AmbiguousCreate, BatchLost
from embedpipe.lifecycle import Action, Status
from embedpipe.limits import PAUSE_MAX_S
from embedpipe.pipeline import Pipeline
from tests.harness import Faults, crash, dies
from tests.protocol.scenes import LOST_CREATE, QUICK, QUICK_ONE, behaviours, records, settle, texts
from tests.worlds import CONFIG, SmallWorld

GIVE_UP_AFTER_S = 1_000.0
FORGETFUL = attrs.evolve(CONFIG, policy=attrs.evolve(CONFIG.policy, give_up_after_s=GIVE_UP_AFTER_S))


def ahead(world: SmallWorld) -> Pipeline:
    """A process whose clock is ten years fast."""
    return world.pipeline(clock=MemoryClock(START + timedelta(days=3_650), seed="ahead"))


def ingest(world: SmallWorld, pipe: Pipeline | None = None) -> None:
    """One execution. Where the provider knows nothing, it says that it may be another one, each time."""
    with suppress(ProviderMismatch):
        (pipe or world.pipeline()).ingest()


def only_register(world: SmallWorld):
    (register,) = world.observe().registers.values()
    return register


# --- clocks --------------------------------------------------------------------------------------------------------


def test_a_pause_that_ends_in_ten_years_has_ended():
    world = SmallWorld(behaviours(attrs.evolve(QUICK_ONE, create=CreateFault.REFUSED)))
    ahead(world).submit(records("a b", "1"))
    (row,) = world.pipeline().open_rows()
    assert (row.status, row.not_before and row.not_before.year) == (Status.INTENT, 2035)
    settle(world, texts("a b", "1"))


def test_a_create_of_ten_years_to_come_is_searched_for_as_long_as_any():
    """Neither lost at once, which might pay twice, nor in ten years."""
    world = SmallWorld(behaviours(LOST_CREATE))
    ahead(world).submit(records("a b", "1"))
    world.pipeline().ingest()
    world.clock.sleep(world.config.policy.ambiguous_after_s - 1)
    world.pipeline().ingest()
    assert only_register(world).batch_status == "creating"
    world.clock.sleep(1)
    world.pipeline().ingest()
    assert "create_lost" in [register.batch_status for register in world.observe().registers.values()]
    settle(world, texts("a b", "1"))


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        (attrs.evolve(QUICK_ONE, null_output_retrieves=FOR_EVER), "settling"),
        (attrs.evolve(QUICK_ONE, unknown_retrieves=FOR_EVER), "not_found"),
    ],
)
def test_a_wait_that_began_in_ten_years_begins_now(behaviour, reason):
    """Trying again is then as late as it ever is."""
    world = SmallWorld(behaviours(behaviour))
    world.pipeline().submit(records("a", "1"))
    world.clock.sleep(world.config.policy.not_found_grace_s)
    ingest(world, ahead(world))
    assert (only_register(world).reason, (only_register(world).since or "")[:4]) == (reason, "2035")
    ingest(world)
    world.clock.sleep(59)
    ingest(world)
    assert only_register(world).reason == reason
    world.clock.sleep(1)
    ingest(world)
    settle(world, texts("a", "1"))


# --- advice --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("advice_s", [1e12, 1e300, math.inf, math.nan, -1.0, -math.inf, 0.0])
def test_advice_that_makes_no_sense_delays_a_batch_by_an_hour_at_most(advice_s):
    world = SmallWorld(QUICK)

    def refuse():
        raise Throttled("The provider answered 429.", retry_after_s=advice_s)

    faults = Faults().before("provider.create", refuse)
    faults.pipeline(world).submit(records("a b", "1"))
    faults.assert_struck()
    (row,) = world.pipeline().open_rows()
    assert row.status is Status.INTENT
    assert row.not_before is not None
    expected_s = PAUSE_MAX_S if advice_s > PAUSE_MAX_S else world.config.policy.capacity_wait_s
    assert (row.not_before - world.clock.now()).total_seconds() == expected_s
    world.clock.sleep(expected_s)
    settle(world, texts("a b", "1"))


def test_a_capacity_wait_of_ages_is_an_hour():
    policy = attrs.evolve(CONFIG.policy, capacity_wait_s=1e300)
    refused = attrs.evolve(QUICK_ONE, create=CreateFault.REFUSED)
    world = SmallWorld(behaviours(refused), config=attrs.evolve(CONFIG, policy=policy))
    world.pipeline().submit(records("a b", "1"))
    world.clock.sleep(PAUSE_MAX_S)
    settle(world, texts("a b", "1"))


# --- a provider that forgot everything -----------------------------------------------------------------------------


def purge(world: SmallWorld) -> None:
    world.provider.files.clear()
    world.provider._jobs.clear()


def test_a_batch_that_only_we_remember_is_given_up_in_the_end():
    world = SmallWorld(QUICK, config=FORGETFUL)
    world.pipeline().submit(records("a b", "1"))
    purge(world)
    world.clock.sleep(world.config.policy.not_found_grace_s)
    ingest(world)
    world.clock.sleep(GIVE_UP_AFTER_S - 1)
    ingest(world)
    assert only_register(world).action is Action.WAIT
    assert not [event for event in world.events if isinstance(event, BatchLost)]
    world.clock.sleep(1)
    ingest(world)
    assert [event.project_seen for event in world.events if isinstance(event, BatchLost)] == [False]
    settle(world, texts("a b", "1"))
    assert len(world.provider.paid) == 2
    ended = [row for row in world.observe().rows.values() if row.attempt == 1]
    assert [(row.status, row.provider_status, len(row.retry_batch_ids)) for row in ended] == [("FAILED", "lost", 1)]


def test_a_batch_lost_in_a_project_that_is_ours_is_reported_too():
    world = SmallWorld(behaviours(attrs.evolve(QUICK_ONE, lost_after_retrieves=0)))
    world.pipeline().submit(records("a b", "1"))
    for wait_s in (world.config.policy.not_found_grace_s, world.config.policy.lost_after_s, 0):
        world.clock.sleep(wait_s)
        ingest(world)
    settle(world, texts("a b", "1"))
    assert [event.project_seen for event in world.events if isinstance(event, BatchLost)] == [True]


def test_a_create_that_only_we_remember_is_given_up_in_the_end():
    world = SmallWorld(QUICK, config=FORGETFUL)
    assert dies(lambda: Faults().after("provider.create", crash).pipeline(world).submit(records("a b", "1")))
    purge(world)
    world.clock.sleep(world.config.policy.ambiguous_after_s)
    ingest(world)
    world.clock.sleep(GIVE_UP_AFTER_S - 1)
    ingest(world)
    assert (only_register(world).action, world.ambiguous) == (Action.WAIT, set())
    world.clock.sleep(1)
    ingest(world)
    assert [event.lost for event in world.events if isinstance(event, AmbiguousCreate)] == [True]
    settle(world, texts("a b", "1"))
    assert len(world.provider.paid) == 2


def test_a_create_of_ten_years_to_come_is_given_up_too():
    """The clock was wrong and the project is gone: the two reasons to wait don't take turns for ever."""
    world = SmallWorld(behaviours(LOST_CREATE), config=FORGETFUL)
    ahead(world).submit(records("a b", "1"))
    purge(world)
    for _ in range(3):
        ingest(world)
        world.clock.sleep(GIVE_UP_AFTER_S)
    ingest(world)
    settle(world, texts("a b", "1"))
