"""A process that is killed at any write leaves work that the next one ends, with one result: that of an uninterrupted run.

Dying after a write and dying before the next one leave the same bytes, so killing before each write, and after the last,
is both. "Inside" kills between the steps of one write: beside, before the rename, before the link is moved.
"""

from __future__ import annotations

import json
import random
import re
import signal
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest

from tests.crash.conftest import Run

SCENARIO = "two_submissions"
KILLED = -signal.SIGKILL
AT_A_TIME = 2


@attrs.frozen(kw_only=True)
class Case:
    """A run that is killed before write `kills[0]`, then again before write `kills[1]` of its successor, and so on."""

    kills: Sequence[int]
    inside: bool = False
    flags: Mapping[str, Any] = attrs.field(factory=dict)


def job(
    root: Path, kill_at: int | None = None, *, inside: bool = False, flags: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    scenarios = [SCENARIO] if kill_at is not None else [SCENARIO, "reporting"]
    places = {"root": str(root), "log": str(root / "log")}
    return {"scenarios": scenarios, **places, "kill_at": kill_at, "inside": inside, "flags": dict(flags or {})}


def report(root: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((root / "report.json").read_text())
    return found


def log(root: Path) -> list[str]:
    return (root / "log").read_text().splitlines()


def tracebacks(root: Path) -> str:
    return "".join(path.read_text() for path in root.glob("traceback-*"))


# --- one result ----------------------------------------------------------------------------------------------------


def without_claims(catalog: dict[str, Any]) -> dict[str, str]:
    return {name: content_hash for name, (_, _, content_hash) in catalog.items()}


def without_lost(rows: Iterable[Any]) -> list[Any]:
    """Rows without those whose create was given up; their retries stand in their place."""
    kept = [[seq, held, status, said] for seq, _, held, status, said in rows if said != "create_lost"]
    return sorted(kept)


def differences(clean: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """How a result differs from the clean one, beyond a create that was reported as ambiguous."""
    out = list(found["violations"])
    for part in ("collection", "rejected"):
        if found[part] != clean[part]:
            out.append(f"{part}: {found[part]}")
    if len(found["creates"]) != len(clean["creates"]) or max(Counter(found["creates"]).values()) > 1:
        out.append(f"creates: {found['creates']}")
    lost = [row for row in found["rows"] if row[4] == "create_lost"]
    if len(lost) != len(set(found["ambiguous"])):
        out.append(f"ambiguous: {found['ambiguous']}, given up: {lost}")
    blur = (without_claims, without_lost) if lost else (dict, list)
    for part, blurred in zip(("catalog", "rows"), blur, strict=True):
        if blurred(found[part]) != blurred(clean[part]):
            out.append(f"{part}: {found[part]}")
    return out


def play(run: Run, new_root: Callable[[], Path], cases: Sequence[Case], clean: dict[str, Any]) -> list[str]:
    """Play all cases, a few at a time; what went wrong, each with the write that was the last."""
    wrong: list[str] = []
    for start in range(0, len(cases), AT_A_TIME):
        group = [(case, new_root()) for case in cases[start : start + AT_A_TIME]]
        for turn in range(max(len(case.kills) for case, _ in group)):
            jobs = [
                job(root, case.kills[turn], inside=case.inside, flags=case.flags)
                for case, root in group
                if turn < len(case.kills)
            ]
            assert set(run(*jobs)) <= {KILLED, 0}, "".join(tracebacks(root) for _, root in group)
        last = [log(root)[-1] for _, root in group]
        statuses = run(*(job(root, flags=case.flags) for case, root in group))
        for (case, root), status, write in zip(group, statuses, last, strict=True):
            found = differences(clean, report(root)) if status == 0 else [tracebacks(root)]
            wrong += [f"killed at {case.kills}, before {write}: {what}" for what in found]
    return wrong


@pytest.fixture
def clean(run: Run, new_root: Callable[[], Path]) -> tuple[dict[str, Any], list[str]]:
    """Result and writes of an uninterrupted run."""
    root = new_root()
    assert run(job(root)) == [0], tracebacks(root)
    found = report(root)
    assert found["violations"] == []
    assert found["ambiguous"] == []
    return found, log(root)


def test_the_clean_run_is_what_it_should_be(clean):
    found, writes = clean
    changed = {"b", "d"}
    assert found["rejected"] == {"e": "http_400"}
    assert {name: claim[:2] for name, claim in found["catalog"].items()} == {
        name: [2, 1] if name in changed else [1, 2] if name == "a" else [1, 1] for name in "abcdf"
    }
    assert {name: text for name, (text, _) in found["collection"].items()} == {
        name: f"another text of {name}" if name in changed else f"the text of {name}" for name in "abcdf"
    }
    assert len(found["creates"]) == 4
    assert len(writes) > 80


def test_killed_at_each_write(run, new_root, clean):
    result, writes = clean
    cases = [Case(kills=[number]) for number in range(1, len(writes) + 1)]
    assert not (wrong := play(run, new_root, cases, result)), "\n".join(wrong)


def test_killed_inside_a_write(run, new_root, clean):
    """One case for each kind of step on the disk."""
    result, _ = clean
    root = new_root()
    assert run(job(root, inside=True)) == [0]
    kinds: dict[str, int] = {}
    for number, write in enumerate(log(root), 1):
        if write.startswith("os.") and not write.startswith("os.mkdir"):
            kinds.setdefault(re.sub("[0-9a-f]{8}-[0-9a-f-]{27}|[0-9]+", "#", write), number)
    cases = [Case(kills=[number], inside=True) for number in kinds.values()]
    assert len(cases) > 20
    assert not (wrong := play(run, new_root, cases, result)), "\n".join(wrong)


def test_killed_again_and_again(run, new_root, clean):
    """The successor is killed, too, and its successor."""
    result, writes = clean
    chance = random.Random(1)
    cases = [Case(kills=[chance.randrange(1, len(writes)), *chance.choices(range(1, 40), k=2)]) for _ in range(12)]
    assert not (wrong := play(run, new_root, cases, result)), "\n".join(wrong)


SNAPSHOTS = {"vectors.backend": "chroma_s3", "vectors.lease_s": 0.2, "vectors.patience_s": 5.0}


def test_killed_while_a_snapshot_is_made(run, new_root, clean):
    """Before each write of a merge: of files, their list, catalog, pointer and lease, and of the copy that it works on."""
    result, _ = clean
    root = new_root()
    assert run(job(root, inside=True, flags=SNAPSHOTS)) == [0], tracebacks(root)
    assert differences(result, report(root)) == []
    kinds: dict[str, int] = {}
    for number, write in enumerate(log(root), 1):
        if "snapshot" in write or "cache" in write or write.startswith(("collection", "edition")):
            kinds.setdefault(re.sub("[0-9a-f]{8}-[0-9a-f-]{27}|[0-9]+-[0-9a-f]{16}|[0-9]+", "#", write), number)
    cases = [Case(kills=[number], inside=True, flags=SNAPSHOTS) for number in kinds.values()]
    assert len(cases) > 10
    assert not (wrong := play(run, new_root, cases, result)), "\n".join(wrong)
