"""Faults as data: which effect of which actor meets what, drawn from a seed by a profile, or read from a plan.

A fault is named by `(actor, effect, nth)`, so a plan says the same on every run of the same code. Chance and plans meet the
kernel through one function, `Faults.strike`; what a fault then does is the world's business. Nothing here has effects.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Final

import attrs

from embedpipe.errors import InvalidInput
from simulator.chance import fraction, fraction_of, pick

__all__ = ["EFFECTS", "PROFILES", "Chance", "Fault", "Faults", "Planned", "Strike", "drawn"]


class Fault(StrEnum):
    """What can happen at an effect."""

    CRASH_BEFORE = "crash_before"  # the process ends, the effect never happens
    CRASH_AFTER = "crash_after"  # the effect has happened, nobody hears of it
    CRASH_HALF = "crash_half"  # a part of the effect has happened
    UNAVAILABLE = "unavailable"  # an error, no effect
    ANSWER_LOST = "answer_lost"  # an error, and the effect has happened
    THROTTLED = "throttled"  # 429 or its like, no effect
    CONFLICT = "conflict"  # 409: the store could not decide a race
    CORRUPT = "corrupt"  # a byte of what is read is wrong, once
    LAG = "lag"  # an index or a listing that is behind
    SLOW = "slow"  # minutes pass first
    PAUSE = "pause"  # seconds pass first: others overtake
    DUPLICATE = "duplicate"  # the invocation is delivered twice
    LATE_DUPLICATE = (
        "late_duplicate"  # the same, and the second time seconds to minutes later, when others have gone on
    )
    ABORTED = "aborted"  # the execution is stopped by an operator
    SKEW = "skew"  # the clock of the machine that it runs on is wrong
    FOREIGN = "foreign"  # the API key is another project's: what is ours is not there


_ALWAYS: Final = (Fault.CRASH_BEFORE, Fault.CRASH_AFTER, Fault.UNAVAILABLE, Fault.THROTTLED, Fault.SLOW, Fault.PAUSE)
_WRITE: Final = (*_ALWAYS, Fault.ANSWER_LOST)

EFFECTS: Final[Mapping[str, tuple[Fault, ...]]] = {
    "objects.get": _ALWAYS,  # the SDK checks what it reads; only files have a hash of ours, and are checked again
    "objects.put": (*_WRITE, Fault.CONFLICT),
    "objects.list": _ALWAYS,
    "objects.delete": _WRITE,
    "objects.upload": (*_WRITE, Fault.CONFLICT),
    "objects.download": (*_ALWAYS, Fault.CORRUPT),
    "table.put_new": _WRITE,
    "table.get_many": _ALWAYS,
    "table.by_status": (*_ALWAYS, Fault.LAG),
    "table.update": _WRITE,
    "provider.upload": _WRITE,
    "provider.create": _WRITE,
    "provider.retrieve": (*_ALWAYS, Fault.FOREIGN),
    "provider.list": (*_ALWAYS, Fault.LAG, Fault.FOREIGN),
    "provider.content": (*_ALWAYS, Fault.FOREIGN),
    "provider.cancel": _ALWAYS,  # where its answer is lost, the backend looks, and sees that it is being cancelled
    "provider.delete_file": _WRITE,
    "vectors.editing": _ALWAYS,
    "vectors.reading": _ALWAYS,
    "collection.upsert": (*_WRITE, Fault.CRASH_HALF),
    "collection.delete": (*_WRITE, Fault.CRASH_HALF),
    "collection.get": _ALWAYS,
    "collection.ids": _ALWAYS,
    "edition.seal": (*_WRITE, Fault.CRASH_HALF),
    "lambda.invoke": (Fault.DUPLICATE, Fault.LATE_DUPLICATE, Fault.SLOW, Fault.PAUSE, Fault.UNAVAILABLE, Fault.SKEW),
    "lambda.update": (),  # a release comes when it comes
    "execution.state": (Fault.ABORTED, Fault.SLOW, Fault.PAUSE),
}
"""Effect -> the faults that can happen there."""
WRITES: Final = frozenset(effect for effect, faults in EFFECTS.items() if Fault.ANSWER_LOST in faults)
"""Effects that leave something behind: a process that dies at a read has died at the write before it."""
CRASHES: Final = frozenset({Fault.CRASH_BEFORE, Fault.CRASH_AFTER, Fault.CRASH_HALF})


@attrs.frozen(kw_only=True)
class Strike:
    """One fault at one effect."""

    actor: str
    effect: str
    nth: int
    fault: Fault

    @property
    def where(self) -> tuple[str, str, int]:
        """What it strikes."""
        return self.actor, self.effect, self.nth


@attrs.frozen(kw_only=True)
class Chance:
    """A profile: how often an effect meets a fault, and which ones take part."""

    rate: float
    faults: frozenset[Fault] = frozenset(Fault) - {Fault.LATE_DUPLICATE}
    """A kind that was thought of later is drawn where it is named: what a seed of another profile draws stays the same."""
    effects: frozenset[str] = frozenset(EFFECTS)
    """Where they strike."""
    swarm: bool = True
    """Whether a seed leaves out about half of the faults, so that rare ones meet each other."""
    foci: tuple[tuple[str, ...], ...] = ()
    """Where all of them gather, by parts of the actors' names: one of these, drawn by the seed; none: one of `FOCI`, mostly."""
    lasting: float = 0.3
    """[ours] How many faults that strike each repetition of an invocation there are for each that strikes one."""


EVERYWHERE: Final = ("",)
"""A focus: every name has this part."""

