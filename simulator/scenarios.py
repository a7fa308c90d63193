"""What happens in a simulated run: who submits what and when, how the provider behaves, how many executions there are.

A scenario is drawn from the seed; the faults are another matter. Texts name their record, so a vector of another shows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Final

import attrs

from embedpipe.backends.memory.behaviour import Behaviour
from embedpipe.limits import Limits, Policy
from embedpipe.model import Record
from simulator.behaviours import QUICK, calm, crowded, odd_half, refusing
from simulator.chance import fraction, pick
from simulator.records import few, flipped, numbered, odd, one
from simulator.timelines import SPAN_S, anyhow, by_turns, one_by_one

__all__ = ["MIX", "SCENARIOS", "Release", "Scenario", "Script", "turn"]


@attrs.frozen(kw_only=True)
class Release:
    """From then on what begins runs with other settings; what is under way goes on with the old ones."""

    after_s: float
    limits: Limits
    policy: Policy


@attrs.frozen(kw_only=True)
class Script:
    """One run's worth."""

    submissions: Sequence[tuple[float, tuple[Record, ...]]]
    """When, in seconds, and what."""
    executions: Sequence[float]
    """When each begins, in seconds."""
    behaviours: Sequence[Behaviour]
    """Of the first creates; all later ones are good."""
    release: Release | None = None

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of what can be left out, so that a failing run gets smaller."""
        return (
            *(f"submission {at}" for at in range(len(self.submissions))),
            *(f"execution {at}" for at in range(len(self.executions))),
            *(f"behaviour {at}" for at, each in enumerate(self.behaviours) if each != QUICK),
            *(["release"] if self.release is not None else []),
            *sorted({f"record {record.id}" for _, records in self.submissions for record in records}),
        )

    def less(self, without: Container[str]) -> Script:
        """The script without these parts. Times and numbers of the others stay."""
        return Script(
            submissions=[
                (when, () if f"submission {at}" in without else _those_kept(records, without))
                for at, (when, records) in enumerate(self.submissions)
            ],
            executions=[math.inf if f"execution {at}" in without else when for at, when in enumerate(self.executions)],
            behaviours=[
                QUICK if f"behaviour {at}" in without else behaviour for at, behaviour in enumerate(self.behaviours)
            ],
            release=None if "release" in without else self.release,
        )


def _those_kept(records: Sequence[Record], without: Container[str]) -> tuple[Record, ...]:
    return tuple(record for record in records if f"record {record.id}" not in without)


@attrs.frozen(kw_only=True)
class Scenario:
    """A kind of run."""

    name: str
    submissions: int
    records: int
    """At most, of each submission."""
    executions: int
    limits: Limits
    policy: Policy
    draw: Callable[[int, int, int], list[Record]] = few
    """Of a seed, the number of a submission and `records`, what it submits."""
    timeline: Callable[[int, int, int], tuple[list[float], list[float]]] = anyhow
    """Of a seed and so many submissions and executions, when each begins."""
    behaviour: Callable[[int, int], Behaviour] = odd_half
    """Of a seed, that of the batch that is created at that place."""
    creates: int = 6
    """How many of them are drawn; all later ones are good."""
    neighbour: bool = False
    """Whether another collection has a batch in the same table."""
    sends_dimensions: bool = False
    """Whether requests say how long a vector is to be."""
    in_place: bool = True
    """Whether vectors are merged in place, or into versions that race for the pointer."""
    released: float = 0.0
    """The part of the seeds in which a new release comes in the middle."""
    settle_max: int = 40
    """Executions without faults within which all has to end."""

    def script(self, seed: int) -> Script:
        """What happens in the run of that seed."""
        submitted, begun = self.timeline(seed, self.submissions, self.executions)
        return Script(
            submissions=[(when, tuple(self.draw(seed, at, self.records))) for at, when in enumerate(submitted)],
            executions=begun,
            behaviours=[self.behaviour(seed, nth) for nth in range(self.creates)],
            release=self._release(seed) if fraction(seed, "released") < self.released else None,
        )

    def _release(self, seed: int) -> Release:
        """Whoever turns a limit expects what is under way to come to the same end."""

        def turned(value: int, what: str) -> int:
            return max(1, round(value * pick((0.3, 0.7, 2.0), seed, "release", what)))

        rows = turned(self.policy.chunk_rows, "chunk")
        return Release(
            after_s=fraction(seed, "release") * SPAN_S,
            limits=attrs.evolve(self.limits, requests_per_batch=turned(self.limits.requests_per_batch, "batch")),
            policy=attrs.evolve(
                self.policy, chunk_rows=rows, merge_rows=max(rows, turned(self.policy.merge_rows, "merge"))
            ),
        )


_SMALL: Final = Policy(
    ambiguous_after_s=1_200,
    settle_max_s=7_200,
    lost_after_s=9_600,
    capacity_wait_s=30,
    chunk_rows=3,
    merge_rows=5,
    attempts_max=3,
)

SCENARIOS: Final[Mapping[str, Scenario]] = {
    "tiny": Scenario(
        name="tiny",
        submissions=1,
        records=2,
        timeline=one_by_one,
        executions=1,
        limits=Limits(requests_per_batch=3),
        policy=_SMALL,
        behaviour=calm,
    ),
    "small": Scenario(
        name="small",
        submissions=1,
        records=4,
        executions=3,
        limits=Limits(requests_per_batch=3),
        policy=_SMALL,
    ),
    "overlap": Scenario(
        name="overlap",
        submissions=2,
        records=5,
        released=0.3,
        executions=6,
        limits=Limits(requests_per_batch=3),
        policy=_SMALL,
    ),
    "texts": Scenario(
        name="texts",
        submissions=4,
        records=1,
        draw=one,
        executions=7,
        limits=Limits(requests_per_batch=3),
        policy=_SMALL,
    ),
    "versions": Scenario(
        name="versions",
        submissions=2,
        records=5,
        released=0.3,
        executions=6,
        limits=Limits(requests_per_batch=3),
        policy=_SMALL,
        in_place=False,
    ),
    "flips": Scenario(
        name="flips",
        submissions=4,
        records=2,
        draw=flipped,
        timeline=by_turns,
        executions=5,
        limits=Limits(requests_per_batch=1),
        policy=attrs.evolve(_SMALL, inline_batches_max=1),
        behaviour=calm,
        creates=12,
    ),
    "rush": Scenario(
        name="rush",
        submissions=5,
        records=1,
        draw=flipped,
        timeline=by_turns,
        executions=5,
        limits=Limits(requests_per_batch=3),
        policy=_SMALL,
        behaviour=calm,
    ),
    "crowd": Scenario(
        name="crowd",
        submissions=1,
        records=7,
        draw=numbered,
        executions=2,
        limits=Limits(requests_per_batch=1),
        policy=attrs.evolve(_SMALL, inline_batches_max=2),
        behaviour=crowded,
        creates=7,
        settle_max=16,
    ),
    "odds": Scenario(
        name="odds",
        submissions=2,
        records=5,
        draw=odd,
        sends_dimensions=True,
        neighbour=True,
        executions=3,
        limits=Limits(requests_per_batch=3, file_bytes=2_600),
        policy=attrs.evolve(_SMALL, upsert_rows=2),
        behaviour=refusing,
    ),
    "seed62": Scenario(
        name="seed62",
        submissions=2,
        records=62,
        released=0.3,
        executions=2,
        limits=Limits(requests_per_batch=2),
        policy=attrs.evolve(_SMALL, chunk_rows=20, merge_rows=60),
    ),
    "backlog1500": Scenario(
        name="backlog1500",
        submissions=1,
        records=1_500,
        draw=numbered,
        executions=2,
        limits=Limits(requests_per_batch=1),
        policy=attrs.evolve(_SMALL, chunk_rows=300, merge_rows=900),
    ),
}


MIX: Final = (
    *(("rush", "stalls"), ("texts", "all"), ("flips", "writes"), ("odds", "all"), ("overlap", "all")),
    *(("rush", "stalls"), ("texts", "crashes"), ("flips", "writes"), ("versions", "races"), ("overlap", "storm")),
    *(("flips", "echoes"), ("texts", "races"), ("rush", "stalls"), ("overlap", "rot"), ("versions", "crashes")),
    *(("flips", "writes"), ("small", "storm"), ("texts", "storm"), ("versions", "answers"), ("flips", "echoes")),
    *(("flips", "writes"), ("versions", "writes"), ("overlap", "races"), ("crowd", "storm"), ("odds", "answers")),
    *(("flips", "echoes"), ("versions", "all"), ("seed62", "all"), ("rush", "stalls"), ("flips", "rot")),
    *(("rush", "stalls"), ("overlap", "answers"), ("odds", "writes"), ("overlap", "crashes"), ("versions", "none")),
)
"""Scenarios and profiles that take turns, seed by seed."""


def turn(scenario: str, faults: str, seed: int) -> tuple[str, str]:
    """The scenario and the profile of a seed: those asked for, or what `mix` comes to."""
    mixed = MIX[seed % len(MIX)]
    return mixed[0] if scenario == "mix" else scenario, mixed[1] if faults == "mix" else faults
