"""The registry of findings: one reviewed table of what each code means, and one of which code masks or implies which.

`explain`, the documentation, every report and the checks read it; a code is never reused. Nothing here reads a store.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

import attrs

from verify.audit.catalogue.record_texts import RECORD_TEXTS
from verify.audit.catalogue.texts import TEXTS, Text
from verify.audit.findings import Repair, Severity, WrongQuestion

__all__ = ["BRINGS", "FAMILIES", "RULES", "Brings", "Rule", "chosen", "rule"]

FAMILIES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "O": "provider",
        "P": "poll results",
        "X": "execution history",
        "D": "deltas",
        "R": "records",
        "S": "snapshots",
        "V": "vectors",
        "B": "rows",
        "L": "logs",
        "A": "coverage",
    }
)
"""Letter of a code -> what it looks at."""


@attrs.frozen(kw_only=True)
class Rule:
    """One code."""

    code: str
    title: str
    severity: Severity
    repair: Repair
    fix: str
    """What mends it."""
    seen: bool
    """Whether it has happened in real deployments of this workflow."""
    meaning: str
    harm: str
    evidence: str
    reproduce: str

    @property
    def family(self) -> str:
        """The letter of its code."""
        return self.code[0]


def _in_order(texts: Mapping[str, Text]) -> list[tuple[str, Text]]:
    """By family as `FAMILIES` has them, then by number."""
    return sorted(texts.items(), key=lambda entry: (list(FAMILIES).index(entry[0][0]), entry[0]))


RULES: Final[Mapping[str, Rule]] = MappingProxyType(
    {
        code: Rule(
            code=code,
            title=text.title,
            severity=Severity(text.severity),
            repair=Repair(text.repair),
            fix=text.fix,
            seen=text.seen,
            meaning=text.meaning,
            harm=text.harm,
            evidence=text.evidence,
            reproduce=text.reproduce,
        )
        for code, text in _in_order({**TEXTS, **RECORD_TEXTS})
    }
)
"""Every code there is."""


@attrs.frozen(kw_only=True)
class Brings:
    """What one fault does to the other findings of the same batches."""

    implies: frozenset[str] = frozenset()
    """Codes that may be reported beside it, as its consequence."""
    masks: frozenset[str] = frozenset()
    """Codes that cannot be seen while it is there."""


def _brings(implies: str = "", masks: str = "") -> Brings:
    return Brings(implies=frozenset(implies.split()), masks=frozenset(masks.split()))


BRINGS: Final[Mapping[str, Brings]] = MappingProxyType(
    {
        "O101": _brings("", "O102 O103 O104 O105"),
        "O103": _brings("B701"),
        "O104": _brings("O105"),
        "P201": _brings("B701", "P202 P203 D401 D402 D403 R101 R102 R105"),
        "P202": _brings("B701", "P203 D401 D402 D403 R101 R102 R105"),
        "P203": _brings("B701 P204", "D401 D402 D403 R101 R102 R105"),
        "P204": _brings("", "P203"),
        "P205": _brings("", "P203 P204 D404"),
        "P206": _brings("P204"),
        "X301": _brings("X302 L801 O102"),
        "X302": _brings("L801 O102"),
        "X303": _brings("P204 X302 L801"),
        "D401": _brings("B701", "D402 D403 R101 R102 R105"),
        "D402": _brings("B701", "D403 R101 R102 R105"),
        "D403": _brings("R101 B701"),
        "D404": _brings("B701"),
        "R101": _brings("B701 D403"),
        "R102": _brings("R101 B701 O106"),
        "R103": _brings("B701"),
        "S501": _brings("", "S502 S503 S504 B701 O103 R101 R103 R104 V601 V602 V603 V604"),
        "S502": _brings("", "S504 B701 O103 R101 R103 R104 V601 V602 V603 V604"),
        "S503": _brings("B701 D404 S504 V604 R103"),
        "S504": _brings("V601 V604 B701"),
        "S505": _brings("", "S504 V601 V602 V603 V604"),
        "V601": _brings("S504", "V602 V603"),
        "V602": _brings("V601 S504"),
        "V604": _brings("S504"),
        "B703": _brings("P203 O102 O106"),
        "B702": _brings("B701 O106"),
        "O105": _brings("O104"),
        "O107": _brings("O102"),
        "B701": _brings("O103"),
        "B705": _brings("R101 O106", "B701 R101"),
    }
)
"""Code -> what it brings with it. Reviewed; the detection matrix reports nothing beyond it."""

_NOTHING: Final = Brings()


def brings(code: str) -> Brings:
    """The entry of a code, empty where it has none."""
    return BRINGS.get(code, _NOTHING)


def rule(code: str) -> Rule:
    """The rule of a code. `WrongQuestion` names the nearest where there is none."""
    found = RULES.get(code.upper())
    if found is None:
        near = difflib.get_close_matches(code.upper(), RULES, 1, 0.5)
        hint = f"Did you mean {near[0]}?" if near else "All codes: embedpipe verify explain --all"
        raise WrongQuestion(f"There is no finding {code[:40]!a}.", hint=hint)
    return found


def chosen(select: Iterable[str], ignore: Iterable[str]) -> frozenset[str]:
    """The codes that begin with one of `select` (none: all) and with none of `ignore`. `WrongQuestion` for one unknown.

    >>> sorted(chosen(["P20", "B701"], ["P207", "P206"]))
    ['B701', 'P201', 'P202', 'P203', 'P204', 'P205']
    """
    wanted = [code for start in select for code in _beginning(start)] or list(RULES)
    unwanted = {code for start in ignore for code in _beginning(start)}
    return frozenset(wanted) - unwanted


def _beginning(start: str) -> list[str]:
    found = [code for code in RULES if start and code.startswith(start.upper())]
    return found or [rule(start).code]
