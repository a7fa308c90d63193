"""The audit itself: enumerate, sort, join by `batch_id`, check, read again, report. Streams; memory does not grow with a root.

Order matters. Executions are read before rows and rows before the published catalog, so that what a running pipeline does
meanwhile only adds to the proof. A finding is reported when a second reading finds it again. A source that can't be read
costs itself: the ledger says what was not covered.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import attrs

from embedpipe.model import Kind
from embedpipe.wire import Latest
from verify.audit.checks import Moment, found
from verify.audit.coverage import State
from verify.audit.enumeration import Enumeration
from verify.audit.estimate import Estimate, calls_of_batches, calls_of_collection
from verify.audit.gather import Gatherer
from verify.audit.joining import Joining, named
from verify.audit.journeys import Trail
from verify.audit.machines import MachineSide
from verify.audit.objects import envelope
from verify.audit.options import Options
from verify.audit.provider import ProviderSide
from verify.audit.published import Outcome, Published
from verify.audit.report import Report
from verify.audit.resuming import Journal
from verify.audit.sorting import Sorter
from verify.audit.sources import Source
from verify.audit.tally import Tally

__all__ = ["audit", "estimate"]


def audit(source: Source, options: Options) -> Report:
    """Audit `source`. Raises `MisuseError` for what is asked wrongly; what can't be read is in the report."""
    began_s = source.clock.monotonic_s()
    with _begun(source, options) as begun:
        total = None
        if options.on_estimate is not None:
            said = begun.estimate()
            total = said.batches
            options.on_estimate(said)
        begun.join(total)
        begun.collections()
        return begun.tally.as_report(source, begun.joining.trail, source.clock.monotonic_s() - began_s)


def estimate(source: Source, options: Options) -> Estimate:
    """What `audit` would call, after finding every batch and reading none."""
    with _begun(source, options) as begun:
        return begun.estimate()


@contextmanager
def _begun(source: Source, options: Options) -> Iterator[_Audit]:
    """An audit that has found every batch. What it was doing is kept where it is interrupted and has a place for it."""
    with (
        _folder(source, options) as (folder, journal),
        Sorter(folder, "batches") as batches,
        Sorter(folder, "names") as names,
        closing(Trail(folder)) as trail,
    ):
        begun = _Audit.of(source, options, folder, batches, names, trail, journal)
        begun.enumerate()
        if journal is not None:
            journal.known(batches)
        try:
            yield begun
        except BaseException:
            begun.joining.checkpoint()
            raise


@contextmanager
def _folder(source: Source, options: Options) -> Iterator[tuple[Path, Journal | None]]:
    if options.state is None:
        with tempfile.TemporaryDirectory(prefix="embedpipe-verify-") as name:
            yield Path(name), None
        return
    journal = Journal.open(options.state, source, options)
    try:
        yield journal.folder, journal
    finally:
        journal.close()
    journal.remove()


