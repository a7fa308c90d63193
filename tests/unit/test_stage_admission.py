"""Admission: the limits hold, nobody is overtaken, and nobody waits for ever; then the same in a whole pipeline."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import attrs
from hypothesis import given
from hypothesis import strategies as st

from embedpipe.backends.memory.behaviour import GOOD
from embedpipe.lifecycle import Status
from embedpipe.limits import Limits
from embedpipe.model import EmbeddingModel, Record
from embedpipe.stages.admission import LINE_FRAME_BYTES, Load, admitted, is_limited, tokens_max
from embedpipe.stages.submit import request_lines
from tests.worlds import CONFIG, SmallWorld

NOW = datetime(2026, 1, 1, tzinfo=UTC)
limits = st.builds(Limits, enqueued_tokens=st.integers(0, 100), creates_per_minute=st.integers(0, 5))
times = st.none() | st.integers(-200, 200).map(lambda seconds: NOW + timedelta(seconds=seconds))


def loads(prefix: str) -> st.SearchStrategy[list[Load]]:
    one = st.tuples(st.integers(0, 60), times)
    return st.lists(one, max_size=8).map(
        lambda found: [
            Load(batch_id=f"{prefix}{number}", tokens_max=tokens, creating_at=at)
            for number, (tokens, at) in enumerate(found)
        ]
    )


def recent(found: list[Load]) -> int:
    return sum(load.creating_at is not None and abs(NOW - load.creating_at) < timedelta(minutes=1) for load in found)


@given(loads("w"), loads("o"), limits)
def test_the_limits_hold_and_nobody_is_overtaken(waiting: list[Load], there: list[Load], given_limits: Limits) -> None:
    chosen = admitted(waiting, there, NOW, given_limits)
    assert list(chosen) == [load.batch_id for load in waiting[: len(chosen)]]
    through = waiting[: len(chosen)]
    if given_limits.enqueued_tokens and (there or len(chosen) > 1):
        total = sum(load.tokens_max for load in [*there, *through])
        assert total <= given_limits.enqueued_tokens or not chosen
    if given_limits.creates_per_minute and chosen:
        assert recent(there) + len(chosen) <= given_limits.creates_per_minute


@given(loads("w"), loads("o"), limits)
def test_as_many_as_fit_are_let_through(waiting: list[Load], there: list[Load], given_limits: Limits) -> None:
    count = len(admitted(waiting, there, NOW, given_limits))
    if count < len(waiting):
        tokens = sum(load.tokens_max for load in [*there, *waiting[: count + 1]])
        assert (0 < given_limits.enqueued_tokens < tokens) or (
            0 < given_limits.creates_per_minute < recent(there) + count + 1
        )


@given(loads("w"), limits)
def test_where_nothing_is_open_one_goes_through(waiting: list[Load], given_limits: Limits) -> None:
    assert bool(admitted(waiting, [], NOW, given_limits)) == bool(waiting)


@given(loads("w"), loads("o"))
def test_without_limits_all_go_through(waiting: list[Load], there: list[Load]) -> None:
    assert not is_limited(Limits())
    assert admitted(waiting, there, NOW, Limits()) == tuple(load.batch_id for load in waiting)


@given(
    st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
            st.text(st.characters(exclude_categories=["Cs"])),
        ),
        min_size=1,
    )
)
def test_the_tokens_are_an_upper_bound(records: list[tuple[str, str]]) -> None:
    """A token has a byte of the text at least, and a request one token."""
    ids, texts = zip(*records, strict=True)
    lines = request_lines(ids, texts, EmbeddingModel(name="m", dimensions=2))
    assert min(map(len, request_lines([""], [""], EmbeddingModel(name="m", dimensions=2)))) >= LINE_FRAME_BYTES
    assert tokens_max(sum(map(len, lines)), len(lines)) >= sum(len(text.encode()) for text in texts)


# --- in a pipeline ------------------------------------------------------------------------------------------------------


def world(**changes: int) -> SmallWorld:
    config = attrs.evolve(CONFIG, limits=attrs.evolve(CONFIG.limits, requests_per_batch=2, **changes))
    return SmallWorld(lambda *_: attrs.evolve(GOOD, running=("validating",)), config=config)


def open_counts(made: SmallWorld) -> tuple[int, int]:
    rows = [row.status for row in made.observe().rows.values()]
    return rows.count(Status.PENDING), rows.count(Status.INTENT)


RECORDS = [Record(id=f"r{number}", text="x" * 100) for number in range(10)]


def test_a_big_submission_waits_in_line_and_comes_through() -> None:
    made = world(enqueued_tokens=600)  # two batches of two records fit, and not three
    report = made.pipeline().submit(RECORDS)
    assert report.created == 2
    assert open_counts(made) == (2, 3)
    assert len(made.provider.files) == 2  # what waits is not uploaded either
    assert made.pipeline().ingest().created == 0
    report_of_run = made.pipeline().run([])
    assert (report_of_run.collection_count, len(made.provider.paid)) == (10, 5)


def test_a_batch_above_the_limit_goes_alone() -> None:
    made = world(enqueued_tokens=1)
    assert made.pipeline().submit(RECORDS).created == 1
    assert made.pipeline().run([]).collection_count == 10


def test_creates_are_spread_over_minutes() -> None:
    made = world(creates_per_minute=2)
    assert made.pipeline().submit(RECORDS).created == 2
    assert made.pipeline().ingest().created == 0
    made.clock.sleep(61)
    assert made.pipeline().ingest().created == 2
    made.clock.sleep(61)
    assert made.pipeline().run([]).collection_count == 10


def test_without_limits_nothing_is_looked_up() -> None:
    made = world()
    assert made.pipeline().submit(RECORDS).created == 5
