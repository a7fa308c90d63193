"""Every planted fault is found under its code, for its batches, and nothing is reported beyond what the table allows."""

from __future__ import annotations

import itertools
import random
from contextlib import suppress

import pytest

from embedpipe.errors import NotFound
from tests.verify.auditing import THOROUGH, audited
from tests.verify.mutators import MUTATORS, Mutator
from tests.verify.planting import Plant
from verify.audit.catalogue import BRINGS, Brings
from verify.audit.findings import Finding
from verify.inject.ground import CannotPlant

SEEDS = 5 if THOROUGH else 2
MATRIX = [
    pytest.param(code, mutator, seed, id=f"{code}-{mutator.__name__}-{seed}")
    for code, mutators in MUTATORS.items()
    for mutator in mutators
    for seed in range(SEEDS)
]


def found_after(plant: Plant) -> tuple[Finding, ...]:
    """What an audit finds two hours later, when what was done is past the grace period."""
    return audited(plant.world, grace_s=-1, provider=plant.provider).findings


def named(findings: tuple[Finding, ...], code: str) -> set[str]:
    return {batch_id for finding in findings if finding.code == code for batch_id in finding.batch_ids}


@pytest.mark.parametrize(("code", "mutator", "seed"), MATRIX)
def test_each_fault_is_found_and_nothing_else(code: str, mutator: Mutator, seed: int) -> None:
    plant = Plant(seed)
    wanted = mutator(plant)
    findings = found_after(plant)
    assert code in {finding.code for finding in findings}, findings
    assert wanted <= named(findings, code), findings
    allowed = {code} | BRINGS.get(code, Brings()).implies
    assert [finding for finding in findings if finding.code not in allowed] == []
    causes = {finding.caused_by for finding in findings if finding.code == code}
    for finding in findings:
        assert finding.evidence
        assert finding.code == code or finding.caused_by is not None or finding.code in causes


def test_the_root_without_a_fault_is_clean() -> None:
    assert found_after(Plant()) == ()


def test_every_code_has_three_ways_to_bring_it_about() -> None:
    assert {code: len(mutators) for code, mutators in MUTATORS.items() if len(mutators) < 3} == {}


SINGLES = [(code, mutator) for code, mutators in MUTATORS.items() for mutator in mutators]
ALL_PAIRS = list(itertools.combinations(range(len(SINGLES)), 2))
PAIRS = range(len(ALL_PAIRS)) if THOROUGH else random.Random(0).sample(range(len(ALL_PAIRS)), 40)


@pytest.mark.parametrize("seed", PAIRS)
def test_two_faults_are_both_found(seed: int) -> None:
    """Of different batches, or one of a batch and one of the collection; neither hides the other but by the table.

    All pairs, where there is time for them, in an order that the seed chooses.
    """
    pair = ALL_PAIRS[seed] if random.Random(seed).random() < 0.5 else ALL_PAIRS[seed][::-1]
    (one, first), (two, second) = (SINGLES[at] for at in pair)
    plant = Plant(seed)
    wanted = [first(plant)]
    before, plant.touched = plant.touched, set()
    with suppress(CannotPlant, NotFound):  # the first has taken what it needs
        wanted.append(second(plant))
    if len(wanted) < 2 or wanted[0] & wanted[1] or before & plant.touched:
        return
    findings = found_after(plant)
    codes = {finding.code for finding in findings}
    hidden = hides(codes - {one}) | hides(codes - {two})
    for code, batch_ids in zip((one, two), wanted, strict=True):
        assert code in codes | hidden, (first.__name__, second.__name__)
        assert code in hidden or batch_ids <= named(findings, code), (first.__name__, second.__name__)
    allowed = {one, two} | implied(one) | implied(two)
    assert codes <= allowed, (first.__name__, second.__name__, codes - allowed)


def implied(code: str) -> set[str]:
    """What it implies, and what that implies."""
    found: set[str] = set()
    waiting = [code]
    while waiting:
        fresh = BRINGS.get(waiting.pop(), Brings()).implies - found
        found |= fresh
        waiting += fresh
    return found


def hides(codes: set[str]) -> set[str]:
    return {hidden for code in codes for hidden in BRINGS.get(code, Brings()).masks}
