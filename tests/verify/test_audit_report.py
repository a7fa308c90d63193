"""One list of findings feeds every format; verdicts, exit codes, scope, suppression, and what a person reads."""

from __future__ import annotations

import json
from datetime import timedelta
from xml.etree import ElementTree

import attrs
import pytest

from embedpipe.backends.memory.behaviour import GOOD
from embedpipe.lifecycle import Status
from embedpipe.model import Kind, Record
from embedpipe.wire import format_time
from tests.protocol.scenes import SERVER_ERROR
from tests.verify.auditing import audited, source_of
from tests.verify.mutators import MUTATORS
from tests.verify.page_reader import Read
from tests.verify.planting import Plant
from tests.verify.sarif_standard import sarif_errors
from tests.worlds import KIND, SmallWorld
from verify.audit.api import check
from verify.audit.catalogue import BRINGS, FAMILIES, RULES, chosen
from verify.audit.findings import Severity, WrongQuestion
from verify.audit.options import Suppression
from verify.audit.report import FindingsFound
from verify.audit.sources import Source
from verify.formats import html, jsonl, junit, sarif, text

FOUR_OF_THE_SEED = ("P203", "P204", "P201", "B701")


def damaged() -> Plant:
    plant = Plant()
    for code in FOUR_OF_THE_SEED:
        MUTATORS[code][0](plant)
    return plant


def test_the_formats_agree() -> None:
    report = audited(damaged().world, grace_s=-1)
    assert len(report.findings) > 3
    lines = [json.loads(line) for line in jsonl.render(report).splitlines()]
    head, *findings, coverage = lines
    assert [one["kind"] for one in lines] == ["audit", *["finding"] * len(report.findings), "coverage"]
    assert [one["code"] for one in findings] == [one.code for one in report.findings]
    assert [tuple(one["batch_ids"]) for one in findings] == [one.batch_ids for one in report.findings]
    assert (head["verdict"], head["exit_code"], head["counts"]) == ("findings", 1, dict(report.counts))
    assert [line["total"] for line in coverage["lines"]] == [line.total for line in report.coverage.lines]
    suites = ElementTree.fromstring(junit.render(report))
    failures = [failure.get("message") for failure in suites.iter("failure")]
    assert sorted(failures) == sorted(one.location for one in report.findings)
    assert sum(int(suite.get("tests", 0)) for suite in suites) == len(RULES)
    (run,) = json.loads(sarif.render_report(report))["runs"]
    assert [one["ruleId"] for one in run["results"]] == [one.code for one in report.findings]
    shown = text.render(report)
    assert shown.startswith("FINDINGS: ")
    assert [line.split()[0] for line in shown.splitlines() if line[:1].isalpha() and line[1:4].isdigit()] == [
        one.code for one in report.findings
    ]
    assert f"next: {report.next_command}" in shown
    page = Read(html.render(report))
    told = [(code, place, names) for code, place, names, _ in page.findings()]
    assert sorted(told) == sorted((one.code, one.location, one.batch_ids) for one in report.findings)
    assert page.texts[page.all("pre")[0]] == report.next_command


@pytest.mark.parametrize("code", ["B701", "O103", "R101", "D403", "S501"])
def test_a_cause_comes_before_what_it_implies(code: str) -> None:
    """Also where it is the lesser of the two."""
    plant = Plant()
    MUTATORS[code][0](plant)
    findings = audited(plant.world, grace_s=-1, provider=plant.provider).findings
    before: set[str] = set()
    for finding in findings:
        assert finding.caused_by is None or finding.caused_by in before, findings
        before.add(finding.code)
    assert findings[0].caused_by is None


def test_sarif_is_what_its_standard_asks_for() -> None:
    report = audited(damaged().world, grace_s=-1)
    report = attrs.evolve(report, suppressed=report.findings[:1])
    in_a_file = sarif.Result(
        code="X301", severity="critical", message="lost", file="a machine\\m.json", line=3, column=7
    )
    for document in (sarif.render_report(report), sarif.render({"X301": "lost"}, [in_a_file])):
        assert sarif_errors(json.loads(document)) == []
        assert json.loads(document)["$schema"] == sarif.SCHEMA_URI
    wrong = json.loads(sarif.render_report(report))
    wrong["runs"][0]["results"][0]["level"] = "critical"
    assert sarif_errors(wrong) != []


