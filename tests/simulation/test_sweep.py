"""Thousands of correct runs, and no alarm: what a judge says of a bug is worth as much as what he keeps to himself here."""

from __future__ import annotations

import os

import pytest

from simulator.sweep import sweep

RUNS = 500
PARTS = int(os.environ.get("SWEEP_PARTS", "10"))
"""Divided, so that they run beside each other and beside other tests. `make slow` has 40: twenty thousand runs."""


@pytest.mark.parametrize("part", range(PARTS))
def test_correct_runs_hold(part: int) -> None:
    total = sweep(scenario="tiny", seed=1 + part * RUNS, runs=RUNS, faults="mix", keep_going=True)
    assert [(failure.seed, failure.verdict, failure.broken[:1]) for failure in total.failures] == []
    assert total.runs == RUNS
    assert total.faults > RUNS // 4
