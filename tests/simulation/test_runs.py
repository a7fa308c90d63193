"""Whole runs: they hold, they are equal for equal seeds, and a bug that is planted is found and made small."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import attrs
import pytest

from embedpipe.errors import CorruptData, EmbedpipeError, Interrupted, InvalidInput, NewerSchema
from simulator.cli.parts import whole
from simulator.coverage import covered
from simulator.crashes import crashed
from simulator.faults import EFFECTS, PROFILES, Fault, Planned, Strike
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
    total = sweep(scenario="overlap", seed=1_000, runs=20, faults=profile, keep_going=True)
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
    assert sum(not count for count in found.cells.values()) < 20, found.holes
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


def test_a_plan_says_all_that_a_run_follows_from(tmp_path: Path) -> None:
    outcome = run(OVERLAP, 11, "storm")
    assert outcome.strikes
    path = tmp_path / "a.plan.json"
    path.write_text(plan_of(OVERLAP, outcome).dump())
    again, stale = replay(read_plan(path))
    assert stale == []
    assert divergence(outcome.trace, again.trace) is None
    fewer = attrs.evolve(read_plan(path), strikes=outcome.strikes[1:])
    assert "event" in (divergence(outcome.trace, replay(fewer)[0].trace) or "")


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
        ("retry_named_by_execution", 3),
        ("partial_thrown_away", 1),
    ],
)
def test_a_planted_bug_is_found_and_made_small(name: str, most: int) -> None:
    """In a process of its own, since the code is changed before it is imported. A dead oracle would show here first."""
    (found,) = hunted(name, scenario="mix", faults="mix", seed=100_001, runs=60)
    assert found["seeds"] is not None, found
    assert len(found["faults"]) <= most


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