def test_junit_is_read_back() -> None:
    report = attrs.evolve(audited(damaged().world, grace_s=-1), fail_on=Severity.CRITICAL)
    root = ElementTree.fromstring(junit.render(report))
    for suite in root:
        assert int(suite.attrib["tests"]) == len(suite.findall("testcase"))
        assert int(suite.attrib["failures"]) == len(suite.findall("testcase/failure"))
        assert int(suite.attrib["skipped"]) == len(suite.findall("testcase/skipped"))
    texts = [(case.attrib["name"][:4], one.text or "") for case in root.iter("testcase") for one in case]
    read = [(code, json.loads(line)) for code, text in texts for line in text.splitlines()]
    kinds = Severity.CRITICAL, Severity.NOT_EVALUATED
    assert len(root.findall(".//system-out")) == len({f.code for f in report.findings if f.severity not in kinds})
    assert sorted((code, one["location"], tuple(one["batch_ids"])) for code, one in read) == sorted(
        (f.code, f.location, f.batch_ids) for f in report.findings
    )


def test_text_from_the_data_stays_on_its_line() -> None:
    plant = Plant()
    row = plant.some(Status.PENDING)
    plant.put_json(
        plant.result_key(row), {"batch_id": "\x1b[2J\nB701 critical: \u202e</failure>\x00", "action": "wait"}
    )
    report = audited(plant.world)
    assert [finding.code for finding in report.findings] == ["P203"]
    assert "\x1b" not in text.render(report)
    assert not any(line.startswith("B701") for line in text.render(report).splitlines())
    assert ElementTree.fromstring(junit.render(report)).find(".//failure") is not None


def test_a_report_raises_at_a_threshold() -> None:
    report = audited(damaged().world, grace_s=-1)
    with pytest.raises(FindingsFound, match="P204"):
        report.raise_for_findings(at_least="critical")
    audited(Plant().world).raise_for_findings(at_least="info")
    with pytest.raises(WrongQuestion, match="severity"):
        report.raise_for_findings(at_least="dreadful")


def test_a_record_that_was_given_up_is_told_and_fails_nothing() -> None:
    world = SmallWorld(lambda *_: attrs.evolve(GOOD, running=(), fates={"r1": SERVER_ERROR}))
    world.pipeline().run([Record(id=f"r{number}", text="x") for number in range(3)])
    report = audited(world)
    (finding,) = report.findings
    assert (finding.code, finding.severity) == ("R105", Severity.INFO)
    assert (finding.evidence["ids"], finding.evidence["tries"]) == (["r1"], 3)
    assert (report.verdict, report.exit_code) == ("clean", 0)
    assert audited(world, fail_on="info").exit_code == 1


def test_the_ledger_adds_up_at_each_depth() -> None:
    for depth in ("metadata", "content", "vectors"):
        report = audited(damaged().world, depth=depth, grace_s=-1)
        units = {line.unit: line.total for line in report.coverage.lines}
        assert units["batches"] == 10
        assert all(line.total == units[line.unit] for line in report.coverage.lines)
        states = ("checked", "in_flight", "not_evaluated", "out_of_scope", "suppressed")
        assert all(line.total == sum(getattr(line, state) for state in states) for line in report.coverage.lines)


@pytest.mark.parametrize("code", ["V601", "V604"])
def test_what_the_vectors_show_the_ids_show_too(code: str) -> None:
    for mutator in MUTATORS[code]:
        plant = Plant()
        mutator(plant)
        findings = audited(plant.world, depth="content").findings
        assert {finding.code for finding in findings} == {"S504"}


def test_metadata_depth_finds_what_keys_and_rows_show() -> None:
    for code in ("P201", "P206", "B702", "B703", "B704", "B705", "S501", "S503", "R102"):
        plant = Plant()
        MUTATORS[code][0](plant)
        assert code in {one.code for one in audited(plant.world, depth="metadata", grace_s=-1).findings}, code


# --- what is asked -------------------------------------------------------------------------------------------------


def test_codes_are_selected_and_ignored_by_their_beginning() -> None:
    plant = damaged()
    codes = {finding.code for finding in audited(plant.world, grace_s=-1).findings}
    assert {finding.code for finding in audited(plant.world, grace_s=-1, select=["P20"]).findings} == {
        code for code in codes if code.startswith("P20")
    }
    kept = {finding.code for finding in audited(plant.world, grace_s=-1, ignore=["P", "b701"]).findings}
    assert kept == {code for code in codes if not code.startswith("P") and code != "B701"}
    with pytest.raises(WrongQuestion, match="B701"):
        chosen(["B7011"], [])


