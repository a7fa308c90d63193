"""What one audit has come to so far: its findings and its ledger, which every part of it adds to, and the report they make."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

import attrs

from embedpipe.errors import CorruptData, ServiceError
from embedpipe.wire import format_time
from verify.audit.causes import explained
from verify.audit.checks import Moment, found
from verify.audit.coverage import Ledger, State
from verify.audit.findings import Finding
from verify.audit.journeys import Trail, journeys
from verify.audit.options import Options, Suppression
from verify.audit.report import Report, in_order
from verify.audit.sources import Source
from verify.audit.states import left_out

__all__ = ["Tally", "confirmed"]

PROOF: Final = frozenset({"B701", "R101", "R103"})
"""Codes that say a record is in no place: only where they are asked for does their absence show that a batch was merged."""


@attrs.define(kw_only=True, eq=False)
class Tally:
    """Findings and ledger of one audit."""

    options: Options
    moment: Moment
    ledger: Ledger = attrs.field(factory=Ledger)
    findings: list[Finding] = attrs.field(factory=list)
    proven: bool = attrs.field()
    """Whether the search for lost records goes, and so far went, to its end: only then does finding none show anything."""

    @proven.default
    def _looks_for_lost_records(self) -> bool:
        return self.options.codes.issuperset(PROOF) and self.options.depth.reads_content

    def report(self, findings: Iterable[Finding]) -> None:
        """Take in findings; codes that were not asked for are left out."""
        self.findings += [finding for finding in findings if finding.code in self.options.codes]

    def is_suppressed(self, finding: Finding) -> bool:
        """Whether somebody lives with it."""
        return self._suppression(finding) is not None

    def _suppression(self, finding: Finding) -> Suppression | None:
        """The first that covers it."""
        return next((each for each in self.options.suppressions if each.covers(finding, self.moment.now)), None)

    def _hidden(self, findings: Iterable[Finding]) -> Iterator[Finding]:
        """What is suppressed, with the reason and its end beside the evidence, so that every format tells them."""
        for finding in findings:
            if (each := self._suppression(finding)) is not None:
                told = {"reason": each.reason, "expires": format_time(each.expires)}
                yield attrs.evolve(finding, evidence={**finding.evidence, "suppressed": told})

    @contextmanager
    def covering(self, source: str, unit: str, families: Iterable[str]) -> Iterator[None]:
        """Where a source can't be read any further, say so and go on with the others."""
        try:
            yield
        except (ServiceError, CorruptData) as error:
            self.report([found("A901", f"{source}:", reason=str(error))])
            self.ledger.add(unit, dict.fromkeys(families, State.NOT_EVALUATED))

    def as_report(self, source: Source, trail: Trail, elapsed_s: float) -> Report:
        """All of it, in order, with causes and what is suppressed told apart."""
        findings = in_order(explained(self.findings))
        words = left_out(
            self.options.depth,
            provider=source.provider is not None,
            vectors=source.vectors is not None,
            histories=source.histories is not None,
            logs=source.logs is not None,
            absent=source.absent,
            kinds=[kind.name for kind in source.kinds],
            limited=self.options.limited,
        )
        return Report(
            source=source.name,
            depth=self.options.depth,
            watermark=self.moment.now,
            findings=tuple(finding for finding in findings if not self.is_suppressed(finding)),
            suppressed=tuple(self._hidden(findings)),
            coverage=self.ledger.coverage(words),
            calls=dict(sorted(source.calls.counts.items())),
            elapsed_s=elapsed_s,
            fail_on=self.options.fail_on,
            journeys=journeys(findings, trail, proven=self.proven),
        )


def confirmed(first: Iterable[Finding], second: Iterable[Finding]) -> Iterator[Finding]:
    """What both readings found, as the second one says it."""
    before = {finding.identity for finding in first}
    return (finding for finding in second if finding.identity in before)
