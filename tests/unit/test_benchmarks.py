"""Every benchmark still runs. How fast anything is, only `make bench` says."""

from __future__ import annotations

import pytest

from benchmarks.__main__ import FULL, QUICK, line, table
from benchmarks.measure import Figure


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
