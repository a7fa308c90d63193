"""Whole runs: they hold, they are equal for equal seeds, and a bug that is planted is found and made small."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs
import pytest

from embedpipe.errors import CorruptData, EmbedpipeError, Interrupted, InvalidInput, NewerSchema
from simulator.again import lines_again
from simulator.cli.parts import whole
from simulator.coverage import covered
from simulator.crashes import crashed
from simulator.faults import EFFECTS, PROFILES, Fault, Planned, Strike
from simulator.guard import Stuck
from simulator.mutants.catalogue import MUTANTS
from simulator.mutants.planting import hunted
from simulator.plan import Plan, plan_of, read_plan, replay
from simulator.runs import Outcome, Verdict, run
from simulator.scenarios import SCENARIOS
from simulator.shrink import minimal, shrink
from simulator.sweep import divergence, sweep
from simulator.world import World

OVERLAP = SCENARIOS["overlap"]


def digest(outcome: Outcome) -> str:
    return hashlib.sha256("".join(happened.line() for happened in outcome.trace).encode()).hexdigest()


@pytest.mark.parametrize("profile", PROFILES)
def test_runs_hold_and_meet_their_faults(profile: str) -> None:
    total = sweep(scenario="overlap", seed=1_000, runs=10, faults=profile, keep_going=True)
    assert [(failure.seed, failure.verdict, failure.broken[:1]) for failure in total.failures] == []
    assert (total.faults > 0) is (profile != "none")
    assert total.repeated == 1


@pytest.mark.parametrize("scenario", [name for name in SCENARIOS if name != "backlog1500"])
def test_each_scenario_holds(scenario: str) -> None:
    """`backlog1500` takes a minute: `make soak` has it."""
    total = sweep(scenario=scenario, seed=2_000, runs=2 if scenario == "seed62" else 15, faults="all")
    assert [(failure.seed, failure.verdict, failure.broken[:1]) for failure in total.failures] == []


def test_a_sweep_of_turns_leaves_few_holes() -> None:
    """What is met is counted by step and effect; a point that is never reached is named."""
    total = sweep(scenario="mix", seed=1, runs=60, faults="mix", keep_going=True)
    assert [(failure.seed, failure.verdict, failure.broken[:1]) for failure in total.failures] == []
    found = covered(total)
    assert len(found.cells) > 80
    assert sum(not count for count in found.cells.values()) < len(found.cells) / 5, found.holes
    reached = [name for name, count in found.points.items() if count]
    assert {"two executions raced for a register", "a merge found the journal of a dead one"} <= set(reached)
    assert all(
        hole.startswith(("never reached: ", *(f"{step} never met" for step, _ in found.cells))) for hole in found.holes
    )


def test_a_crash_at_every_effect_of_a_run_comes_to_the_same_end() -> None:
    total = crashed(scenario="small", seed=3)
    assert total.runs > 150
    assert [(failure.plan.strikes, failure.broken[:1]) for failure in total.failures] == []
    assert total.faults == total.runs


def test_nothing_comes_between_the_claim_of_a_create_and_the_create() -> None:
    """Found by a run: a read in between was slow, the create counted as lost meanwhile, and came after all."""
    before: dict[str, str] = {}
    created = 0
    for seed in range(6):
        for line in run(OVERLAP, seed, "none").trace:
            if line.effect == "provider.create":
                created += 1
                assert before[line.actor] == "table.update", (seed, line)
            before[line.actor] = line.effect
    assert created > 6


def test_a_second_crash_is_looked_for_after_the_first() -> None:
    total = crashed(scenario="small", seed=3, pairs=True, limit=6)
    assert total.runs == 12
    assert total.faults == 18


def test_a_run_comes_to_vectors_retries_and_rejections() -> None:
    """A scenario in which nothing is ever merged would hold, too."""
    effects = {happened.effect for seed in range(8) for happened in run(OVERLAP, seed, "none").trace}
    assert effects >= EFFECTS.keys() - {"objects.delete", "vectors.reading", "collection.delete", "collection.ids"} - {
        "provider.list",
        "provider.delete_file",
        "provider.cancel",
    }


PROGRAM = """
import hashlib
from simulator.runs import run
from simulator.scenarios import SCENARIOS
lines = [happened.line() for happened in run(SCENARIOS["overlap"], 7, "storm").trace]
print(hashlib.sha256("".join(lines).encode()).hexdigest())
"""


OTHERS = [path for path in os.environ.get("OTHER_PYTHONS", "").split(os.pathsep) if path]
"""Interpreters of other versions, each with the package's dependencies."""


