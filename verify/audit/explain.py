"""What `explain` says of a code: as text, as JSON, and as the page of the documentation."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from typing import Any, Final

import attrs

from verify.audit.catalogue import FAMILIES, Rule, brings
from verify.audit.findings import Repair

__all__ = ["as_markdown", "as_object", "as_text"]

REPAIRS: Final = {
    Repair.SAFE: "safe: idempotent, conditional, reversible",
    Repair.GUARDED: "guarded: proposed with its preconditions",
    Repair.MANUAL: "a matter for a person",
    Repair.NONE: "nothing to repair",
}


def as_text(rule: Rule) -> str:
    """One code for a person.

    >>> from verify.audit.catalogue import rule
    >>> print(as_text(rule("B701")).splitlines()[0])
    B701 critical: COMPLETED without its proof
    """
    told = [("meaning", rule.meaning), ("harm", rule.harm), ("evidence", rule.evidence), ("repair", _repair(rule))]
    told += [("reproduce", rule.reproduce)]
    told += [("implies", ", ".join(sorted(brings(rule.code).implies)))] if brings(rule.code).implies else []
    told += [("hides", ", ".join(sorted(brings(rule.code).masks)))] if brings(rule.code).masks else []
    lines = [f"{rule.code} {rule.severity.value}: {rule.title}"]
    lines += ["It has happened in real deployments."] if rule.seen else []
    for name, text in told:
        lines += textwrap.wrap(text, 100, initial_indent=f"  {name:<10}", subsequent_indent=" " * 12)
    return "\n".join(lines) + "\n"


def _repair(rule: Rule) -> str:
    return f"{rule.fix} ({REPAIRS[rule.repair]})"


def as_object(rule: Rule) -> dict[str, Any]:
    """One code as JSON."""
    found = brings(rule.code)
    return {**attrs.asdict(rule), "implies": sorted(found.implies), "masks": sorted(found.masks)}


def as_markdown(rules: Iterable[Rule]) -> str:
    """All codes as a page, by family."""
    lines: list[str] = []
    family = ""
    for rule in rules:
        if rule.family != family:
            family = rule.family
            lines += [f"### {family}: {FAMILIES[family]}", ""]
        seen = " It has happened in real deployments." if rule.seen else ""
        lines += [
            f"**{rule.code}, {rule.severity.value.replace('_', ' ')}: {rule.title}.** {rule.meaning}{seen} "
            f"Harm: {rule.harm} Evidence: {rule.evidence}. Repair ({rule.repair.value}): {rule.fix} "
            f"To reproduce it: {rule.reproduce}",
            "",
        ]
    return "\n".join(lines).rstrip() + "\n"
