"""Virtual time, actors and their order: one greenlet an actor, one heap of moments, nothing by chance.

An actor is plain synchronous code. Wherever it waits (`wait`, `join`, a lock) it is switched out, and the actor with the
earliest moment goes on; equal moments go by the order in which they were asked for. A killed actor is parked for ever, as a
process that dies runs no `finally`; it is freed by `close`, when every effect is refused. Knows no port and no fault.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Final, NoReturn

import greenlet

from embedpipe.errors import InvalidInput

__all__ = ["SECOND_US", "Actor", "Kernel", "Killed", "Lock", "Overrun"]

SECOND_US: Final = 1_000_000


class Killed(BaseException):
    """Raised in who waits for an actor that was killed, and in every actor when the world ends."""


class Overrun(Exception):
    """More moments than allowed: some actor never ends."""


class Actor:
    """One thread of control: an invocation, an execution, an operator."""

    __slots__ = (
        "counts",
        "ends_us",
        "error",
        "kernel",
        "killed",
        "locks",
        "name",
        "result",
        "skew_us",
        "thread",
        "waiters",
        "work",
    )

    def __init__(self, kernel: Kernel, name: str, work: Callable[[], Any]) -> None:
        self.kernel = kernel
        self.name = name
        self.work = work
        self.counts: dict[str, int] = {}
        """Effect -> how often it was met: `nth` in the key of a fault."""
        self.result: Any = None
        self.error: BaseException | None = None
        self.killed = False
        self.ends_us: int | None = None
        """When its time is up, and it is killed."""
        self.skew_us = 0
        """By how much the clock of its machine is ahead."""
        self.waiters: list[Actor] = []
        self.locks: list[Lock] = []
        self.thread: Any = greenlet.greenlet(self._run, kernel.hub)

    @property
    def ended(self) -> bool:
        """Whether nothing of it will ever happen again."""
        return self.killed or self.thread.dead

    def _run(self) -> None:
        try:
            self.result = self.work()
        except greenlet.GreenletExit:
            raise
        except Exception as error:  # noqa: BLE001  whatever it is, it is this actor's end and the world's news
            self.error = error
        self.kernel.over(self)

    def next(self, effect: str) -> int:
        """Which time it is that this actor has that effect, from 1."""
        nth = self.counts.get(effect, 0) + 1
        self.counts[effect] = nth
        return nth

    def free(self) -> None:
        """End it where it stands; it runs its `finally`s, and all that they would do is refused."""
        if not self.thread.dead:
            self.thread.throw(greenlet.GreenletExit)


class Kernel:
    """The heap, the hub and the time in whole microseconds."""

    def __init__(self, *, moments_max: int = 1_000_000) -> None:
        self.now_us = 0
        self.hub = greenlet.getcurrent()
        self.current: Actor | None = None
        self.closed = False
        self.moments = 0
        self.trespasses: list[str] = []
        """Who has asked for a real clock or a network, and for what."""
        self._moments_max = moments_max
        self._moments_end: float = 0
        """How far actors go on by themselves, in moments and in time, while the hub waits in `run`."""
        self._last_us: float = -1
        self._heap: list[tuple[int, int, Actor]] = []
        self._order = 0
        self._actors: list[Actor] = []
        self._names: dict[str, int] = {}

    def spawn(self, name: str, work: Callable[[], Any], *, after_us: int = 0, lasts_us: int | None = None) -> Actor:
        """A new actor that begins `after_us` from now, and is killed `lasts_us` later. Its name is to be unique."""
        actor = Actor(self, name, work)
        if lasts_us is not None:
            actor.ends_us = self.now_us + after_us + lasts_us
        self._actors.append(actor)
        self.wake(actor, after_us)
        return actor

    def unique(self, name: str) -> int:
        """How often a name was asked for, this time included: to tell namesakes apart."""
        self._names[name] = self._names.get(name, 0) + 1
        return self._names[name]

    def wake(self, actor: Actor, after_us: int = 0) -> None:
        """Let it go on at that moment."""
        self._order += 1
        heapq.heappush(self._heap, (self.now_us + after_us, self._order, actor))

    def wait(self, us: int) -> None:
        """The current actor goes on `us` later; outside of all actors time moves on by it, and what is due happens."""
        actor = self.current
        if actor is None:
            self.run(until_us=self.now_us + us)
            self.now_us = max(self.now_us, self.now_us)
            return
        if actor.ends_us is not None and self.now_us + us > actor.ends_us:
            self.wake(actor, max(0, actor.ends_us - self.now_us))
            self.pause()
            self.die()
        self._order += 1
        heapq.heappush(self._heap, (self.now_us + us, self._order, actor))
        self.pause()

    def pause(self) -> None:
        """Switch the current actor out until somebody wakes it; it is the current one then.

        From actor to actor directly, since the way by the hub is two switches. Where a run is to end, the hub does it.
        """
        if self.closed:
            raise greenlet.GreenletExit
        following = self.hub
        heap = self._heap
        if heap and self.moments < self._moments_end:
            moment_us, _, actor = heap[0]
            if moment_us <= self._last_us and not (actor.killed or actor.thread.dead):
                heapq.heappop(heap)
                self.moments += 1
                self.now_us = moment_us
                if actor is self.current:
                    return
                self.current = actor
                following = actor.thread
        following.switch()
        if self.closed:
            raise greenlet.GreenletExit

    def join(self, actors: Iterable[Actor]) -> None:
        """Wait until all have ended."""
        me = self.current
        for actor in actors:
            if me is None:
                self._until_ended(actor)
            elif not actor.ended:
                actor.waiters.append(me)
                self.pause()

    def result_of(self, actor: Actor) -> Any:
        """What a joined actor returned; what it raised is raised, `Killed` where it was killed."""
        if actor.killed:
            raise Killed(actor.name)
        if actor.error is not None:
            raise actor.error
        return actor.result

    def refuse_when_closed(self) -> None:
        """End the actor that still wants something of a world that is over; `InvalidInput` for anybody else."""
        if not self.closed:
            return
        if greenlet.getcurrent().parent is self.hub:
            raise greenlet.GreenletExit
        raise InvalidInput("This world is over.", hint="Use its ports and run it before it is closed.")

    def kill(self, actor: Actor) -> None:
        """It never goes on. Locks that die with a process are let go."""
        if actor.ended:
            return
        actor.killed = True
        for lock in list(actor.locks):
            lock.release(actor)
        self.over(actor)

    def die(self) -> NoReturn:
        """Kill the current actor, here."""
        actor = self.current
        assert actor is not None, "only an actor can die"
        self.kill(actor)
        self.hub.switch()
        raise greenlet.GreenletExit

    def over(self, actor: Actor) -> None:
        """Wake those who wait for its end."""
        waiters, actor.waiters = actor.waiters, []
        for waiter in waiters:
            self.wake(waiter)

    def run(self, *, until_us: int | None = None, most: int | None = None) -> None:
        """Let actors go on, each at its moment, until none is left, the next is later than `until_us`, or `most` have."""
        heap, pop = self._heap, heapq.heappop
        last_us = math.inf if until_us is None else until_us
        end = math.inf if most is None else self.moments + most
        outer = self._last_us, self._moments_end
        self._last_us, self._moments_end = last_us, min(end, self._moments_max)
        try:
            while heap and heap[0][0] <= last_us and self.moments < end:
                moment_us, _, actor = pop(heap)
                if actor.killed or actor.thread.dead:
                    continue
                self.moments += 1
                if self.moments > self._moments_max:
                    raise Overrun(f"{self._moments_max} moments, and {actor.name} goes on.")
                self.now_us = moment_us
                self.current = actor
                actor.thread.switch()
                self.current = None
        finally:
            self._last_us, self._moments_end = outer
        if until_us is not None:
            self.now_us = max(self.now_us, until_us)

    def _until_ended(self, actor: Actor) -> None:
        while not actor.ended:
            if not self._heap:
                raise Overrun(f"{actor.name} waits for what never comes.")
            self.run(most=1)

    def close(self) -> None:
        """Free what is parked. Effects are refused from here on."""
        self.closed = True
        self.current = None
        for actor in self._actors:
            actor.free()
        self._actors.clear()
        self._heap.clear()


class Lock:
    """Who comes first holds it; a killed holder lets it go, as a lock of the system does when its process dies."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._holder: Actor | None = None
        self._waiting: deque[Actor] = deque()

    def __enter__(self) -> None:
        actor = self._kernel.current
        assert actor is not None, "only an actor can wait for a lock"
        while self._holder is not None:
            self._waiting.append(actor)
            self._kernel.pause()
        self._holder = actor
        actor.locks.append(self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._holder is not None and not self._kernel.closed:
            self.release(self._holder)

    def release(self, actor: Actor) -> None:
        """Let the next one in."""
        actor.locks.remove(self)
        self._holder = None
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.ended:
                self._kernel.wake(waiter)
                return
