"""The scripted provider: each word of a `Behaviour` does what it says, and nothing else."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedpipe.backends.batch_files import EXPIRED, ItemError
from embedpipe.backends.memory.behaviour import FOR_EVER, SILENT, Behaviour, CreateFault
from embedpipe.backends.memory.clock import MemoryClock
from embedpipe.backends.memory.provider import MemoryProvider, vector_of
from embedpipe.errors import EmbedpipeError, NotFound, RefusedRequest, Throttled, Unauthorized, Unavailable
from embedpipe.limits import Limits
from embedpipe.model import EmbeddingModel, ProviderBatch, ProviderIssue
from embedpipe.stages.submit import request_lines

MODEL = EmbeddingModel(name="m", dimensions=8)
IDS = ("a", "b", "c", "d")


def run(provider: MemoryProvider, folder: Path, ids: tuple[str, ...] = IDS) -> ProviderBatch:
    """Upload and create."""
    path = folder / "input.jsonl"
    path.write_bytes(b"".join(request_lines(ids, [f"text {name}" for name in ids], MODEL)))
    return provider.create(provider.upload(path), {"batch_id": "b"})


def scripted(behaviour: Behaviour, clock: MemoryClock | None = None) -> MemoryProvider:
    return MemoryProvider(clock or MemoryClock(), behaviour=lambda _, __: behaviour)


def lines(provider: MemoryProvider, file_id: str | None) -> list[bytes]:
    return b"".join(provider.content(file_id)).splitlines() if file_id else []


def custom_ids(provider: MemoryProvider, batch: ProviderBatch) -> list[str]:
    both = lines(provider, batch.output_file_id) + lines(provider, batch.error_file_id)
    return sorted(json.loads(line)["custom_id"] for line in both)


def test_statuses_follow_the_retrieves(tmp_path: Path) -> None:
    provider = scripted(Behaviour(running=("validating", "in_progress", "in_progress"), outcome="expired"))
    batch = run(provider, tmp_path)
    seen = [batch.status, *(provider.retrieve(batch.id).status for _ in range(5))]
    assert seen == ["validating", "validating", "in_progress", "in_progress", "expired", "expired"]


def test_statuses_follow_the_clock(tmp_path: Path) -> None:
    clock = MemoryClock()
    provider = scripted(Behaviour(ends_after_s=300), clock)
    batch = run(provider, tmp_path)
    seen = []
    for _ in range(4):
        seen.append(provider.retrieve(batch.id).status)
        clock.sleep(100)
    assert seen == ["validating", "in_progress", "finalizing", "completed"]


def test_a_batch_may_never_end(tmp_path: Path) -> None:
    provider = scripted(Behaviour(running=("validating", "in_progress"), outcome=None))
    batch = run(provider, tmp_path)
    assert [provider.retrieve(batch.id).status for _ in range(50)][1:] == ["in_progress"] * 49


def test_fates(tmp_path: Path) -> None:
    fates = {"a": ItemError(400, "bad", "no"), "b": EXPIRED, "c": SILENT}
    provider = scripted(Behaviour(running=(), fates=fates))
    batch = provider.retrieve(run(provider, tmp_path).id)
    assert (batch.counts.total, batch.counts.completed, batch.counts.failed) == (4, 1, 2)
    assert custom_ids(provider, batch) == ["a", "b", "d"]
    errors = {found["custom_id"]: found for found in map(json.loads, lines(provider, batch.error_file_id))}
    assert errors["a"]["response"]["status_code"] == 400
    assert (errors["b"]["response"], errors["b"]["error"]["code"]) == (None, "batch_expired")


def test_silent_requests_may_be_counted(tmp_path: Path) -> None:
    provider = scripted(Behaviour(running=(), fates={"a": SILENT}, counts_silent=True))
    assert provider.retrieve(run(provider, tmp_path).id).counts.completed == 4


def test_a_batch_with_errors_only_has_no_output_file(tmp_path: Path) -> None:
    provider = scripted(Behaviour(running=(), fates=dict.fromkeys(IDS, EXPIRED), outcome="expired"))
    batch = provider.retrieve(run(provider, tmp_path).id)
    assert batch.output_file_id is None
    assert custom_ids(provider, batch) == list(IDS)


def test_lines_and_output_may_come_late(tmp_path: Path) -> None:
    provider = scripted(Behaviour(running=(), late_retrieves=2, null_output_retrieves=1))
    batch_id = run(provider, tmp_path).id
    first, second = provider.retrieve(batch_id), provider.retrieve(batch_id)
    assert (first.output_file_id, first.counts.completed) == (None, 4)
    assert (len(lines(provider, second.output_file_id)), second.counts.completed) == (2, 4)
    assert custom_ids(provider, provider.retrieve(batch_id)) == list(IDS)


def test_an_absent_file_may_be_spelled_otherwise(tmp_path: Path) -> None:
    provider = scripted(Behaviour(running=(), absent_file_id="", null_output_retrieves=FOR_EVER))
    batch = provider.retrieve(run(provider, tmp_path).id)
    assert (batch.output_file_id, batch.error_file_id, batch.counts.completed) == ("", "", 4)


def test_odd_lines(tmp_path: Path) -> None:
    behaviour = Behaviour(running=(), extra_lines=(b"garbage\n", b"{}\n"), doubled=frozenset("a"), torn=True)
    provider = scripted(behaviour)
    batch = provider.retrieve(run(provider, tmp_path).id)
    found = b"".join(provider.content(batch.output_file_id or ""))
    assert found.count(b'"custom_id":"a"') >= 2
    assert b"garbage\n" in found
    assert not found.endswith(b"\n")
    assert len(found.splitlines()) == 4 + 1 + 2 + 1


def test_order_is_shuffled_by_the_seed(tmp_path: Path) -> None:
    ids = tuple(f"r{number}" for number in range(50))

    def order(seed: int | None) -> list[str]:
        provider = scripted(Behaviour(running=(), shuffle_seed=seed))
        batch = provider.retrieve(run(provider, tmp_path, ids).id)
        return [json.loads(line)["custom_id"] for line in lines(provider, batch.output_file_id)]

    assert order(None) == list(ids)
    assert order(1) == order(1) != order(2)
    assert sorted(order(1)) == sorted(ids)


@pytest.mark.parametrize(
    ("fault", "error", "made"),
    [
        (CreateFault.THROTTLED, Throttled, False),
        (CreateFault.REFUSED, RefusedRequest, False),
        (CreateFault.UNAUTHORIZED, Unauthorized, False),
        (CreateFault.LOST, Unavailable, False),
        (CreateFault.ANSWER_LOST, Unavailable, True),
    ],
)
def test_creates_fail_as_told_and_are_remembered(
    tmp_path: Path, fault: CreateFault, error: type[EmbedpipeError], made: bool
) -> None:
    provider = scripted(Behaviour(create=fault, refusal="token_limit_exceeded"))
    with pytest.raises(error):
        run(provider, tmp_path)
    [create] = provider.creates
    assert (create.nth, create.fault, create.custom_ids, create.metadata) == (1, fault, IDS, {"batch_id": "b"})
    assert [batch.id for batch in provider.list()] == [one.provider_batch_id for one in provider.paid]
    assert bool(provider.paid) is made


def test_refusals_name_the_reason(tmp_path: Path) -> None:
    with pytest.raises(RefusedRequest) as refusal:
        run(scripted(Behaviour(create=CreateFault.REFUSED, refusal="token_limit_exceeded")), tmp_path)
    assert refusal.value.reason == "token_limit_exceeded"


def outcomes(call: Callable[[], Any], count: int) -> str:
    """One letter for each call: n not found, u unauthorized, . well."""

    def one() -> str:
        try:
            call()
        except NotFound:
            return "n"
        except Unauthorized:
            return "u"
        return "."

    return "".join(one() for _ in range(count))


def test_retrieves_fail_as_told(tmp_path: Path) -> None:
    provider = scripted(Behaviour(unknown_retrieves=2, unauthorized_retrieves=1, lost_after_retrieves=4))
    batch = run(provider, tmp_path)
    assert outcomes(lambda: provider.retrieve(batch.id), 8) == "nnu...nn"


def test_a_lost_batch_is_never_found(tmp_path: Path) -> None:
    provider = scripted(Behaviour(unknown_retrieves=FOR_EVER))
    batch = run(provider, tmp_path)
    assert outcomes(lambda: provider.retrieve(batch.id), 20) == "n" * 20


def test_files_may_be_missing_for_a_while(tmp_path: Path) -> None:
    provider = scripted(Behaviour(running=(), content_missing=2))
    batch = provider.retrieve(run(provider, tmp_path).id)
    assert outcomes(lambda: lines(provider, batch.output_file_id), 3) == "nn."


def test_the_list_may_lag(tmp_path: Path) -> None:
    provider = scripted(Behaviour(unlisted_calls=2))
    run(provider, tmp_path)
    assert [len(list(provider.list())) for _ in range(4)] == [0, 0, 1, 1]


def test_a_scripted_validation_failure(tmp_path: Path) -> None:
    issue = ProviderIssue(code="token_limit_exceeded", message="too many", line=None)
    provider = scripted(Behaviour(running=("validating",), outcome="failed", issues=(issue,)))
    batch_id = run(provider, tmp_path).id
    assert provider.retrieve(batch_id).status == "validating"
    batch = provider.retrieve(batch_id)
    assert (batch.status, batch.issues, batch.output_file_id, batch.counts.completed) == ("failed", (issue,), None, 0)


def test_a_bad_file_fails_whatever_is_scripted(tmp_path: Path) -> None:
    provider = MemoryProvider(MemoryClock(), limits=Limits(requests_per_batch=3))
    batch = provider.retrieve(run(provider, tmp_path).id)
    assert (batch.status, [issue.code for issue in batch.issues]) == ("failed", ["too_many_requests"])


def test_a_cancelled_batch_keeps_its_first_half(tmp_path: Path) -> None:
    provider = MemoryProvider(MemoryClock())
    batch_id = run(provider, tmp_path).id
    provider.retrieve(batch_id)
    provider.cancel(batch_id)
    assert [provider.retrieve(batch_id).status for _ in range(3)] == ["cancelling", "cancelled", "cancelled"]
    batch = provider.retrieve(batch_id)
    assert (batch.counts.completed, batch.counts.failed) == (2, 2)
    assert {json.loads(line)["error"]["code"] for line in lines(provider, batch.error_file_id)} == {"batch_cancelled"}


def test_another_key_sees_nothing(tmp_path: Path) -> None:
    provider = scripted(Behaviour(running=()))
    batch = provider.retrieve(run(provider, tmp_path).id)
    provider.foreign = True
    assert list(provider.list()) == []
    assert outcomes(lambda: provider.retrieve(batch.id), 1) == "n"
    assert outcomes(lambda: lines(provider, batch.output_file_id), 1) == "n"
    provider.foreign = False
    provider.closed_to = Unauthorized("The key was revoked.")
    assert outcomes(lambda: provider.retrieve(batch.id), 1) == outcomes(lambda: list(provider.list()), 1) == "u"
    provider.closed_to = None
    assert provider.retrieve(batch.id) == batch


def test_the_chooser_sees_number_and_metadata(tmp_path: Path) -> None:
    seen: list[tuple[int, Mapping[str, str]]] = []

    def choose(nth: int, metadata: Mapping[str, str]) -> Behaviour:
        seen.append((nth, metadata))
        return Behaviour(create=CreateFault.NONE if nth == 2 else CreateFault.LOST)

    provider = MemoryProvider(MemoryClock(), behaviour=choose)
    with pytest.raises(Unavailable):
        run(provider, tmp_path)
    run(provider, tmp_path)
    assert seen == [(1, {"batch_id": "b"}), (2, {"batch_id": "b"})]
    assert [create.nth for create in provider.paid] == [2]


TEXT = st.text(st.characters(codec="utf-8"))


@given(TEXT, TEXT, st.integers(1, 64))
def test_vectors_are_a_function_of_model_and_text(model: str, text: str, dimensions: int) -> None:
    vector = vector_of(model, text, dimensions)
    assert vector.dtype == np.float32
    assert float(np.linalg.norm(vector)) == pytest.approx(1.0, abs=1e-5)
    assert np.array_equal(vector, vector_of(model, text, dimensions))
    if dimensions > 2:
        assert not np.array_equal(vector, vector_of(model, text + "x", dimensions))
        assert not np.array_equal(vector, vector_of(model + "x", text, dimensions))


def test_the_same_vector_on_every_machine() -> None:
    assert vector_of("m", "a", 3).tolist() == pytest.approx([0.656966, 0.474013, -0.586266], abs=1e-6)


@given(st.data())
def test_every_request_has_its_lines_whatever_the_behaviour(data: st.DataObject) -> None:
    ids = tuple(f"r{number}" for number in range(data.draw(st.integers(1, 12))))
    fate = st.sampled_from([SILENT, EXPIRED, ItemError(400, "bad"), ItemError(500, "server_error")])
    fates = data.draw(st.dictionaries(st.sampled_from(ids), fate))
    doubled = data.draw(st.frozensets(st.sampled_from(ids)))
    behaviour = Behaviour(running=(), fates=fates, doubled=doubled, shuffle_seed=data.draw(st.integers() | st.none()))
    provider = scripted(behaviour)
    with tempfile.TemporaryDirectory() as folder:
        batch = provider.retrieve(run(provider, Path(folder), ids).id)
    expected = [name for name in ids if fates.get(name, True) is not SILENT]
    assert custom_ids(provider, batch) == sorted(expected + [name for name in expected if name in doubled])
    assert batch.counts.completed + batch.counts.failed == len(expected)
