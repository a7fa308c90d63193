"""Findings by family and code: what the code means, then each finding with its evidence side by side."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from verify.audit.catalogue import FAMILIES, RULES, Rule
from verify.audit.explain import REPAIRS
from verify.audit.findings import Finding
from verify.formats.page.journeys import linked
from verify.formats.page.markup import code, more, number, shown, value

__all__ = ["chip", "section", "shown_codes"]

FINDINGS_SHOWN_MAX: Final = 100
"""[ours] Of one family; with the bounds of values and ids this bounds the page."""
BATCHES_SHOWN_MAX: Final = 50
VALUES_SHOWN_MAX: Final = 20


def section(findings: Sequence[Finding], *, name: str, title: str, told: str) -> str:
    """All families that have findings, the one with the worst first. `name`: the section's id."""
    if not findings:
        return ""
    main = name == "findings"
    here, mark = (shown_codes(findings), "") if main else (frozenset[str](), f"{name}-")
    families = _grouped((finding.family, finding) for finding in findings)
    body = "".join(_family(letter, found, here, mark) for letter, found in families)
    return f'<section id="{name}"><h2>{title}</h2><p>{told}</p>{body}</section>'


def shown_codes(findings: Iterable[Finding]) -> frozenset[str]:
    """Those that have a place on the page."""
    families = _grouped((finding.family, finding) for finding in findings)
    return frozenset(finding.code for _, found in families for finding in found[:FINDINGS_SHOWN_MAX])


def chip(severity: str) -> str:
    """The word of a severity, in its colour."""
    return f'<span class="chip {severity}">{severity.replace("_", " ")}</span>'


def _grouped(pairs: Iterable[tuple[str, Finding]]) -> list[tuple[str, list[Finding]]]:
    groups: dict[str, list[Finding]] = {}
    for key, finding in pairs:
        groups.setdefault(key, []).append(finding)
    return list(groups.items())


def _family(letter: str, findings: Sequence[Finding], here: frozenset[str], mark: str) -> str:
    groups = _grouped((finding.code, finding) for finding in findings[:FINDINGS_SHOWN_MAX])
    body = "".join(_code(RULES[name], found, here, mark) for name, found in groups)
    left = more(len(findings) - FINDINGS_SHOWN_MAX, f"findings of this family ({letter})")
    return (
        f'<section class="family"><h3>{FAMILIES[letter]} <span class="count">{number(len(findings), "finding")}</span>'
        f"</h3>{body}{left}</section>"
    )


def _code(rule: Rule, findings: Sequence[Finding], here: frozenset[str], mark: str) -> str:
    told = [("meaning", rule.meaning), ("harm", rule.harm), ("repair", f"{rule.fix} ({REPAIRS[rule.repair]})")]
    words = "".join(f"<div><dt>{name}</dt><dd>{shown(text)}</dd></div>" for name, text in told)
    body = "".join(_finding(finding, here) for finding in findings)
    return (
        f'<section class="code" id="{mark}{rule.code}"><h4><span class="name">{rule.code}</span> {shown(rule.title)} '
        f'{chip(rule.severity)}</h4><dl class="rule">{words}</dl><ul class="plain">{body}</ul></section>'
    )


def _finding(finding: Finding, here: frozenset[str]) -> str:
    why = f'<p class="because">because of {linked([finding.caused_by], here)}</p>' if finding.caused_by else ""
    sides = "".join(
        f"<div><dt>{shown(name)}</dt><dd>{value(seen)}</dd></div>"
        for name, seen in list(finding.evidence.items())[:VALUES_SHOWN_MAX]
    )
    left = more(len(finding.evidence) - VALUES_SHOWN_MAX, "values")
    batches = _batches(finding.batch_ids)
    return (
        f'<li class="finding" data-code="{finding.code}"><p class="place">{code(finding.location)}</p>{batches}{why}'
        f'<dl class="sides">{sides}</dl>{left}</li>'
    )


def _batches(batch_ids: Sequence[str]) -> str:
    if not batch_ids:
        return ""
    names = " ".join(f'<li class="batch">{code(name)}</li>' for name in batch_ids[:BATCHES_SHOWN_MAX])
    left = more(len(batch_ids) - BATCHES_SHOWN_MAX, "batches")
    return f'<ul class="batches" aria-label="batches">{names}</ul>{left}'
