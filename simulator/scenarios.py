"""What happens in a simulated run: who submits what and when, how the provider behaves, how many executions there are.

A scenario is drawn from the seed; the faults are another matter. Texts name their record, so a vector of another shows.
"""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
from typing import Final

import attrs

from embedpipe.backends.batch_files import CANCELLED, EXPIRED, TIMEOUT, ItemError
from embedpipe.backends.memory.behaviour import Behaviour
from embedpipe.limits import Limits, Policy
from embedpipe.model import Record
from simulator.chance import fraction, number, pick

__all__ = ["QUICK", "SCENARIOS", "Scenario", "Script"]

QUICK: Final = Behaviour(running=())
"""Ends well at the first look."""


@attrs.frozen(kw_only=True)
class Script:
    """One run's worth."""

    submissions: Sequence[tuple[float, tuple[Record, ...]]]
    """When, in seconds, and what."""
    executions: Sequence[float]
    """When each begins, in seconds."""
    behaviours: Sequence[Behaviour]
    """Of the first creates; all later ones are good."""

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of what can be left out, so that a failing run gets smaller."""
        return (
            *(f"submission {at}" for at in range(len(self.submissions))),
            *(f"execution {at}" for at in range(len(self.executions))),
            *(f"behaviour {at}" for at, each in enumerate(self.behaviours) if each != QUICK),
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
    settle_max: int = 40
    """Executions without faults within which all has to end."""

    def script(self, seed: int) -> Script:
        """What happens in the run of that seed."""
        return Script(
            submissions=[
                (fraction(seed, "submission", at) * 600, tuple(_records(seed, at, self.records)))
                for at in range(self.submissions)
            ],
            executions=sorted(fraction(seed, "execution", at) * 1_200 for at in range(self.executions)),
            behaviours=[_behaviour(seed, nth) for nth in range(6)],
        )


_SMALL: Final = Policy(
    ambiguous_after_s=1_200,
    settle_max_s=1_800,
    lost_after_s=3_600,
    capacity_wait_s=30,
    chunk_rows=3,
    merge_rows=5,
    attempts_max=3,
)

SCENARIOS: Final[Mapping[str, Scenario]] = {
    "small": Scenario(
        name="small",
        submissions=1,
        records=4,
        executions=1,
        limits=Limits(requests_per_batch=3),
        policy=_SMALL,
    ),
    "overlap": Scenario(
        name="overlap",
        submissions=2,
        records=5,
        executions=2,
        limits=Limits(requests_per_batch=3),
        policy=_SMALL,
    ),
    "seed62": Scenario(
        name="seed62",
        submissions=2,
        records=62,
        executions=2,
        limits=Limits(requests_per_batch=2),
        policy=attrs.evolve(_SMALL, chunk_rows=20, merge_rows=60),
    ),
}


def _records(seed: int, submission: int, most: int) -> list[Record]:
    """Few ids, so that submissions overlap; some texts change."""
    count = 1 + number(seed, "count", submission) % most
    names = sorted({f"r{number(seed, 'id', submission, at) % (2 * most)}" for at in range(count)})
    return [Record(id=name, text=f"{name} {pick(('one', 'two'), seed, 'text', submission, name)}") for name in names]


_ERRORS: Final[tuple[ItemError | None, ...]] = (EXPIRED, CANCELLED, TIMEOUT, None)
_ENDS: Final = ("completed", "completed", "completed", "completed", "expired", "cancelled", "failed")


def _behaviour(seed: int, nth: int) -> Behaviour:
    """Half of the batches are good."""
    if fraction(seed, "good", nth) < 0.5:
        return Behaviour(running=("in_progress",) * (number(seed, "running", nth) % 3))
    outcome = pick(_ENDS, seed, "outcome", nth)
    named = [f"r{at}" for at in range(10) if fraction(seed, "fated", nth, at) < 0.2]
    return Behaviour(
        running=("in_progress",) * (number(seed, "running", nth) % 3),
        outcome=outcome,
        fates={name: pick(_ERRORS, seed, "fate", nth, name) for name in named},
        late_retrieves=number(seed, "late", nth) % 2,
        unknown_retrieves=number(seed, "unknown", nth) % 2,
        torn=fraction(seed, "torn", nth) < 0.2,
        counts_silent=fraction(seed, "silent", nth) < 0.5,
    )
