"""The suite of `embedpipe.ports.BatchProvider`: every request answered once, honest counts, one batch a create, clear refusals.

A provider that also embeds online (`QueryEmbedder`) is checked to give the same vectors both ways; set `embeds_online` to False
for one that does not. The suite reads the files with its own few lines, not with the pipeline's parser.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Final

import attrs
import pytest

from embedpipe.backends.system import SystemClock
from embedpipe.errors import EmbedpipeError, NotFound, RefusedRequest
from embedpipe.lifecycle import PROVIDER_PHASES, Phase
from embedpipe.model import ProviderBatch
from embedpipe.ports import BatchProvider
from verify.contracts._base import Contract, race, required

__all__ = ["BatchProviderContract"]

OpenPort = Callable[[], BatchProvider]

TEXTS: Final = tuple(f"line {number} is about {topic}" for number in range(8) for topic in ("fruit", "cars", "rain"))
ODD_IDS: Final = (
    " ",
    "a b",
    "../../etc/passwd",
    'say "hi"',
    "back\\slash",
    "line\nbreak",
    "é",
    "\u2028",
    "\U0001f600",
    "x" * 512,
)
UNKNOWN_IDS: Final = (
    "file-unknown",
    "batch_unknown",
    "batch_000000001_unknown",
    "../batches",
    "../../../../etc/passwd",
    "/etc/passwd",
    "file-../../x",
    "x" * 500,
    "%2e%2e",
    "\x00",
)
_CLOCK: Final = SystemClock()


@attrs.frozen(kw_only=True)
class Answer:
    """One line of an output or error file."""

    custom_id: str
    vectors: tuple[tuple[float, ...], ...] = ()
    status_code: int | None = None
    error_code: str | None = None


def request(custom_id: str, text: str | Sequence[str], model: str, **body: object) -> dict[str, Any]:
    """One line of an input file."""
    return {
        "custom_id": custom_id,
        "method": "POST",
        "url": "/v1/embeddings",
        "body": {"model": model, "input": text, **body},
    }


def answer_of(line: bytes) -> Answer:
    """Read one line of an output or error file."""
    found = json.loads(line)
    response = found["response"]
    error = found["error"] or {}
    if response is None or response["status_code"] != 200:
        said = (response or {}).get("body", {}).get("error") or error
        return Answer(
            custom_id=found["custom_id"], status_code=(response or {}).get("status_code"), error_code=said["code"]
        )
    data = sorted(response["body"]["data"], key=lambda one: int(one["index"]))
    return Answer(
        custom_id=found["custom_id"], vectors=tuple(_numbers(one["embedding"]) for one in data), status_code=200
    )


def _numbers(embedding: str | Sequence[float]) -> tuple[float, ...]:
    import numpy as np

    if isinstance(embedding, str):
        return tuple(np.frombuffer(base64.b64decode(embedding), "<f4").tolist())
    return tuple(np.asarray(embedding, np.float32).tolist())


class BatchProviderContract(Contract, abstract=True):
    """What a provider's Batch API must do."""

    model: ClassVar[str] = "wordllama-l2-256"
    """A model that the provider has."""
    dimensions: ClassVar[int] = 256
    """Length of its vectors."""
    shorter: ClassVar[int | None] = None
    """A shorter length that requests may ask for, if any."""
    bad_text: ClassVar[str | None] = ""
    """A text that is refused as an item; None if the provider takes all."""
    embeds_online: ClassVar[bool] = True
    retrieves_max: ClassVar[int] = 1_000
    """Looks at a batch before it counts as stuck."""
    pause_s: ClassVar[float] = 0.0
    """Between two looks."""

    @required
    def connect(self, store: Any) -> BatchProvider:
        """Connect an adapter to the provider."""
        raise NotImplementedError

    @required
    def raw_read(self, store: Any, file_id: str) -> bytes | None:
        """Read a file around the port; None where it is not."""
        raise NotImplementedError

    @required
    def raw_write(self, store: Any, data: bytes) -> str:
        """Upload an input file around the port and return its id."""
        raise NotImplementedError

    # --- helpers ---------------------------------------------------------------------------------------------------

    @pytest.fixture
    def upload(self, port: BatchProvider, tmp_path: Path) -> Callable[[Sequence[Mapping[str, Any]]], str]:
        """Uploads requests."""

        def upload(requests: Sequence[Mapping[str, Any]]) -> str:
            path = tmp_path / "input.jsonl"
            path.write_bytes(self.lines(requests))
            return port.upload(path)

        return upload

    @staticmethod
    def lines(requests: Sequence[Mapping[str, Any]]) -> bytes:
        """JSON lines."""
        return b"".join(json.dumps(each).encode() + b"\n" for each in requests)

    def requests(self, texts: Sequence[str] = TEXTS, **body: object) -> list[dict[str, Any]]:
        """One request a text, `r0` and so on."""
        return [request(f"r{number}", text, self.model, **body) for number, text in enumerate(texts)]

    def ended(self, port: BatchProvider, batch_id: str) -> ProviderBatch:
        """Retrieve until it has ended. Its statuses must be known ones."""
        for _ in range(self.retrieves_max):
            batch = port.retrieve(batch_id)
            assert batch.id == batch_id
            if PROVIDER_PHASES[batch.status] is Phase.ENDED:
                return batch
            assert batch.output_file_id is None
            _CLOCK.sleep(self.pause_s)
        pytest.fail(f"{batch_id} has not ended after {self.retrieves_max} looks")

    def run(self, port: BatchProvider, file_id: str) -> tuple[ProviderBatch, dict[str, Answer]]:
        """Create a batch and follow it to its end."""
        batch = self.ended(port, port.create(file_id, {}).id)
        return batch, self.answers(port, batch)

    def answers(self, port: BatchProvider, batch: ProviderBatch) -> dict[str, Answer]:
        """All answers of an ended batch by `custom_id`, each there once and counted."""
        output, errors = self.file(port, batch.output_file_id), self.file(port, batch.error_file_id)
        found = {answer.custom_id: answer for answer in (*output, *errors)}
        assert len(found) == len(output) + len(errors), "a custom_id has two lines"
        assert all(answer.vectors for answer in output)
        assert not any(answer.vectors for answer in errors)
        assert (batch.counts.completed, batch.counts.failed) == (len(output), len(errors))
        assert (batch.output_file_id is None, batch.error_file_id is None) == (not output, not errors)
        return found

    @staticmethod
    def file(port: BatchProvider, file_id: str | None) -> list[Answer]:
        """The lines of one file; an absent one has none."""
        data = b"".join(port.content(file_id)) if file_id is not None else b""
        return [answer_of(line) for line in data.splitlines()]

    # --- a batch ---------------------------------------------------------------------------------------------------

    def test_every_request_is_answered_once(self, port: BatchProvider, upload: Any) -> None:
        file_id = upload(self.requests())
        made = port.create(file_id, {"batch_id": "b1", "seq": "7"})
        assert PROVIDER_PHASES[made.status] is Phase.RUNNING
        batch = self.ended(port, made.id)
        assert (batch.status, batch.issues, batch.counts.total) == ("completed", (), len(TEXTS))
        assert (batch.input_file_id, dict(batch.metadata)) == (file_id, {"batch_id": "b1", "seq": "7"})
        assert batch.created_at is not None
        assert batch.created_at.tzinfo is not None
        found = self.answers(port, batch)
        assert found.keys() == {f"r{number}" for number in range(len(TEXTS))}
        assert {len(vector) for answer in found.values() for vector in answer.vectors} == {self.dimensions}

    def test_what_has_ended_stays_as_it_is(self, port: BatchProvider, upload: Any) -> None:
        batch, answers = self.run(port, upload(self.requests()))
        again = port.retrieve(batch.id)
        assert again == batch
        assert self.answers(port, again) == answers

    def test_many_requests_are_answered_once(self, port: BatchProvider, upload: Any) -> None:
        texts = [f"text number {number}" for number in range(2_500)]
        batch, found = self.run(port, upload(self.requests(texts)))
        assert (batch.status, batch.counts.total) == ("completed", 2_500)
        assert found.keys() == {f"r{number}" for number in range(2_500)}

    def test_any_custom_id_comes_back(self, port: BatchProvider, upload: Any) -> None:
        _, found = self.run(port, upload([request(name, f"text {name}", self.model) for name in ODD_IDS]))
        assert found.keys() == set(ODD_IDS)

    def test_a_text_has_one_vector(self, port: BatchProvider, upload: Any) -> None:
        import numpy as np

        texts = ["an apple", "a red car", "an apple", "A red car", "an apple "]
        _, together = self.run(port, upload(self.requests(texts)))
        _, alone = self.run(port, upload(self.requests(["an apple"])))
        vectors = [together[f"r{number}"].vectors[0] for number in range(len(texts))]
        assert vectors[0] == pytest.approx(vectors[2], abs=1e-5)
        assert vectors[0] == pytest.approx(alone["r0"].vectors[0], abs=1e-5)
        assert len({tuple(np.round(vector, 4)) for vector in vectors}) >= 3, "different texts have one vector"

    def test_online_and_batch_vectors_agree(self, port: Any, upload: Any) -> None:
        import numpy as np

        if not self.embeds_online:
            pytest.skip("this provider has no online embeddings")
        _, found = self.run(port, upload(self.requests()))
        online = port.embed(TEXTS, model=self.model, dimensions=self.dimensions)
        assert (online.shape, online.dtype) == ((len(TEXTS), self.dimensions), np.float32)
        batch = np.array([found[f"r{number}"].vectors[0] for number in range(len(TEXTS))])
        assert np.abs(online - batch).max() < 1e-5
        assert port.embed([], model=self.model, dimensions=self.dimensions).shape == (0, self.dimensions)

    def test_a_request_may_ask_for_base64(self, port: BatchProvider, upload: Any) -> None:
        _, numbers = self.run(port, upload(self.requests(encoding_format="float")))
        _, packed = self.run(port, upload(self.requests(encoding_format="base64")))
        for name, answer in numbers.items():
            assert answer.vectors[0] == pytest.approx(packed[name].vectors[0], abs=1e-5)

    def test_a_request_may_ask_for_shorter_vectors(self, port: BatchProvider, upload: Any) -> None:
        import numpy as np

        if self.shorter is None:
            pytest.skip("this model has one length")
        _, found = self.run(port, upload(self.requests(dimensions=self.shorter)))
        vectors = np.array([answer.vectors[0] for answer in found.values()])
        assert vectors.shape == (len(TEXTS), self.shorter)
        assert np.linalg.norm(vectors, axis=1) == pytest.approx(1.0, abs=1e-4)

    def test_a_request_may_have_several_texts(self, port: BatchProvider, upload: Any) -> None:
        _, single = self.run(port, upload(self.requests(["one", "two", "three"])))
        _, several = self.run(port, upload([request("all", ["one", "two", "three"], self.model)]))
        assert len(several["all"].vectors) == 3
        for number, vector in enumerate(several["all"].vectors):
            assert vector == pytest.approx(single[f"r{number}"].vectors[0], abs=1e-5)

    def test_a_bad_text_costs_itself_alone(self, port: BatchProvider, upload: Any) -> None:
        if self.bad_text is None:
            pytest.skip("this provider takes every text")
        batch, found = self.run(port, upload(self.requests(["good", self.bad_text, "also good"])))
        assert batch.status == "completed"
        assert [bool(found[name].vectors) for name in ("r0", "r1", "r2")] == [True, False, True]
        assert 400 <= (found["r1"].status_code or 0) < 500
        assert found["r1"].error_code

    # --- files -----------------------------------------------------------------------------------------------------

    def test_an_upload_is_a_copy(self, store: Any, port: BatchProvider, tmp_path: Path) -> None:
        path = tmp_path / "input.jsonl"
        data = self.lines(self.requests())
        path.write_bytes(data)
        first, second = port.upload(path), port.upload(path)
        path.write_bytes(b"changed")
        assert first != second
        assert b"".join(port.content(first)) == b"".join(port.content(second)) == data
        assert self.raw_read(store, first) == data

    def test_files_of_others_are_used(self, store: Any, port: BatchProvider) -> None:
        _, found = self.run(port, self.raw_write(store, self.lines(self.requests())))
        assert len(found) == len(TEXTS)

    def test_the_port_reads_what_is_there(self, store: Any, port: BatchProvider, upload: Any) -> None:
        batch, _ = self.run(port, upload(self.requests()))
        assert batch.output_file_id is not None
        assert self.raw_read(store, batch.output_file_id) == b"".join(port.content(batch.output_file_id))
        assert self.raw_read(store, "file-unknown") is None

    def test_a_deleted_file_is_gone(self, store: Any, port: BatchProvider, upload: Any) -> None:
        gone, kept = upload(self.requests()), upload(self.requests(["another"]))
        for _ in range(2):
            port.delete_file(gone)
            assert self.raw_read(store, gone) is None
        with pytest.raises(NotFound):
            list(port.content(gone))
        with pytest.raises(NotFound):
            port.create(gone, {})
        assert self.raw_read(store, kept) is not None
        assert upload(self.requests()) not in (gone, kept)

    def test_an_ended_batch_outlives_its_files(self, store: Any, port: BatchProvider, upload: Any) -> None:
        batch, _ = self.run(port, upload(self.requests()))
        other, answers = self.run(port, upload(self.requests()))
        assert batch.input_file_id is not None
        assert batch.output_file_id is not None
        for file_id in (batch.input_file_id, batch.output_file_id):
            port.delete_file(file_id)
            assert self.raw_read(store, file_id) is None
            with pytest.raises(NotFound):
                list(port.content(file_id))
        assert port.retrieve(batch.id).status == batch.status
        assert {found.id for found in port.list()} == {batch.id, other.id}
        assert self.answers(port, other) == answers

    def test_deleting_an_unknown_file_changes_nothing(self, port: BatchProvider, upload: Any) -> None:
        batch, answers = self.run(port, upload(self.requests()))
        for unknown in (*UNKNOWN_IDS, batch.id):
            port.delete_file(unknown)
        assert port.retrieve(batch.id) == batch
        assert self.answers(port, batch) == answers

    # --- creating and finding --------------------------------------------------------------------------------------

    def test_two_creates_of_one_file_are_two_batches(self, port: BatchProvider, upload: Any) -> None:
        file_id = upload(self.requests())
        made = [port.create(file_id, {"batch_id": name}) for name in ("one", "one", "two")]
        assert len({batch.id for batch in made}) == 3
        for batch in made:
            ended = self.ended(port, batch.id)
            assert ended.metadata == batch.metadata
            assert len(self.answers(port, ended)) == len(TEXTS)

    def test_the_list_is_newest_first_and_goes_on_after_any(self, port: BatchProvider, upload: Any) -> None:
        assert list(port.list()) == []
        file_id = upload(self.requests())
        made = [port.create(file_id, {"n": f"{number}"}).id for number in range(5)]
        newest = made[::-1]
        assert self.eventually(lambda: len(list(port.list())) == 5)
        assert [batch.id for batch in port.list()] == newest
        for position, batch_id in enumerate(newest):
            assert [batch.id for batch in port.list(after=batch_id)] == newest[position + 1 :]
        assert [batch.metadata["n"] for batch in port.list()] == ["4", "3", "2", "1", "0"]

    def test_another_connection_finds_everything(self, open_port: OpenPort, upload: Any) -> None:
        made = open_port().create(upload(self.requests()), {"batch_id": "b1"})
        other = open_port()
        assert self.eventually(lambda: [batch.id for batch in other.list()] == [made.id])
        ended = self.ended(other, made.id)
        assert self.answers(open_port(), ended).keys() == {f"r{number}" for number in range(len(TEXTS))}
        assert open_port().retrieve(made.id) == ended

    def test_many_may_look_at_once(self, open_port: OpenPort, upload: Any) -> None:
        made = open_port().create(upload(self.requests()), {})
        results = race([partial(self.ended, open_port(), made.id) for _ in range(8)])
        assert [result for result in results if isinstance(result, EmbedpipeError)] == []
        assert all(result == results[0] for result in results)
        assert len(self.answers(open_port(), open_port().retrieve(made.id))) == len(TEXTS)

    def test_many_may_create_at_once(self, open_port: OpenPort, upload: Any) -> None:
        file_id = upload(self.requests())
        results = race([partial(open_port().create, file_id, {"n": f"{number}"}) for number in range(8)])
        made = {batch.id: batch.metadata for batch in results if isinstance(batch, ProviderBatch)}
        assert len(made) == 8
        assert self.eventually(lambda: {batch.id: batch.metadata for batch in open_port().list()} == made)

    # --- refusals --------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("unknown", UNKNOWN_IDS)
    def test_unknown_ids_are_not_found(self, port: BatchProvider, unknown: str) -> None:
        for call in (
            lambda: port.retrieve(unknown),
            lambda: port.cancel(unknown),
            lambda: port.create(unknown, {}),
            lambda: list(port.content(unknown)),
        ):
            with pytest.raises(NotFound):
                call()
        assert list(port.list()) == []

    def test_an_upload_of_nothing_is_not_found(self, port: BatchProvider, tmp_path: Path) -> None:
        with pytest.raises(NotFound):
            port.upload(tmp_path / "missing")

    @pytest.mark.parametrize(
        "bad",
        [
            b"{not json",
            b'{"custom_id": "r0"',
            b"[]",
            b"\xff\xfe",
            b'{"custom_id": "x", "method": "POST", "url": "/v1/embeddings"}',
            b'{"custom_id": "x", "method": "POST", "url": "/v1/completions", "body": {"model": "m", "input": "x"}}',
            b'{"custom_id": "r0", "method": "POST", "url": "/v1/embeddings", "body": {"model": "m", "input": "x"}}',
        ],
    )
    def test_a_bad_line_fails_the_batch_and_is_named(self, port: BatchProvider, tmp_path: Path, bad: bytes) -> None:
        lines = [json.dumps(each).encode() for each in self.requests(["a", "b", "c"])]
        path = tmp_path / "input.jsonl"
        path.write_bytes(b"\n".join((*lines[:2], bad, lines[2])))
        batch = self.ended(port, port.create(port.upload(path), {}).id)
        assert batch.status == "failed"
        assert [issue.line for issue in batch.issues] == [3]
        assert batch.issues[0].code
        assert (batch.output_file_id, batch.error_file_id) == (None, None)
        assert (batch.counts.completed, batch.counts.failed) == (0, 0)

    def test_an_empty_file_fails_the_batch(self, port: BatchProvider, upload: Any) -> None:
        batch = self.ended(port, port.create(upload([]), {}).id)
        assert batch.status == "failed"
        assert len(batch.issues) == 1

    @pytest.mark.parametrize(
        "metadata", [{f"k{number}": "v" for number in range(17)}, {"k" * 65: "v"}, {"k": "v" * 513}]
    )
    def test_too_much_metadata_is_refused_and_makes_nothing(
        self, port: BatchProvider, upload: Any, metadata: dict[str, str]
    ) -> None:
        file_id = upload(self.requests())
        with pytest.raises(RefusedRequest) as refusal:
            port.create(file_id, metadata)
        assert refusal.value.reason
        assert list(port.list()) == []
        port.create(file_id, {**{f"k{number:02}": "v" * 512 for number in range(15)}, "k" * 64: "v"})

    # --- cancelling ------------------------------------------------------------------------------------------------

    def test_a_cancelled_batch_ends_with_what_it_has(self, port: BatchProvider, upload: Any) -> None:
        file_id = upload(self.requests())
        made = port.create(file_id, {})
        port.cancel(made.id)
        port.cancel(made.id)
        batch = self.ended(port, made.id)
        assert batch.status in ("cancelled", "completed")
        found = self.answers(port, batch)
        assert found.keys() <= {f"r{number}" for number in range(len(TEXTS))}
        assert batch.counts.total == len(TEXTS)

    def test_cancelling_what_has_ended_changes_nothing(self, port: BatchProvider, upload: Any) -> None:
        batch, answers = self.run(port, upload(self.requests()))
        port.cancel(batch.id)
        again = port.retrieve(batch.id)
        assert again == batch
        assert self.answers(port, again) == answers
