"""A Chroma server, against the shipped suite, and what is special about it: the lease, and the server's answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import attrs
import chromadb
import pytest

from embedpipe.backends.chroma_server import ChromaServerStore, stored_name
from embedpipe.backends.memory.objects import MemoryBlobStore
from embedpipe.backends.system import SystemClock
from tests.contract.chroma_process import chroma_server, new_database
from verify.contracts import VectorStoreContract


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
    def _url(self, url: str) -> None:
        self.url = url

    def create(self) -> Place:
        return Place(self.url, new_database(self.url))

    def connect(self, store: Place) -> ChromaServerStore:
        return store.store()

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
