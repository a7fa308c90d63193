"""The development server over raw HTTP: what it refuses and how, what a bad file becomes, and the table of failures."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedpipe.backends.batch_files import ItemError
from embedpipe.backends.memory.behaviour import Behaviour
from embedpipe.backends.memory.clock import MemoryClock
from embedpipe.backends.memory.provider import MemoryProvider
from embedpipe.backends.system import SystemClock
from embedpipe.errors import ConfigError, EmbedpipeError, RefusedRequest, Throttled, Unauthorized, Unavailable
from embedpipe.limits import Limits
from simulator.serving import server
from simulator.serving.endings import Ending, ForcedEndings
from simulator.serving.failures import Answer, Failure, Failures, load, parse
from tests.serving import Switch, switch

CLOCK = SystemClock()
FORM = {"content-type": "multipart/form-data; boundary=cut"}


@attrs.frozen
class Said:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> tuple[int, str | None, str | None]:
        """Status, code and param."""
        found = self.document["error"]
        assert found["message"]
        assert found["type"]
        return self.status, found["code"], found["param"]


@attrs.frozen
class Client:
    """Speaks HTTP, and knows nothing of what is sensible."""

    url: str
    behind: MemoryProvider

    def __call__(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Said:
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        with closing(http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=20)) as connection:
            connection.request(method, path, data, headers or {})
            with connection.getresponse() as answer:
                names = {name.lower(): value for name, value in answer.getheaders()}
                return Said(answer.status, names, answer.read())

    def upload(
        self, data: bytes, *, name: str = "in.jsonl", purpose: str | None = "batch", field: str = "file"
    ) -> Said:
        parts = (
            []
            if purpose is None
            else [f'--cut\r\ncontent-disposition: form-data; name="purpose"\r\n\r\n{purpose}'.encode()]
        )
        parts += [f'--cut\r\ncontent-disposition: form-data; name="{field}"; filename="{name}"\r\n\r\n'.encode() + data]
        return self("POST", "/v1/files", b"\r\n".join([*parts, b"--cut--\r\n"]), FORM)

    def batch(self, data: bytes, **fields: object) -> Any:
        """Upload, create, and look until it has ended."""
        made = self.create(self.upload(data).document["id"], **fields)
        assert made.status == 200
        found = made.document
        while found["status"] in ("validating", "in_progress", "finalizing"):
            found = self("GET", f"/v1/batches/{found['id']}").document
        return found

    def create(self, file_id: object, **fields: object) -> Said:
        usual = {"input_file_id": file_id, "endpoint": "/v1/embeddings", "completion_window": "24h"}
        return self("POST", "/v1/batches", usual | fields)


@pytest.fixture(scope="module")
def switched() -> Iterator[Switch]:
    with switch() as made:
        yield made


@pytest.fixture
def client(switched: Switch) -> Callable[..., Client]:
    def serve(*table: Failure, limits: Limits | None = None, **options: Any) -> Client:
        behind = MemoryProvider(MemoryClock(), limits=limits)
        switched.app = server.application(behind, CLOCK, failures=Failures(table), dimensions=8, **options)
        return Client(switched.url, behind)

    return serve


def line(custom_id: str = "r0", **changes: object) -> bytes:
    usual = {"custom_id": custom_id, "method": "POST", "url": "/v1/embeddings", "body": {"model": "m", "input": "x"}}
    return json.dumps(usual | changes).encode() + b"\n"


# --- what the calls themselves have wrong -----------------------------------------------------------------------------


def test_an_upload_is_checked(client: Callable[..., Client]) -> None:
    ask = client()
    assert ask.upload(line(), purpose=None).error == (400, None, "purpose")
    assert ask.upload(line(), purpose="assistants").error == (400, None, "purpose")
    assert ask.upload(line(), name="in.txt").error == (400, None, "file")
    assert ask.upload(line(), field="other").error == (400, None, "file")
    assert ask("POST", "/v1/files", b"no form", FORM).error[0] == 400
    assert ask("POST", "/v1/files", b"{}").error == (400, None, "file")
    assert ask.behind.files == {}
    made = ask.upload(line(), name="../../etc/in.jsonl")
    assert (made.document["filename"], made.document["bytes"]) == ("in.jsonl", len(line()))
    assert (made.document["object"], made.document["purpose"]) == ("file", "batch")


def test_a_create_is_checked(client: Callable[..., Client]) -> None:
    ask = client()
    file_id = ask.upload(line()).document["id"]
    assert ask.create("file-unknown").error == (404, None, None)
    assert ask.create(file_id, endpoint="/v1/completions").error == (400, "invalid_value", "endpoint")
    assert ask.create(file_id, completion_window="48h").error == (400, "invalid_value", "completion_window")
    assert ask.create(file_id, metadata={str(number): "" for number in range(17)}).error == (
        400,
        "invalid_metadata",
        None,
    )
    assert ask.create(file_id, metadata={"n": 1}).error[0] == 400
    assert ask.create(7).error[0] == 400
    for body in (b"", b"{", b"[]", b"\xff", b"null"):
        assert ask("POST", "/v1/batches", body).error[0] == 400
    assert ask.behind.paid == []
    assert ask.create(file_id, metadata=None).status == 200


def test_what_is_not_there_is_a_404(client: Callable[..., Client]) -> None:
    ask = client()
    paths = ["/v1/batches/x", "/v1/files/x", "/v1/files/x/content", "/v1/files/..%2Fx", "/v1/models", "/", "/v1"]
    assert [ask("GET", path).error[0] for path in paths] == [404] * len(paths)
    assert ask("POST", "/v1/batches/x/cancel").error[0] == 404
    assert ask("DELETE", "/v1/files/x").error[0] == 404
    assert ask("DELETE", "/v1/batches").error[0] == 405


def test_questions_are_checked(client: Callable[..., Client]) -> None:
    ask = client()
    good = {"model": "m", "input": ["a", "b"]}
    found = ask("POST", "/v1/embeddings", good).document
    assert [len(one["embedding"]) for one in found["data"]] == [8, 8]
    bad: dict[str, Any]
    for bad in (
        {"input": []},
        {"input": [1, 2]},
        {"encoding_format": "hex"},
        {"model": None},
        {"input": ["x"] * 2_049},
    ):
        assert ask("POST", "/v1/embeddings", good | bad).error[0] == 400


def test_pages_are_checked(client: Callable[..., Client]) -> None:
    ask = client()
    ids = [ask.upload(line()).document["id"] for _ in range(3)]
    for limit in ("0", "101", "-1", "x", "\u0663", "9" * 30):
        assert (
            ask("GET", f"/v1/batches?limit={limit.encode().hex() if not limit.isascii() else limit}").error[2]
            == "limit"
        )
    page = ask("GET", "/v1/files?limit=2").document
    assert ([one["id"] for one in page["data"]], page["has_more"]) == (ids[:0:-1], True)
    rest = ask("GET", f"/v1/files?after={page['last_id']}").document
    assert ([one["id"] for one in rest["data"]], rest["has_more"]) == (ids[:1], False)


def test_a_deleted_file_is_gone(client: Callable[..., Client]) -> None:
    ask = client()
    found = ask.batch(line())
    for file_id in (found["input_file_id"], found["output_file_id"]):
        assert ask("GET", f"/v1/files/{file_id}").document["bytes"] > 0
        assert ask("DELETE", f"/v1/files/{file_id}").document == {"id": file_id, "object": "file", "deleted": True}
        for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/content")):
            assert ask(method, f"/v1/files/{file_id}{path}").error[0] == 404
    assert ask.create(found["input_file_id"]).error[0] == 404
    assert ask("GET", "/v1/files").document["data"] == []


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (Unauthorized("No."), (401, "invalid_api_key", None)),
        (Throttled("Later.", retry_after_s=1.5), (429, "rate_limit_exceeded", None)),
        (RefusedRequest("No.", reason="insufficient_quota"), (429, "insufficient_quota", None)),
        (RefusedRequest("No.", reason="billing_hard_limit_reached"), (400, "billing_hard_limit_reached", None)),
        (Unavailable("No."), (500, None, None)),
    ],
)
def test_an_error_of_the_provider_is_an_answer(
    client: Callable[..., Client], error: EmbedpipeError, expected: tuple[int, str | None, str | None]
) -> None:
    ask = client()
    ask.behind.closed_to = error
    said = ask("GET", "/v1/batches")
    assert said.error == expected
    assert said.headers.get("retry-after") == ("1.5" if isinstance(error, Throttled) else None)


def test_what_is_no_error_of_ours_is_a_500_without_details(client: Callable[..., Client]) -> None:
    ask = client()
    ask.behind.closed_to = KeyError("secret detail")  # type: ignore[assignment]  # on purpose
    said = ask("GET", "/v1/batches")
    assert said.error == (500, None, None)
    assert b"secret" not in said.body


def test_it_answers_to_its_own_names_alone(client: Callable[..., Client]) -> None:
    ask = client()
    assert ask("GET", "/v1/batches", headers={"Host": "evil.example:80"}).status == 400
    assert ask("GET", "/v1/batches", headers={"Host": "localhost:80"}).status == 200
    assert ask("GET", "/v1/batches", headers={"Host": "[::1]:80"}).status == 200


# --- what a file has wrong ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "code", "at", "param"),
    [
        (b"{not json\n", "invalid_json_line", 1, None),
        (line("a") + line("a"), "duplicate_custom_id", 2, "custom_id"),
        (line("a") + line("b", url="/v1/completions"), "mismatched_endpoint", 2, "url"),
        (line(method="GET"), "invalid_method", 1, "method"),
        (line("a") + line("b", body={"model": "other", "input": "x"}), "model_mismatch", 2, "body.model"),
        (b"", "empty_file", None, None),
        (line("a") + line("b") + line("c") + line("d"), "too_many_requests", None, None),
    ],
)
def test_a_bad_file_fails_its_batch(
    client: Callable[..., Client], data: bytes, code: str, at: int | None, param: str | None
) -> None:
    found = client(limits=Limits(requests_per_batch=3)).batch(data, metadata={"n": "1"})
    assert found["status"] == "failed"
    assert found["failed_at"]
    assert found["output_file_id"] is None
    assert found["metadata"] == {"n": "1"}
    (issue,) = found["errors"]["data"]
    assert (issue["code"], issue["line"], issue["param"]) == (code, at, param)
    assert issue["message"]


def test_a_model_that_is_not_there_fails_its_batch(client: Callable[..., Client]) -> None:
    ask = client(model="the-model")
    found = ask.batch(line("a", body={"model": "the-model", "input": "x"}) + line("b"))
    assert [(issue["code"], issue["line"]) for issue in found["errors"]["data"]] == [("model_not_found", 2)]
    assert ask.batch(line("a", body={"model": "the-model", "input": "x"}))["status"] == "completed"


def test_a_good_file_is_answered_as_the_real_one_does(client: Callable[..., Client]) -> None:
    ask = client()
    found = ask.batch(line("a") + line("b"))
    assert found["status"] == "completed"
    assert found["errors"] is None
    assert found["request_counts"] == {"total": 2, "completed": 2, "failed": 0}
    assert isinstance(found["completed_at"], int)
    assert found["expires_at"] == found["created_at"] + 86_400
    lines = ask("GET", f"/v1/files/{found['output_file_id']}/content").body.splitlines()
    assert {json.loads(one)["custom_id"] for one in lines} == {"a", "b"}
    assert ask("POST", f"/v1/batches/{found['id']}/cancel").error[0] == 409


# --- failures -----------------------------------------------------------------------------------------------------------


def test_the_nth_call_fails_as_told(client: Callable[..., Client]) -> None:
    told = Answer(status=429, code="rate_limit_exceeded", retry_after_s=2)
    ask = client(
        Failure(call="batches.list", nth=2, answer=told),
        Failure(call="batches.list", nth=4, times=2, answer=Answer(status=500, message="Down.")),
        Failure(call="batches.create", answer=Answer(end="failed", code="odd", message="So.", line=1)),
        Failure(call="files.content", times=0, answer=Answer(lose="request")),
    )
    said = [ask("GET", "/v1/batches") for _ in range(6)]
    assert [one.status for one in said] == [200, 429, 200, 500, 500, 200]
    assert (said[1].headers["retry-after"], said[3].document["error"]["message"]) == ("2", "Down.")
    found = ask.batch(line())
    assert (found["status"], found["errors"]["data"][0]["code"]) == ("failed", "odd")
    for _ in range(2):
        with pytest.raises(http.client.HTTPException):
            ask("GET", f"/v1/files/{found['input_file_id']}/content")


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (b"{", "table"),
        (b"\xff", "table"),
        (b"{}", "table: Expected `array`"),
        (b'[{"call": "batches.make", "answer": {"status": 500}}]', "batches.make"),
        (b'[{"call": "batches.create", "answer": {"stauts": 500}}]', "stauts"),
        (b'[{"call": "batches.create", "answer": {"status": 200}}]', "status"),
        (b'[{"call": "batches.create", "nth": 0, "answer": {"status": 500}}]', "nth"),
        (b'[{"call": "batches.create", "answer": {}}]', "row 1 says nothing"),
        (b'[{"call": "batches.create", "answer": {"status": 500, "lose": "answer"}}]', "both status and lose"),
        (b'[{"call": "batches.list", "answer": {"end": "expired"}}]', "only batches.create"),
    ],
)
def test_a_bad_table_is_refused_with_its_place(table: bytes, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse(table, "table")


def test_a_table_comes_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text('[{"call": "batches.list", "answer": {"delay_s": 1}}]')
    assert load(tmp_path / "t.json")[0].answer.delay_s == 1
    with pytest.raises(ConfigError, match=r"none\.json"):
        load(tmp_path / "none.json")


@settings(max_examples=30)
@given(
    st.sampled_from(["expired", "cancelled"]),
    st.integers(0, 8),
    st.lists(st.booleans(), min_size=1, max_size=6),
)
def test_a_forced_ending_answers_every_request_once(ending: str, answered: int, good: list[bool]) -> None:
    """Whatever the provider itself refuses: output and errors hold each request once, and the counts say so."""
    fates = {f"r{number}": ItemError(400, "bad") for number, fine in enumerate(good) if not fine}
    behind = MemoryProvider(MemoryClock(), behaviour=lambda *_: Behaviour(running=(), fates=fates))
    behind.files["file-in"] = b"".join(line(f"r{number}") for number in range(len(good)))
    forced = ForcedEndings(behind)
    made = forced.create("file-in", {})
    forced.force(made, Ending(status=ending, answered=answered))
    batch = forced.retrieve(made.id)
    output, errors = (
        [json.loads(one) for one in b"".join(forced.content(name)).splitlines()] if name else []
        for name in (batch.output_file_id, batch.error_file_id)
    )
    assert batch.status == ending
    assert len(output) == batch.counts.completed == min(answered, sum(good))
    assert len(errors) == batch.counts.failed
    assert sorted(one["custom_id"] for one in output + errors) == sorted(f"r{number}" for number in range(len(good)))
    assert [one for one in forced.list() if one.id == made.id] == [batch]
