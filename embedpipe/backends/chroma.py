"""A vector store in local directories, one Chroma database each, merged in place.

Layout below `root`: `{database}/` is Chroma's own directory, which any Chroma client can read, and `{database}.lock` beside
it carries the lock: exclusive while editing, shared while reading. The client lives inside the lock and is closed before it
is released, so a lock's end means that the files are complete. No embedding function, no telemetry, no network.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from embedpipe.backends.chroma_collection import ChromaCollection, mapped_errors
from embedpipe.backends.flock import locked
from embedpipe.backends.vector_rows import mismatch
from embedpipe.errors import CollectionMismatch, NotFound, missing_extra
from embedpipe.layout import safe_name
from embedpipe.limits import CHROMA_NAME_CHARS_MIN
from embedpipe.ports import Collection, Edition, VectorStore

DIMENSIONS_KEY: Final = "embedpipe_dimensions"
"""In a collection's metadata; also says that the collection is ours."""
NAME_KEY: Final = "embedpipe_name"
RELEASE_POLLS_MAX: Final = 1_000
RELEASE_POLL_S: Final = 0.002

# Chroma shares one system among the clients of a path, and counts them without a lock of its own.
_OPENING: Final = threading.Lock()


def chroma_name(name: str) -> str:
    """The name that Chroma accepts for a collection: ours, or, where ours is too short or ends wrongly, a framed one.

    No name of ours has a dot, so framed names never meet others.

    >>> chroma_name("words"), chroma_name("ab"), chroma_name("words-")
    ('words', 'embedpipe.ab.0', 'embedpipe.words-.0')
    """
    if len(name) >= CHROMA_NAME_CHARS_MIN and name[-1].isalnum():
        return name
    return f"embedpipe.{name}.0"


@attrs.frozen
class ChromaEdition:
    """An edition in place: what is written shows at once."""

    collection: ChromaCollection
    in_place: bool = True

    def seal(self, prefix: str) -> None:
        """Nothing to do in place."""


class ChromaVectorStore:
    """Collections below `root`, a local directory (no network file system). Opens nothing until it is used."""

    def __init__(self, root: Path) -> None:
        self._root = Path(root)

    @contextmanager
    def reading(self, database: str, collection: str, *, version: str) -> Iterator[Collection]:  # noqa: ARG002 in place
        """What is there now, whatever `version` says; waits while an editor is at work."""
        path = self._path(database)
        if not (path / "chroma.sqlite3").exists():
            raise _nothing(database, collection)
        with locked(self._lock_path(database), shared=True), _client(path) as client:
            yield self._existing(client, database, collection)

    @contextmanager
    def editing(
        self,
        database: str,
        collection: str,
        *,
        version: str | None,  # noqa: ARG002 in place there is one version: what is there
        dimensions: int,
    ) -> Iterator[Edition]:
        """Waits for readers and editors, and keeps both out."""
        path = self._path(database)
        with mapped_errors(collection):
            path.mkdir(parents=True, exist_ok=True)
        with locked(self._lock_path(database)), _client(path) as client:
            yield ChromaEdition(_opened(client, database, safe_name(collection, "collection"), dimensions))

    def _path(self, database: str) -> Path:
        return self._root / safe_name(database, "database")

    def _lock_path(self, database: str) -> Path:
        return self._root / f"{database}.lock"

    def _existing(self, client: Any, database: str, name: str) -> ChromaCollection:
        found = _find(client, name)
        if found is None:
            raise _nothing(database, name)
        return ChromaCollection(found, name, dimensions=_dimensions(found), slice_rows=client.get_max_batch_size())


def _nothing(database: str, name: str) -> NotFound:
    return NotFound(f"Database {database} has no collection {name}.", hint="Nothing was merged yet.")


def _opened(client: Any, database: str, name: str, dimensions: int) -> ChromaCollection:
    """The collection to edit, made where there is none."""
    with mapped_errors(name):
        found = _find(client, name)
        if found is not None and _dimensions(found) != dimensions:
            # An empty collection binds nobody: a first merge that never wrote may be followed by another model.
            if found.count():
                raise mismatch(name, _dimensions(found), dimensions)
            client.delete_collection(chroma_name(name))
            found = None
        if found is None:
            found = _made(client, database, name, dimensions)
        return ChromaCollection(found, name, dimensions=dimensions, slice_rows=client.get_max_batch_size())


def _made(client: Any, database: str, name: str, dimensions: int) -> Any:
    for other in client.list_collections():
        if DIMENSIONS_KEY in (other.metadata or {}):
            raise CollectionMismatch(
                f"Database {database} holds collection {other.metadata.get(NAME_KEY, other.name)}, not {name}.",
                hint="One database holds one collection: give the kind another database.",
            )
    return client.create_collection(
        chroma_name(name),
        embedding_function=None,
        configuration={"hnsw": {"space": "cosine"}},
        metadata={DIMENSIONS_KEY: dimensions, NAME_KEY: name},
    )


def _find(client: Any, name: str) -> Any:
    from chromadb.errors import NotFoundError

    with mapped_errors(name):
        try:
            found = client.get_collection(chroma_name(name), embedding_function=None)
        except NotFoundError:
            return None
    space = (found.configuration_json.get("hnsw") or {}).get("space", "l2")
    if space != "cosine":
        raise CollectionMismatch(
            f"Collection {name} measures {space} distances, not cosine.",
            hint="Use another database; the distance of a Chroma collection cannot be changed.",
        )
    return found


def _dimensions(found: Any) -> int:
    """What its metadata says; for a collection that others made, the length of a vector; 0 where it is empty."""
    metadata: Mapping[str, object] = found.metadata or {}
    said = metadata.get(DIMENSIONS_KEY)
    if isinstance(said, int):
        return said
    sample = found.get(limit=1, include=["embeddings"])["embeddings"]
    return len(sample[0]) if len(sample) else 0


@contextmanager
def _client(path: Path) -> Iterator[Any]:
    """A client of one directory, closed at the end."""
    try:
        import chromadb
        from chromadb.config import Settings
    except ImportError as error:
        raise missing_extra("chroma", error.name or "chromadb") from None
    with _OPENING, mapped_errors(path.name):
        # `_env_file`: Chroma would read a .env of the current directory, and stop at names it does not know.
        make_settings: Any = Settings  # its type does not tell of `_env_file`
        settings = make_settings(_env_file=None, anonymized_telemetry=False, allow_reset=False)
        client: Any = chromadb.PersistentClient(path.resolve(), settings=settings)
    try:
        yield client
    finally:
        with _OPENING:
            client.close()
            _wait_released(path.resolve())


def _wait_released(path: Path) -> None:
    """Wait until this process has no file open below `path`: Chroma's threads close them a moment after `close`.

    Where another client of this process reads the same path, or where the system cannot tell, there is nothing to wait for.
    """
    from chromadb.api.shared_system_client import SharedSystemClient

    pause = threading.Event()
    for _ in range(RELEASE_POLLS_MAX):
        if str(path) in SharedSystemClient._identifier_to_system or not _open_below(path):
            return
        pause.wait(RELEASE_POLL_S)


def _open_below(path: Path) -> bool:
    table = Path("/proc/self/fd")
    start = f"{path}{os.sep}"
    for entry in table.iterdir() if table.is_dir() else ():
        try:
            if str(entry.readlink()).startswith(start):
                return True
        except FileNotFoundError:  # closed meanwhile
            continue
    return False


if TYPE_CHECKING:
    _store: type[VectorStore] = ChromaVectorStore
    _edition: type[Edition] = ChromaEdition