@pytest.mark.parametrize("python", [sys.executable, *OTHERS])
@pytest.mark.parametrize("hash_seed", ["0", "1", "random"])
def test_equal_seeds_give_equal_traces_in_every_process(hash_seed: str, python: str) -> None:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(Path(__file__).parents[2])}
    ended = subprocess.run(
        [python, "-c", PROGRAM], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert ended.stdout.strip() == digest(run(OVERLAP, 7, "storm"))


def test_code_that_depends_on_the_order_of_a_set_is_not_the_same_twice(tmp_path: Path) -> None:
    """Twice in one process it is, so a sweep repeats its runs in another."""
    for name in ("embedpipe", "verify", "simulator"):
        shutil.copytree(Path(__file__).parents[2] / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    stage = tmp_path / "embedpipe" / "stages" / "list_pending.py"
    source = stage.read_text(encoding="utf-8")
    ordered = "sorted(listed.values(), key=lambda row: (row.claim, row.batch_id))"
    assert ordered in source
    stage.write_text(source.replace(ordered, "listed[name] for name in set(listed)"), encoding="utf-8")
    command = ["-m", "embedpipe", "simulate", "run", "--scenario", "overlap", "--seed", "40", "--runs", "1"]
    ended = subprocess.run(
        [sys.executable, *command],
        cwd=tmp_path,
        env={**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (ended.returncode, "nondeterminism: seed 40" in ended.stdout) == (13, True), ended.stdout + ended.stderr


def test_a_plan_says_all_that_a_run_follows_from(tmp_path: Path) -> None:
    outcome = run(OVERLAP, 11, "storm")
    assert outcome.strikes
    path = tmp_path / "a.plan.json"
    path.write_text(plan_of(OVERLAP, outcome).dump())
    again, stale = replay(read_plan(path))
    assert stale == []
    lines = [happened.line() for happened in outcome.trace]
    assert divergence(lines, [happened.line() for happened in again.trace]) is None
    assert divergence(lines, lines_again(read_plan(path))) is None
    fewer = attrs.evolve(read_plan(path), strikes=outcome.strikes[1:])
    assert "event" in (divergence(lines, lines_again(fewer)) or "")


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"scenario": "big"}, InvalidInput, "no scenario"),
        ({"format": 2}, NewerSchema, "format 2"),
        ({"seed": "x"}, CorruptData, "seed"),
        ({"faults": [{"actor": "a", "effect": "objects.eat", "nth": 1, "fault": "slow"}]}, CorruptData, "objects.eat"),
        ({"faults": [{"actor": "a", "effect": "objects.get", "nth": 1, "fault": "lag"}]}, CorruptData, "lag"),
        ({"faults": [7]}, CorruptData, "7"),
        ({"faults": [{"actor": "a", "effect": "objects.get", "nth": 0, "fault": "slow"}]}, CorruptData, "'nth': 0"),
        (
            {"faults": [{"actor": "a", "effect": "objects.get", "nth": 1, "fault": "slow"}] * 2},
            CorruptData,
            "two faults",
        ),
        ({"without": ["record r0", "execution 9"]}, CorruptData, "execution 9"),
    ],
)
def test_a_plan_that_is_none_is_named(
    tmp_path: Path, change: dict[str, object], error: type[EmbedpipeError], said: str
) -> None:
    path = tmp_path / "odd.json"
    path.write_text(json.dumps(json.loads(Plan(scenario="small", seed=1).dump()) | change))
    with pytest.raises(error, match=said):
        read_plan(path)


def test_an_unknown_profile_is_named() -> None:
    with pytest.raises(InvalidInput, match="sunshine"):
        World(1, "sunshine")


def _connects() -> None:
    with suppress(Exception):  # whatever a step makes of it, the run has to say it
        socket.create_connection(("127.0.0.1", 9), timeout=1)


@pytest.mark.parametrize(
    ("trespass", "named"),
    [
        (lambda: time.sleep(9), "time.sleep"),
        (lambda: time.time(), "time.time"),
        (_connects, "socket."),
        (lambda: threading.Thread(target=print).start(), "Thread.start"),
        (lambda: subprocess.run(["true"], check=True), "subprocess."),
    ],
)
def test_a_step_that_leaves_its_world_is_named(trespass: Callable[[], object], named: str) -> None:
    with World(1) as world:
        world.spawn("mine", lambda: (logging.getLogger("quiet").warning("a record has a time"), trespass()))
        with pytest.raises(InvalidInput, match=f"^mine calls {named}"):
            world.run()
        assert time.time() > world.clock.monotonic_s()  # outside of actors it is as before


async def _never() -> None:
    """Nobody would await it."""


def test_threads_beside_a_world_have_the_real_clock() -> None:
    """Those of a notebook, say. Worlds side by side put back what they found."""
    before = [time.time, time.sleep, threading.Thread.start]
    asked: list[float] = []
    errors: list[Exception] = []
    over = threading.Event()

    def asks() -> None:
        while not over.is_set():
            try:
                asked.append(time.monotonic())
            except Exception as error:  # noqa: BLE001  whatever it is, there is to be none
                errors.append(error)

    digests: dict[int, str] = {}

    def runs(number: int) -> None:
        digests[number] = digest(run(SCENARIOS["small"], 17, "storm"))

    threads = [threading.Thread(target=asks), *(threading.Thread(target=runs, args=(number,)) for number in range(3))]
    for thread in threads:
        thread.start()
    for thread in threads[1:]:
        thread.join()
    over.set()
    threads[0].join()
    assert errors == []
    assert asked
    assert set(digests.values()) == {digest(run(SCENARIOS["small"], 17, "storm"))}
    assert [time.time, time.sleep, threading.Thread.start] == before


