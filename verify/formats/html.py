"""A report as one HTML file, for people who would rather look than read. It needs no network, and runs no text of the data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from importlib.resources import files
from typing import Final

from verify.audit.findings import SEVERITIES
from verify.audit.report import Report
from verify.formats.page import coverage, findings, journeys
from verify.formats.page.frame import framed
from verify.formats.page.markup import code, number, shown

__all__ = ["render"]

_VERDICTS: Final[Mapping[str, tuple[str, str]]] = {
    "clean": ("Clean", "Nothing is wrong, and everything in scope was checked"),
    "incomplete": ("Incomplete", "Nothing is wrong in what was checked, and not everything could be"),
    "findings": ("Findings", ""),
}
_EMPTY: Final = ("Empty", "Nothing in scope was there, so nothing was checked")


def render(report: Report) -> str:
    """The whole page."""
    style, script = (files("verify.formats.page").joinpath(name).read_text("utf-8") for name in ("page.css", "page.js"))
    body = (
        f'<a class="skip" href="#main">Skip to the report</a>\n{_head(report)}\n'
        f'<main id="main">\n{_body(report)}\n</main>\n{_foot(report)}'
    )
    return framed(body, title=f"{_words(report)[0]}: {report.source}", style=style, script=script)


# --- parts ---------------------------------------------------------------------------------------------------------


def _head(report: Report) -> str:
    word, sentence = _words(report)
    facts = (
        ("source", code(report.source)),
        ("depth", code(report.depth)),
        ("as of", f"<time>{report.watermark:%Y-%m-%d %H:%M:%S}Z</time>"),
        ("took", f"{report.elapsed_s:,.1f} s"),
        ("exit code", str(report.exit_code)),
    )
    told = "".join(f"<div><dt>{name}</dt><dd>{what}</dd></div>" for name, what in facts)
    return (
        f'<header class="{report.verdict}"><p class="made">embedpipe verify</p>'
        f'<p class="verdict">{word}</p><h1>{sentence or _found(report)}</h1>'
        f'{_counts(report)}<dl class="facts">{told}</dl>{_next(report.next_command)}{_places(report)}</header>'
    )


def _words(report: Report) -> tuple[str, str]:
    return _EMPTY if report.is_empty else _VERDICTS[report.verdict]


def _affected(report: Report) -> int:
    return len({name for finding in report.findings for name in finding.batch_ids})


def _found(report: Report) -> str:
    """What a person would say of it."""
    parts = [_kinds(severity.value, report.counts[severity]) for severity in SEVERITIES if report.counts[severity]]
    said = " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
    affected = _affected(report)
    return f"{said}, in {number(affected, 'batch')}" if affected else said


def _kinds(severity: str, count: int) -> str:
    nouns = {"critical": "critical finding", "info": "note"}
    return number(count, nouns.get(severity, severity))


def _counts(report: Report) -> str:
    each = "".join(
        f'<div class="{name if count else "zero"}"><dt>{name.replace("_", " ")}</dt><dd>{count:,}</dd></div>'
        for name, count in report.counts.items()
    )
    return f'<dl class="counts">{each}</dl>'


def _next(command: str) -> str:
    if not command:
        return ""
    return f'<section class="next" id="next"><h2>Next</h2><pre tabindex="0">{code(command)}</pre></section>'


def _places(report: Report) -> str:
    names = [
        ("coverage", "Coverage", True),
        ("journeys", "Journeys", bool(report.journeys)),
        ("findings", "Findings", bool(report.findings)),
        ("suppressed", "Suppressed", bool(report.suppressed)),
        ("calls", "Calls", True),
    ]
    links = "".join(f'<a href="#{name}">{title}</a>' for name, title, there in names if there)
    return f'<nav aria-label="Sections">{links}</nav>'


def _body(report: Report) -> str:
    found, hidden = report.findings, report.suppressed
    codes = ", ".join(f"{count:,} of {name}" for name, count in Counter(each.code for each in found).most_common(5))
    parts = (
        coverage.section(report.coverage),
        _filter() if found else "",
        journeys.section(report.journeys, _affected(report), findings.shown_codes(found)),
        findings.section(found, name="findings", title="Findings", told=f"Worst first, causes first: {codes}."),
        findings.section(
            hidden, name="suppressed", title="Suppressed", told="Somebody has decided to live with these for a while."
        ),
        _calls(report.calls),
    )
    return "\n".join(part for part in parts if part)


def _filter() -> str:
    return (
        '<div class="filter" hidden><label for="filter">Filter journeys and findings</label>'
        '<input id="filter" type="search" autocomplete="off" spellcheck="false" '
        'placeholder="a code, a batch, a key"><output id="told" for="filter"></output></div>'
    )


def _calls(calls: Mapping[str, int]) -> str:
    rows = "".join(f'<tr><th scope="row">{code(name)}</th><td>{count:,}</td></tr>' for name, count in calls.items())
    table = f'<table><thead><tr><th scope="col">read</th><th scope="col">times</th></tr></thead><tbody>{rows}</tbody></table>'
    return f'<section id="calls"><h2>Calls made</h2><p>The audit only reads.</p>{table if rows else ""}</section>'


def _foot(report: Report) -> str:
    return (
        f"<footer><p>All of it for machines: <code>--format jsonl=report.jsonl</code>. "
        f"A finding counts at severity {shown(report.fail_on.value)} or worse.</p></footer>"
    )
