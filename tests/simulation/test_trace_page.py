"""The page of a trace: what it shows, that it asks nothing of a network, and that no text of a run becomes more than text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from simulator.effects import Happened
from simulator.runs import Outcome, Verdict, run
from simulator.scenarios import SCENARIOS
from simulator.trace_page import render
from simulator.trace_page.chain import chain_of
from tests.verify.browser import Browser, opened, running

EVIL = '</title></style><img src=x onerror="document.title=1"><script>document.title=2</script>\u202e\x00'


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    held = run(SCENARIOS["overlap"], 7, "storm")
    batch = next(line.on for line in held.trace if line.effect == "table.update")
    return attrs.evolve(held, verdict=Verdict.SAFETY, broken=(f"G3: the row of {batch} was changed after its end",))


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with running(tmp_path_factory.mktemp("profile")) as found:
        yield found


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


def test_no_text_of_a_run_is_more_than_text(outcome: Outcome) -> None:
    line = Happened(5, EVIL, f"objects.{EVIL}", 1, EVIL, EVIL, EVIL)
    page = render(attrs.evolve(outcome, trace=[line], broken=(EVIL,)), scenario=EVIL)
    assert "<img" not in page
    assert "<script" not in page
    assert page.count("</style>") == page.count("</head>") == 1
    assert "\u202e" not in page


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_a_browser_shows_it_without_a_word(
    browser: Browser, outcome: Outcome, tmp_path: Path, width: int, scheme: str
) -> None:
    path = tmp_path / "trace.html"
    path.write_text(render(outcome, scenario="overlap"), encoding="utf-8")
    with opened(browser, path, width=width, scheme=scheme) as page:
        assert page.told == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate("document.querySelectorAll('g.fault').length") == sum(
            bool(line.fault) for line in outcome.trace
        )
        lanes = page.evaluate("[...document.querySelectorAll('text.actor')].map(text => text.textContent)")
        assert {"submit-0", "ingest-0"} <= set(lanes)
        assert page.evaluate("getComputedStyle(document.querySelector('.verdict')).color") != "rgb(0, 0, 0)"
