"""Auditing a world on memory backends, at any moment of its life."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any, Final

from embedpipe.backends.files import FilesBlobStore
from embedpipe.model import Blob
from tests.worlds import SmallWorld
from verify.audit.api import check
from verify.audit.findings import Finding, Severity, at_least
from verify.audit.report import Report
from verify.audit.sources import Source

THOROUGH: Final = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"
"""Whether there is time for thousands of audits."""


def source_of(world: SmallWorld, **changes: Any) -> Source:
    """Its stores, for reading. The provider only where it is named: it may be scripted to do what is a finding."""
    ports = {"objects": world.objects, "table": world.table, "vectors": world.vectors}
    return Source.over("memory", clock=world.clock, policy=world.config.policy, **{**ports, **changes})


def audited(world: SmallWorld, **options: Any) -> Report:
    """One audit; at the closest look unless `depth` says otherwise."""
    provider = options.pop("provider", None)
    return check(source_of(world, provider=provider), **{"depth": "vectors", **options})


def alarms(world: SmallWorld, **options: Any) -> list[Finding]:
    """Findings that a person would be woken for."""
    return [finding for finding in audited(world, **options).findings if at_least(finding.severity, Severity.WARNING)]


class CtrlC(FilesBlobStore):
    """Objects, during the `nth` read of which somebody presses Ctrl-C."""

    nth = 0
    number = signal.SIGINT

    def __init__(self, root: Path) -> None:
        super().__init__(root)

    def get(self, key: str) -> Blob:
        CtrlC.nth -= 1
        if CtrlC.nth == 0:
            signal.raise_signal(CtrlC.number)
        return super().get(key)
