"""The page of a trace: what it shows, that it asks nothing of a network, and that no text of a run becomes more than text."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Final

import attrs
import pytest

from simulator.effects import Happened
from simulator.runs import Outcome, Verdict, run
from simulator.scenarios import SCENARIOS
from simulator.trace_page import render
from simulator.trace_page.chain import chain_of
from simulator.trace_page.marks import MEANING, marks_of
from tests.verify.browser import Browser, Page, opened, running

EVIL = '</title></style><img src=x onerror="document.title=1"><script>document.title=2</script>\u202e\x00'
BOX: Final = "document.querySelector(%s).getBoundingClientRect().toJSON()"
MIDDLE: Final = "name => (box => (box.top + box.bottom) / 2)(name.getBoundingClientRect())"
SPAN: Final = "text => (box => [box.left, box.right])(text.getBoundingClientRect())"
LOOKS: Final = """[...document.querySelectorAll('%s > [class]')].map(shape =>
    (style => `${shape.tagName} ${style.fill} ${style.stroke}`.replaceAll(', ', ','))(getComputedStyle(shape)))"""
SEEN: Final = """(sought => (box => sought.contains(document.elementFromPoint(
    (box.left + box.right) / 2, (box.top + box.bottom) / 2)))(sought.getBoundingClientRect()))(document.querySelector(%s))"""
"""Whether the middle of it is in view, under nothing else."""


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    held = run(SCENARIOS["overlap"], 7, "storm")
    batch = next(line.on for line in held.trace if line.effect == "table.update")
    return attrs.evolve(held, verdict=Verdict.SAFETY, broken=(f"G3: the row of {batch} was changed after its end",))


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with running(tmp_path_factory.mktemp("profile")) as found:
        yield found


@contextmanager
def shown(browser: Browser, outcome: Outcome, folder: Path, width: int = 1280, scheme: str = "light") -> Iterator[Page]:
    """The page of a run."""
    path = folder / "trace.html"
    path.write_text(render(outcome, scenario="overlap"), encoding="utf-8")
    with opened(browser, path, width=width, scheme=scheme) as page:
        yield page


def test_what_led_to_it_is_about_what_is_broken_and_each_fault(outcome: Outcome) -> None:
    (broken,) = outcome.broken
    chain = [outcome.trace[at] for at in chain_of(outcome.trace, outcome.broken)]
    assert {line.fault for line in chain} >= {
        str(strike.fault) for strike in outcome.strikes if strike.fault != "abort"
    }
    struck = {line.actor for line in chain if line.fault}
    batch = broken.split()[4]
    about = [line for line in chain if batch in line.on]
    assert about
    assert all(line.fault or line.actor in struck for line in chain if line not in about)
    assert any(line.actor in struck and not line.fault for line in chain)
    assert chain_of(outcome.trace, ()) == []


def test_no_text_of_a_run_is_more_than_text(browser: Browser, outcome: Outcome, tmp_path: Path) -> None:
    line = Happened(5, EVIL, f"{EVIL}.{EVIL}", 1, EVIL, EVIL, EVIL)
    evil = attrs.evolve(outcome, trace=[line], broken=(EVIL,))
    page = render(evil, scenario=EVIL)
    assert "<img" not in page
    assert "<script" not in page
    assert page.count("</style>") == page.count("</head>") == 1
    assert "\u202e" not in page
    with shown(browser, evil, tmp_path) as opened_page:
        assert opened_page.told == []
        assert opened_page.evaluate("document.title") == f"safety: seed {outcome.seed}"
        inside = "[...document.querySelectorAll('.lanes > *, svg.actors > a *')].map(part => part.localName)"
        assert opened_page.evaluate(inside) == ["ul", "svg", "ul", "svg", "title", "rect"]


def test_the_first_events_are_left_out_of_a_long_trace(outcome: Outcome, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simulator.trace_page.EVENTS_MAX", 100)
    page = render(outcome, scenario="overlap")
    left_out = len(outcome.trace) - 100
    assert f"The first {left_out} events are left out." in page
    assert f'<th scope="row">{chain_of(outcome.trace, outcome.broken)[0] + 1}</th>' in page
    names = set(re.findall(r' id="([^"]+)"', page))
    assert {f"m{left_out + 1}", f"e{left_out + 1}", f"m{len(outcome.trace)}"} <= names
    assert f"m{left_out}" not in names
    assert set(re.findall(r' href="#([^"]+)"', page)) <= names


def test_all_of_a_long_line_is_there_behind_its_beginning(outcome: Outcome) -> None:
    line = "G3: " + ", ".join(f"r{at}" for at in range(400))
    page = render(attrs.evolve(outcome, broken=("G4: short", line)), scenario="overlap")
    assert "<li>G4: short</li>" in page
    (first, rest) = re.findall(r"<summary>(.*) …</summary><p>(.*)</p></details>", page)[0]
    assert first + rest == line
    assert 100 <= len(first) <= 200


def test_without_anything_broken_nothing_leads_to_it(outcome: Outcome) -> None:
    page = render(attrs.evolve(outcome, verdict=Verdict.HELD, broken=()), scenario="overlap")
    assert ['id="chain"' in page, 'href="#chain"' in page, "led to what is broken" in page] == [False] * 3
    assert ['id="lanes"' in page, 'href="#events"' in page] == [True] * 2


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 760, 1280])
def test_a_browser_shows_it_without_a_word(
    browser: Browser, outcome: Outcome, tmp_path: Path, width: int, scheme: str
) -> None:
    with shown(browser, outcome, tmp_path, width, scheme) as page:
        assert page.told == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate("document.querySelectorAll('.actors a > .fault').length") == sum(
            bool(line.fault) for line in outcome.trace
        )
        lanes = page.evaluate("[...document.querySelectorAll('.names.actors li')].map(name => name.textContent)")
        assert {"submit-0", "ingest-0"} <= set(lanes)
        assert page.evaluate("getComputedStyle(document.querySelector('.verdict')).color") != "rgb(0, 0, 0)"
        assert page.evaluate("document.querySelector('nav a[href=\"#chain\"]').getBoundingClientRect().bottom") < 400


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_legend_has_each_shape_and_colour_that_is_drawn(
    browser: Browser, outcome: Outcome, tmp_path: Path, scheme: str
) -> None:
    with shown(browser, outcome, tmp_path, 420, scheme) as page:
        drawn, told = (page.evaluate(LOOKS % where) for where in (".actors a", ".legend svg"))
        assert sorted(told) == sorted(set(drawn))
        assert len({look.split()[1] for look in told}) == 4
        said = page.evaluate("[...document.querySelectorAll('.legend li')].map(entry => entry.textContent)")
        assert sorted(said) == sorted(
            f"{MEANING[kind]}: {count}"
            for kind, count in Counter(
                mark.kind for mark in marks_of(outcome.trace, chain_of(outcome.trace, outcome.broken))
            ).items()
        )


@pytest.mark.parametrize("width", [420, 1400])
def test_names_services_and_times_stay_in_view(browser: Browser, outcome: Outcome, tmp_path: Path, width: int) -> None:
    with shown(browser, outcome, tmp_path, width) as page:
        page.evaluate("location.hash = '#lanes'; document.querySelector('.lanes').scrollTo(1500, 300)")
        box = page.evaluate(BOX % "'.lanes'")
        names, services = page.evaluate(BOX % "'.names.actors'"), page.evaluate(BOX % "'svg.services'")
        assert names["left"] == box["left"] + 1
        assert names["width"] < width / 2
        assert services["top"] == box["top"] + 1
        assert page.evaluate("document.querySelector('.lanes').scrollLeft") == 1_500
        at = f"{names['left'] + 20}, {services['bottom'] + 50}"
        assert page.evaluate(f"document.elementFromPoint({at}).closest('.names') !== null")


def test_a_name_is_beside_its_lane(browser: Browser, outcome: Outcome, tmp_path: Path) -> None:
    with shown(browser, outcome, tmp_path) as page:
        for kind in ("services", "actors"):
            lanes = page.evaluate(f"document.querySelector('svg.{kind} .lane').getAttribute('d')")
            top = page.evaluate(BOX % f"'svg.{kind}'")["top"]
            middles = page.evaluate(f"[...document.querySelectorAll('.names.{kind} li')].map({MIDDLE})")
            assert middles == [top + int(y) for y in re.findall(r"M0 (\d+)", lanes)]


def test_no_time_lies_over_another(browser: Browser, outcome: Outcome, tmp_path: Path) -> None:
    trace = [line._replace(at_us=at * 7_200_000_000) for at, line in enumerate(outcome.trace[:60])]
    with shown(browser, attrs.evolve(outcome, trace=trace), tmp_path) as page:
        spans = page.evaluate(f"[...document.querySelectorAll('text.time')].map({SPAN})")
        assert len(spans) > 5
        assert all(end < start for (_, end), (start, _) in pairwise(spans))
        assert spans[-1][1] <= page.evaluate(BOX % "'svg.services'")["right"]


@pytest.mark.parametrize("width", [420, 1400])
def test_a_mark_leads_to_its_row_and_the_row_to_its_mark(
    browser: Browser, outcome: Outcome, tmp_path: Path, width: int
) -> None:
    with shown(browser, outcome, tmp_path, width) as page:
        assert page.evaluate("document.querySelectorAll('.lanes a:not([tabindex=\"-1\"])').length") == 0
        for number in (1, len(outcome.trace), len(outcome.trace) // 2):
            page.evaluate(
                f"document.querySelector('#m{number}').dispatchEvent(new MouseEvent('click', {{bubbles: true}}))"
            )
            row = page.evaluate("document.querySelector('tr:target').innerText")
            assert outcome.trace[number - 1].on in row
            assert page.evaluate(SEEN % f"'#e{number}'")
            page.evaluate(f"document.querySelector('#e{number} a').focus()")
            browser.call(
                "Input.dispatchKeyEvent", page.session, type="keyDown", key="Enter", text="\r", windowsVirtualKeyCode=13
            )
            assert page.evaluate("document.querySelector(':target').id") == f"m{number}"
            assert page.evaluate(SEEN % f"'#m{number}'")
