"""Functions that are killed, delivered twice, or overtaken, at any place: nothing is lost and nothing paid twice in silence."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import pytest

from embedpipe import flow
from embedpipe.backends.memory.behaviour import Behaviour, CreateFault
from embedpipe.errors import Transient
from embedpipe.model import ProviderBatch
from tests.aws.functions import Deliver, Event, Functions, again_after_a_crash, ingest, run_out, submit
from tests.aws.recording import LAST, restored, resume, todays
from tests.harness import SnapshotVectors, crash, lose_answer
from tests.protocol.scenes import behaviours, records, settle, settle_snapshots, texts
from tests.worlds import SmallWorld

PAID = 5
"""Creates of what is recorded: one before, two, and a retry of each."""
STEPS = [step.name for step in (*flow.SUBMIT, *flow.INGEST)]


def before(step: str, *, snapshots: bool = False) -> tuple[SmallWorld, Callable[[Deliver], object]]:
    """The recorded world just before that step of its second execution, and how to go on from there.

    Batches have expired with and without a vector, rows are replaced; what is to be retried is created by one more execution.
    """
    made = todays()
    if step == "create_pending":
        world = restored(made, len(made), snapshots=snapshots)
        return world, lambda deliver: ingest(world, "again", deliver)
    places = [at for at, one in enumerate(made) if one["step"] == step and "before" not in one["event"].values()]
    world = restored(made, places[0], snapshots=snapshots)
    return world, lambda deliver: resume(made, places[0], world, deliver)


def ended(world: SmallWorld, expected: Mapping[str, str] = LAST, *, paid_max: int = PAID) -> None:
    """All is terminal, every guarantee holds, the texts are the last ones, and what was paid more is reported."""
    (settle_snapshots if isinstance(world.vectors, SnapshotVectors) else settle)(world, expected)
    assert len(world.provider.paid) <= paid_max + len(world.ambiguous)


def side_by_side(call: Callable[[], object], count: int) -> None:
    """So many threads."""
    threads = [threading.Thread(target=call) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


class Nth:
    """Does something after the n-th effect of one step."""

    def __init__(self, step: str, nth: int, do: Callable[[], object]) -> None:
        self.left = nth
        self.effect = ""
        self._step, self._do = step, do

    def __call__(self, step: str, effect: str) -> None:
        if step != self._step:
            return
        self.left -= 1
        if self.left == 0:
            self.effect = effect
            self._do()


@pytest.mark.parametrize(("step", "snapshots"), [*((step, False) for step in STEPS), ("final_merge", True)], ids=str)
def test_a_function_killed_after_any_of_its_effects_is_invoked_again(step: str, snapshots: bool) -> None:
    nth = 0
    while True:
        nth += 1
        world, go_on = before(step, snapshots=snapshots)
        place = Nth(step, nth, crash)
        go_on(again_after_a_crash(Functions(world, place)))
        if place.left > 0:
            break
        assert world.violations() == [], place.effect
        ended(world)
    assert nth > 1


@pytest.mark.parametrize("step", STEPS)
def test_an_event_delivered_again_while_the_first_is_at_work(step: str) -> None:
    """The second delivery comes after any effect of the first, and is through before the first goes on."""
    nth = 0
    while True:
        nth += 1
        world, go_on = before(step, snapshots=True)
        events: list[Mapping[str, Any]] = []
        place = Nth(step, nth, lambda world=world, events=events: Functions(world)(step, events[-1]))
        functions = Functions(world, place)

        def deliver(name: str, event: Event, functions: Functions = functions, events: list[Event] = events) -> Any:
            if name == step:
                events.append(event)
            return functions(name, event)

        go_on(again_after_a_crash(deliver))
        if place.left > 0:
            break
        ended(world)
    assert nth > 1


@pytest.mark.parametrize("step", STEPS)
def test_an_event_delivered_twice_at_once(step: str) -> None:
    """Two threads; each has a process of its own."""
    world, go_on = before(step)
    functions = Functions(world)

    def twice(name: str, event: Mapping[str, Any]) -> dict[str, Any]:
        if name != step:
            return functions(name, event)
        outputs: list[dict[str, Any]] = []
        together = threading.Barrier(2)

        def one() -> None:
            together.wait()
            outputs.append(again_after_a_crash(functions)(name, event))

        side_by_side(one, 2)
        return outputs[-1]

    go_on(twice)
    ended(world)


@pytest.mark.parametrize("step", [step.name for step in flow.INGEST])
def test_an_execution_that_begins_and_ends_within_another(step: str) -> None:
    """After any effect of a step of the one."""
    nth = 0
    while True:
        nth += 1
        world, go_on = before(step, snapshots=True)
        inner = Functions(world)
        place = Nth(step, nth, lambda world=world, inner=inner: ingest(world, "inner", inner))
        go_on(again_after_a_crash(Functions(world, place)))
        if place.left > 0:
            break
        ended(world)
    assert nth > 1


def test_executions_side_by_side() -> None:
    """Four of them, in threads."""
    world, _ = before("list_pending")
    functions = Functions(world)
    numbers = itertools.count()
    side_by_side(lambda: ingest(world, f"side-{next(numbers)}", again_after_a_crash(functions)), 4)
    ended(world)


def test_a_submission_that_begins_and_ends_within_another() -> None:
    """Two submitters: the second one is through after any effect of the first."""
    nth = 0
    while True:
        nth += 1
        world = SmallWorld(behaviours())
        second = lambda world=world: submit(world, records("c d x", "2"), "second", Functions(world))  # noqa: E731
        place = Nth("submit", nth, second)
        submit(world, records("a b c d", "1"), "first", Functions(world, place))
        if place.left > 0:
            break
        run_out(world)
        one, two = texts("a b c d", "1"), texts("c d x", "2")
        # The one that moved the ledger last has the last word, and nobody's record is lost.
        assert world.observe().collection in ({**two, **one}, {**one, **two}), place.effect
        assert len(world.provider.paid) == 3, place.effect
    assert nth > 5


class LateProvider:
    """A provider that gets a create only after the caller has been given up: `arrive` lets it in."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self._waiting: list[tuple[str, Mapping[str, str]]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def create(self, input_file_id: str, metadata: Mapping[str, str]) -> ProviderBatch:
        """Nobody hears of it for now."""
        self._waiting.append((input_file_id, dict(metadata)))
        self.create = self._inner.create  # type: ignore[method-assign]
        crash()

    def arrive(self) -> None:
        """What was sent arrives."""
        for sent in self._waiting:
            self._inner.create(*sent)


