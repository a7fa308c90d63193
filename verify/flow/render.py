"""A report as text, JSON, SARIF or one offline HTML page: pure functions of reports, so that they agree."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
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
    yield f"{report.verdict.upper()}: {printable(_title(report))}"
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


def _title(report: FlowReport) -> str:
    return f"{report.file}: {report.name}" if report.name else report.file


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
    """One file that loads nothing; everything from the definition is escaped."""
    body = "".join(_section(report) for report in reports)
    return _PAGE.replace("{body}", body)


def _section(report: FlowReport) -> str:
    rows = "".join(
        f"<tr><td>{escape(one.field)}<td>{escape(one.state)}"
        f'<td class="{one.status.value}">{one.status.value}<td>{escape(one.why)}<td>{one.paths}'
        for one in report.answers
    )
    findings = "".join(
        f'<article><h3><span class="{one.severity}">{one.code}</span> {escape(RULES[one.code][1])}</h3>'
        f"<p>{escape(one.message)} <small>line {one.line}</small></p>{_path(one.path)}</article>"
        for one in report.findings
    )
    table = f"<table><tr><th>field<th>state<th>it is<th>because<th>paths{rows}</table>" if rows else ""
    return f"<h2>{escape(_title(report))}: {report.verdict}</h2>{table}{findings}"


def _path(path: Sequence[Link]) -> str:
    steps = "".join(
        f"<li>{escape(link.state)}{f' <i>{escape(link.way)}</i>' if link.way else ''}"
        f"{f' <small>{escape(link.known)}</small>' if link.known else ''}"
        for link in path
    )
    return f"<ol>{steps}</ol>" if steps else ""


_PAGE: Final = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Data flow</title>
<style>
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { max-width: 60rem; margin: auto; padding: 1rem; overflow-wrap: anywhere }
table { border-collapse: collapse; width: 100% } th, td { text-align: left; padding: .3rem .5rem; border-bottom: 1px solid }
ol { display: flex; flex-wrap: wrap; gap: .4rem; list-style: none; padding: 0 }
li { border: 1px solid; border-radius: .4rem; padding: .1rem .5rem } li + li::before { content: "→ " }
.missing, .null, .critical, .error { color: #d33; font-weight: bold } .there { color: #2a8a3a }
.unknown, .warning, .not_evaluated { color: #b57700 }
</style>
<h1>Data flow</h1>
{body}
</html>
"""

RENDERERS: Final[Mapping[str, Callable[[Reports], str]]] = {
    "text": as_text,
    "json": as_json,
    "sarif": as_sarif,
    "html": as_html,
}
"""Format -> function from reports to text."""
