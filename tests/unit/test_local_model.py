"""The provider on the local disk: time, limits, crashes, several processes, and a model that needs no network."""

from __future__ import annotations

import json
import logging
import socket
import tracemalloc
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedpipe.backends.local_model import LocalModelProvider
from embedpipe.backends.memory.clock import MemoryClock
from embedpipe.backends.system import SystemClock
from embedpipe.backends.wordllama_model import MODEL_NAME, WordLlamaModel
from embedpipe.errors import CorruptData, InvalidInput, NotFound
from embedpipe.limits import Limits
from embedpipe.model import EmbeddingModel, ProviderBatch
from embedpipe.stages.submit import request_lines
from tests.contract.processes import finish, run_on_small_disk, start

MODEL = EmbeddingModel(name=MODEL_NAME, dimensions=256)
DAY_S = 24 * 3600


@pytest.fixture
def clock() -> MemoryClock:
    return MemoryClock()


def uploaded(provider: LocalModelProvider, folder: Path, texts: Sequence[str], **body: object) -> str:
    path = folder / "input.jsonl"
    lines = request_lines([f"r{number}" for number in range(len(texts))], texts, MODEL)
    if body:
        changed = [json.loads(line) for line in lines]
        for line in changed:
            line["body"].update(body)
        lines = [json.dumps(line).encode() + b"\n" for line in changed]
    path.write_bytes(b"".join(lines))
    return provider.upload(path)


def found(provider: LocalModelProvider, file_id: str | None) -> dict[str, Any]:
    data = b"".join(provider.content(file_id)) if file_id else b""
    return {line["custom_id"]: line for line in map(json.loads, data.splitlines())}


def codes(provider: LocalModelProvider, batch: ProviderBatch) -> dict[str, str]:
    """The error code of each request that has one."""
    errors = found(provider, batch.error_file_id)
    return {name: (line["error"] or line["response"]["body"]["error"])["code"] for name, line in errors.items()}


# --- time ----------------------------------------------------------------------------------------------------------


def test_a_batch_takes_its_delay(tmp_path: Path, clock: MemoryClock) -> None:
    provider = LocalModelProvider(tmp_path / "provider", clock, delay_s=100)
    batch_id = provider.create(uploaded(provider, tmp_path, ["a"]), {}).id
    seen = []
    for _ in range(5):
        batch = provider.retrieve(batch_id)
        seen.append((batch.status, [listed.status for listed in provider.list()]))
        clock.sleep(31)
    words = ["validating", "in_progress", "in_progress", "finalizing", "completed"]
    assert seen == [(word, [word]) for word in words]


def test_the_first_retrieve_computes_where_there_is_no_delay(tmp_path: Path, clock: MemoryClock) -> None:
    provider = LocalModelProvider(tmp_path / "provider", clock)
    made = provider.create(uploaded(provider, tmp_path, ["a"]), {})
    assert (made.status, [batch.status for batch in provider.list()]) == ("validating", ["in_progress"])
    batch = provider.retrieve(made.id)
    assert (batch.status, batch.ended_at) == ("completed", clock.now())
    assert list(provider.list()) == [batch]


def test_a_cancelled_batch_keeps_what_was_done(tmp_path: Path, clock: MemoryClock) -> None:
    provider = LocalModelProvider(tmp_path / "provider", clock, delay_s=100)
    batch_id = provider.create(uploaded(provider, tmp_path, list("abcdefgh")), {}).id
    clock.sleep(25)
    provider.cancel(batch_id)
    clock.sleep(50)
    batch = provider.retrieve(batch_id)
    assert (batch.status, batch.counts.total, batch.counts.completed, batch.counts.failed) == ("cancelled", 8, 2, 6)
    assert found(provider, batch.output_file_id).keys() == {"r0", "r1"}
    assert set(codes(provider, batch).values()) == {"batch_cancelled"}
    clock.sleep(1_000)
    assert provider.retrieve(batch_id) == batch