@pytest.mark.parametrize("after_s", [0, 5, 60], ids=["at once", "while it is searched", "after it was given up"])
@pytest.mark.parametrize("step", ["submit", "create_pending"])
def test_a_create_that_arrives_after_the_function_has_timed_out(step: str, after_s: float) -> None:
    """At most one paid batch of those records, or an ambiguity that is reported."""
    world = SmallWorld(behaviours())
    late = LateProvider(world.provider)
    if step == "create_pending":  # the submitter could not create anything
        world.provider.behaviour = behaviours(Behaviour(create=CreateFault.THROTTLED))
        submit(world, records("a b", "1"), "s", Functions(world))
        world.clock.sleep(30)
    world.provider, memory = late, world.provider  # type: ignore[assignment]
    deliver = again_after_a_crash(Functions(world))
    if step == "submit":
        submit(world, records("a b", "1"), "s", deliver)
    ingest(world, "e", deliver)
    assert memory.paid == []
    arrived = False
    for number in range(12):
        if not arrived and number * 10 >= after_s:
            late.arrive()
            arrived = True
        ingest(world, f"e{number}", deliver)
        assert world.violations() == []
        world.clock.sleep(10)
    world.provider = memory
    ended(world, texts("a b", "1"), paid_max=1)
    assert len(world.ambiguous) == (after_s == 60)


@pytest.mark.parametrize("fault", [CreateFault.ANSWER_LOST, CreateFault.LOST])
def test_a_create_without_an_answer_is_never_sent_twice_unreported(fault: CreateFault) -> None:
    """The function is killed before it has found out, too."""
    nth = 0
    while True:
        nth += 1
        world = SmallWorld(behaviours(Behaviour(create=fault, running=(), unlisted_calls=2)))
        place = Nth("submit", nth, crash if nth > 1 else lose_answer)
        deliver = again_after_a_crash(Functions(world, place))
        with suppress(Transient):
            submit(world, records("a b", "1"), "s", deliver)
        if place.left > 0:
            break
        assert len(world.provider.creates) <= 1
        ended(world, texts("a b", "1"), paid_max=1)
    assert nth > 3
