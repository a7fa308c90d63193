"""What an audit says: findings, and the order of their severities. What each code means is in `catalogue`.

A finding carries both values that contradict each other, never only a sentence about them.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import attrs

from embedpipe.errors import MisuseError

__all__ = ["SEVERITIES", "Finding", "Repair", "Severity", "WrongQuestion", "at_least"]

Evidence = Mapping[str, object]
"""Names to plain JSON values: both sides of a contradiction."""

IDS_SHOWN_MAX: Final = 20
"""[ours] Record ids that one finding names; their number is always given."""


class WrongQuestion(MisuseError, ValueError):
    """An audit was asked for something that there is not: a code, a depth, a severity, a root. Nothing was read."""

    code = "wrong_question"


class Severity(StrEnum):
    """How bad it is. `not_evaluated` is no fault of the pipeline: something could not be looked at."""

    CRITICAL = "critical"
    ERROR = "error"
    WARNING = "warning"
    INFO = "info"
    NOT_EVALUATED = "not_evaluated"


SEVERITIES: Final = (Severity.CRITICAL, Severity.ERROR, Severity.WARNING, Severity.INFO)
"""Those that a threshold may name, worst first."""


class Repair(StrEnum):
    """Who mends it."""

    SAFE = "S"  # idempotent, conditional, reversible
    GUARDED = "G"  # proposed with its preconditions
    MANUAL = "M"  # a matter for a person
    NONE = "-"


@attrs.frozen(kw_only=True)
class Finding:
    """One thing that is wrong, or that could not be looked at."""

    code: str
    severity: Severity
    location: str
    """Source and key, or source and item: `objects:poll_results/b/result.json`."""
    evidence: Evidence = attrs.field(factory=dict)
    batch_ids: tuple[str, ...] = ()
    caused_by: str | None = None
    """Code of another finding that explains this one."""

    @property
    def family(self) -> str:
        """The letter of its code."""
        return self.code[0]

    @property
    def identity(self) -> tuple[str, str, tuple[str, ...]]:
        """What a second reading must find again."""
        return self.code, self.location, self.batch_ids


def at_least(severity: Severity, threshold: Severity) -> bool:
    """Whether it is as bad as the threshold, or worse. What was not evaluated never is.

    >>> at_least(Severity.CRITICAL, Severity.ERROR), at_least(Severity.INFO, Severity.WARNING)
    (True, False)
    """
    return severity in SEVERITIES and SEVERITIES.index(severity) <= SEVERITIES.index(threshold)


def severity_named(name: str) -> Severity:
    """The threshold of that name. `WrongQuestion`."""
    if name not in SEVERITIES:
        raise WrongQuestion(f"There is no severity {name!a}.", hint=f"Use {', '.join(SEVERITIES)}.")
    return Severity(name)


def shown_ids(ids: list[str]) -> dict[str, object]:
    """Record ids as evidence: the first few, and how many there are.

    >>> shown_ids(["b", "a"])
    {'ids': ['a', 'b'], 'count': 2}
    """
    return {"ids": sorted(ids)[:IDS_SHOWN_MAX], "count": len(ids)}
