"""What happens in a simulated run: who submits what and when, how the provider behaves, how many executions there are.

A scenario is drawn from the seed; the faults are another matter. Texts name their record, so a vector of another shows.
"""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
from typing import Final

import attrs

from embedpipe.backends.batch_files import CANCELLED, EXPIRED, TIMEOUT, ItemError
from embedpipe.backends.memory.behaviour import FOR_EVER, SILENT, Behaviour, CreateFault
from embedpipe.limits import Limits, Policy
from embedpipe.model import ProviderIssue, Record
from simulator.chance import fraction, number, pick

__all__ = ["MIX", "NEVER_ENDS", "QUICK", "SCENARIOS", "Release", "Scenario", "Script", "turn"]

SPAN_S: Final = 1_200
"""[ours] Within it all begin."""
TOGETHER_S: Final = 4.0
"""[ours] About as long as a step of an execution takes."""
QUICK: Final = Behaviour(running=())
"""Ends well at the first look."""
NEVER_ENDS: Final = Behaviour(running=("in_progress",), outcome=None)
"""Until somebody cancels it."""


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
    exactly: bool = False
    """Whether each has as many, under different ids."""
    executions: int
    limits: Limits
    policy: Policy
    contended: bool = False
    """Whether it is one and the same record each time, with another text than before."""
    in_place: bool = True
    """Whether vectors are merged in place, or into versions that race for the pointer."""
    released: float = 0.0
    """The part of the seeds in which a new release comes in the middle."""
    settle_max: int = 40
    """Executions without faults within which all has to end."""

    def script(self, seed: int) -> Script:
        """What happens in the run of that seed."""
        submitted, begun = _timeline(seed, self.submissions, self.executions)
        return Script(
            submissions=[(when, tuple(self._records(seed, at))) for at, when in enumerate(submitted)],
            executions=begun,
            behaviours=[_behaviour(seed, nth) for nth in range(6)],
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

    def _records(self, seed: int, submission: int) -> list[Record]:
        """Few ids, so that submissions overlap; some texts change."""
        if self.contended:
            return [Record(id="r0", text=("one", "two")[submission % 2])]
        if self.exactly:
            names = [f"r{at:05d}" for at in range(self.records)]
        else:
            count = 1 + number(seed, "count", submission) % self.records
            drawn = (number(seed, "id", submission, at) % (self.records + 1) for at in range(count))
            names = sorted({f"r{which}" for which in drawn})
        return [
            Record(id=name, text=f"{name} {pick(('one', 'two'), seed, 'text', submission, name)}") for name in names
        ]


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
        contended=True,
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
        exactly=True,
        executions=2,
        limits=Limits(requests_per_batch=1),
        policy=attrs.evolve(_SMALL, chunk_rows=300, merge_rows=900),
    ),
}


MIX: Final = (
    *(("texts", "all"), ("versions", "all"), ("overlap", "all"), ("texts", "crashes"), ("versions", "races")),
    *(("overlap", "storm"), ("texts", "races"), ("overlap", "rot"), ("versions", "crashes"), ("small", "storm")),
    *(("texts", "storm"), ("overlap", "crashes"), ("overlap", "races"), ("versions", "none"), ("seed62", "all")),
    *(("texts", "deaths"), ("seed62", "races")),
)
"""Scenarios and profiles that take turns, seed by seed."""


def turn(scenario: str, faults: str, seed: int) -> tuple[str, str]:
    """The scenario and the profile of a seed: those asked for, or what `mix` comes to."""
    mixed = MIX[seed % len(MIX)]
    return mixed[0] if scenario == "mix" else scenario, mixed[1] if faults == "mix" else faults


def _timeline(seed: int, submissions: int, executions: int) -> tuple[list[float], list[float]]:
    """When submissions and executions begin, in seconds: half of them right after the one before, so that they meet.

    The first is a submission; then they come in any order.
    """
    moments: list[float] = []
    count = submissions + executions
    for at in range(count):
        if moments and fraction(seed, "together", at) < 0.5:
            moments.append(moments[-1] + fraction(seed, "beside", at) ** 3 * TOGETHER_S)
        else:
            moments.append(fraction(seed, "moment", at) * SPAN_S)
    moments.sort()
    later = sorted(range(1, count), key=lambda at: number(seed, "which", at))
    submitted = {0, *later[: submissions - 1]}
    return [moments[at] for at in sorted(submitted)], [moments[at] for at in range(count) if at not in submitted]


# --- what providers do ---------------------------------------------------------------------------------------------

BAD: Final = ItemError(400, "invalid_input", "This text can't be embedded.")

_ERRORS: Final[tuple[ItemError | None, ...]] = (EXPIRED, CANCELLED, TIMEOUT, BAD, SILENT)
_ENDS: Final = ("completed", "completed", "completed", "completed", "expired", "cancelled", "failed")
_CREATES: Final = (
    *(Behaviour(create=CreateFault.REFUSED, refusal=word) for word in ("insufficient_quota", "invalid_request")),
    Behaviour(create=CreateFault.THROTTLED),
    Behaviour(create=CreateFault.LOST),
    Behaviour(create=CreateFault.ANSWER_LOST, running=()),
)
_ISSUES: Final[tuple[tuple[ProviderIssue, ...], ...]] = (
    (),
    (ProviderIssue(code="invalid_json_line", message="line 1 is no JSON", line=1),),
    (ProviderIssue(code="token_limit_exceeded", message="too many tokens are in the queue"),),
)
_ODD_LINES: Final = (b"no JSON\n", b'{"id": "x", "custom_id": "nobody\'s", "response": null, "error": null}\n')


def _behaviour(seed: int, nth: int) -> Behaviour:
    """Half of the batches are good, an eighth is not made at first, some are lost, some never end."""
    lot = fraction(seed, "lot", nth)
    running = ("in_progress",) * (number(seed, "running", nth) % 3)
    if lot < 0.5:
        return Behaviour(running=running, shuffle_seed=nth)
    if lot < 0.62:
        return pick(_CREATES, seed, "create", nth)
    if lot < 0.65:
        return Behaviour(unknown_retrieves=FOR_EVER)
    if lot < 0.68:
        return NEVER_ENDS

    def once_in(runs: int, what: str) -> bool:
        return number(seed, what, nth) % runs == 0

    named = [f"r{at}" for at in range(10) if fraction(seed, "fated", nth, at) < 0.2]
    return Behaviour(
        running=running,
        outcome=pick(_ENDS, seed, "outcome", nth),
        issues=pick(_ISSUES, seed, "issues", nth),
        fates={name: pick(_ERRORS, seed, "fate", nth, name) for name in named},
        shuffle_seed=nth,
        doubled=frozenset({"r1", "r2"}) if once_in(5, "doubled") else frozenset(),
        extra_lines=_ODD_LINES if once_in(5, "odd lines") else (),
        late_retrieves=number(seed, "late", nth) % 2,
        null_output_retrieves=int(once_in(4, "null output")),
        absent_file_id="" if once_in(4, "absent") else None,
        unknown_retrieves=number(seed, "unknown", nth) % 2,
        unlisted_calls=number(seed, "unlisted", nth) % 3,
        content_missing=FOR_EVER if once_in(12, "gone") else int(once_in(6, "content")),
        torn=once_in(5, "torn"),
        counts_silent=once_in(2, "silent"),
    )
