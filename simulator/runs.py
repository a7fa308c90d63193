"""One run: a scenario under faults, then faults stop and all must come to its end. The verdict says what did not hold.

Safety is judged when the faults have struck and again at the end, liveness at the end only: within so many executions
without a fault everything is terminal. The judge is `verify`: the guarantees, and the auditor on the simulated ports.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from functools import partial
from typing import Any, Final

import attrs

from embedpipe import events
from embedpipe.backends.memory.behaviour import Behaviour
from embedpipe.backends.memory.job import Job
from embedpipe.errors import ProviderMismatch, Unavailable
from embedpipe.lifecycle import OPEN, Status
from embedpipe.model import BatchRow, EmbeddingModel, Kind, Record
from embedpipe.retry import RetryPolicy
from embedpipe.steps.context import Context, read_base
from embedpipe.steps.submit import submit
from embedpipe.wire import Head, row_to_item
from simulator.behaviours import QUICK
from simulator.effects import Happened
from simulator.faults import Fault, Faults, Strike, drawn
from simulator.guard import Stuck
from simulator.kernel import SECOND_US, Actor, ActorFailed, Overrun
from simulator.oracle import Evidence, judged
from simulator.points import points_of
from simulator.scenarios import Release, Scenario, Script
from simulator.stops import may_stop, seemed_foreign
from simulator.workflow import Workflow
from simulator.world import SIMULATED, World
from verify.audit.api import check as audit
from verify.audit.catalogue import RULES
from verify.audit.findings import Finding
from verify.audit.sources import Source
from verify.invariants import check, observe
from verify.observation import World as Observed

__all__ = ["Outcome", "Verdict", "run"]

KIND: Final = Kind("notes")
MODEL: Final = EmbeddingModel(name=SIMULATED, dimensions=32)
NATIVE: Final = 48
"""Dimensions of a provider's vector where nobody says how many."""
RETRY: Final = RetryPolicy(attempts=3, first_delay_s=1.0)
NEIGHBOUR: Final = BatchRow(
    batch_id="of-another",
    batch_type=KIND.batch_type,
    status=Status.PENDING,
    provider_batch_id="batch_of_another",
    database="others",
    collection="others",
    seq=1,
    request_count=1,
    model=MODEL.name,
    dimensions=MODEL.dimensions,
)
"""A batch of another collection in the same table, which is nobody's business here."""
SUBMITTED_MAX: Final = 4
"""How often an operator tries."""
AGAIN_US: Final = 20 * SECOND_US
MEMORY: Final = "/dev/shm"
"""Linux has files in memory there."""
BETWEEN_S: Final = 1_200.0


class Verdict(StrEnum):
    """How a run went."""

    HELD = "held"
    SAFETY = "safety"
    LIVENESS = "liveness"
    CRASH = "crash"
    NONDETERMINISM = "nondeterminism"


@attrs.frozen(kw_only=True)
class Outcome:
    """What a run came to."""

    seed: int
    verdict: Verdict
    broken: tuple[str, ...]
    """What did not hold, each in one line."""
    strikes: tuple[Strike, ...]
    effects: int
    virtual_s: float
    trace: list[Happened]
    points: frozenset[str]
    """Which of `points.POINTS` it reached."""

    @property
    def rules(self) -> frozenset[str]:
        """What was broken: guarantees, codes of findings, errors that the code has no name for."""
        return frozenset(line.partition(":")[0] for line in self.broken)


def run(
    scenario: Scenario, seed: int, faults: Faults | str = "all", *, without: Container[str] = frozenset()
) -> Outcome:
    """One run of a scenario, but for those parts of its script."""
    script = scenario.script(seed).less(without)
    behaviours = script.behaviours

    def behaviour(nth: int, _: Mapping[str, str]) -> Behaviour:
        return behaviours[nth - 1] if nth <= len(behaviours) and not world.faults.over else QUICK

    # Where requests say how long a vector is to be, the provider's own are of another length: so it shows who forgets to.
    dimensions = NATIVE if scenario.sends_dimensions else MODEL.dimensions
    strikes = drawn(seed, faults) if isinstance(faults, str) else faults
    made = World(seed, strikes, behaviour=behaviour, dimensions=dimensions, in_place=scenario.in_place)
    with _temporary_files_in_memory(), made as world:
        return _Run(world, scenario, script).outcome()


