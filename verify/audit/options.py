"""What is asked of an audit, and how it tells how far it is."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import attrs

from verify.audit.catalogue import RULES
from verify.audit.checks import Depth
from verify.audit.estimate import Estimate
from verify.audit.findings import Finding, Severity

__all__ = ["Options", "Progress", "Suppression"]


@attrs.frozen(kw_only=True)
class Progress:
    """How far an audit is."""

    stage: str
    done: int
    total: int | None = None
    """Where that is known."""


@attrs.frozen(kw_only=True)
class Suppression:
    """A finding that somebody has decided to live with, for a while."""

    object: str
    """A location, or a `batch_id`."""
    reason: str
    expires: datetime
    code: str = ""
    """Empty: any."""

    def covers(self, finding: Finding, now: datetime) -> bool:
        """Whether it is about this finding, and still holds."""
        named = self.object == finding.location or self.object in finding.batch_ids
        return named and self.code in ("", finding.code) and now < self.expires


@attrs.frozen(kw_only=True)
class Options:
    """What is asked of an audit."""

    depth: Depth = Depth.CONTENT
    grace_s: float = 3_600.0
    codes: frozenset[str] = frozenset(RULES)
    fail_on: Severity = Severity.WARNING
    since: datetime | None = None
    """Only executions that began then or later, and the batches that they listed or that were submitted since."""
    executions: frozenset[str] = frozenset()
    """Only these, and the batches that they listed; empty: all."""
    suppressions: tuple[Suppression, ...] = ()
    on_progress: Callable[[Progress], None] = lambda _: None
    state: Path | None = None
    """Where an audit that is interrupted keeps what it has checked, and goes on; None: nowhere."""
    on_estimate: Callable[[Estimate], None] | None = None
    """Told what the audit will call, before it reads batch by batch; None: that is not worked out."""

    @property
    def limited(self) -> bool:
        """Whether something is left out on purpose."""
        return bool(self.executions) or self.since is not None
