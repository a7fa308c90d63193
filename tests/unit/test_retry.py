"""The one retry policy, in virtual time."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedpipe.backends.memory.clock import MemoryClock
from embedpipe.errors import CorruptData, EmbedpipeError, NotFound, Throttled, Unavailable, WriteConflict
from embedpipe.retry import RetryPolicy, call

POLICY = RetryPolicy(attempts=4, first_delay_s=1, rate=2, delay_max_s=3)


def failing(*errors: EmbedpipeError) -> Callable[[], str]:
    """Raises these, one after another, then answers."""
    waiting = list(errors)

    def work() -> str:
        if waiting:
            raise waiting.pop(0)
        return "done"

    return work


def slept_s(work: Callable[[], str], policy: RetryPolicy = POLICY) -> float:
    clock = MemoryClock()
    began = clock.monotonic_s()
    assert call(work, policy, clock) == "done"
    return clock.monotonic_s() - began


def test_it_waits_longer_each_time_up_to_a_limit() -> None:
    assert slept_s(failing()) == 0
    assert slept_s(failing(Unavailable("no"))) == 1
    assert slept_s(failing(Unavailable("no"), WriteConflict("no"))) == 1 + 2
    assert slept_s(failing(Unavailable("no"), WriteConflict("no"), Throttled("no"))) == 1 + 2 + 3


def test_a_services_advice_counts_where_it_is_longer() -> None:
    assert slept_s(failing(Throttled("no", retry_after_s=10))) == 10
    assert slept_s(failing(Throttled("no", retry_after_s=0.1))) == 1
    assert slept_s(failing(Throttled("no", retry_after_s=0))) == 1


@pytest.mark.parametrize(
    ("advice_s", "waited_s"), [(3_600, 3_600), (1e12, 3_600), (math.inf, 3_600), (math.nan, 1), (-math.inf, 1), (-5, 1)]
)
def test_advice_that_makes_no_sense_is_bounded(advice_s: float, waited_s: float) -> None:
    assert slept_s(failing(Throttled("no", retry_after_s=advice_s))) == waited_s


def test_the_last_error_is_raised_as_it_is() -> None:
    errors = [Unavailable(f"number {number}") for number in range(5)]
    clock = MemoryClock()
    with pytest.raises(Unavailable, match="number 3") as caught:
        call(failing(*errors), POLICY, clock)
    assert caught.value is errors[3]


@pytest.mark.parametrize("error", [NotFound("no"), CorruptData("no")])
def test_what_repeating_does_not_help_is_raised_at_once(error: EmbedpipeError) -> None:
    clock = MemoryClock()
    began = clock.monotonic_s()
    with pytest.raises(type(error)):
        call(failing(error), POLICY, clock)
    assert clock.monotonic_s() == began


def test_one_attempt_is_no_repetition() -> None:
    with pytest.raises(Unavailable):
        call(failing(Unavailable("no")), RetryPolicy(attempts=1), MemoryClock())


@given(st.integers(1, 30), st.floats(0, 100), st.floats(1, 10), st.floats(0, 100))
def test_delays_rise_and_are_bounded(attempts: int, first_delay_s: float, rate: float, delay_max_s: float) -> None:
    policy = RetryPolicy(attempts=attempts, first_delay_s=first_delay_s, rate=rate, delay_max_s=delay_max_s)
    delays = list(policy.delays())
    assert len(delays) == attempts - 1
    assert delays == sorted(delays)
    assert all(0 <= delay_s <= delay_max_s for delay_s in delays)
    assert delays[:1] in ([], [min(first_delay_s, delay_max_s)])


@pytest.mark.parametrize("wrong", [{"attempts": 0}, {"first_delay_s": -1}, {"rate": 0.5}, {"delay_max_s": -1}])
def test_a_policy_makes_sense(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        RetryPolicy(**wrong)  # type: ignore[arg-type]  # wrong on purpose
