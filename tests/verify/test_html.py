"""The page of a report: what it says, that it is legible, and that no text of the audited data becomes more than text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.verify.auditing import audited
from tests.verify.browser import Browser, opened, running
from tests.verify.mutators import MUTATORS
from tests.verify.page_reader import Read
from tests.verify.planting import Plant
from verify.audit.catalogue import FAMILIES, RULES
from verify.audit.coverage import Coverage, Line
from verify.audit.findings import Finding, Severity
from verify.audit.journeys import BREAKS, JOURNEYS_MAX, Stage, Standing
from verify.audit.report import Report, in_order
from verify.flow.reading import machines_of, read
from verify.flow.render import RENDERERS
from verify.flow.report import Question, analyse
from verify.formats import html
from verify.formats.page.findings import FINDINGS_SHOWN_MAX
from verify.formats.page.markup import VALUE_CHARS_MAX

EVIL = '</code></style></title><img src=x onerror="document.title=1"><script>document.title=2</script>\u202e\u2028\x00\x1b&amp;'


def same(text: str, value: object) -> bool:
    return text == value if isinstance(value, str) else bool(json.loads(text) == value)


# --- what it says --------------------------------------------------------------------------------------------------

texts = st.text(max_size=30) | st.sampled_from([EVIL, "a\u2028b", "\ud800", " ", "\r\n", "<!--", "&lt;"])
plain = st.none() | st.booleans() | st.integers(-9, 10**9) | texts
values = plain | st.lists(texts, max_size=5) | st.dictionaries(texts, plain, max_size=4)
findings = st.builds(
    lambda code, **rest: Finding(code=code, severity=RULES[code].severity, **rest),
    code=st.sampled_from(sorted(RULES)),
    location=texts,
    evidence=st.dictionaries(texts, values, max_size=4),
    batch_ids=st.lists(texts, max_size=4).map(tuple),
    caused_by=st.none() | st.sampled_from(sorted(RULES)),
)
reports = st.builds(
    lambda found, **rest: Report(findings=in_order(found), watermark=datetime(2026, 1, 31, tzinfo=UTC), **rest),
    found=st.lists(findings, max_size=6),
    suppressed=st.lists(findings, max_size=2).map(tuple),
    source=texts,
    depth=st.sampled_from(["metadata", "content", "vectors"]),
    coverage=st.just(Coverage(lines=(Line(family="B", unit="batches", total=2, checked=2),), not_looked_at=(EVIL,))),
    calls=st.dictionaries(texts, st.integers(0, 99), max_size=3),
)


@given(reports)
def test_every_finding_is_in_the_page_exactly_as_text(report: Report) -> None:
    page = Read(html.render(report))
    read = list(page.findings())
    # By family, as each first comes; within a family by code, as each first comes.
    order = [
        finding
        for found in (report.findings, report.suppressed)
        for family in dict.fromkeys(finding.family for finding in found)
        for code in dict.fromkeys(finding.code for finding in found if finding.family == family)
        for finding in found
        if finding.code == code
    ]
    assert [(code, place, names) for code, place, names, _ in read] == [
        (finding.code, finding.location, finding.batch_ids) for finding in order
    ]
    for (*_, sides), finding in zip(read, order, strict=True):
        assert sides.keys() == finding.evidence.keys()
        assert all(same(sides[name], value) for name, value in finding.evidence.items())
    counts = page.all("dl", "counts")[0]
    assert [int(page.texts[number]) for number in page.all("dd", within=counts)] == [
        sum(finding.severity is severity for finding in report.findings) for severity in Severity
    ]


@given(reports)
def test_the_page_can_be_written_and_holds_nothing_invisible(report: Report) -> None:
    page = html.render(report)
    page.encode()
    assert all(char.isprintable() or char == "\n" for char in page)
    assert page.count("<script>") == page.count("</script>") == page.count("<style>") == 1


def test_a_page_of_thousands_of_findings_stays_small_and_says_what_it_left_out() -> None:
    found = [
        Finding(
            code="P201",
            severity=Severity.ERROR,
            location=f"objects:{number}",
            batch_ids=tuple(f"b{other}" for other in range(60)),
            evidence={"message": "x" * 10_000},
        )
        for number in range(3_000)
    ]
    report = Report(
        source="s",
        depth="content",
        watermark=datetime(2026, 1, 31, tzinfo=UTC),
        findings=tuple(found),
        coverage=Coverage(lines=()),
    )
    page = html.render(report)
    assert len(page) < 1_000_000
    read = Read(page)
    assert len(list(read.findings())) == FINDINGS_SHOWN_MAX
    assert f"and {3_000 - FINDINGS_SHOWN_MAX:,} more findings of this family (P)" in page
    assert f"and {10_000 - VALUE_CHARS_MAX:,} more characters" in page
    assert "and 10 more batches" in page


# --- journeys ------------------------------------------------------------------------------------------------------

BROKE_AT = {
    "P201": Stage.POLLED,
    "P202": Stage.POLLED,
    "D401": Stage.NORMALISED,
    "D402": Stage.NORMALISED,
    "R101": Stage.NORMALISED,  # the record is missing in its delta already
    "R103": Stage.MERGED,
    "B702": Stage.MARKED,
    "R102": Stage.MARKED,
    "B704": Stage.SUBMITTED,
}


@pytest.mark.parametrize("code", BROKE_AT)
def test_a_journey_shows_where_it_broke(code: str) -> None:
    plant = Plant()
    wanted = MUTATORS[code][0](plant)
    report = audited(plant.world, grace_s=-1, provider=plant.provider)
    assert wanted
    drawn = {journey.batch_id: journey for journey in report.journeys}
    for name in wanted:
        journey = drawn[name]
        assert journey.broke_at is BROKE_AT[code], (name, journey)
        before = journey.steps[: list(Stage).index(BROKE_AT[code])]
        assert all(step.standing is Standing.PASSED for step in before) or not journey.status, journey
    page = Read(html.render(report))
    broken = {page.texts[number] for number in page.all("strong")}
    assert str(BROKE_AT[code]) in broken


def test_what_the_audit_could_not_see_is_not_called_passed() -> None:
    plant = Plant()
    MUTATORS["B702"][0](plant)
    for depth, standing in (("metadata", Standing.UNKNOWN), ("vectors", Standing.PASSED)):
        report = audited(plant.world, depth=depth, grace_s=-1)
        (journey,) = report.journeys
        merged = next(step for step in journey.steps if step.stage is Stage.MERGED)
        assert merged.standing is standing, depth
    (journey,) = audited(plant.world, grace_s=-1, select=["B702"]).journeys
    assert next(step for step in journey.steps if step.stage is Stage.MERGED).standing is Standing.UNKNOWN


def test_every_code_that_breaks_something_has_its_stage() -> None:
    assert set(RULES) - set(BREAKS) == {"X304", "R105", "A901", "A902"}
    assert set(BREAKS) <= set(RULES)
    assert JOURNEYS_MAX < 1_000
    assert set(FAMILIES) == {code[0] for code in RULES}


# --- in a browser --------------------------------------------------------------------------------------------------

CONTRAST = """(() => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const parse = (colour) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = (colour) => {
    const [r, g, b] = colour.map((v) => v / 255).map((v) => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return [255, 255, 255, 255];
  };
  const bad = [];
  for (const element of document.body.querySelectorAll("*")) {
    const says = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!says || !element.checkVisibility() || element.matches("script")) continue;
    const [one, two] = [light(parse(getComputedStyle(element).color)), light(behind(element))].sort((a, b) => b - a);
    const ratio = (one + .05) / (two + .05);
    if (ratio < 4.5) bad.push([element.tagName, element.className, element.textContent.slice(0, 20), ratio]);
  }
  return bad;
})()"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with running(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with faults of several families, and with foreign text in every place."""
    plant = Plant()
    for code in ("P203", "P204", "P201", "B701", "R102"):
        MUTATORS[code][0](plant)
    report = audited(plant.world, grace_s=-1, provider=plant.provider)
    strange = Finding(
        code="P202",
        severity=Severity.ERROR,
        location=f"objects:{EVIL}",
        batch_ids=(EVIL,),
        evidence={EVIL: EVIL, "list": [EVIL, "x" * 3_000], "both": {EVIL: EVIL}},
    )
    others = [
        Finding(code=code, severity=RULES[code].severity, location=code, evidence={"one": 1, "other": 2})
        for code in ("P207", "A901", "S504")
    ]
    journeys = tuple(attrs.evolve(journey, batch_id=EVIL, status=EVIL) for journey in report.journeys[:1])
    report = attrs.evolve(
        report,
        source=EVIL,
        findings=in_order([*report.findings, strange, *others]),
        suppressed=(strange,),
        journeys=(*journeys, *report.journeys),
        calls={**report.calls, EVIL: 1},
    )
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(html.render(report), encoding="utf-8")
    return path


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_it_is_legible_on_a_phone_and_on_a_desktop(browser: Browser, page: Path, width: int, scheme: str) -> None:
    with opened(browser, page, width=width, scheme=scheme) as shown:
        assert shown.evaluate("innerWidth") == width
        assert shown.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        dark = shown.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(17, 21, 27)"
        assert dark == (scheme == "dark")
        assert shown.evaluate(CONTRAST) == []
        assert shown.told == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_of_a_data_flow_is_legible(browser: Browser, tmp_path: Path, width: int, scheme: str) -> None:
    corpus = Path(__file__).parents[1] / "corpus" / "asl"
    dull = [machine for name in ("null_without_chunks", "kept") for machine in read(corpus / f"{name}.json")]
    evil = {"StartAt": EVIL, "States": {EVIL: {"Type": "Pass", "Parameters": {}, "Next": "M" * 300}}}
    evil["States"]["M" * 300] = {"Type": "Succeed"}  # type: ignore[index]
    odd = machines_of(json.dumps(evil), file="odd.json")[0]
    reports = [analyse(machine) for machine in dull] + [analyse(odd, Question(state="M*", fields=(EVIL,)))]
    path = tmp_path / "flow.html"
    path.write_text(RENDERERS["html"](reports), encoding="utf-8")
    with opened(browser, path, width=width, scheme=scheme) as shown:
        assert shown.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        assert shown.evaluate(CONTRAST) == []
        assert shown.evaluate("document.querySelectorAll('img, iframe, script').length") == 0
        assert shown.evaluate("document.querySelectorAll('.code .name').length") == sum(
            len(r.findings) for r in reports
        )
        assert shown.told == []


