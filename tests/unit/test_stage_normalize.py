"""The listed ids, each once, each under its own name; and when a provider is not ours."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedpipe.errors import ProviderMismatch
from embedpipe.lifecycle import Action
from embedpipe.stages.normalize import STRANGE, check_provider, given_results, one, with_own_name
from embedpipe.stages.poll import WaitReason
from embedpipe.wire import ManifestBatch, Result

BATCH = ManifestBatch(index=0, batch_id="b1", openai_batch_id="p1")
NAMES = st.sampled_from(["b1", "b2"])
PROVIDER_NAMES = st.none() | st.sampled_from(["p1", "p2"])
RESULTS = st.builds(Result, batch_id=NAMES, openai_batch_id=PROVIDER_NAMES, action=st.sampled_from(list(Action)[:4]))


def result(**fields: Any) -> Result:
    return Result(**{"batch_id": "b1", "openai_batch_id": "p1", "action": Action.PROCESS_RESULTS, **fields})


def fits(batch: ManifestBatch, found: Result) -> bool:
    return found.batch_id == batch.batch_id and (
        found.openai_batch_id is None or batch.openai_batch_id is None or found.openai_batch_id == batch.openai_batch_id
    )


@given(
    st.builds(ManifestBatch, index=st.just(0), batch_id=st.just("b1"), openai_batch_id=PROVIDER_NAMES),
    RESULTS | st.just("there is no result"),
    st.none() | RESULTS,
)
def test_an_element_is_always_under_its_listed_names(
    batch: ManifestBatch, register: Result | str, given_: Result | None
) -> None:
    """Guarantee G1, for one element: whatever was found, the batch stays in the array and is nobody else."""
    found = with_own_name(batch, one(batch, register, given_))
    assert found.batch_id == batch.batch_id
    assert batch.openai_batch_id is None or found.openai_batch_id == batch.openai_batch_id
    if isinstance(register, Result) and fits(batch, register):
        assert attrs.evolve(found, openai_batch_id=register.openai_batch_id) == register
    elif given_ is not None and fits(batch, given_):
        assert attrs.evolve(found, openai_batch_id=given_.openai_batch_id) == given_
    else:
        assert found.action is Action.UNREADABLE_RESULT
        assert found.reason


def test_what_can_not_be_read_says_why() -> None:
    found = one(BATCH, "poll_results/b1/result.json is not JSON (0 bytes)", None)
    assert (found.batch_id, found.openai_batch_id) == ("b1", "p1")
    assert (found.action, found.reason) == (
        Action.UNREADABLE_RESULT,
        "poll_results/b1/result.json is not JSON (0 bytes)",
    )
    assert one(BATCH, result(batch_id="b2"), None).reason == "the register holds batch_id 'b2'"
    assert one(BATCH, result(openai_batch_id="p9"), None).reason == "the register holds openai_batch_id 'p9'"


def test_a_register_comes_before_what_was_handed_over() -> None:
    register, handed = result(embedding_count=1), result(embedding_count=2)
    assert one(BATCH, register, handed) is register
    assert one(BATCH, "unreadable", handed) is handed


def test_only_full_results_are_taken_from_the_map() -> None:
    full = {"batch_id": "b1", "action": "process_results", "embedding_count": 3}
    odd: list[Any] = [
        None,
        7,
        "b1",
        [],
        {},
        {"batch_id": "b1", "result_s3_key": "k", "result_s3_bucket": "b"},
        {"batch_id": None, "action": "wait"},
        {"batch_id": "b2", "action": None},
        {"batch_id": "b2", "action": "unheard_of"},
        {"batch_id": "b3", "action": "wait", "embedding_count": "three"},
        full,
        {**full, "embedding_count": 4},
    ]
    assert given_results(odd) == {"b1": Result.load(full, "x")}
    assert given_results(None) == {}


# --- whose provider ------------------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from(["ok", "done", *WaitReason]), max_size=9))
def test_most_of_the_batches_decide(reasons: list[str]) -> None:
    """Trace T15: a wrong key must not make every batch lost."""
    results = [
        result(action=Action.PROCESS_RESULTS)
        if reason == "done"
        else result(action=Action.WAIT, reason=str(reason), execution_id="e")
        for reason in reasons
    ]
    strange = sum(reason in STRANGE for reason in reasons)
    if 2 * strange > len(reasons):
        with pytest.raises(ProviderMismatch, match="nothing was changed"):
            check_provider(results, "e")
    else:
        check_provider(results, "e")


def test_the_two_ways_of_not_being_ours() -> None:
    unknown = result(action=Action.WAIT, reason="not_found", execution_id="e")
    refused = result(action=Action.WAIT, reason="unauthorized", execution_id="e")
    with pytest.raises(
        ProviderMismatch, match=r"does not know \(404\) 2 of 3 batches; nothing was changed\. Check that"
    ):
        check_provider([unknown, unknown, result()], "e")
    with pytest.raises(ProviderMismatch, match=r"refused access \(401 or 403\) for 1 of 2 batches"):
        check_provider([unknown, refused], "e")
    check_provider([unknown, result()], "e")
    # A batch that was just created may be unknown for a while; that says nothing about the project.
    check_provider([result(action=Action.WAIT, reason="not_yet_found", execution_id="e")] * 3, "e")
    # A terminal result is one whatever its reason says.
    check_provider([result(reason="not_found", execution_id="e")] * 3, "e")
    # What another execution was told, whose register stands because the poll has failed now, says nothing of today.
    check_provider([refused, refused, unknown], "another")
