"""Opening and closing Chroma in one directory, and finding or making a collection there.

No embedding function, no telemetry, no network, no settings from the environment's files. Knows nothing of locks or
versions: who opens a directory here is allowed to.
"""

from __future__ import annotations

import copy
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final

from embedpipe.backends.chroma_collection import ChromaCollection, mapped_errors
from embedpipe.backends.vector_rows import mismatch
from embedpipe.errors import CollectionMismatch, missing_extra
from embedpipe.limits import CHROMA_NAME_CHARS_MIN

DIMENSIONS_KEY: Final = "embedpipe_dimensions"
"""In a collection's metadata; also says that the collection is ours."""
NAME_KEY: Final = "embedpipe_name"
DATABASE_KEY: Final = "embedpipe_database"
"""Where one Chroma holds several databases of ours."""
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


@contextmanager
def client(path: Path) -> Iterator[Any]:
    """A client of one directory, closed at the end, its files with it."""
    path = path.resolve()
    with _OPENING, mapped_errors(f"Chroma directory {path}"):
        opened = _open(path)
    try:
        yield opened
    finally:
        with _OPENING:
            opened.close()
            _wait_released(path)


@cache
def _settings() -> Any:
    """Made once, because Chroma takes longer for it than for opening a small directory. To be copied: clients change theirs."""
    try:
        from chromadb.config import Settings
    except ImportError as error:
        raise missing_extra("chroma", error.name or "chromadb") from None
    make_settings: Any = Settings  # its type does not tell of `_env_file`
    # Chroma would take what is missing here from the environment, and from a .env of the current directory.
    return make_settings(
        _env_file=None,
        chroma_api_impl="chromadb.api.rust.RustBindingsAPI",
        migrations="apply",
        anonymized_telemetry=False,
        allow_reset=False,
    )


def _open(path: Path) -> Any:
    settings = copy.deepcopy(_settings())
    import chromadb

    try:
        return chromadb.PersistentClient(path, settings=settings)
    except BaseException:
        # A system that failed to start stays in Chroma's table and would be handed to the next who opens the path.
        if str(path) not in _shared()._identifier_to_refcount:
            _shared()._identifier_to_system.pop(str(path), None)
        raise


def find(opened: Any, name: str, stored: str) -> Any:
    """Chroma's collection of the name `stored`, or None. `CollectionMismatch` where it does not measure cosine distances."""
    from chromadb.errors import NotFoundError

    with mapped_errors(f"Collection {name}"):
        try:
            found = opened.get_collection(stored, embedding_function=None)
        except NotFoundError:
            return None
    space = (found.configuration_json.get("hnsw") or {}).get("space", "l2")
    if space != "cosine":
        raise CollectionMismatch(
            f"Collection {name} measures {space} distances, not cosine.",
            hint="Use another database; the distance of a Chroma collection cannot be changed.",
        )
    return found


def existing(opened: Any, name: str, *, stored: str | None = None) -> ChromaCollection | None:
    """The collection behind our port, or None. `stored`: Chroma's name of it, where that is not `chroma_name`'s."""
    found = find(opened, name, stored or chroma_name(name))
    return None if found is None else _wrapped(opened, found, name, dimensions_of(found))


def ensured(opened: Any, database: str, name: str, dimensions: int, *, stored: str | None = None) -> ChromaCollection:
    """The collection, made where there is none. `CollectionMismatch` for other dimensions or another name."""
    stored = stored or chroma_name(name)
    with mapped_errors(f"Collection {name}"):
        found = find(opened, name, stored)
        if found is not None and dimensions_of(found) != dimensions:
            # An empty collection binds nobody: a first merge that never wrote may be followed by another model.
            if found.count():
                raise mismatch(name, dimensions_of(found), dimensions)
            opened.delete_collection(stored)
            found = None
        if found is None:
            found = _made(opened, database, name, dimensions, stored)
    return _wrapped(opened, found, name, dimensions)


def dimensions_of(found: Any) -> int:
    """What its metadata says; for a collection that others made, the length of a vector; 0 where it is empty."""
    metadata: Mapping[str, object] = found.metadata or {}
    said = metadata.get(DIMENSIONS_KEY)
    if isinstance(said, int):
        return said
    sample = found.get(limit=1, include=["embeddings"])["embeddings"]
    return len(sample[0]) if len(sample) else 0


def _wrapped(opened: Any, found: Any, name: str, dimensions: int) -> ChromaCollection:
    return ChromaCollection(found, name, dimensions=dimensions, slice_rows=opened.get_max_batch_size())


def _made(opened: Any, database: str, name: str, dimensions: int, stored: str) -> Any:
    for other in opened.list_collections():
        metadata = other.metadata or {}
        if DIMENSIONS_KEY in metadata and metadata.get(DATABASE_KEY, database) == database:
            raise CollectionMismatch(
                f"Database {database} holds collection {other.metadata.get(NAME_KEY, other.name)}, not {name}.",
                hint="One database holds one collection: give the kind another database.",
            )
    return opened.create_collection(
        stored,
        embedding_function=None,
        configuration={"hnsw": {"space": "cosine"}},
        metadata={DIMENSIONS_KEY: dimensions, NAME_KEY: name, DATABASE_KEY: database},
    )


def _shared() -> Any:
    from chromadb.api.shared_system_client import SharedSystemClient

    return SharedSystemClient


def _wait_released(path: Path) -> None:
    """Wait until this process has no file open below `path`: Chroma's threads close them a moment after `close`.

    Where another client of this process reads the same path, or where the system cannot tell, there is nothing to wait for.
    """
    pause = threading.Event()
    for _ in range(RELEASE_POLLS_MAX):
        if str(path) in _shared()._identifier_to_system or not open_below(path):
            return
        pause.wait(RELEASE_POLL_S)


def open_below(path: Path) -> bool:
    """Whether this process has a file open below `path`; False where the system does not tell."""
    table = Path("/proc/self/fd")
    start = f"{path}{os.sep}"
    for entry in table.iterdir() if table.is_dir() else ():
        try:
            if str(entry.readlink()).startswith(start):
                return True
        except FileNotFoundError:  # closed meanwhile
            continue
    return False