def test_a_batch_that_takes_longer_than_the_window_expires(tmp_path: Path, clock: MemoryClock) -> None:
    provider = LocalModelProvider(tmp_path / "provider", clock, delay_s=4 * DAY_S)
    batch_id = provider.create(uploaded(provider, tmp_path, list("abcdefgh")), {}).id
    clock.sleep(DAY_S - 1)
    assert provider.retrieve(batch_id).status == "in_progress"
    clock.sleep(1)
    batch = provider.retrieve(batch_id)
    assert (batch.status, batch.counts.completed, batch.counts.failed) == ("expired", 2, 6)
    assert set(codes(provider, batch).values()) == {"batch_expired"}


# --- the model -------------------------------------------------------------------------------------------------------


def test_vectors_mean_something() -> None:
    provider = LocalModelProvider(Path("unused"), SystemClock())
    texts = ["a ripe banana", "a fresh apple", "a fast motorbike", "an old car"]
    vectors = provider.embed(texts, model=MODEL_NAME, dimensions=256)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1.0, abs=1e-5)
    likeness = vectors @ vectors.T
    assert min(likeness[0, 1], likeness[2, 3]) > likeness[:2, 2:].max()


def test_shorter_vectors_are_the_first_numbers() -> None:
    provider = LocalModelProvider(Path("unused"), SystemClock())
    whole = provider.embed(["some text"], model=MODEL_NAME, dimensions=256)[0]
    for dimensions in (64, 128):
        short = provider.embed(["some text"], model=MODEL_NAME, dimensions=dimensions)[0]
        assert short == pytest.approx(whole[:dimensions] / np.linalg.norm(whole[:dimensions]), abs=1e-6)


def test_a_text_has_one_vector_to_the_bit(tmp_path: Path, clock: MemoryClock) -> None:
    provider = LocalModelProvider(tmp_path / "provider", clock)
    texts = ["the text", *(f"other {number} " * (number % 90 + 1) for number in range(2_000)), "the text"]
    batch = provider.retrieve(provider.create(uploaded(provider, tmp_path, texts), {}).id)
    output = found(provider, batch.output_file_id)
    first, last = (output[name]["response"]["body"]["data"][0]["embedding"] for name in ("r0", "r2001"))
    assert first == last
    assert len(output) == 2_002


def test_questions_that_cannot_be_embedded_are_refused() -> None:
    provider = LocalModelProvider(Path("unused"), SystemClock())
    for text in ("", "word " * 8_192, "x" * 1_000_000):
        with pytest.raises(InvalidInput, match="can't be embedded"):
            provider.embed(["fine", text], model=MODEL_NAME, dimensions=256)
    with pytest.raises(InvalidInput, match="no model"):
        provider.embed(["fine"], model="other", dimensions=256)
    with pytest.raises(InvalidInput, match="dimensions"):
        provider.embed(["fine"], model=MODEL_NAME, dimensions=100)


def test_tokens_are_counted_by_the_model() -> None:
    provider = LocalModelProvider(Path("unused"), SystemClock())
    assert provider.count_tokens(["", "a", "a a a", "\U0001f600"]) == [0, 1, 3, 5]


