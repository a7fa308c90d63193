"""Audits of what a pipeline left behind, and contract suites, strategies and invariants for other people's tests.

    report = verify.check(verify.root(".embedpipe"), depth="content")
    report.raise_for_findings(at_least="error")

Importing it needs neither pytest nor hypothesis; `verify.contracts` and `verify.strategies` do.
"""

from __future__ import annotations

from verify.audit.api import aws, check, estimate, root
from verify.audit.estimate import Estimate
from verify.audit.findings import Finding, Severity
from verify.audit.report import FindingsFound, Report
from verify.audit.sources import Source

__all__ = ["Estimate", "Finding", "FindingsFound", "Report", "Severity", "Source", "aws", "check", "estimate", "root"]