@attrs.frozen(kw_only=True, eq=False)
class _Audit:
    """The parts of one audit, and their order."""

    source: Source
    tally: Tally
    enumeration: Enumeration
    joining: Joining
    published: Published
    provider: ProviderSide
    batches: Sorter
    names: Sorter

    @classmethod
    def of(
        cls,
        source: Source,
        options: Options,
        folder: Path,
        batches: Sorter,
        names: Sorter,
        trail: Trail,
        journal: Journal | None,
    ) -> _Audit:
        """All parts of it, nothing read yet. One that goes on counts ages from when it first began."""
        now = source.clock.now()
        if journal is not None:
            now, options = journal.question.now, attrs.evolve(options, since=journal.question.since)
        moment = Moment(now=now, grace_s=options.grace_s, depth=options.depth, layout=source.layout)
        tally = Tally(options=options, moment=moment)
        gatherer = Gatherer(source=source, depth=options.depth, folder=folder)
        published = Published(source, moment, gatherer, folder)
        published.restored = journal.stored if journal is not None else {}
        provider = ProviderSide(source, moment)
        return cls(
            source=source,
            tally=tally,
            enumeration=Enumeration(
                source=source,
                tally=tally,
                gatherer=gatherer,
                folder=folder,
                machines=MachineSide(source, options, moment, gatherer),
            ),
            joining=Joining(
                source=source,
                tally=tally,
                gatherer=gatherer,
                published=published,
                provider=provider,
                trail=trail,
                journal=journal,
            ),
            published=published,
            provider=provider,
            batches=batches,
            names=names,
        )

    def enumerate(self) -> None:
        """Find everything that names a batch."""
        for port, reason in self.source.unreachable.items():
            self.tally.report([found("A901", f"{port}:", reason=reason)])
            if port == "provider":
                self.provider.state = State.NOT_EVALUATED
        self.enumeration.fill(self.batches)
        self.tally.report(self.provider.gather(self.batches, self.names))
        # Groups are merged from files, so they are asked for only where it matters.
        if self.provider.is_rootless and (self.enumeration.collections or next(self.batches.groups(), None) is None):
            reason = "It is gone, so nobody knows which of the provider's batches are of this root (O106)."
            self.tally.report([found("A901", f"objects:{self.source.layout.root_key()}", reason=reason)])
            self.tally.ledger.add("roots", {"O": State.NOT_EVALUATED})

    def estimate(self) -> Estimate:
        """What all of it calls. Reads the pointer of each collection."""
        pointers = [self._pointer(kind) for kind in self._kinds()]
        made = Counter(self.source.calls.counts)
        depth = self.tally.options.depth
        groups = ((entries, bool(before)) for _, entries, before in named(self.batches))
        limited = self.tally.options.limited
        count, calls = calls_of_batches(groups, depth, provider=self.source.provider is not None, limited=limited)
        every = made + Counter(calls)
        for versions in pointers:
            every += Counter(calls_of_collection(versions, depth))
            every["vectors.reading"] += bool(versions and depth.reads_content and self.source.vectors is not None)
        return Estimate(depth=depth, batches=count, calls=dict(every), made=dict(made), prices=dict(self.source.prices))

    def _pointer(self, kind: Kind) -> int:
        """How many versions were published."""
        pointer = envelope(self.source.objects, Latest, self.source.layout.latest_key(kind.database))
        return max(1, pointer.n) if isinstance(pointer, Latest) else 0

    def _kinds(self) -> Iterator[Kind]:
        """Collections that have a ledger and are in scope."""
        kinds = self.source.kinds
        return (kind for kind in self.enumeration.collections if not kinds or kind in kinds)

    def join(self, total: int | None) -> None:
        """Check each batch, and the names and the index that they share."""
        self.joining.batches(self.batches, self.names, total=total)
        with self.tally.covering("table", "index", ("B",)):
            self.joining.names(self.names)
            self.joining.ask_the_index_again()

    def collections(self) -> None:
        """Check what is published, and every record against it."""
        known = list(self._kinds())
        for kind in known:
            self.published.know(kind)
        if self.source.kinds and not (known or self.joining.served or self.source.absent):
            self._report_unknown_kinds()
        for outcome in self.published.finish():
            _count(self.tally, outcome)
        self.tally.report(list(self.provider.failed_and_completed(self.tally.findings)))

    def _report_unknown_kinds(self) -> None:
        """Kinds were named, and there is nothing of them: a name that is wrong, or all is lost."""
        there = ", ".join(sorted(kind.name for kind in self.enumeration.collections)) or "none"
        for kind in self.source.kinds:
            reason = f"No ledger and no batch of this kind was found; kinds with a ledger: {there}."
            self.tally.report([found("A901", f"kind:{kind.name}", reason=reason)])
            self.tally.ledger.add("collections", {"S": State.NOT_EVALUATED})


def _count(tally: Tally, outcome: Outcome) -> None:
    """What a collection came to, in the ledger."""
    tally.report(outcome.findings)
    states = {"S": outcome.snapshots, "V": outcome.vectors}
    for finding in outcome.findings:
        if tally.is_suppressed(finding):
            if finding.family in states:
                states[finding.family] = State.SUPPRESSED
            elif finding.batch_ids:  # of a batch that has ended
                tally.ledger.move("batches", finding.family, State.CHECKED, State.SUPPRESSED, 1)
    tally.ledger.add("collections", states)
    tally.ledger.move("batches", "R", State.CHECKED, State.NOT_EVALUATED, outcome.records_hidden)
    tally.proven &= not outcome.records_hidden
