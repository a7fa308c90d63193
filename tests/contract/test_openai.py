"""The OpenAI backend against the shipped suite: the real SDK, over real HTTP, in front of two providers of ours."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from embedpipe.backends.local_model import LocalModelProvider
from embedpipe.backends.memory.clock import MemoryClock
from embedpipe.backends.memory.provider import MemoryProvider
from embedpipe.backends.openai import OpenAIProvider
from embedpipe.backends.system import SystemClock
from simulator.serving import server
from tests.serving import Switch, switch
from verify.contracts import BatchProviderContract

CLOCK = SystemClock()


@attrs.frozen
class Served:
    """Something behind the server."""

    url: str
    behind: MemoryProvider | Path


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_PROJECT_ID", "OPENAI_ORG_ID"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def switched() -> Iterator[Switch]:
    with switch() as made:
        yield made


class OpenAISuite(BatchProviderContract, abstract=True):
    def create(self) -> None:
        """The fixture `store` makes and ends it."""

    def connect(self, store: Served) -> OpenAIProvider:
        return OpenAIProvider(CLOCK, base_url=store.url, send_dimensions=True)


class TestOverMemoryProvider(OpenAISuite):
    model = "any"
    dimensions = 8
    shorter = 4
    bad_text = None

    @pytest.fixture
    def store(self, switched: Switch) -> Served:
        provider = MemoryProvider(MemoryClock())
        switched.app = server.application(provider, CLOCK, dimensions=8)
        return Served(switched.url, provider)

    def raw_read(self, store: Served, file_id: str) -> bytes | None:
        assert isinstance(store.behind, MemoryProvider)
        return store.behind.bytes_of(file_id)

    def raw_write(self, store: Served, data: bytes) -> str:
        assert isinstance(store.behind, MemoryProvider)
        store.behind.files["file-theirs"] = data
        return "file-theirs"


class TestOverLocalModel(OpenAISuite):
    shorter = 64

    @pytest.fixture
    def store(self, switched: Switch, tmp_path_factory: pytest.TempPathFactory) -> Served:
        root = tmp_path_factory.mktemp("provider")
        provider = LocalModelProvider(root, CLOCK)
        switched.app = server.application(provider, CLOCK, model=self.model, dimensions=256)
        return Served(switched.url, root)

    def raw_read(self, store: Served, file_id: str) -> bytes | None:
        assert isinstance(store.behind, Path)
        path = store.behind / "files" / f"{file_id}.jsonl"
        return path.read_bytes() if path.exists() else None

    def raw_write(self, store: Served, data: bytes) -> str:
        assert isinstance(store.behind, Path)
        (store.behind / "files").mkdir(parents=True, exist_ok=True)
        (store.behind / "files/file-theirs.jsonl").write_bytes(data)
        return "file-theirs"
