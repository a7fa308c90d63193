"""Properties for other people's pipelines: give it your step, and Hypothesis looks for a `batch_id` that gets lost.

    from verify.properties import batch_ids_are_conserved

    def test_our_normalize_handler():
        batch_ids_are_conserved(lambda listed, results: our_handler(listed, results)["poll_results"])

Needs the extra `testing`. The inputs have the shapes of the seed's envelopes, with what real workflows pass: nulls,
references in place of results, results in another order, unreadable ones, and none at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from embedpipe.errors import missing_extra
from verify.strategies import listings, map_outputs

try:
    from hypothesis import HealthCheck, given, settings
    from hypothesis import strategies as st
except ImportError as error:
    raise missing_extra("testing", error.name or "hypothesis") from None

__all__ = ["NormalizeStep", "batch_ids_are_conserved", "lost_or_doubled"]

NormalizeStep = Callable[[Sequence[Mapping[str, Any]], Sequence[Any]], Sequence[Mapping[str, Any]]]
"""`(listed batches, what the Map returned) -> poll_results`: one element for each listed batch."""


def lost_or_doubled(listed: Sequence[Mapping[str, Any]], results: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """How often each `batch_id` stands in `results` that should be there exactly as often as listed; empty is good.

    >>> lost_or_doubled([{"batch_id": "a"}, {"batch_id": "b"}], [{"batch_id": "a"}, {"batch_id": "a"}])
    {'a': 2, 'b': 0}
    """
    wanted = Counter(str(batch["batch_id"]) for batch in listed)
    found = Counter(str(result.get("batch_id")) for result in results)
    return {name: found[name] for name in sorted(wanted | found) if found[name] != wanted[name]}


def batch_ids_are_conserved(step: NormalizeStep, *, batches_max: int = 60, max_examples: int = 100) -> None:
    """Fail where `step` loses, doubles or invents a `batch_id`, or gives one the `openai_batch_id` of another.

    Raises `AssertionError` with the smallest input that shows it, or whatever `step` raises.
    """

    @settings(max_examples=max_examples, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(st.data())
    def explore(data: st.DataObject) -> None:
        listed = data.draw(listings(batches_max))
        outputs = data.draw(map_outputs(listed))
        results = step(listed, outputs)
        wrong = lost_or_doubled(listed, results)
        assert not wrong, f"batch_ids and how often they came out: {wrong}"
        own = {batch["batch_id"]: batch["openai_batch_id"] for batch in listed}
        mixed = [r["batch_id"] for r in results if r.get("openai_batch_id") not in (None, own[r["batch_id"]])]
        assert not mixed, f"batch_ids with another's openai_batch_id: {mixed}"

    explore()
