"""The reports as one offline HTML file, in the clothes of the auditor's; nothing of a definition is more than text in it."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from typing import Final

from verify.flow.report import RULES, Answer, Finding, FlowReport, Link, Status
from verify.formats.page.frame import framed
from verify.formats.page.markup import code, number, shown

__all__ = ["page"]

WORST_FIRST: Final = ("findings", "incomplete", "clean")
SAID: Final = {
    "clean": "Every path brings what was asked for",
    "incomplete": "Nothing is certainly wrong, and not every path could be decided",
    "findings": "Something is certainly wrong on a path",
}
CHIPS: Final = {Status.THERE: "good", Status.NULL: "critical", Status.MISSING: "critical", Status.UNKNOWN: "warning"}
"""What the field is -> a colour of the style."""


def page(reports: Sequence[FlowReport]) -> str:
    """All machines on one page, the worst verdict at its head."""
    style = "".join(
        files("verify").joinpath(name).read_text("utf-8") for name in ("formats/page/page.css", "flow/flow.css")
    )
    verdict = min((report.verdict for report in reports), key=WORST_FIRST.index)
    body = (
        f'<header class="{verdict}"><p class="made">embedpipe verify flow</p><p class="verdict">{verdict.title()}</p>'
        f"<h1>{SAID[verdict]}</h1><p>{number(len(reports), 'state machine')}, followed without being run.</p></header>\n"
        f"<main>{''.join(_machine(report) for report in reports)}</main>"
    )
    return framed(body, title=f"{verdict.title()}: data flow", style=style)


def _machine(report: FlowReport) -> str:
    answers = "".join(_answer(answer) for answer in report.answers)
    found = "".join(_finding(finding) for finding in report.findings)
    listed = f'<ul class="answers">{answers}</ul>' if answers else ""
    return f"<section><h2>{shown(report.title)}: {report.verdict}</h2>{listed}{found}</section>\n"


def _answer(answer: Answer) -> str:
    why = f"<p>{shown(answer.why)}</p>" if answer.why else ""
    return (
        f'<li><span class="chip {CHIPS[answer.status]}">{answer.status.value}</span> {code(answer.field)} in '
        f"{code(answer.state)} <small>{number(answer.paths, 'path')}</small>{why}</li>"
    )


def _finding(finding: Finding) -> str:
    severity, meaning = RULES[finding.code]
    return (
        f'<section class="code"><h4><span class="name">{finding.code}</span> {shown(meaning)} '
        f'<span class="chip {severity}">{severity.replace("_", " ")}</span></h4>'
        f'<p>{shown(finding.message)} <span class="more">line {finding.line:,}</span></p>{_path(finding.path)}</section>'
    )


def _path(path: Sequence[Link]) -> str:
    """The chain of states, and what is known of the field before each."""
    steps = "".join(
        f"<li>{code(link.state)}{f'<span>{shown(link.way)}</span>' if link.way else ''}"
        f"{f'<small>{shown(link.known)}</small>' if link.known else ''}</li>"
        for link in path
    )
    return f'<ol class="path">{steps}</ol>' if steps else ""