PROFILES: Final[Mapping[str, Chance]] = {
    "none": Chance(rate=0.0),
    "all": Chance(rate=0.02),
    "storm": Chance(rate=0.1),
    "crashes": Chance(rate=0.03, faults=CRASHES),
    "answers": Chance(rate=0.05, faults=frozenset({Fault.ANSWER_LOST, Fault.UNAVAILABLE, Fault.THROTTLED})),
    "races": Chance(
        rate=0.1,
        faults=frozenset({Fault.SLOW, Fault.PAUSE, Fault.DUPLICATE, Fault.CONFLICT, Fault.LAG, Fault.SKEW}),
    ),
    "deaths": Chance(
        rate=0.006,
        faults=frozenset({Fault.CRASH_BEFORE, Fault.CRASH_AFTER}),
        swarm=False,
        foci=(("final_merge",),),
        lasting=10.0,
    ),
    "writes": Chance(
        rate=0.01,
        faults=CRASHES,
        effects=WRITES,
        swarm=False,
        foci=(("process_chunk", "final_merge", "mark_complete"),),
        lasting=10.0,
    ),
    "stalls": Chance(
        rate=0.05, faults=frozenset({Fault.SLOW}), swarm=False, foci=(("submit-",), EVERYWHERE), lasting=0.0
    ),
    "echoes": Chance(rate=0.6, faults=frozenset({Fault.LATE_DUPLICATE}), swarm=False),
    "rot": Chance(rate=0.3, faults=frozenset({Fault.CORRUPT}), swarm=False),
}


class Faults:
    """Those of one run. `struck` has what did strike, in order: written down, it is a plan."""

    def __init__(self) -> None:
        self.struck: list[Strike] = []
        self.over = False
        """Whether faults have stopped."""

    def strike(self, actor: str, effect: str, nth: int) -> Fault | None:
        """What this effect meets."""
        fault = None if self.over else self._drawn(actor, effect, nth)
        if fault is not None:
            self.struck.append(Strike(actor=actor, effect=effect, nth=nth, fault=fault))
        return fault

    def _drawn(self, actor: str, effect: str, nth: int) -> Fault | None:  # noqa: ARG002  no fault but by chance or plan
        return None


FOCI: Final = (
    *("submit-", "submit-", "create_pending", "list_pending", "poll", "poll", "normalize", "split", "process_chunk"),
    *("final_merge", "final_merge", "final_merge", "final_merge", "mark_complete", "mark_complete", "mark_complete"),
)
"""Where faults gather, by a part of the actor's name: bugs that need two of them need both in one step."""
FOCUSED: Final = (2.0, 12.0)
ELSEWHERE: Final = 0.3
"""[ours] How much likelier a fault is there, at least and at most, and elsewhere, than where there is no focus."""
RATE_MAX: Final = 0.4


class Drawn(Faults):
    """Faults by chance. Four seeds in five have a focus."""

    def __init__(self, seed: int, chance: Chance) -> None:
        super().__init__()
        self._seed = seed
        self._rate = chance.rate * (0.5 + fraction(seed, "rate")) if chance.swarm else chance.rate
        self._lasting = chance.lasting
        focused = chance.swarm and fraction(seed, "focused") < 0.8
        self._focus: tuple[str, ...] = (pick(FOCI, seed, "focus"),) if focused else ()
        if chance.foci:
            self._focus = pick(chance.foci, seed, "focus")
        least, most = FOCUSED
        drawn_rate = self._rate * least * (most / least) ** fraction(seed, "focused rate")
        self._focused_rate = self._rate if chance.foci else min(RATE_MAX, drawn_rate)
        self._elsewhere = 0.0 if chance.foci else self._rate * ELSEWHERE
        self._kinds = {
            effect: [
                fault
                for fault in possible
                if fault in chance.faults and not (chance.swarm and fraction(seed, "swarm", fault) < 0.5)
            ]
            if effect in chance.effects
            else []
            for effect, possible in EFFECTS.items()
        }

    def _drawn(self, actor: str, effect: str, nth: int) -> Fault | None:
        kinds = self._kinds[effect]
        if not kinds:
            return None
        rate = self._rate_at(actor)
        if fraction_of(f"{self._seed}\0{actor}\0{effect}\0{nth}") < rate:
            return pick(kinds, self._seed, actor, effect, nth, "which")
        # Some do not pass: a function that has no memory left here has none when it is repeated.
        work = actor.partition("#")[0]
        if fraction_of(f"{self._seed}\0{work}\0{effect}\0{nth}\0lasts") < rate * self._lasting:
            return pick(kinds, self._seed, work, effect, nth, "lasting")
        return None

    def _rate_at(self, actor: str) -> float:
        if not self._focus:
            return self._rate
        return self._focused_rate if any(part in actor for part in self._focus) else self._elsewhere


def drawn(seed: int, profile: str, *, everywhere: bool = False) -> Drawn:
    """The faults of a profile. `everywhere`: alike in all actors, whatever their names. `InvalidInput`."""
    if profile not in PROFILES:
        raise InvalidInput(f"There is no profile {profile[:40]!a}.", hint=f"Use {', '.join(PROFILES)}.")
    chance = PROFILES[profile]
    return Drawn(seed, attrs.evolve(chance, foci=(EVERYWHERE,)) if everywhere else chance)


class Planned(Faults):
    """The faults of a plan, and no others."""

    def __init__(self, strikes: Iterable[Strike]) -> None:
        super().__init__()
        self._planned = {strike.where: strike.fault for strike in strikes}

    def _drawn(self, actor: str, effect: str, nth: int) -> Fault | None:
        return self._planned.get((actor, effect, nth))

    @property
    def stale(self) -> list[tuple[str, str, int]]:
        """What was planned and never met."""
        return sorted(self._planned.keys() - {strike.where for strike in self.struck})
