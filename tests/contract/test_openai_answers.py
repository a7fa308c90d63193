"""The OpenAI backend before servers that answer oddly: nonsense, missing fields, Azure's manners, files of any size."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import attrs
import msgspec
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from embedpipe.backends.memory.clock import MemoryClock
from embedpipe.backends.openai import OpenAIProvider
from embedpipe.backends.system import SystemClock
from embedpipe.errors import CollectionMismatch, ConfigError, RefusedRequest, Unavailable
from simulator.serving import server
from tests.contract.test_openai_faults import KEY, PIECE, line

CLOCK = SystemClock()


@pytest.fixture(autouse=True)
def _one_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_BASE_URL", "OPENAI_PROJECT_ID", "OPENAI_ORG_ID", "AZURE_OPENAI_AD_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", KEY)


@attrs.define
class Odd:
    """A server that answers every call with the next of these, and remembers what it was asked."""

    answers: list[Response]
    asked: list[tuple[str, str, dict[str, str]]] = attrs.field(factory=list)
    bodies: list[bytes] = attrs.field(factory=list)

    def app(self) -> Starlette:
        async def answer(request: Request) -> Response:
            self.bodies.append(await request.body())
            self.asked.append(
                (request.method, str(request.url.path), dict(request.headers) | dict(request.query_params))
            )
            return self.answers.pop(0)

        return Starlette(routes=[Route("/{path:path}", answer, methods=["GET", "POST"])])


def document(**fields: object) -> Response:
    return Response(msgspec.json.encode(fields), media_type="application/json")


NONSENSE = [
    lambda: Response("<html>Sign in</html>", media_type="text/html"),
    lambda: Response("", media_type="application/json"),
    lambda: Response('{"id": "batch_1"', media_type="application/json"),
    lambda: Response("[]", media_type="application/json"),
    lambda: Response("null", media_type="application/json"),
    lambda: Response("\xff", media_type="application/json"),
    lambda: document(),
    lambda: document(id=7, status="completed"),
    lambda: document(id="a/b", status="completed"),
    lambda: document(id="x" * 1_000_000, status="completed"),
    lambda: Response('{"id": "\\ud800", "status": "completed"}', media_type="application/json"),
    lambda: document(id="batch_1", status=None),
    lambda: Response(status_code=204),
    lambda: Response(status_code=304),
]


@pytest.mark.parametrize("answer", NONSENSE)
def test_an_answer_that_makes_no_sense_is_no_answer(tmp_path: Path, answer: Callable[[], Response]) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(line("r0"))
    with server.running(Odd([answer() for _ in range(4)]).app()) as url:
        port = OpenAIProvider(CLOCK, base_url=url)
        for call in (
            lambda: port.create("file-in", {}),
            lambda: port.retrieve("batch_1"),
            lambda: port.embed(["a"], model="m", dimensions=2),
        ):
            with pytest.raises(Unavailable):
                call()
        port.close()


@pytest.mark.parametrize("file_id", [None, "a/b", "x" * 1_000_000])
def test_a_file_whose_id_can_t_be_asked_for_is_not_used(tmp_path: Path, file_id: str | None) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(line("r0"))
    with server.running(Odd([document(id=file_id, status="processed")]).app()) as url:
        port = OpenAIProvider(CLOCK, base_url=url)
        with pytest.raises(Unavailable, match=r"Uploading a file.*provider\.base_url"):
            port.upload(path)
        port.close()


def test_what_a_server_leaves_out_is_absent() -> None:
    bare = document(id="batch_1", status="completed", output_file_id="", error_file_id=None, created_at=0)
    odd = document(
        id="batch_2",
        status="failed",
        request_counts={"total": "7", "completed": -1},
        metadata={"n": 1},
        errors={"data": [{"code": None, "message": None, "line": "x"}, {"code": "bad", "line": 3}]},
        created_at=1e300,
        failed_at=1_700_000_000,
        surprise=[1],
    )
    with server.running(Odd([bare, odd]).app()) as url:
        port = OpenAIProvider(CLOCK, base_url=url)
        first, second = port.retrieve("batch_1"), port.retrieve("batch_2")
        port.close()
    assert (first.output_file_id, first.error_file_id, first.created_at, first.metadata) == (None, None, None, {})
    assert first.counts.total == 0
    assert (second.counts.total, second.counts.completed, dict(second.metadata)) == (0, 0, {"n": "1"})
    assert [(issue.code, issue.line) for issue in second.issues] == [("unknown", None), ("bad", 3)]
    assert second.created_at is None
    assert second.ended_at is not None


def test_questions_take_packed_vectors_and_numbers() -> None:
    def vectors(*embeddings: object) -> Response:
        data = [{"object": "embedding", "index": index, "embedding": one} for index, one in enumerate(embeddings)]
        return document(object="list", model="m", data=data[::-1], usage={})

    answers = [
        vectors("AACAPwAAAAA=", "AAAAAAAAgD8="),
        vectors([1, 0], [0, 1.0]),
        vectors([1, 0, 0], [0, 1, 0]),
        vectors([1, 0]),
        vectors("AAC", "???"),
    ]
    with server.running(Odd(answers).app()) as url:
        port = OpenAIProvider(CLOCK, base_url=url)
        for _ in range(2):
            assert port.embed(["a", "b"], model="m", dimensions=2).tolist() == [[1, 0], [0, 1]]
        errors = (CollectionMismatch, Unavailable, Unavailable)
        for error in errors:
            with pytest.raises(error):
                port.embed(["a", "b"], model="m", dimensions=2)
        port.close()


@pytest.mark.parametrize("sent", [True, False])
def test_only_a_model_that_takes_dimensions_is_asked_for_them(sent: bool) -> None:
    data = [{"object": "embedding", "index": 0, "embedding": [1, 0]}]
    odd = Odd([document(object="list", model="m", data=data, usage={})])
    with server.running(odd.app()) as url:
        port = OpenAIProvider(CLOCK, base_url=url, send_dimensions=sent)
        port.embed(["a"], model="m", dimensions=2)
        port.close()
    assert json.loads(odd.bodies[0]).get("dimensions") == (2 if sent else None)


def test_azure_is_asked_its_way_and_waited_for() -> None:
    clock = MemoryClock()
    waiting = [document(id="file-1", status=status) for status in ("pending", "running", "processed")]
    odd = Odd([*waiting, document(id="batch_1", status="validating"), document(id="file-2", status="error")])
    with server.running(odd.app()) as url:
        port = OpenAIProvider(clock, base_url=url.removesuffix("/v1"), api_version="2026-01-01")
        before_s = clock.monotonic_s()
        assert port.upload(Path(__file__)) == "file-1"
        assert clock.monotonic_s() > before_s
        assert port.create("file-1", {}).id == "batch_1"
        with pytest.raises(RefusedRequest, match="file-2"):
            port.upload(Path(__file__))
        port.close()
    assert [(method, path) for method, path, _ in odd.asked[:4]] == [
        ("POST", "/openai/files"),
        ("GET", "/openai/files/file-1"),
        ("GET", "/openai/files/file-1"),
        ("POST", "/openai/batches"),
    ]
    assert {said["api-version"] for *_, said in odd.asked} == {"2026-01-01"}
    assert {said["api-key"] for *_, said in odd.asked} == {KEY}


def test_a_file_that_is_never_ready_is_given_up() -> None:
    clock = MemoryClock()
    odd = Odd([document(id="file-1", status="pending") for _ in range(100)])
    with server.running(odd.app()) as url:
        port = OpenAIProvider(clock, base_url=url, file_ready_s=20)
        with pytest.raises(Unavailable, match="still pending after 20 s"):
            port.upload(Path(__file__))
        port.close()
    assert len(odd.asked) < 20


@pytest.mark.parametrize(("api_version", "name"), [("", "OPENAI_BASE_URL"), ("2026-01-01", "AZURE_OPENAI_ENDPOINT")])
def test_an_address_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, api_version: str, name: str) -> None:
    monkeypatch.setenv(name, "://")
    with pytest.raises(ConfigError, match="no address"):
        OpenAIProvider(CLOCK, api_version=api_version)
    odd = Odd([document(id="batch_1", status="completed")])
    with server.running(odd.app()) as url:
        monkeypatch.setenv(name, url)
        port = OpenAIProvider(CLOCK, api_version=api_version)
        assert port.retrieve("batch_1").status == "completed"
        port.close()


# --- large files --------------------------------------------------------------------------------------------------------


def test_files_pass_in_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "large.jsonl"
    with path.open("wb") as stream:
        for _ in range(64):
            stream.write(PIECE)
    received = []

    async def take(request: Request) -> Response:
        received.append(sum([len(piece) async for piece in request.stream()]))
        return document(id="file-1", status="processed")

    async def give(_: Request) -> Response:
        return StreamingResponse(iter([PIECE] * 64))

    routes = [Route("/v1/files", take, methods=["POST"]), Route("/v1/files/{id}/content", give)]
    with server.running(Starlette(routes=routes)) as url:
        port = OpenAIProvider(CLOCK, base_url=url)
        tracemalloc.start()
        assert port.upload(path) == "file-1"
        assert sum(map(len, port.content("file-1"))) == 64 << 20
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        port.close()
    assert received[0] > 64 << 20
    assert peak_bytes < 48 << 20  # the SDK's modules among it


def test_a_file_that_breaks_off_is_no_file() -> None:
    torn = StreamingResponse(iter([PIECE]), headers={"content-length": f"{2 << 20}"})
    with server.running(Odd([torn]).app()) as url:
        port = OpenAIProvider(CLOCK, base_url=url)
        read = port.content("file-1")
        with pytest.raises(Unavailable):
            for _ in read:
                pass
        port.close()
