"""Which finding explains which, by the reviewed table: the first of a chain is what to look at. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import attrs

from verify.audit.catalogue import RULES, brings
from verify.audit.findings import Finding

__all__ = ["explained"]


def explained(findings: Iterable[Finding]) -> list[Finding]:
    """The same, each with the code that implies it, where one is reported for one of its batches or its collection."""
    findings = list(findings)
    by_batch: dict[str, set[str]] = {}
    everywhere: set[str] = set()
    for finding in findings:
        for name in finding.batch_ids:
            by_batch.setdefault(name, set()).add(finding.code)
        if not finding.batch_ids:  # of a collection, and so of all its batches
            everywhere.add(finding.code)
    return [_explained(finding, by_batch, everywhere) for finding in findings]


def _explains(code: str, other: str) -> bool:
    """Whether it implies the other; where each implies the other, the first in the registry does."""
    if other not in brings(code).implies:
        return False
    order = list(RULES)
    return code not in brings(other).implies or order.index(code) < order.index(other)


def _explained(finding: Finding, by_batch: Mapping[str, set[str]], everywhere: set[str]) -> Finding:
    if finding.caused_by is not None:
        return finding
    beside = {code for name in finding.batch_ids for code in by_batch[name]} | everywhere
    causes = [code for code in RULES if code in beside and _explains(code, finding.code)]
    return attrs.evolve(finding, caused_by=causes[0]) if causes else finding