def _turns_in_circles() -> None:
    while True:
        pass


@pytest.mark.parametrize("waits", [lambda: threading.Event().wait(), _turns_in_circles])
def test_an_actor_that_does_not_come_back_is_named(
    waits: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("simulator.guard.STUCK_S", 0.1)
    with World(1) as world:
        world.spawn("mine", waits)
        with pytest.raises(Stuck, match="^mine does not come"):
            world.run()


@pytest.mark.parametrize(
    ("work", "after_s"), [(None, 0), (lambda: None, -1), (lambda: None, float("nan")), (_never, 0)]
)
def test_an_actor_that_can_not_act_is_refused(work: Any, after_s: float) -> None:
    with World(1) as world, pytest.raises(InvalidInput, match="'mine'"):
        world.spawn("mine", work, after_s=after_s)


def test_a_world_that_is_over_or_has_two_of_a_name_says_so() -> None:
    with World(1) as world:
        world.spawn("mine", lambda: None)
        with pytest.raises(InvalidInput, match="'mine'"):
            world.spawn("mine", lambda: None)
    for use in (lambda: world.objects.get("a"), lambda: world.spawn("late", lambda: None), world.run):
        with pytest.raises(InvalidInput, match="world is over"):
            use()


def test_minimal_keeps_what_fails() -> None:
    for wanted in ({3}, {0, 19}, {1, 2, 18}, set(range(20)), set()):
        assert set(minimal(range(20), lambda kept, wanted=wanted: wanted <= set(kept))) == wanted


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("wait_is_marked", 0),
        ("zero_results_never_marked", 1),
        ("given_up_at_once", 2),
        ("partial_thrown_away", 1),
    ],
)
def test_a_planted_bug_is_found_and_made_small(name: str, most: int) -> None:
    """In a process of its own, since the code is changed before it is imported. A dead oracle would show here first."""
    (found,) = hunted(name, scenario="mix", faults="mix", seed=1_000, runs=60)
    assert found["seeds"] is not None, found
    assert len(found["faults"]) <= most
    assert set(found["rules"]) & set(found["shrunk"]["rules"]), "it fails for another reason now"


@pytest.mark.parametrize("name", MUTANTS)
def test_each_planted_bug_still_fits_the_code(name: str) -> None:
    for patch in MUTANTS[name].patches:
        source = Path(*patch.module.split(".")).with_suffix(".py").read_text(encoding="utf-8")
        assert patch.applied(source) != source


def test_every_fault_can_strike_somewhere() -> None:
    assert {fault for faults in EFFECTS.values() for fault in faults} == set(Fault)


def test_a_late_duplicate_begins_when_others_have_gone_on() -> None:
    strike = Strike(actor="ingest-0", effect="lambda.invoke", nth=1, fault=Fault.LATE_DUPLICATE)
    outcome = run(SCENARIOS["small"], 3, Planned([strike]))
    began = [line.actor for line in outcome.trace if line.actor.startswith("ingest-0/")]
    assert outcome.strikes == (strike,)
    assert began.index("ingest-0/create_pending#1-again") > began.index("ingest-0/list_pending#1")


@pytest.mark.parametrize("profile", ["all", "storm"])
def test_what_a_profile_draws_outlives_faults_that_are_thought_of_later(profile: str) -> None:
    """A seed in a report means the same in the next release."""
    assert Fault.LATE_DUPLICATE not in PROFILES[profile].faults


def test_a_shrunk_plan_that_holds_is_itself() -> None:
    plan = Plan(scenario="small", seed=2)
    assert shrink(plan) is plan
    assert replay(plan)[0].verdict is Verdict.HELD


@pytest.mark.parametrize("jobs", [1, 2])
def test_crashes_that_are_stopped_end_with_what_there_is(jobs: int) -> None:
    total = crashed(scenario="small", seed=3, pairs=True, jobs=jobs, stopping=lambda: True)
    assert 0 < total.runs < 60


def test_a_sweep_that_is_stopped_says_how_it_goes_on() -> None:
    part = sweep(scenario="small", seed=40, runs=60, faults="none", stopping=lambda: True)
    assert 0 < part.runs < 60
    with pytest.raises(Interrupted) as stopped:
        whole(part, seed=40, runs=60)
    assert f"--seed {40 + part.runs} --runs {60 - part.runs}" in (stopped.value.hint or "")
    whole(part, seed=40, runs=part.runs)
