"""Faults of executions and log lines, planted in runs of the real state machines: each found, and nothing beyond it."""

from __future__ import annotations

import itertools

import pytest

from tests.verify.auditing import THOROUGH
from tests.verify.mutators.executions import TOLD_MUTATORS, ToldMutator
from tests.verify.recorded import Told
from verify.audit.catalogue import BRINGS, Brings

SEEDS = 5 if THOROUGH else 2
MATRIX = [
    pytest.param(code, mutator, seed, id=f"{code}-{mutator.__name__}-{seed}")
    for code, mutators in TOLD_MUTATORS.items()
    for mutator in mutators
    for seed in range(SEEDS)
]


@pytest.mark.parametrize(("code", "mutator", "seed"), MATRIX)
def test_each_fault_is_found_and_nothing_else(code: str, mutator: ToldMutator, seed: int) -> None:
    told = Told(seed)
    wanted = mutator(told)
    findings = told.audited().findings
    assert code in {finding.code for finding in findings}, findings
    assert wanted <= {name for finding in findings if finding.code == code for name in finding.batch_ids}
    assert all(told.name in finding.location for finding in findings if finding.code == code)
    allowed = {code} | BRINGS.get(code, Brings()).implies
    assert [finding for finding in findings if finding.code not in allowed] == []
    assert all(finding.evidence for finding in findings)


@pytest.mark.parametrize("code", ["X301", "X302", "X303", "X304", "L801"])
def test_every_code_has_three_ways_to_bring_it_about(code: str) -> None:
    assert len(TOLD_MUTATORS[code]) >= 3


@pytest.mark.parametrize("depth", ["metadata", "content", "vectors"])
@pytest.mark.parametrize("grace_s", [-1.0, 3_600.0])
def test_what_really_ran_is_clean(depth: str, grace_s: float) -> None:
    """Without a batch, with a poll that failed for good, one that failed as a whole, one whose mark step was retried."""
    report = Told().audited(depth=depth, grace_s=grace_s)
    assert report.findings == ()
    assert report.verdict == "clean"
    lines = {line.family: line for line in report.coverage.lines if line.unit == "executions" and line.family in "XL"}
    assert lines["X"].total == lines["X"].checked == 8
    assert lines["L"].total == 8


SINGLES = [(code, mutator) for code, mutators in TOLD_MUTATORS.items() for mutator in mutators]
PAIRS = len(SINGLES) * (len(SINGLES) - 1) if THOROUGH else 20


@pytest.mark.parametrize("number", range(PAIRS))
def test_two_faults_of_two_executions_are_both_found(number: int) -> None:
    """All ordered pairs, where there is time; neither hides the other, and nothing is found beyond both."""
    pairs = list(itertools.permutations(SINGLES, 2))
    (one, first), (two, second) = pairs[number if THOROUGH else number * len(pairs) // PAIRS]
    told = Told(number)
    names = told.random.sample(["poll-fails", "retried", "healthy"], 2)
    wanted = []
    for told.name, (code, mutator) in zip(names, ((one, first), (two, second)), strict=True):
        wanted.append((code, told.name, mutator(told)))
    findings = told.audited().findings
    for code, name, batch_ids in wanted:
        mine = [one for one in findings if one.code == code and name in one.location]
        assert mine, (first.__name__, second.__name__, findings)
        assert batch_ids <= {batch_id for one in mine for batch_id in one.batch_ids}
    allowed = {one, two} | BRINGS.get(one, Brings()).implies | BRINGS.get(two, Brings()).implies
    assert [finding for finding in findings if finding.code not in allowed] == []
