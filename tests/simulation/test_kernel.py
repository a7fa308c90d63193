"""The kernel: order, locks, death and time, as laws."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.chance import fraction, pick
from simulator.kernel import SECOND_US, ActorFailed, Kernel, Killed, Lock, Overrun


@contextmanager
def kernel(**options: int) -> Iterator[Kernel]:
    made = Kernel(**options)
    try:
        yield made
    finally:
        made.close()


@given(st.lists(st.lists(st.integers(0, 50), max_size=5), max_size=6))
def test_moments_come_in_order_and_none_is_lost(waits: list[list[int]]) -> None:
    seen: list[tuple[int, str]] = []
    with kernel() as world:

        def actor(name: str, pauses: list[int]) -> None:
            for us in pauses:
                world.wait(us)
                seen.append((world.now_us, name))

        for number, pauses in enumerate(waits):
            world.spawn(f"a{number}", lambda number=number, pauses=pauses: actor(f"a{number}", pauses))
        world.run()
        assert world.now_us == max((sum(pauses) for pauses in waits), default=0)
    assert [at for at, _ in seen] == sorted(at for at, _ in seen)
    for number, pauses in enumerate(waits):
        mine = [at for at, name in seen if name == f"a{number}"]
        assert mine == [sum(pauses[: at + 1]) for at in range(len(pauses))]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.booleans()), max_size=8))
def test_a_lock_has_one_holder_and_ends_with_it(actors: list[tuple[int, int, bool]]) -> None:
    inside: list[str] = []
    done: list[str] = []
    with kernel() as world:
        lock = Lock(world)

        def actor(name: str, before: int, held: int, dies: bool) -> None:
            world.wait(before)
            with lock:
                assert inside == []
                inside.append(name)
                world.wait(held)
                inside.clear()
                done.append(name)
                if dies:
                    world.die()

        for number, (before, held, dies) in enumerate(actors):
            world.spawn(f"a{number}", lambda n=f"a{number}", b=before, h=held, d=dies: actor(n, b, h, d))
        world.run()
    assert len(done) == len(actors)


def test_a_dead_actor_runs_no_finally_until_the_world_is_over() -> None:
    said: list[str] = []
    with kernel() as world:

        def dying() -> None:
            try:
                world.die()
            finally:
                said.append("finally")

        def waiting() -> None:
            world.join([dead])
            with pytest.raises(Killed):
                world.result_of(dead)
            said.append("told")

        dead = world.spawn("dead", dying)
        world.spawn("waiting", waiting)
        world.run()
        assert said == ["told"]
    assert said == ["told", "finally"]


def test_time_that_is_up_kills_at_its_moment() -> None:
    with kernel() as world:
        slow = world.spawn("slow", lambda: world.wait(10 * SECOND_US), after_us=SECOND_US, lasts_us=3 * SECOND_US)
        ended: list[int] = []

        def waiting() -> None:
            world.join([slow])
            ended.append(world.now_us)

        world.spawn("waiting", waiting)
        world.run()
        assert slow.killed
        assert ended == [4 * SECOND_US]


def test_an_endless_actor_is_named() -> None:
    with kernel(moments_max=100) as world:

        def forever() -> None:
            while True:
                world.wait(1)

        world.spawn("ever", forever)
        with pytest.raises(Overrun, match="ever"):
            world.run()


def test_an_error_is_the_actors_and_nobody_elses() -> None:
    with kernel() as world:

        def bad() -> None:
            raise ZeroDivisionError

        failing = world.spawn("bad", bad)
        world.run()
        with pytest.raises(ZeroDivisionError):
            world.result_of(failing)


def test_what_ends_the_process_ends_the_actor_and_is_raised_once() -> None:
    with kernel() as world:

        def leaves() -> None:
            world.wait(1)
            raise SystemExit(3)

        def joins() -> None:
            world.join([leaving])
            world.result_of(leaving)

        leaving, waiting = world.spawn("leaving", leaves), world.spawn("waiting", joins)
        with pytest.raises(SystemExit):
            world.run()
        assert world.current is None
        world.run()
        world.refuse_unfinished()
        assert (leaving.killed, waiting.killed) == (True, True)


def test_an_actor_that_catches_its_end_is_left_where_it_stands() -> None:
    caught: list[BaseException] = []
    with kernel() as world:

        def stays() -> None:
            while True:
                try:
                    world.wait(1)
                except BaseException as error:  # noqa: BLE001  that is what it does
                    caught.append(error)

        world.spawn("stays", stays)
        world.run(until_us=5)
    assert len(caught) == 2  # it was thrown at, and refused when it went on


def test_a_world_that_is_over_starts_nobody_and_time_stands_still() -> None:
    begun: list[str] = []
    with kernel() as world:

        def tidies() -> None:
            try:
                world.wait(100)
            finally:
                world.wait(1_000)
                begun.append("tidied")

        world.spawn("tidies", tidies)
        world.spawn("later", lambda: begun.append("later"), after_us=500)
        world.run(until_us=50)
    assert (begun, world.now_us) == ([], 50)


def test_who_waits_for_ever_is_named_and_so_is_an_error_that_nobody_took() -> None:
    with kernel() as world:

        def joins_itself() -> None:
            world.join([me[0]])

        me = [world.spawn("me", joins_itself)]
        world.run()
        with pytest.raises(Overrun, match="^me waits"):
            world.refuse_unfinished()
    with kernel() as world:

        def fails() -> None:
            raise AssertionError("mine")

        world.spawn("fails", fails)
        world.run()
        with pytest.raises(ActorFailed, match="^AssertionError: mine, in fails$") as raised:
            world.refuse_unfinished()
        assert isinstance(raised.value.__cause__, AssertionError)
        world.refuse_unfinished()


@given(st.integers(), st.text(), st.lists(st.integers(), min_size=1, max_size=5))
def test_chance_follows_from_its_key(seed: int, name: str, choices: list[int]) -> None:
    assert 0 <= fraction(seed, name) < 1
    assert fraction(seed, name) == fraction(seed, name)
    assert pick(choices, seed, name) in choices


def test_chance_is_even() -> None:
    counts = [0] * 10
    for number in range(10_000):
        counts[int(fraction("even", number) * 10)] += 1
    assert all(850 < count < 1_150 for count in counts), counts
