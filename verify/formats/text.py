"""A report as text for a person: verdict, findings with both sides of each, ledger, and what to do next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from embedpipe.cli.app import printable
from verify.audit.catalogue import FAMILIES, RULES
from verify.audit.coverage import Coverage, State
from verify.audit.findings import Finding
from verify.audit.report import Report

__all__ = ["render"]

FINDINGS_SHOWN_MAX = 200
"""[ours] Of one report; the other formats have all."""
VALUE_CHARS_MAX = 300
BATCHES_SHOWN_MAX = 5

_VERDICTS: Mapping[str, str] = {
    "clean": "CLEAN: nothing is wrong, and everything in scope was checked.",
    "incomplete": "INCOMPLETE: nothing is wrong in what was checked, and not everything could be.",
    "findings": "FINDINGS",
}
_EMPTY = "EMPTY: nothing in scope was there, so nothing was checked."


def render(report: Report) -> str:
    """The whole report."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: Report) -> Iterator[str]:
    counts = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in report.counts.items() if count)
    verdict = _EMPTY if report.is_empty else _VERDICTS[report.verdict]
    yield f"{verdict}: {counts}" if report.verdict == "findings" else verdict
    yield f"source {printable(report.source)}, depth {report.depth}, as of {report.watermark:%Y-%m-%d %H:%M:%S}Z"
    if report.findings:
        yield ""
    for finding in report.findings[:FINDINGS_SHOWN_MAX]:
        yield from _finding(finding)
    if len(report.findings) > FINDINGS_SHOWN_MAX:
        yield f"and {len(report.findings) - FINDINGS_SHOWN_MAX} more; --format jsonl has all"
    yield ""
    yield from ledger_lines(report.coverage)
    if report.suppressed:
        yield f"suppressed: {len(report.suppressed)} findings"
    if report.next_command:
        yield ""
        yield f"next: {report.next_command}"


def _finding(finding: Finding) -> Iterator[str]:
    rule = RULES[finding.code]
    cause = f" (because of {finding.caused_by})" if finding.caused_by else ""
    yield f"{finding.code} {finding.severity.value}: {rule.title}{cause}"
    yield f"    {printable(finding.location)}"
    if finding.batch_ids:
        shown = ", ".join(finding.batch_ids[:BATCHES_SHOWN_MAX])
        more = len(finding.batch_ids) - BATCHES_SHOWN_MAX
        yield f"    batches: {printable(shown)}{f' and {more} more' if more > 0 else ''}"
    for name, value in finding.evidence.items():
        text = printable(str(value))
        yield f"    {name}: {text if len(text) <= VALUE_CHARS_MAX else text[: VALUE_CHARS_MAX - 1] + '…'}"


def ledger_lines(coverage: Coverage) -> Iterator[str]:
    """The coverage ledger as a table, its sum below."""
    columns = ["total", *(state.value for state in State)]
    head = ["coverage", *(name.replace("_", " ") for name in columns)]
    rows = [
        [f"{FAMILIES[line.family]} ({line.unit})", *(f"{getattr(line, name):,}" for name in columns)]
        for line in coverage.lines
    ]
    rows.append(["together", f"{coverage.total:,}", *(f"{coverage.count(state):,}" for state in State)])
    widths = [max(len(row[at]) for row in [head, *rows]) for at in range(len(head))]
    for row in [head, *rows]:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        yield "  ".join(cells)
    for text in coverage.not_looked_at:
        yield f"not looked at: {printable(text)}"
