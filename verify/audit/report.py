"""What an audit comes to: one list of findings and one ledger, which every format is rendered from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Final

import attrs

from embedpipe.errors import EXIT_FINDINGS, EXIT_INCOMPLETE, EXIT_OK, EmbedpipeError
from verify.audit.catalogue import RULES
from verify.audit.coverage import Coverage, State
from verify.audit.findings import SEVERITIES, Finding, Repair, Severity, at_least, severity_named
from verify.audit.journeys import Journey

__all__ = ["FindingsFound", "Report"]

_RANK: Final = {severity: at for at, severity in enumerate((*SEVERITIES, Severity.NOT_EVALUATED))}


class FindingsFound(EmbedpipeError):
    """An audit has findings at or above a threshold."""

    code = "findings"
    exit_code = EXIT_FINDINGS


@attrs.frozen(kw_only=True)
class Report:
    """One audit."""

    source: str
    depth: str
    watermark: datetime
    """When it began; ages count from it."""
    findings: tuple[Finding, ...]
    """Worst first, causes before what they imply."""
    coverage: Coverage
    suppressed: tuple[Finding, ...] = ()
    calls: Mapping[str, int] = attrs.field(factory=dict)
    """How often each kind of read was made."""
    elapsed_s: float = 0.0
    fail_on: Severity = Severity.WARNING
    repair_command: str = ""
    """What would plan repairs from the same audit; empty where nobody knows how it was asked for."""
    journeys: tuple[Journey, ...] = ()
    """Where each affected batch stands, for the first batches that the findings name."""

    @property
    def failing(self) -> tuple[Finding, ...]:
        """Findings at or above the threshold."""
        return tuple(finding for finding in self.findings if at_least(finding.severity, self.fail_on))

    @property
    def counts(self) -> Mapping[str, int]:
        """How many findings of each severity."""
        found = Counter(finding.severity for finding in self.findings)
        return {severity.value: found[severity] for severity in _RANK}

    @property
    def verdict(self) -> str:
        """`findings`, `incomplete` or `clean`."""
        if self.failing:
            return "findings"
        return "clean" if self.coverage.complete else "incomplete"

    @property
    def is_empty(self) -> bool:
        """Whether nothing in scope was there: clean, and no proof of anything."""
        looked_at = (State.CHECKED, State.IN_FLIGHT, State.NOT_EVALUATED, State.SUPPRESSED)
        return not self.findings and not any(map(self.coverage.count, looked_at))

    @property
    def exit_code(self) -> int:
        """What a command ends with."""
        return {"findings": EXIT_FINDINGS, "incomplete": EXIT_INCOMPLETE, "clean": EXIT_OK}[self.verdict]

    @property
    def next_command(self) -> str:
        """What to do now; empty where nothing is."""
        if self.repair_command and any(RULES[finding.code].repair is Repair.SAFE for finding in self.findings):
            return self.repair_command
        causes = [finding for finding in self.findings if finding.caused_by is None] or list(self.findings)
        if not causes:
            return ""
        return f"embedpipe verify explain {causes[0].code}"

    def raise_for_findings(self, at_least: str = "warning") -> None:
        """`FindingsFound` where there is one at or above that severity."""
        threshold = severity_named(at_least)
        bad = attrs.evolve(self, fail_on=threshold).failing
        if bad:
            codes = ", ".join(f"{count} x {code}" for code, count in Counter(f.code for f in bad).most_common(5))
            raise FindingsFound(
                f"{len(bad)} findings at or above {threshold}: {codes}.",
                hint=f"See: embedpipe verify explain {bad[0].code}",
                findings=len(bad),
            )


def in_order(findings: list[Finding]) -> tuple[Finding, ...]:
    """Worst first, causes before what they imply, then by code and place. A cause is as bad as the worst that it implies."""
    implied: dict[tuple[str, str], int] = {}
    for finding in findings:
        if finding.caused_by is not None:
            for name in (*finding.batch_ids, ""):
                key = (finding.caused_by, name)
                implied[key] = min(implied.get(key, len(_RANK)), _RANK[finding.severity])

    def rank(finding: Finding) -> int:
        own = _RANK[finding.severity]
        return min([own, *(implied.get((finding.code, name), own) for name in finding.batch_ids or ("",))])

    return tuple(sorted(findings, key=lambda f: (rank(f), f.caused_by is not None, f.code, f.location, f.batch_ids)))