def test_on_paper_it_is_dark_on_white_and_whole(browser: Browser, page: Path) -> None:
    with opened(browser, page, width=800, scheme="dark", media="print") as shown:
        assert shown.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert shown.evaluate(CONTRAST) == []
        assert shown.evaluate("[...document.querySelectorAll('.finding')].every((each) => each.checkVisibility())")
        assert not shown.evaluate("document.querySelector('nav').checkVisibility()")


def test_text_of_the_data_becomes_no_element_and_does_not_run(browser: Browser, page: Path) -> None:
    with opened(browser, page) as shown:
        assert shown.evaluate("document.querySelectorAll('img, iframe, object, svg script').length") == 0
        assert shown.evaluate("document.scripts.length") == 1
        assert shown.evaluate("document.title").startswith("Findings: ")
        assert shown.evaluate("document.querySelectorAll('.journey h3')[0].textContent").startswith("</code></style>")
        assert shown.evaluate("document.body.innerHTML.includes('\\u202e')") is False
        # Were there a way in, the policy would still hold it.
        shown.evaluate(
            "document.body.append(Object.assign(document.createElement('script'), {text: 'document.title=3'}))"
        )
        assert shown.evaluate("document.title").startswith("Findings: ")


def test_the_filter_hides_what_was_not_asked_for(browser: Browser, page: Path) -> None:
    count = "[...document.querySelectorAll('.finding')].filter((each) => each.checkVisibility()).length"
    with opened(browser, page) as shown:
        everything = shown.evaluate(count)
        shown.evaluate("box.focus(); box.value = 'p201'; box.dispatchEvent(new Event('input'))")
        assert 0 < shown.evaluate(count) < everything
        assert shown.evaluate("document.activeElement.id") == "filter"
        shown.evaluate("box.value = ''; box.dispatchEvent(new Event('input'))")
        assert shown.evaluate(count) == everything
        assert shown.told == []


def test_every_link_leads_somewhere_and_no_name_is_given_twice(browser: Browser, page: Path) -> None:
    with opened(browser, page) as shown:
        assert (
            shown.evaluate("[...document.querySelectorAll('a')].filter((a) => !document.querySelector(a.hash)).length")
            == 0
        )
        ids = shown.evaluate("[...document.querySelectorAll('[id]')].map((each) => each.id)")
        assert len(ids) == len(set(ids))
