"""A report as JSON lines: one object of kind `audit`, one of kind `finding` for each finding, one of kind `coverage`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs

from embedpipe.wire import encode, format_time
from verify.audit.catalogue import RULES
from verify.audit.findings import Finding
from verify.audit.report import Report

__all__ = ["document", "finding_object", "render"]


def render(report: Report) -> str:
    """One object a line."""
    return "".join(f"{encode(value).decode()}\n" for value in _objects(report))


def document(report: Report) -> dict[str, Any]:
    """The whole report as one object, for `--json`."""
    head, *findings, coverage = _objects(report)
    coverage.pop("kind")
    head.pop("kind")
    return {**head, "findings": findings, "coverage": coverage}


def finding_object(finding: Finding, *, suppressed: bool = False) -> dict[str, Any]:
    """One finding."""
    return {
        "kind": "finding",
        "code": finding.code,
        "severity": finding.severity.value,
        "title": RULES[finding.code].title,
        "repair": RULES[finding.code].repair.value,
        "location": finding.location,
        "batch_ids": list(finding.batch_ids),
        "caused_by": finding.caused_by,
        "evidence": dict(finding.evidence),
        "suppressed": suppressed,
    }


def _objects(report: Report) -> Iterator[dict[str, Any]]:
    yield {
        "kind": "audit",
        "source": report.source,
        "depth": report.depth,
        "watermark": format_time(report.watermark),
        "verdict": report.verdict,
        "exit_code": report.exit_code,
        "counts": dict(report.counts),
        "calls": dict(report.calls),
        "elapsed_s": round(report.elapsed_s, 3),
        "next_command": report.next_command,
    }
    yield from (finding_object(finding) for finding in report.findings)
    yield from (finding_object(finding, suppressed=True) for finding in report.suppressed)
    yield {
        "kind": "coverage",
        "complete": report.coverage.complete,
        "lines": [attrs.asdict(line) for line in report.coverage.lines],
        "not_looked_at": list(report.coverage.not_looked_at),
    }
