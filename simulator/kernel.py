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

from embedpipe.errors import EmbedpipeError, InvalidInput

__all__ = ["SECOND_US", "Actor", "ActorFailed", "Kernel", "Killed", "Lock", "Overrun"]

SECOND_US: Final = 1_000_000


class Killed(BaseException):
    """Raised in who waits for an actor that was killed, and in every actor when the world ends."""


class Overrun(Exception):
    """Some actor never ends: there are more moments than allowed, or it waits for what never comes."""


class ActorFailed(Exception):
    """An actor ended with an error that is none of the package's, which is the cause of this one, and nobody took it."""


_LEFT: Final[list[Any]] = []
"""Threads of actors that catch all that is to end them. They stay where they stand, and are never collected: that would be
to throw at them once more."""


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
        "taken",
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
        self.taken = False
        """Whether somebody has asked for its result, and so knows of its error."""
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
        except Killed:
            self.killed = True  # it waited for one that died, and dies of it
        except BaseException as error:
            # Ctrl-C, or an exit: it is not this actor's alone, and who waits for it sees a process that has died.
            self.error, self.killed = error, True
            self.kernel.over(self)
            raise
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
        if not self.thread.dead:
            _LEFT.append(self.thread)


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
        self._alive = 0
        """How many actors have not come to their end."""
        self._failed: list[Actor] = []
        """Those whose error has no name."""
        self._refused: set[Any] = set()
        """Threads that were told that the world is over."""
        self._names: dict[str, int] = {}

    def spawn(self, name: str, work: Callable[[], Any], *, after_us: int = 0, lasts_us: int | None = None) -> Actor:
        """A new actor that begins `after_us` from now, and is killed `lasts_us` later. Its name is to be unique."""
        actor = Actor(self, name, work)
        if lasts_us is not None:
            actor.ends_us = self.now_us + after_us + lasts_us
        self._actors.append(actor)
        self._alive += 1
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
        if self.closed:
            self.refuse_when_closed()
        actor = self.current
        if actor is None:
            self.run(until_us=self.now_us + us)
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
            self.refuse_when_closed()
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
            self.refuse_when_closed()

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
        actor.taken = True
        if actor.killed:
            raise Killed(actor.name)
        if actor.error is not None:
            raise actor.error
        return actor.result

    def refuse_when_closed(self) -> None:
        """End the actor that still wants something of a world that is over; `InvalidInput` for anybody else."""
        if not self.closed:
            return
        asking = greenlet.getcurrent()
        if asking.parent is self.hub:
            if asking in self._refused:
                self.hub.switch()  # it caught that, and would for ever: this never returns
            self._refused.add(asking)
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
        self._alive -= 1
        if not (actor.error is None or actor.killed or isinstance(actor.error, EmbedpipeError)):
            self._failed.append(actor)
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
        finally:
            self.current = None
            self._last_us, self._moments_end = outer
        if until_us is not None:
            self.now_us = max(self.now_us, until_us)

    def refuse_unfinished(self) -> None:
        """`ActorFailed` where one ended with an error of no name that nobody took; `Overrun` where some wait for ever."""
        failed, self._failed = self._failed, []
        for actor in failed:
            if not actor.taken:
                raise ActorFailed(f"{type(actor.error).__name__}: {actor.error}, in {actor.name}") from actor.error
        if self._alive and not self._heap:
            names = [actor.name for actor in self._actors if not actor.ended]
            raise Overrun(f"{', '.join(names[:3])} {'wait' if len(names) > 1 else 'waits'} for what never comes.")

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
        if actor is None:
            raise InvalidInput("Only an actor can wait for a lock.", hint="Do it in one: spawn it, and run the world.")
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
