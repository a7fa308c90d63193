"""What an audit will call is said before it reads batch by batch, and is what it then calls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.audit_source import Shape, source
from embedpipe.backends.memory.behaviour import GOOD, Behaviour
from tests.verify.auditing import THOROUGH, source_of
from tests.verify.planting import Plant
from tests.worlds import SmallWorld
from verify import Estimate, Source
from verify.audit.api import check, estimate
from verify.audit.estimate import PRICES
from verify.strategies import behaviours, submissions

IDS = [f"r{number}" for number in range(8)] + ["../x", "a/b"]


def compared(opened: Source, depth: str, *, constant: int = 6, **options: Any) -> Estimate:
    """The estimate of an audit, after comparing it with the calls that the audit made."""
    said: list[Estimate] = []
    calls = check(opened, depth=depth, on_estimate=said.append, **options).calls
    (first,) = said
    for kind in calls.keys() | first.calls.keys():
        real = calls.get(kind, 0)
        assert abs(first.calls.get(kind, 0) - real) <= 0.05 * real + constant, (kind, first.calls, calls)
        assert first.made.get(kind, 0) <= real
    return first


def chooser(drawn: list[Behaviour]):  # type: ignore[no-untyped-def]
    return lambda nth, _: drawn[nth - 1] if nth <= len(drawn) else GOOD


@settings(max_examples=150 if THOROUGH else 15, deadline=None, suppress_health_check=list(HealthCheck))
@given(submissions(), st.lists(behaviours(IDS), max_size=4), st.integers(0, 5), st.booleans(), st.data())
def test_the_estimate_is_what_is_called(texts, drawn, runs, asks, data):  # type: ignore[no-untyped-def]
    """Also of open batches, retries, batches that failed, several versions, and with a provider."""
    world = SmallWorld(chooser(drawn))
    for records in texts:
        world.pipeline().submit(records)
        for _ in range(runs):
            world.pipeline().ingest()
            world.clock.sleep(20)
    depth = data.draw(st.sampled_from(["metadata", "content", "vectors"]))
    opened = source_of(world, provider=world.provider if asks and not drawn else None)
    executions = data.draw(st.sampled_from([(), ("of-nobody",)]))
    compared(opened, depth, executions=executions)


@pytest.mark.parametrize(
    ("depth", "shape"), [("metadata", Shape(batches=3_100)), ("content", Shape(batches=310, rows=3))]
)
def test_it_holds_for_many_batches(depth: str, shape: Shape, tmp_path: Path) -> None:
    said = compared(source(shape, tmp_path), depth, constant=0)
    assert said.batches == shape.batches


def test_only_what_costs_is_priced() -> None:
    plant = Plant()
    free = estimate(source_of(plant.world), depth="content")
    assert free.dollars == 0
    assert free.text.endswith("at no charge")
    paid = estimate(source_of(plant.world, prices=PRICES), depth="content")
    assert paid.dollars == pytest.approx(sum(PRICES.get(kind, 0) * count for kind, count in paid.calls.items()))
    assert f"{paid.calls['objects.get']:,} objects.get" in paid.text
    assert "$0.00" in paid.text


def test_an_estimate_reads_no_batch() -> None:
    opened = source_of(Plant().world)
    said = estimate(opened, depth="vectors")
    assert dict(opened.calls.counts) == dict(said.made)
    assert "table.get_many" not in said.made
