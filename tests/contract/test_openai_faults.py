"""The OpenAI backend where things go wrong: what each answer, or none, becomes; nothing is repeated, and no key is told."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest

from embedpipe.backends.memory.clock import MemoryClock
from embedpipe.backends.memory.provider import MemoryProvider
from embedpipe.backends.openai import OpenAIProvider
from embedpipe.backends.system import SystemClock
from embedpipe.errors import (
    ConfigError,
    EmbedpipeError,
    NotFound,
    RefusedRequest,
    ServiceError,
    Throttled,
    Unauthorized,
    Unavailable,
)
from simulator.serving import server
from simulator.serving.failures import Answer, Call, Failure, Failures
from tests.serving import Switch, switch

CLOCK = SystemClock()
KEY = "sk-proj-T0pS3cr3tT0pS3cr3tT0pS3cr3t"
PIECE = b"x" * (1 << 20)


@pytest.fixture(autouse=True)
def _one_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_BASE_URL", "OPENAI_PROJECT_ID", "OPENAI_ORG_ID", "AZURE_OPENAI_AD_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", KEY)


@attrs.frozen
class World:
    """A server with a table of failures, and a client of it."""

    behind: MemoryProvider
    failures: Failures
    port: OpenAIProvider
    file_id: str


@pytest.fixture(scope="module")
def switched() -> Iterator[Switch]:
    with switch() as made:
        yield made


@pytest.fixture
def world(switched: Switch) -> Iterator[Callable[..., World]]:
    opened: list[OpenAIProvider] = []

    def make(*rows: tuple[Call, Answer], timeout_s: float = 600.0, behind: MemoryProvider | None = None) -> World:
        behind = behind or MemoryProvider(MemoryClock())
        failures = Failures([Failure(call=call, answer=answer) for call, answer in rows])
        switched.app = server.application(behind, CLOCK, failures=failures, dimensions=8)
        port = OpenAIProvider(CLOCK, base_url=switched.url, timeout_s=timeout_s)
        opened.append(port)
        behind.files["file-in"] = line("r0")
        return World(behind, failures, port, "file-in")

    yield make
    for port in opened:
        port.close()


def line(custom_id: str) -> bytes:
    asked = {"model": "m", "input": f"text of {custom_id}"}
    return (
        json.dumps({"custom_id": custom_id, "method": "POST", "url": "/v1/embeddings", "body": asked}).encode() + b"\n"
    )


# --- create: paid at most once ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "error", "made"),
    [
        (Answer(lose="answer"), Unavailable, 1),
        (Answer(lose="request"), Unavailable, 0),
        (Answer(delay_s=0.6), Unavailable, 1),
        (Answer(status=500), Unavailable, 0),
        (Answer(status=503), Unavailable, 0),
        (Answer(status=408), Unavailable, 0),
        (Answer(status=409), Unavailable, 0),
        (Answer(status=429, code="rate_limit_exceeded", retry_after_s=7), Throttled, 0),
        (Answer(status=429, code="insufficient_quota"), RefusedRequest, 0),
        (Answer(status=400, code="billing_hard_limit_reached"), RefusedRequest, 0),
        (Answer(status=400, code="token_limit_exceeded"), RefusedRequest, 0),
        (Answer(status=413), RefusedRequest, 0),
        (Answer(status=401), Unauthorized, 0),
        (Answer(status=403), Unauthorized, 0),
    ],
    ids=str,
)
def test_a_create_is_sent_once_and_its_error_says_what_is_known(
    world: Callable[..., World], answer: Answer, error: type[ServiceError], made: int
) -> None:
    found = world(("batches.create", answer), timeout_s=0.3)
    with pytest.raises(error) as raised:
        found.port.create(found.file_id, {"batch_id": "b1"})
    assert type(raised.value) is error
    assert found.failures.count("batches.create") == 1
    CLOCK.sleep(0.1)  # an effect may come after the client has given up
    assert len(found.behind.paid) == made
    assert [batch.metadata["batch_id"] for batch in found.port.list()] == ["b1"] * made
    if isinstance(raised.value, RefusedRequest):
        assert raised.value.reason == (answer.code or "http_413")
    if isinstance(raised.value, Throttled):
        assert raised.value.retry_after_s == 7


def test_nothing_was_sent_where_nobody_listens() -> None:
    listening = server.bind("127.0.0.1", 0)
    url = server.base_url(listening)
    listening.close()
    port = OpenAIProvider(CLOCK, base_url=url)
    with pytest.raises(Throttled, match="can't be reached.*nothing was sent"):
        port.create("file-in", {})
    port.close()


def test_a_file_that_a_create_does_not_see_yet_is_waited_for(world: Callable[..., World]) -> None:
    found = world(("batches.create", Answer(status=404)))
    with pytest.raises(Throttled, match="nothing was made") as raised:
        found.port.create(found.file_id, {})
    assert raised.value.retry_after_s
    assert found.port.create(found.file_id, {}).id


def test_a_file_that_cannot_be_looked_at_is_not_found(world: Callable[..., World]) -> None:
    found = world(("batches.create", Answer(status=404)), ("files.retrieve", Answer(status=500)))
    with pytest.raises(NotFound):
        found.port.create(found.file_id, {})


# --- every call ---------------------------------------------------------------------------------------------------------


def calls(found: World, path: Path) -> dict[Call, Callable[[], object]]:
    return {
        "files.create": lambda: found.port.upload(path),
        "batches.create": lambda: found.port.create(found.file_id, {}),
        "batches.retrieve": lambda: found.port.retrieve("batch_000001"),
        "batches.list": lambda: list(found.port.list()),
        "files.content": lambda: b"".join(found.port.content(found.file_id)),
        "embeddings.create": lambda: found.port.embed(["a"], model="m", dimensions=8),
    }


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Answer(status=500), Unavailable),
        (Answer(status=401), Unauthorized),
        (Answer(status=403), Unauthorized),
        (Answer(status=429, retry_after_s=1), Throttled),
        (Answer(lose="answer"), Unavailable),
    ],
    ids=str,
)
def test_every_call_fails_alike_and_is_not_repeated(
    world: Callable[..., World], tmp_path: Path, answer: Answer, error: type[ServiceError]
) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(line("r0"))
    names = calls(world(), path).keys()
    found = world(*[(name, answer) for name in names])
    for name, call in calls(found, path).items():
        with pytest.raises(error) as raised:
            call()
        assert type(raised.value) is error
        assert found.failures.count(name) == 1
        if error is Unauthorized:
            assert "OPENAI_API_KEY" in raised.value.hint
            assert "OPENAI_PROJECT_ID" in raised.value.hint


def test_another_project_knows_nothing(world: Callable[..., World]) -> None:
    found = world()
    batch_id = found.port.create(found.file_id, {}).id
    found.behind.foreign = True
    for call in (
        lambda: found.port.retrieve(batch_id),
        lambda: found.port.cancel(batch_id),
        lambda: list(found.port.content(found.file_id)),
        lambda: found.port.create(found.file_id, {}),
    ):
        with pytest.raises(NotFound, match="404") as raised:
            call()
        assert "OPENAI_PROJECT_ID" in raised.value.hint
    assert list(found.port.list()) == []


def test_cancelling_tells_an_outage_from_an_end(world: Callable[..., World]) -> None:
    found = world(("batches.cancel", Answer(status=500)))
    batch_id = found.port.create(found.file_id, {}).id
    with pytest.raises(Unavailable):
        found.port.cancel(batch_id)
    found.port.cancel(batch_id)


def test_the_list_is_read_in_pages_of_100(world: Callable[..., World]) -> None:
    found = world()
    made = [found.behind.create(found.file_id, {"n": f"{number}"}).id for number in range(250)]
    assert [batch.id for batch in found.port.list()] == made[::-1]
    assert found.failures.count("batches.list") == 3
    assert [batch.id for batch in found.port.list(after=made[200])] == made[199::-1]
    next(iter(found.port.list()))
    assert found.failures.count("batches.list") == 6  # one page more: what is not asked for is not read


def test_an_expired_batch_keeps_what_it_has(world: Callable[..., World]) -> None:
    found = world(("batches.create", Answer(end="expired", answered=2)))
    found.behind.files["file-in"] = b"".join(line(f"r{number}") for number in range(5))
    batch = found.port.create(found.file_id, {})
    while batch.status in ("validating", "in_progress", "finalizing"):
        batch = found.port.retrieve(batch.id)
    assert (batch.status, batch.counts.completed, batch.counts.failed) == ("expired", 2, 3)
    assert batch.output_file_id is not None
    assert batch.error_file_id is not None
    answered = b"".join(found.port.content(batch.output_file_id)).splitlines()
    errors = [json.loads(one) for one in b"".join(found.port.content(batch.error_file_id)).splitlines()]
    names = [json.loads(one)["custom_id"] for one in answered] + [error["custom_id"] for error in errors]
    assert sorted(names) == [f"r{number}" for number in range(5)]
    assert {error["error"]["code"] for error in errors} == {"batch_expired"}


# --- keys ---------------------------------------------------------------------------------------------------------------


def test_no_key_is_told(world: Callable[..., World], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    echo = f"Incorrect API key provided: {KEY}. You sent 'Bearer {KEY}'."
    found = world(
        ("batches.list", Answer(status=401, message=echo, code=KEY)),
        ("batches.retrieve", Answer(status=400, message=echo, code=KEY)),
        ("files.content", Answer(lose="answer")),
    )
    for call in (
        lambda: list(found.port.list()),
        lambda: found.port.retrieve("batch_1"),
        lambda: list(found.port.content("file-in")),
    ):
        with pytest.raises(ServiceError) as raised:
            call()
        error = raised.value
        assert "T0pS3cr3t" not in f"{error!r} {error} {error.hint} {error.context} {error.__cause__!r}"
        assert error.__suppress_context__
    assert "T0pS3cr3t" not in caplog.text
    assert "T0pS3cr3t" not in repr(vars(found.port))


@pytest.mark.parametrize("key", [f"{KEY}\n", f" {KEY}", "sk-\u2026T0pS3cr3t"])
def test_a_key_that_cannot_be_sent_is_not_quoted(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    for name in ("OPENAI_API_KEY", "AZURE_OPENAI_API_KEY"):
        monkeypatch.setenv(name, key)
    for api_version in ("", "2026-01-01"):
        port = OpenAIProvider(CLOCK, base_url="http://127.0.0.1:9/v1", api_version=api_version)
        with pytest.raises(Unauthorized, match="no key has") as raised:
            list(port.list())
        assert "T0pS3cr3t" not in f"{raised.value} {raised.value.__cause__}"


@pytest.mark.parametrize(("api_version", "variable"), [("", "OPENAI_API_KEY"), ("2026-01-01", "AZURE_OPENAI_API_KEY")])
def test_without_a_key_the_variable_is_named(monkeypatch: pytest.MonkeyPatch, api_version: str, variable: str) -> None:
    for name in ("OPENAI_API_KEY", "AZURE_OPENAI_API_KEY", "OPENAI_ADMIN_KEY"):
        monkeypatch.delenv(name, raising=False)
    port = OpenAIProvider(CLOCK, base_url="https://vectors.invalid", api_version=api_version)
    with pytest.raises(Unauthorized) as raised:
        port.create("file-in", {})
    assert variable in raised.value.hint
    monkeypatch.setenv("OPENAI_ADMIN_KEY", KEY)
    with pytest.raises(Unauthorized, match="no key"):
        port.retrieve("batch_1")


def test_azure_without_an_address_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_OPENAI_ENDPOINT", raising=False)
    with pytest.raises(Unauthorized, match="no address") as raised:
        list(OpenAIProvider(CLOCK, api_version="2026-01-01").list())
    assert "AZURE_OPENAI_ENDPOINT" in raised.value.hint


@pytest.mark.parametrize(
    "url",
    [
        "vectors.example",
        "ftp://me:T0pS3cr3t@vectors.example",
        "http://",
        "http://[::1",
        "https://me:T0pS3cr3t@vectors.example/v1",
    ],
)
def test_a_bad_address_is_refused_at_once(url: str) -> None:
    with pytest.raises(ConfigError) as raised:
        OpenAIProvider(CLOCK, base_url=url)
    assert "T0pS3cr3t" not in str(raised.value)


def test_the_local_model_is_not_asked_of_openai(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="wordllama") as raised:
        OpenAIProvider(CLOCK, model="wordllama-l2-256")
    assert "provider.model" in raised.value.hint
    OpenAIProvider(CLOCK, model="text-embedding-3-small")
    OpenAIProvider(CLOCK, model="wordllama-l2-256", base_url="http://embedpipe.example/v1")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://embedpipe.example/v1")
    OpenAIProvider(CLOCK, model="wordllama-l2-256")


# --- reading ----------------------------------------------------------------------------------------------------------


def test_a_reader_may_stop_early(world: Callable[..., World]) -> None:
    found = world()
    found.behind.files["file-large"] = PIECE * 4
    for _ in range(20):
        pieces = found.port.content("file-large")
        assert next(pieces)
        pieces.close()  # type: ignore[attr-defined]  # it is a generator
    with pytest.raises(EmbedpipeError):
        found.port.upload(Path("/nowhere/in.jsonl"))
