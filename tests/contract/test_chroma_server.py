"""A Chroma server, against the shipped suite, and what is special about it: the lease, and the server's answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import attrs
import chromadb
import numpy as np
import pytest

import embedpipe.backends.chroma_server as under_test
from embedpipe.assembly import close
from embedpipe.backends.chroma_server import ChromaServerStore, stored_name
from embedpipe.backends.memory.clock import MemoryClock
from embedpipe.backends.memory.objects import MemoryBlobStore
from embedpipe.backends.system import SystemClock
from embedpipe.config import Config, build
from embedpipe.errors import (
    CollectionMismatch,
    ConfigError,
    EmbedpipeError,
    InvalidInput,
    ServiceError,
    Throttled,
    Unauthorized,
    Unavailable,
    WriteConflict,
)
from embedpipe.ports import VectorRows
from embedpipe.wire import Lease
from tests.contract.chroma_process import chroma_server, new_database
from tests.harness import Faults, crash, dies
from tests.protocol.scenes import QUICK, records, settle, texts
from tests.worlds import SmallWorld
from verify.contracts import VectorStoreContract
from verify.contracts.vector_versions import DATABASE, DIMENSIONS, NAME, Row, Versions, rows_of, stored, vector

LEASE = f"{DATABASE}/snapshot/lease.json"


@pytest.fixture(scope="session")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with chroma_server(tmp_path_factory.mktemp("chroma-server")) as url:
        yield url


@attrs.frozen
class Place:
    """One Chroma database, and where its leases are."""

    url: str
    database: str
    objects: MemoryBlobStore = attrs.field(factory=MemoryBlobStore)

    def store(self, **options: Any) -> ChromaServerStore:
        settings = {"database": self.database, "lease_s": 1.0, **options}
        return ChromaServerStore(self.url, self.objects, SystemClock(), **settings)

    @contextmanager
    def plain(self) -> Iterator[Any]:
        """Chroma as everybody uses it."""
        host, _, port = self.url.removeprefix("http://").partition(":")
        client: Any = chromadb.HttpClient(host, int(port), database=self.database)
        try:
            yield client
        finally:
            for part in (client, client._admin_client):
                part._server._session.close()


class TestChromaServerStore(VectorStoreContract):
    @pytest.fixture(autouse=True)
    def _settings(self, url: str, request: pytest.FixtureRequest) -> None:
        self.url = url
        # How often a waiting editor looks, and how long a request may take, are parts of the lease.
        self.lease_s = 4.0 if "one_editor" in request.node.name else 40.0

    def create(self) -> Place:
        return Place(self.url, new_database(self.url))

    def connect(self, store: Place) -> ChromaServerStore:
        return store.store(lease_s=self.lease_s)

    def raw_read(self, store: Place, database: str, collection: str, record_id: str) -> Any:
        with store.plain() as client:
            found = client.get_collection(stored_name(database, collection), embedding_function=None).get(
                ids=[record_id], include=["embeddings", "documents", "metadatas"]
            )
        if not found["ids"]:
            return None
        names = {"vector": "embeddings", "document": "documents", "metadata": "metadatas"}
        return {name: found[column][0] for name, column in names.items()}

    def raw_write(self, store: Place, database: str, collection: str, record_id: str, row: Mapping[str, Any]) -> None:
        with store.plain() as client:
            client.get_collection(stored_name(database, collection), embedding_function=None).upsert(
                ids=[record_id],
                embeddings=[list(row["vector"])],
                documents=[row["document"]],
                metadatas=[row["metadata"]],
            )


# --- the lease -------------------------------------------------------------------------------------------------------


@pytest.fixture
def place(url: str) -> Place:
    return Place(url, new_database(url))


@pytest.fixture
def store(place: Place) -> Iterator[ChromaServerStore]:
    made = place.store(lease_s=40.0)
    yield made
    made.close()


def test_who_lost_the_lease_writes_no_more(place: Place) -> None:
    """A holder that was asleep until others went on: its next write is refused before it is sent."""
    clock = MemoryClock()
    store = ChromaServerStore(place.url, place.objects, clock, database=place.database)
    with store.editing(DATABASE, NAME, version=None, dimensions=DIMENSIONS) as edition:
        edition.collection.upsert(rows_of([Row("a", vector(1))]))
        clock.sleep(61)
        for write in (
            lambda: edition.collection.upsert(rows_of([Row("b", vector(2))])),
            lambda: edition.collection.delete(["a"]),
        ):
            with pytest.raises(WriteConflict, match=r"lease\.json"):
                write()
        assert stored(edition.collection, ["a", "b"]) == [Row("a", vector(1))]
    store.close()


def test_a_dead_editor_gives_way_and_a_live_one_does_not(place: Place) -> None:
    clock = MemoryClock()
    lease = Lease(holder="dead", lease_s=100.0, renewed_at="2026-01-01T00:00:00Z")
    place.objects.put(LEASE, lease.dump())
    store = ChromaServerStore(place.url, place.objects, clock, database=place.database, patience_s=90)
    with pytest.raises(Throttled, match=LEASE):
        Versions().write(store, Row("a", vector(1)))
    assert 90 <= clock.monotonic_s() < 96
    store.close()
    store = ChromaServerStore(place.url, place.objects, clock, database=place.database)
    Versions().write(store, Row("a", vector(1)))
    assert 190 <= clock.monotonic_s() < 202
    store.close()


def test_a_whole_pipeline_whose_writer_dies(place: Place) -> None:
    """Its rows show at once; who finds its journal writes them again, and publishes them."""
    world = SmallWorld(QUICK)
    world.vectors = ChromaServerStore(place.url, world.objects, world.clock, database=place.database, lease_s=40)
    world.pipeline().run(records("a", "1"))
    world.pipeline().submit(records("a b", "2"))
    faults = Faults().after("collection.upsert", crash)
    assert dies(faults.pipeline(world).ingest)
    settle(world, texts("a b", "2"))
    world.vectors.close()


# --- what is sent ----------------------------------------------------------------------------------------------------


def test_requests_are_small(store: ChromaServerStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(under_test, "REQUEST_BYTES", 2_000)
    parts: list[int] = []
    inner = under_test.ChromaCollection.upsert

    def noted(self: Any, rows: VectorRows) -> None:
        parts.append(len(rows.ids))
        inner(self, rows)

    monkeypatch.setattr(under_test.ChromaCollection, "upsert", noted)
    long = [Row("long", vector(9), "x" * 5_000), *(Row(f"r{at}", vector(at), "x" * 300) for at in range(10))]
    versions = Versions()
    versions.write(store, *long)
    assert parts == [1, 5, 5]
    assert versions.read(store, [row.id for row in long]) == long
    parts.clear()
    with pytest.raises(InvalidInput, match="64 bits"):
        versions.write(store, *long, Row("odd", vector(1), None, {"n": 2**70}))
    assert parts == [], "refused before the first request"


def test_one_database_holds_one_collection(store: ChromaServerStore, place: Place) -> None:
    Versions().write(store, Row("a", vector(1)))
    with (
        pytest.raises(CollectionMismatch, match="holds collection receipt_words"),
        store.editing(DATABASE, "other", version=None, dimensions=DIMENSIONS),
    ):
        raise AssertionError
    with place.plain() as client:
        assert [found.name for found in client.list_collections()] == ["words.receipt_words"]


def test_from_a_configuration(place: Place, tmp_path: Any) -> None:
    flags = {"vectors.backend": "chroma_server", "vectors.url": place.url, "vectors.database": place.database}
    backends = build(Config.load(tmp_path, flags=flags, env={}), clock=SystemClock())
    versions = Versions()
    versions.write(backends.vectors, Row("a", vector(1)))
    assert versions.count(backends.vectors) == 1
    assert backends.objects.get(LEASE)
    close(backends.vectors)
    close(backends.vectors)
    assert versions.count(backends.vectors) == 1, "a later call connects again"
    backends.close()


# --- what the server answers -----------------------------------------------------------------------------------------


class Answers(BaseHTTPRequestHandler):
    """A server that is no Chroma, or one in trouble."""

    status: ClassVar[int] = 200
    body: ClassVar[bytes] = b""
    wait: ClassVar[threading.Event | None] = None
    seen: ClassVar[list[Mapping[str, str]]] = []

    def do_GET(self) -> None:  # the base class's name
        self.seen.append(dict(self.headers))
        if self.wait is not None:
            self.wait.wait()
            return
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def answering(status: int, body: bytes, *, wait: threading.Event | None = None) -> Iterator[tuple[str, Any]]:
    handler = type("Handler", (Answers,), {"status": status, "body": body, "wait": wait, "seen": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    serving = threading.Thread(target=server.serve_forever, args=(0.01,))
    serving.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", handler
    finally:
        if wait is not None:
            wait.set()
        server.shutdown()
        server.server_close()
        serving.join()


def refusal(url: str, **options: Any) -> EmbedpipeError:
    store = Place(url, "default_database").store(**{"lease_s": 40.0, **options})
    with pytest.raises(EmbedpipeError) as raised:
        Versions().read(store, ["a"])
    store.close()
    assert raised.value.__cause__ is None
    return raised.value


def said_by_chroma(name: str) -> bytes:
    return json.dumps({"error": name, "message": "as it is"}).encode()


@pytest.mark.parametrize(
    ("status", "body", "kind", "hint"),
    [
        (401, b"who are you", Unauthorized, "CHROMA_CLIENT_AUTH_CREDENTIALS"),
        (403, said_by_chroma("AuthError"), Unauthorized, "CHROMA_CLIENT_AUTH_CREDENTIALS"),
        (404, b"<html>no such page</html>", ConfigError, "vectors.url"),
        (200, b"<html>welcome</html>", ConfigError, "vectors.url"),
        (410, b"v1 is gone", ConfigError, "version"),
        (413, b"too large", ServiceError, "max_payload_size_bytes"),
        (429, b"slow down", Throttled, "rate"),
        (500, said_by_chroma("InternalError"), Unavailable, "log"),
        (502, b"bad gateway", Unavailable, "log"),
        (503, b"", Unavailable, "log"),
        (418, b"teapot", ServiceError, "log"),
    ],
)
def test_an_answer_becomes_an_error_of_ours(status: int, body: bytes, kind: type, hint: str) -> None:
    with answering(status, body) as (url, _):
        error = refusal(url)
    assert type(error) is kind
    assert hint in error.hint
    assert url in error.message


def test_what_cannot_be_reached_is_said() -> None:
    with answering(200, b"") as (url, _):
        gone = url
    error = refusal(gone)
    assert type(error) is Throttled, "nothing was sent"
    assert gone in error.message
    assert "vectors.url" in error.hint
    assert type(refusal(gone.replace("http", "https"))) is Throttled


def test_a_server_that_is_silent_is_given_up() -> None:
    with answering(200, b"", wait=threading.Event()) as (url, _):
        error = refusal(url, lease_s=0.4)
    assert type(error) is Unavailable


def test_a_missing_database_is_named(url: str) -> None:
    store = Place(url, "nobody-made-it").store(lease_s=40.0)
    with pytest.raises(ConfigError, match=r"'nobody-made-it'.*vectors\.database"):
        Versions().read(store, ["a"])
    store.close()


SECRET = "s3cr3t-t0ken"


def test_the_token_comes_from_the_environment_and_is_told_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHROMA_CLIENT_AUTH_PROVIDER", "chromadb.auth.token_authn.TokenAuthClientProvider")
    monkeypatch.setenv("CHROMA_CLIENT_AUTH_CREDENTIALS", SECRET)
    with answering(403, b"no") as (url, handler):
        error = refusal(url)
    assert any(f"Bearer {SECRET}" in headers.values() for headers in handler.seen)
    seen: BaseException | None = error
    while seen is not None:
        assert SECRET not in repr(seen) + str(seen)
        seen = seen.__cause__


@pytest.mark.parametrize("url", ["", "ftp://host", "host:8000", "http://", "http://host:x", "http://user:pw@host"])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match=r"vectors\.url") as raised:
        Place(url, "default_database").store()
    assert "pw" not in str(raised.value)


def test_what_changes_all_the_time_is_said(store: ChromaServerStore, monkeypatch: pytest.MonkeyPatch) -> None:
    versions = Versions()
    versions.write(store, Row("a", vector(1)))
    readings = iter(range(10**6))
    inner = under_test.ServerCollection.get

    def changing(self: Any, ids: Any) -> VectorRows:
        found = inner(self, ids)
        return attrs.evolve(found, vectors=found.vectors + np.float32(next(readings)))

    monkeypatch.setattr(under_test.ServerCollection, "get", changing)
    with pytest.raises(Unavailable, match="during each of 20 readings"):
        versions.read(store, ["a"])
