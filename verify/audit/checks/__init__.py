"""What every check is given and may say. A check is a pure function over one joined value."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from enum import StrEnum

import attrs

from embedpipe.errors import CorruptData
from embedpipe.layout import SEED, Layout
from embedpipe.wire import parse_time
from verify.audit.catalogue import RULES
from verify.audit.findings import Finding
from verify.audit.objects import Unreadable, Why
from verify.audit.rows import Batch

__all__ = ["BatchCheck", "Depth", "Moment", "found", "not_covered"]


class Depth(StrEnum):
    """How closely an audit looks."""

    METADATA = "metadata"
    CONTENT = "content"
    VECTORS = "vectors"

    @property
    def reads_content(self) -> bool:
        """Whether objects are parsed and hashed."""
        return self is not Depth.METADATA


@attrs.frozen(kw_only=True)
class Moment:
    """When and how an audit looks."""

    now: datetime
    """The watermark: ages count from it."""
    grace_s: float
    """What is younger may still be on its way."""
    depth: Depth = Depth.CONTENT
    layout: Layout = SEED

    def age_s(self, when: datetime | str | None) -> float | None:
        """How long ago, in seconds; None where nobody knows."""
        if isinstance(when, str):
            try:
                when = parse_time(when)
            except CorruptData:
                return None
        return None if when is None else (self.now - when.astimezone(UTC)).total_seconds()

    def is_old(self, when: datetime | str | None) -> bool:
        """Whether it is past the grace period. A time that nobody knows is not."""
        age_s = self.age_s(when)
        return age_s is not None and age_s > self.grace_s


BatchCheck = Callable[[Batch, Moment], Iterator[Finding]]


def found(code: str, location: str, *batch_ids: str, **evidence: object) -> Finding:
    """A finding with the severity of its rule. Evidence that is None is left out."""
    return Finding(
        code=code,
        severity=RULES[code].severity,
        location=location,
        evidence={name: value for name, value in evidence.items() if value is not None},
        batch_ids=batch_ids,
    )


def not_covered(seen: Unreadable, *batch_ids: str) -> Finding:
    """What says that the audit could not look."""
    code = "A902" if seen.why is Why.NEWER else "A901"
    return found(code, f"objects:{seen.key}", *batch_ids, reason=seen.reason)
