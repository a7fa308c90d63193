"""A report as text, JSON, SARIF or one offline HTML page: pure functions of reports, so that they agree."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import attrs

from embedpipe.cli.app import printable
from embedpipe.cli.output import json_text
from verify.flow.report import RULES, FlowReport, Link
from verify.formats import sarif

__all__ = ["RENDERERS", "document"]

Reports = Sequence[FlowReport]


def as_text(reports: Reports) -> str:
    """For a person: the answers, then the findings with their paths drawn."""
    return "\n".join(line for report in reports for line in _lines(report)) + "\n"


def _lines(report: FlowReport) -> Iterator[str]:
    yield f"{report.verdict.upper()}: {printable(report.title)}"
    for answer in report.answers:
        paths = f" ({answer.paths} paths)" if answer.paths > 1 else ""
        why = f": {answer.why}" if answer.why else ""
        yield printable(f"  {answer.field} in {answer.state}: {answer.status.value}{why}{paths}")
    for finding in report.findings:
        yield ""
        yield f"{finding.code} {finding.severity}: {RULES[finding.code][1]}"
        yield printable(f"    {report.file}:{finding.line}:{finding.column} {finding.message}")
        yield from (printable(line) for line in drawn(finding.path))
    if any(finding.code == "F607" for finding in report.findings):
        yield ""
        yield "next: say what handlers return with --contract FILE"


def drawn(path: Sequence[Link]) -> list[str]:
    """A path, one state a line.

    >>> drawn([Link(state="A", way="", known=""), Link(state="B", way="Default", known="there at $.x")])
    ['      A', '    → B  [Default]  there at $.x']
    """
    lines = []
    for at, link in enumerate(path):
        way = f"  [{link.way}]" if link.way else ""
        known = f"  {link.known}" if link.known else ""
        lines.append(f"    {'→' if at else ' '} {link.state}{way}{known}")
    return lines


def document(reports: Reports) -> list[dict[str, Any]]:
    """Plain values, for JSON."""
    made = []
    for report in reports:
        plain = attrs.asdict(report) | {"verdict": report.verdict}
        for finding in plain["findings"]:
            finding["severity"] = RULES[finding["code"]][0]
        made.append(plain)
    return made


def as_json(reports: Reports) -> str:
    """One object: the machines with answers and findings."""
    return json_text({"machines": document(reports)}) + "\n"


def as_sarif(reports: Reports) -> str:
    """For a code host: each finding at the line of its state."""
    results = [
        sarif.Result(
            code=finding.code,
            severity=finding.severity,
            message=finding.message,
            file=report.file,
            line=finding.line,
            column=finding.column,
        )
        for report in reports
        for finding in report.findings
    ]
    return sarif.render({code: meaning for code, (_, meaning) in RULES.items()}, results)


def as_html(reports: Reports) -> str:
    """One file that loads nothing."""
    from verify.flow.page import page

    return page(reports)


RENDERERS: Final[Mapping[str, Callable[[Reports], str]]] = {
    "text": as_text,
    "json": as_json,
    "sarif": as_sarif,
    "html": as_html,
}
"""Format -> function from reports to text."""
