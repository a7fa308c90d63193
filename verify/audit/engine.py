"""The audit itself: enumerate, sort, join by `batch_id`, check, read again, report. Streams; memory does not grow with a root.

Order matters. Executions are read before rows and rows before the published catalog, so that what a running pipeline does
meanwhile only adds to the proof. A finding is reported when a second reading finds it again. A source that can't be read
costs itself: the ledger says what was not covered.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

from embedpipe.model import Kind
from verify.audit.checks import Moment, found
from verify.audit.coverage import State
from verify.audit.enumeration import Enumeration
from verify.audit.gather import Gatherer
from verify.audit.joining import Joining
from verify.audit.options import Options
from verify.audit.provider import ProviderSide
from verify.audit.published import Outcome, Published
from verify.audit.report import Report
from verify.audit.sorting import Sorter
from verify.audit.sources import Source
from verify.audit.tally import Tally

__all__ = ["audit"]


def audit(source: Source, options: Options) -> Report:
    """Audit `source`. Raises `MisuseError` for what is asked wrongly; what can't be read is in the report."""
    with tempfile.TemporaryDirectory(prefix="embedpipe-verify-") as folder:
        return _audit(source, options, Path(folder))


def _audit(source: Source, options: Options, folder: Path) -> Report:
    began_s = source.clock.monotonic_s()
    moment = Moment(now=source.clock.now(), grace_s=options.grace_s, depth=options.depth, layout=source.layout)
    tally = Tally(options=options, moment=moment)
    gatherer = Gatherer(source=source, depth=options.depth, folder=folder)
    published = Published(source, moment, gatherer, folder)
    provider = ProviderSide(source, moment)
    _unreachable(source, tally, provider)
    enumeration = Enumeration(source=source, tally=tally, gatherer=gatherer, folder=folder)
    joining = Joining(source=source, tally=tally, gatherer=gatherer, published=published, provider=provider)
    with Sorter(folder, "batches") as batches, Sorter(folder, "names") as names:
        enumeration.fill(batches)
        tally.report(provider.gather(batches, names))
        joining.batches(batches, names)
        with tally.covering("table", "index", ("B",)):
            joining.names(names)
            joining.ask_the_index_again()
    _collections(source, tally, published, enumeration.collections)
    tally.report(list(provider.failed_and_completed(tally.findings)))
    return tally.as_report(source, source.clock.monotonic_s() - began_s)


def _unreachable(source: Source, tally: Tally, provider: ProviderSide) -> None:
    for port, reason in source.unreachable.items():
        tally.report([found("A901", f"{port}:", reason=reason)])
        if port == "provider":
            provider.state = State.NOT_EVALUATED


def _collections(source: Source, tally: Tally, published: Published, kinds: Iterable[Kind]) -> None:
    for kind in kinds:
        if not source.kinds or kind in source.kinds:
            published.know(kind)
    for outcome in published.finish():
        _count(tally, outcome)


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
