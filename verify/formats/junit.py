"""A report as JUnit XML, for CI: a suite for each family, a case for each code, a failure for each finding that counts.

Findings below the threshold are a passed case's output. What could not be evaluated is a skipped case.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from xml.etree import ElementTree

from embedpipe.wire import encode
from verify.audit.catalogue import FAMILIES, RULES, Rule
from verify.audit.findings import Finding, Severity, at_least
from verify.audit.report import Report

__all__ = ["render"]


def render(report: Report) -> str:
    """The document."""
    suites = ElementTree.Element("testsuites", name="embedpipe verify", time=f"{report.elapsed_s:.3f}")
    by_code: dict[str, list[Finding]] = {}
    for finding in report.findings:
        by_code.setdefault(finding.code, []).append(finding)
    for letter, title in FAMILIES.items():
        rules = [rule for rule in RULES.values() if rule.family == letter]
        suite = ElementTree.SubElement(suites, "testsuite", name=f"{letter}: {title}", tests=str(len(rules)))
        for rule in rules:
            _case(suite, rule, by_code.get(rule.code, ()), report.fail_on)
        suite.set("failures", str(len(suite.findall("testcase/failure"))))
        suite.set("skipped", str(len(suite.findall("testcase/skipped"))))
    ElementTree.indent(suites)
    return ElementTree.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


def _case(suite: ElementTree.Element, rule: Rule, findings: Iterable[Finding], fail_on: Severity) -> None:
    case = ElementTree.SubElement(
        suite, "testcase", classname=f"verify.{rule.family}", name=f"{rule.code} {rule.title}"
    )
    passed = []
    for finding in findings:
        if finding.severity is Severity.NOT_EVALUATED:
            skipped = ElementTree.SubElement(case, "skipped", message=_xml(finding.location))
            skipped.text = _xml(_evidence(finding))
        elif at_least(finding.severity, fail_on):
            failure = ElementTree.SubElement(
                case, "failure", type=finding.severity.value, message=_xml(finding.location)
            )
            failure.text = _xml(_evidence(finding))
        else:
            passed.append(_evidence(finding))
    if passed:
        ElementTree.SubElement(case, "system-out").text = _xml("\n".join(passed))


def _evidence(finding: Finding) -> str:
    value = {
        "location": finding.location,
        "batch_ids": list(finding.batch_ids),
        "caused_by": finding.caused_by,
        "evidence": dict(finding.evidence),
    }
    return encode(value).decode()


_ALLOWED: Final = frozenset("\t\n\r")


def _xml(text: str) -> str:
    """Without the characters that XML 1.0 has no way to write.

    >>> _xml("a\\x00b")
    'a?b'
    """
    return "".join(char if char in _ALLOWED or _is_xml(ord(char)) else "?" for char in text)


def _is_xml(code: int) -> bool:
    return 0x20 <= code <= 0xD7FF or 0xE000 <= code <= 0xFFFD or code >= 0x10000