def test_an_audit_of_one_execution_leaves_the_others_out_of_scope() -> None:
    plant = Plant()
    execution = plant.executions()[0]
    report = audited(plant.world, executions=[execution])
    (line,) = [line for line in report.coverage.lines if (line.family, line.unit) == ("P", "executions")]
    assert (line.checked, line.out_of_scope) == (1, line.total - 1)
    assert report.verdict == "clean"
    assert report.coverage.complete


def test_since_is_an_age_or_a_time() -> None:
    world = Plant().world
    later = audited(world, since=world.clock.now() + timedelta(seconds=1)).coverage.lines
    (line,) = [line for line in later if (line.family, line.unit) == ("P", "executions")]
    assert line.out_of_scope == line.total
    for since in ("7d", "2020-01-01T00:00:00Z"):
        assert audited(world, since=since).coverage.lines == audited(world).coverage.lines
    with pytest.raises(WrongQuestion, match="neither a time nor an age"):
        audited(world, since="yesterday")


def test_a_kind_is_audited_alone() -> None:
    plant = Plant()
    source = Source.over("m", objects=plant.world.objects, table=plant.world.table, clock=plant.world.clock)
    one = check(attrs.evolve(source, kinds=(KIND,)))
    assert (one.verdict, one.coverage.lines) == ("clean", check(source).coverage.lines)
    assert f"other kinds than {KIND.name} were left out (--kind)" in one.coverage.not_looked_at
    report = check(attrs.evolve(source, kinds=(Kind("articles"),)))
    assert (report.verdict, [finding.code for finding in report.findings]) == ("incomplete", ["A901"])
    assert all(line.checked == 0 for line in report.coverage.lines if line.unit == "batches")


def test_what_is_out_of_scope_is_said() -> None:
    plant = Plant()
    report = check(source_of(plant.world, provider=plant.provider), scope=["objects", "table"], depth="vectors")
    assert report.verdict == "clean"
    assert {line.family for line in report.coverage.lines if line.out_of_scope} >= {"O", "V", "X", "L"}
    assert "the vector store was not read" in report.coverage.not_looked_at
    with pytest.raises(WrongQuestion, match="no source 'moon'"):
        check(source_of(plant.world), scope=["moon"])


def test_a_suppression_holds_for_one_object_until_it_expires() -> None:
    plant = Plant()
    (batch_id,) = MUTATORS["P201"][2](plant)
    until = plant.world.clock.now() + timedelta(hours=1)
    known = Suppression(object=batch_id, reason="being restored", expires=until)
    report = audited(plant.world, suppressions=[known])
    assert (report.verdict, [finding.code for finding in report.suppressed]) == ("clean", ["P201"])
    assert [line.family for line in report.coverage.lines if line.suppressed] == ["P"]
    told = {"reason": "being restored", "expires": format_time(until)}
    assert [finding.evidence["suppressed"] for finding in report.suppressed] == [told]
    assert "being restored" in html.render(report)
    assert "being restored" in sarif.render_report(report)
    over = attrs.evolve(known, expires=plant.world.clock.now())
    assert audited(plant.world, suppressions=[over]).verdict == "findings"
    other = attrs.evolve(known, object="another")
    assert audited(plant.world, suppressions=[other]).verdict == "findings"


# --- the registry --------------------------------------------------------------------------------------------------


def test_the_registry_is_whole() -> None:
    assert {rule.family for rule in RULES.values()} == set(FAMILIES)
    assert {code for brings in BRINGS.values() for code in brings.implies | brings.masks} <= set(RULES)
    assert set(BRINGS) <= set(RULES)
    for rule in RULES.values():
        assert all((rule.title, rule.meaning, rule.harm, rule.evidence, rule.fix, rule.reproduce)), rule.code
        assert rule.meaning.endswith("."), rule.code
        assert rule.harm.endswith("."), rule.code


def test_every_code_of_a_local_root_is_planted_by_a_test() -> None:
    without_a_source = {code for code in RULES if code[0] in "XL"}
    by_hand = {"A901", "A902", "R105"}
    assert set(MUTATORS) == set(RULES) - without_a_source - by_hand


def test_an_execution_whose_listing_is_gone_is_not_called_whole() -> None:
    """Its results may lack a batch, and nobody could say so."""
    plant = Plant()
    execution = plant.some_execution()
    results = plant.json(plant.layout.poll_results_key(execution))
    plant.put_json(plant.layout.poll_results_key(execution), results[1:])
    for key in (plant.layout.manifest_key(execution), plant.layout.items_key(execution)):
        plant.objects.delete(key)
    report = audited(plant.world, grace_s=-1)
    assert report.exit_code != 0
    assert any(one.code == "A901" and execution in str(one) for one in report.findings)
