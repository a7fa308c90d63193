"""Findings as SARIF 2.1.0, for code hosts and editors: a state machine's with the line in its file, an audit's with the place.

It knows neither analysis: both hand it results.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import attrs

from embedpipe.wire import encode

if TYPE_CHECKING:
    from verify.audit.report import Report

__all__ = ["Result", "render", "render_report"]

LEVELS: Final[Mapping[str, str]] = {
    "critical": "error",
    "error": "error",
    "warning": "warning",
    "info": "note",
    "not_evaluated": "note",
}
"""Severity -> level of the format."""
SCHEMA_URI: Final = "https://json.schemastore.org/sarif-2.1.0.json"


@attrs.frozen(kw_only=True)
class Result:
    """One finding. It has a file with a line, or the name of an object."""

    code: str
    severity: str
    message: str
    file: str = ""
    line: int = 1
    column: int = 1
    place: str = ""
    suppressed: bool = False
    properties: Mapping[str, object] = attrs.field(factory=dict)


def render(rules: Mapping[str, str], results: Sequence[Result]) -> str:
    """The document; `rules` says what each code means."""
    used = {result.code for result in results}
    driver = {
        "name": "embedpipe verify",
        "rules": [{"id": code, "shortDescription": {"text": rules[code]}} for code in sorted(used)],
    }
    run = {"tool": {"driver": driver}, "results": [_result(result) for result in results]}
    return encode({"$schema": SCHEMA_URI, "version": "2.1.0", "runs": [run]}).decode() + "\n"


def render_report(report: Report) -> str:
    """The document of an audit."""
    from verify.audit.catalogue import RULES

    found = [(finding, False) for finding in report.findings] + [(finding, True) for finding in report.suppressed]
    results = [
        Result(
            code=finding.code,
            severity=finding.severity.value,
            message=f"{RULES[finding.code].title}: {finding.location}",
            place=finding.location,
            suppressed=suppressed,
            properties={
                "severity": finding.severity.value,
                "batch_ids": list(finding.batch_ids),
                "caused_by": finding.caused_by,
                "evidence": dict(finding.evidence),
            },
        )
        for finding, suppressed in found
    ]
    return render({code: rule.title for code, rule in RULES.items()}, results)


def _result(result: Result) -> dict[str, Any]:
    made: dict[str, Any] = {
        "ruleId": result.code,
        "level": LEVELS[result.severity],
        "message": {"text": result.message},
        "locations": [_location(result)],
    }
    if result.suppressed:
        made["suppressions"] = [{"kind": "external"}]
    if result.properties:
        made["properties"] = dict(result.properties)
    return made


def _location(result: Result) -> dict[str, Any]:
    if not result.file:
        return {"logicalLocations": [{"fullyQualifiedName": result.place}]}
    region = {"startLine": result.line, "startColumn": result.column}
    uri = quote(result.file.replace("\\", "/"))
    return {"physicalLocation": {"artifactLocation": {"uri": uri}, "region": region}}