@contextmanager
def _temporary_files_in_memory() -> Iterator[None]:
    """Steps and auditor write hundreds of small files a run: on a disk that is a third of its time."""
    before = tempfile.tempdir
    if os.access(MEMORY, os.W_OK):
        tempfile.tempdir = MEMORY
    try:
        yield
    finally:
        tempfile.tempdir = before


class _Run:
    """The parts of one run."""

    def __init__(self, world: World, scenario: Scenario, script: Script) -> None:
        self.world = world
        self.scenario = scenario
        self.script = script
        self.reported: list[events.RunEvent] = []
        self.submitters: list[Actor] = []
        self.troubled_s = 0.0
        """How long there were faults."""
        self.ctx = Context(
            kind=KIND,
            model=attrs.evolve(MODEL, send_dimensions=scenario.sends_dimensions),
            objects=world.objects,
            table=world.table,
            provider=world.provider,
            vectors=world.vectors,
            clock=world.clock,
            limits=scenario.limits,
            policy=scenario.policy,
            on_event=self._note,
        )
        if scenario.neighbour and any(records for _, records in script.submissions):  # else there is nothing to audit
            world.stores.table.write_raw(row_to_item(NEIGHBOUR, self.ctx.layout))
        self.workflow = Workflow(lambda: self.ctx, world.effects, RETRY, self._look)

    def _release(self, release: Release) -> None:
        """From now on invocations begin with other settings."""

        def switch() -> None:
            self.ctx = attrs.evolve(self.ctx, limits=release.limits, policy=release.policy)

        self.world.effects.perform("lambda.update", f"{release.limits.requests_per_batch} requests a batch", switch)

    def _look(self, step: str, result: Mapping[str, Any]) -> None:
        """What travels in the state of the workflow has its bounds."""
        inline = len(result.get("pending_batches") or ())
        if step == "list_pending" and inline > self.ctx.policy.inline_batches_max:
            self.world.stores.watch.saw("G8", f"a listing of {inline} batches travels in the state")

    def _note(self, event: events.RunEvent) -> None:
        self.reported.append(event)

    def outcome(self) -> Outcome:
        try:
            verdict, broken = self._judged()
        except (Overrun, Stuck) as error:
            verdict, broken = Verdict.LIVENESS, [f"G4: {error}"]
        except ActorFailed as error:
            verdict, broken = Verdict.CRASH, [str(error)]
        world = self.world
        return Outcome(
            seed=world.seed,
            verdict=verdict,
            broken=tuple(broken),
            strikes=tuple(world.faults.struck),
            effects=len(world.effects.trace),
            virtual_s=world.clock.monotonic_s(),
            trace=world.effects.trace,
            points=points_of(world.effects.trace, self.reported),
        )

    def _judged(self) -> tuple[Verdict, list[str]]:
        for at, (when, records) in enumerate(self.script.submissions):
            if records:
                self.world.spawn(f"operator-{at}", partial(self._operate, at), after_s=when)
        if self.script.release is not None:
            self.world.spawn(
                "deployer", partial(self._release, self.script.release), after_s=self.script.release.after_s
            )
        executions = [
            self.workflow.start(f"ingest-{at}", after_s=when)
            for at, when in enumerate(self.script.executions)
            if when < math.inf
        ]
        self.world.run()
        for each in (*self.submitters, *executions):
            if each.error is not None and not self._may_stop(each):
                return Verdict.SAFETY, [_stopped(each)]
        if broken := [*self.world.stores.watch.broken, *map(str, check(self._observed()))]:
            return Verdict.SAFETY, broken
        return self._settled()

    def _may_stop(self, actor: Actor) -> bool:
        stores, struck = self.world.stores, self.world.faults.struck
        return may_stop(actor, struck, stores.provider.jobs, submits=actor in self.submitters)

    def _operate(self, at: int) -> None:
        """Submit, and again where the process died or could not go on, as somebody would who waits for it."""
        kernel = self.world.kernel
        for attempt in range(1, SUBMITTED_MAX + 1):
            actor = self.world.spawn(f"submit-{at}#{attempt}", partial(self._submit, at))
            self.submitters.append(actor)
            kernel.join([actor])
            if not actor.killed and actor.error is None:
                return
            kernel.wait(AGAIN_US)

    def _submit(self, at: int) -> None:
        _, records = self.script.submissions[at]
        # Backwards: in whichever order records come, the files are the same.
        submit(self.ctx, records[::-1], execution_id=_submission(at), policy=RETRY)

    def _settled(self) -> tuple[Verdict, list[str]]:
        """Faults stop; what was submitted is submitted again, as an operator would."""
        self.world.faults.over = True
        self.troubled_s = self.world.clock.monotonic_s()
        for at in range(len(self.script.submissions)):
            if stopped := self._alone(self.world.spawn(f"resubmit-{at}", partial(self._submit, at))):
                return Verdict.LIVENESS, [stopped]
        for at in range(self.scenario.settle_max):
            waiting = self._open_batches()
            if not waiting and self._journal() is None:
                break
            if waiting and all(job is not None and job.behaviour.outcome is None for job in self._jobs_of(waiting)):
                self._cancel(waiting)
            if stopped := self._alone(self.workflow.start(f"settle-{at}", after_s=BETWEEN_S)):
                return Verdict.LIVENESS, [stopped]
        observed = self._observed()
        violations = check(observed, settled=True)
        broken = [*self.world.stores.watch.broken, *judged(self._evidence(observed)), *map(str, violations)]
        if all(violation.guarantee == "G4" for violation in violations) and len(violations) == len(broken):
            return (Verdict.LIVENESS, broken) if broken else self._audited(observed)
        return Verdict.SAFETY, broken

    def _evidence(self, observed: Observed) -> Evidence:
        stores, base = self.world.stores, read_base(self.ctx)
        rows = None
        if base.version is not None:
            with stores.vectors.reading(KIND.database, KIND.collection, version=base.version) as collection:
                rows = collection.get(list(collection.ids()))
        skewed = any(strike.fault is Fault.SKEW for strike in self.world.faults.struck)
        return Evidence(
            observed=observed,
            jobs=stores.provider.jobs,
            submitted=self._submitted(observed),
            rows=rows,
            model=MODEL,
            attempts_max=self.ctx.policy.attempts_max,
            requests_max=self._requests_max(),
            file_bytes={name: len(data) for name, data in stores.provider.files.items()},
            file_bytes_max=self.scenario.limits.file_bytes,
            unheard=[line.on for line in self.world.effects.trace if _unheard(line)],
            others=frozenset({NEIGHBOUR.batch_id}),
            given_up_s=stores.objects.given_up_s,
            ambiguous_after_s=self.scenario.policy.ambiguous_after_s,
            unclaimed=self._unclaimed(observed),
            waits_were_whole=not skewed and self.troubled_s + 2 * BETWEEN_S < self.scenario.policy.settle_max_s,
        )

    def _submitted(self, observed: Observed) -> dict[str, Record]:
        """By id, as the ledger's last word on it: submissions count in the order in which they moved the ledger."""
        order = [entry.execution_id for entry in observed.head.submitters] if observed.head else []
        by_name = {_submission(at): records for at, (_, records) in enumerate(self.script.submissions)}
        return {record.id: record for name in order for record in by_name[name]}

    def _unclaimed(self, observed: Observed) -> list[str]:
        """Each submission that has records was made, and was answered, by now."""
        claimed = {entry.execution_id for entry in observed.head.submitters} if observed.head else set()
        return [
            _submission(at)
            for at, (_, records) in enumerate(self.script.submissions)
            if records and _submission(at) not in claimed
        ]

    def _requests_max(self) -> int:
        """Before a release, or after it."""
        after = self.script.release.limits if self.script.release is not None else self.scenario.limits
        return max(self.scenario.limits.requests_per_batch, after.requests_per_batch)

    def _open_batches(self) -> set[str]:
        """Batches that have not ended: open rows, and entries of the ledger that have no row."""
        table, key = self.world.stores.table, self.ctx.layout.head_key(KIND.database, KIND.collection)
        listed = table.get_many([name for status in OPEN for name in table.by_status(KIND.batch_type, status)])
        found = {name for name, row in listed.items() if row.serves(KIND)}
        head = self.world.stores.objects.contents().get(key)
        entries = {root.batch_id for root in Head.load(head, key).open} if head else set()
        return found | (entries - table.get_many(sorted(entries)).keys())

    def _journal(self) -> bytes | None:
        """That of a merge that has not come to its end."""
        return self.world.stores.objects.contents().get(self.ctx.layout.journal_key(KIND.database))

    def _jobs_of(self, batch_ids: set[str]) -> list[Job | None]:
        """What the provider made last of each; None where it has nothing."""
        jobs = {job.metadata.get("batch_id", ""): job for job in self.world.stores.provider.jobs}
        return [jobs.get(name) for name in sorted(batch_ids)]

    def _cancel(self, batch_ids: set[str]) -> None:
        """What an operator does with batches that never end, when nothing else is left."""
        for job in self._jobs_of(batch_ids):
            if job is not None:
                self.world.stores.provider.cancel(job.id)

    def _alone(self, actor: Actor) -> str | None:
        """Let everything happen: why this actor stopped, where it had no reason to. `ActorFailed`."""
        self.world.run()
        foreign = seemed_foreign(self.world.faults.struck, self.world.stores.provider.jobs)
        mistaken = isinstance(actor.error, ProviderMismatch) and foreign
        return None if actor.error is None or mistaken else _stopped(actor)

    def _observed(self) -> Observed:
        stores = self.world.stores
        return observe(
            kind=KIND,
            objects=stores.objects,
            table=stores.table,
            vectors=stores.vectors,
            creates=[create.metadata.get("batch_id", "") for create in stores.provider.paid],
            ambiguous=[event.batch_id for event in self.reported if isinstance(event, events.AmbiguousCreate)],
        )

    def _audited(self, observed: Observed) -> tuple[Verdict, list[str]]:
        stores = self.world.stores
        source = Source.over(
            "simulated",
            objects=stores.objects,
            table=stores.table,
            vectors=stores.vectors,
            clock=self.world.clock,
            # A script that is made small may have nothing left to submit, and a kind that is named has to be there.
            kinds=[KIND] if observed.head is not None else [],
        )
        found = [each for each in audit(source, depth="vectors").findings if each.code != "R105"]
        return (Verdict.SAFETY, list(map(_said, found))) if found else (Verdict.HELD, [])


def _unheard(line: Happened) -> bool:
    """A create whose caller lives, and does not know whether it was made."""
    lost = line.fault in (Fault.ANSWER_LOST, Fault.UNAVAILABLE) or line.outcome == Unavailable.code
    return lost and line.effect == "provider.create"


def _said(finding: Finding) -> str:
    """A finding of the auditor's in one line, its code first."""
    evidence = ", ".join(f"{name} {value}" for name, value in finding.evidence.items())
    return f"{finding.code}: {RULES[finding.code].title}, {finding.location} ({evidence})"


def _submission(at: int) -> str:
    """Its execution's id. Submitted again, it is the same execution."""
    return f"submit-{at}"


def _stopped(actor: Actor) -> str:
    """One batch costs itself alone, and what passes is repeated: nothing else ends an execution or a submission."""
    return f"G10: {actor.name} was stopped by {type(actor.error).__name__}: {actor.error}"
