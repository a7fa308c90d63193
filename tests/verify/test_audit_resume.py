"""An audit that is interrupted anywhere, and goes on, reports what one without interruption does, and reads nothing twice."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embedpipe.lifecycle import Status
from tests.harness import Crash, Faults, Watched, crash, dies
from tests.verify.auditing import THOROUGH, source_of
from tests.verify.mutators import MUTATORS
from tests.verify.planting import Plant
from verify import Report, Source
from verify.audit.api import check
from verify.audit.findings import WrongQuestion
from verify.formats import jsonl

CODES = sorted(MUTATORS)


def said(report: Report) -> Any:
    """All of a report but how it came about."""
    document = jsonl.document(report)
    return {name: value for name, value in document.items() if name not in ("calls", "elapsed_s")}


def dying(plant: Plant, nth: int) -> Source:
    """Its ports, the `nth` call of which ends the process."""
    faults = Faults().before("", crash, nth=nth)
    faults.armed = True
    ports = {"objects": plant.world.objects, "table": plant.world.table, "provider": plant.provider}
    return source_of(plant.world, **{name: Watched(port, name, faults) for name, port in ports.items()})


@settings(max_examples=300 if THOROUGH else 20, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.sampled_from(CODES), max_size=2), st.lists(st.integers(1, 140), min_size=1, max_size=3), st.data())
def test_it_goes_on_to_the_same_report(codes: list[str], moments: list[int], data: st.DataObject) -> None:
    plant = Plant(data.draw(st.integers(0, 3)))
    for code in codes[:1]:
        data.draw(st.sampled_from(MUTATORS[code]))(plant)
    depth = data.draw(st.sampled_from(["metadata", "content", "vectors", "vectors"]))
    asked: dict[str, Any] = {"depth": depth, "grace_s": -1}
    plain = check(source_of(plant.world, provider=plant.provider), **asked)
    with TemporaryDirectory() as name:
        state = Path(name, "state")
        sources = [*(dying(plant, nth) for nth in moments), source_of(plant.world, provider=plant.provider)]
        for source in sources:
            with suppress(Crash):
                report = check(source, resume=state, **asked)
                break
            plant.world.clock.sleep(40)
        assert not state.exists()
    assert said(report) == said(plain)


@pytest.mark.parametrize("code", [None, "D402", "O105", "R101", "R105"])
def test_what_was_found_before_is_in_the_report(code: str | None, tmp_path: Path) -> None:
    """Interrupted among the batches, and after them; twice."""
    plant = Plant()
    if code in MUTATORS:
        MUTATORS[code][0](plant)
    asked: dict[str, Any] = {"depth": "vectors", "grace_s": -1}
    plain = check(source_of(plant.world, provider=plant.provider), **asked)
    calls = sum(plain.calls.values())
    for nth in (calls * 2 // 3, calls - 2):
        for again in (nth, 60):
            dies(lambda nth=again: check(dying(plant, nth), resume=tmp_path / "state", **asked))  # type: ignore[misc]
            assert (tmp_path / "state").exists()
        report = check(source_of(plant.world, provider=plant.provider), resume=tmp_path / "state", **asked)
        assert said(report) == said(plain)


def interrupted(plant: Plant, state: Path, *, after: int = 100) -> None:
    assert dies(lambda: check(dying(plant, after), depth="vectors", resume=state))
    assert (state / "audit.json").exists()


def test_what_was_checked_is_not_read_again(tmp_path: Path) -> None:
    plant = Plant()
    ports = {"provider": plant.provider}
    whole = check(source_of(plant.world, **ports), depth="vectors").calls
    interrupted(plant, tmp_path / "state", after=sum(whole.values()) - 10)
    rest = check(source_of(plant.world, **ports), depth="vectors", resume=tmp_path / "state").calls
    assert rest["objects.get"] < whole["objects.get"] / 2
    assert "provider.content" not in rest


def test_what_has_changed_meanwhile_is_read_again(tmp_path: Path) -> None:
    """Whichever of its sources shows it."""
    for change in ("register", "row"):
        plant, state = Plant(), tmp_path / change
        row = plant.merged()
        interrupted(plant, state, after=125)
        if change == "register":
            plant.world.clock.sleep(1)
            plant.put(plant.result_key(row), b"torn")
        else:
            plant.write_row(row.batch_id, status=Status.PENDING.value)
        findings = check(source_of(plant.world, provider=plant.provider), depth="vectors", resume=state, grace_s=3_600)
        assert row.batch_id in {name for finding in findings.findings for name in finding.batch_ids}, change


def test_a_torn_journal_costs_what_is_torn(tmp_path: Path) -> None:
    plant, state = Plant(), tmp_path / "state"
    interrupted(plant, state, after=125)
    journal = state / "checked.jsonl"
    journal.write_bytes(journal.read_bytes()[:-7])
    (state / "object").write_bytes(b"left behind")
    assert check(source_of(plant.world, provider=plant.provider), depth="vectors", resume=state).verdict == "clean"
    assert not state.exists()


def test_a_state_is_of_one_question(tmp_path: Path) -> None:
    plant, state = Plant(), tmp_path / "state"
    interrupted(plant, state)
    for other in ({"depth": "content"}, {"depth": "vectors", "grace_s": 5}, {"depth": "vectors", "ignore": ["P"]}):
        with pytest.raises(WrongQuestion, match="state of another audit"):
            check(source_of(plant.world, provider=plant.provider), resume=state, **other)  # type: ignore[arg-type]
    (state / "audit.json").write_text("[]")
    with pytest.raises(WrongQuestion, match="is no state of an audit"):
        check(source_of(plant.world, provider=plant.provider), resume=state, depth="vectors")
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(WrongQuestion, match="holds no state"):
        check(source_of(plant.world), resume=tmp_path)
    assert (tmp_path / "thesis.txt").exists()
