"""Every benchmark still runs. How fast anything is, only `make bench` says."""

from __future__ import annotations

from math import ceil

import pytest

from benchmarks.__main__ import FULL, QUICK, line, table
from benchmarks.ingest_calls import RECORDS, counted, formula
from benchmarks.measure import Figure
from embedpipe.limits import Policy


@pytest.mark.parametrize("name", FULL)
def test_it_runs(name: str) -> None:
    figures = QUICK[name]()
    assert figures
    assert all(figure.value > 0 for figure in figures)
    assert figures[0].name in table([(name, figures[0])])


def test_a_figure_knows_its_target() -> None:
    assert Figure("x", 2.0, 3.0).met
    assert not Figure("x", 2.0, 3.0, at_least=True).met
    assert "MISS" in line(Figure("x", 4.0, 3.0))


def test_the_calls_of_an_ingest_are_those_of_the_formula() -> None:
    batches, chunk_rows = 8, 6
    policy = Policy(inline_batches_max=5, chunk_rows=chunk_rows)
    found = counted(batches, policy)
    assert dict(found) == formula(batches, chunks=ceil(batches * RECORDS / chunk_rows), inline_max=5)
    n, chunks = 1_500, 3
    assert sum(formula(n, chunks=chunks).values()) == 16 * n + 5 * chunks + 4 * 15 + 2 + 33  # as the README says