def test_length_alone_never_condemns_a_text_that_fits() -> None:
    model = WordLlamaModel()
    for text in ("----------------" * 40, "transformations " * 40, "addEventListener" * 40):
        tokens = len(model.tokens([text])[0])
        assert not model.certainly_longer_than(text, tokens)
        assert model.certainly_longer_than(text, len(text) // 1_000)


def test_importing_the_model_leaves_logging_alone() -> None:
    script = """
        import logging
        from embedpipe.backends.wordllama_model import WordLlamaModel
        WordLlamaModel().tokens(["a"])
        print(logging.root.handlers, logging.root.level)
    """
    assert finish(start(script)).split() == ["[]", str(logging.WARNING)]


def test_no_network(tmp_path: Path, clock: MemoryClock, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    provider = LocalModelProvider(tmp_path / "provider", clock)
    assert provider.retrieve(provider.create(uploaded(provider, tmp_path, ["a"]), {}).id).status == "completed"


# --- requests that are refused -----------------------------------------------------------------------------------------


def test_each_bad_request_has_its_own_code(tmp_path: Path, clock: MemoryClock) -> None:
    provider = LocalModelProvider(tmp_path / "provider", clock)
    path = tmp_path / "input.jsonl"
    bodies: dict[str, dict[str, Any]] = {
        "good": {"input": "text"},
        "empty": {"input": ""},
        "long": {"input": "word " * 8_192},
        "very-long": {"input": "x" * 1_000_000},
        "fits": {"input": "word " * 8_000},
        "none": {"input": []},
        "one-empty": {"input": ["a", ""]},
        "many": {"input": ["a"] * 2_049},
        "model": {"input": "text", "model": "other"},
        "short": {"input": "text", "dimensions": 64},
        "dimensions": {"input": "text", "dimensions": 100},
    }
    base = {"method": "POST", "url": "/v1/embeddings"}
    lines = [{**base, "custom_id": name, "body": {"model": MODEL_NAME, **body}} for name, body in bodies.items()]
    path.write_bytes(b"\n".join(json.dumps(line).encode() for line in lines))
    batch = provider.retrieve(provider.create(provider.upload(path), {}).id)
    assert codes(provider, batch) == {
        "empty": "empty_string",
        "long": "string_above_max_length",
        "very-long": "string_above_max_length",
        "none": "invalid_array_length",
        "one-empty": "empty_string",
        "many": "invalid_array_length",
        "model": "model_not_found",
        "dimensions": "invalid_dimensions",
    }
    assert found(provider, batch.output_file_id).keys() == {"good", "fits", "short"}


@pytest.mark.parametrize(
    ("limits", "code"),
    [(Limits(requests_per_batch=2), "too_many_requests"), (Limits(file_bytes=100), "file_too_large")],
)
def test_a_file_above_the_limits_fails(tmp_path: Path, clock: MemoryClock, limits: Limits, code: str) -> None:
    provider = LocalModelProvider(tmp_path / "provider", clock, limits=limits)
    batch = provider.retrieve(provider.create(uploaded(provider, tmp_path, ["a", "b", "c"]), {}).id)
    assert (batch.status, [(issue.code, issue.line) for issue in batch.issues]) == ("failed", [(code, None)])


# --- the disk ------------------------------------------------------------------------------------------------------


def test_ids_cannot_leave_the_root(tmp_path: Path, clock: MemoryClock) -> None:
    provider = LocalModelProvider(tmp_path / "provider", clock)
    uploaded(provider, tmp_path, ["a"])
    (tmp_path / "file-secret.jsonl").write_bytes(b"secret")
    (tmp_path / "provider/file-secret.jsonl").write_bytes(b"secret")
    for file_id in (
        "../../file-secret",
        "../file-secret",
        "file-/../../file-secret",
        str(tmp_path / "file-secret"),
        "",
    ):
        with pytest.raises(NotFound):
            list(provider.content(file_id))


def test_damaged_state_is_said(tmp_path: Path, clock: MemoryClock) -> None:
    provider = LocalModelProvider(tmp_path / "provider", clock)
    batch_id = provider.create(uploaded(provider, tmp_path, ["a"]), {}).id
    provider.retrieve(batch_id)
    (tmp_path / f"provider/ended/{batch_id}.json").write_bytes(b'{"status"')
    with pytest.raises(CorruptData, match=batch_id):
        provider.retrieve(batch_id)


def test_an_input_file_that_vanished_is_not_found(tmp_path: Path, clock: MemoryClock) -> None:
    provider = LocalModelProvider(tmp_path / "provider", clock)
    file_id = uploaded(provider, tmp_path, ["a"])
    batch_id = provider.create(file_id, {}).id
    (tmp_path / f"provider/files/{file_id}.jsonl").unlink()
    with pytest.raises(NotFound):
        provider.retrieve(batch_id)


RETRIEVE = """
    import sys
    from pathlib import Path
    from embedpipe.backends.local_model import LocalModelProvider
    from embedpipe.backends.system import SystemClock

    provider = LocalModelProvider(Path(sys.argv[1]), SystemClock())
    provider.count_tokens(["loaded"])
    print("ready", flush=True)
    batch = provider.retrieve(sys.argv[2])
    print(batch.counts.completed, batch.ended_at.isoformat(), flush=True)
"""


def test_several_processes_compute_a_batch_once(tmp_path: Path) -> None:
    root = tmp_path / "provider"
    provider = LocalModelProvider(root, SystemClock())
    batch_id = provider.create(uploaded(provider, tmp_path, [f"text {n}" for n in range(3_000)]), {}).id
    processes = [start(RETRIEVE, root, batch_id) for _ in range(2)]
    said = [finish(process) for process in processes]
    batch = provider.retrieve(batch_id)
    assert batch.ended_at is not None
    assert said == [f"ready\n3000 {batch.ended_at.isoformat()}\n"] * 2
    assert len(found(provider, batch.output_file_id)) == 3_000


def test_a_process_killed_while_computing_leaves_it_to_others(tmp_path: Path) -> None:
    root = tmp_path / "provider"
    provider = LocalModelProvider(root, SystemClock())
    file_id = uploaded(provider, tmp_path, [f"text {n}" for n in range(20_000)])
    caught = 0
    for pause_s in (0.05, 0.3):
        batch_id = provider.create(file_id, {}).id
        process = start(RETRIEVE, root, batch_id)
        assert process.stdout is not None
        process.stdout.readline()
        SystemClock().sleep(pause_s)
        process.kill()
        process.communicate()
        caught += not (root / f"ended/{batch_id}.json").exists()
        assert provider.retrieve(batch_id).counts.completed == 20_000
    assert caught, "no process was killed while it computed: this test tests nothing"
    assert [path for path in (root / "files").iterdir() if path.name.startswith(".")] == []


FILL = """
    import sys
    from pathlib import Path
    from embedpipe.backends.local_model import LocalModelProvider
    from embedpipe.backends.system import SystemClock
    from embedpipe.errors import StorageFull

    root = Path(sys.argv[1])
    provider = LocalModelProvider(root / "provider", SystemClock())
    line = '{"custom_id":"%s","method":"POST","url":"/v1/embeddings","body":{"model":"wordllama-l2-256","input":"x"}}\\n'
    (root / "input").write_text("".join(line % number for number in range(1_000)))
    batch = provider.create(provider.upload(root / "input"), {})
    try:
        provider.retrieve(batch.id)
    except StorageFull as error:
        print(error.code)
    (root / "input").unlink()
    print(list(provider.list())[0].status)
"""


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    assert run_on_small_disk(FILL, tmp_path, tmp_path).split() == ["storage_full", "in_progress"]


def test_memory_is_flat(tmp_path: Path, clock: MemoryClock) -> None:
    provider = LocalModelProvider(tmp_path / "provider", clock)
    provider.count_tokens(["loaded"])

    def peak_bytes(count: int) -> int:
        batch_id = provider.create(uploaded(provider, tmp_path, [f"text {n}" for n in range(count)]), {}).id
        tracemalloc.start()
        try:
            provider.retrieve(batch_id)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    few, many = peak_bytes(2_000), peak_bytes(10_000)
    # An id, an offset and a place in the order for each request; the vectors would be 8 MB and the output 14 MB.
    assert many - few < 3 << 20


def test_times_are_aware(tmp_path: Path) -> None:
    provider = LocalModelProvider(tmp_path / "provider", SystemClock())
    batch = provider.retrieve(provider.create(uploaded(provider, tmp_path, ["a"]), {}).id)
    assert batch.created_at is not None
    assert batch.ended_at is not None
    assert batch.created_at <= batch.ended_at <= datetime.now(UTC)
