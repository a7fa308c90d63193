"""A vector store in local directories, one Chroma database each, merged in place.

`{root}/{database}/current` is a directory that any Chroma client can read. Editors exclude each other by a lock that ends
with the process; readers wait for nobody. What an edition wrote appears at once and whole: at `seal`, or when its block ends
well. A block that fails, or dies, leaves the collection as it was (`chroma_versions` says how, and why).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from embedpipe.backends.chroma_client import client, ensured, existing
from embedpipe.backends.chroma_collection import ChromaCollection, mapped_errors
from embedpipe.backends.chroma_versions import copy_version, current, draft_path, held_current, openable, promote, sweep
from embedpipe.backends.flock import locked
from embedpipe.errors import NotFound
from embedpipe.layout import safe_name
from embedpipe.model import Hit
from embedpipe.ports import Collection, Edition, VectorRows, VectorStore

if TYPE_CHECKING:
    from embedpipe.ports import Vectors


class ChromaVectorStore:
    """Collections below `root`, a local directory (no network file system). Opens nothing until it is used.

    An edition that writes first copies the collection, at the speed of the disk, and needs that much free space. So does
    reading where the directory may not be written, in the system's place for temporary files.
    """

    def __init__(self, root: Path) -> None:
        self._root = Path(root)

    @contextmanager
    def reading(self, database: str, collection: str, *, version: str) -> Iterator[Collection]:  # noqa: ARG002 in place
        """What was there when the block began, whatever `version` says and however long it runs."""
        home = self._home(database)
        name = safe_name(collection, "collection")
        with held_current(home) as path:
            if path is None:
                raise _nothing(database, name)
            with ExitStack() as stack:
                with mapped_errors(f"Chroma directory {path}"):
                    folder = stack.enter_context(openable(path))
                found = existing(stack.enter_context(client(folder)), name)
                if found is None:
                    raise _nothing(database, name)
                yield found

    @contextmanager
    def editing(
        self,
        database: str,
        collection: str,
        *,
        version: str | None,  # noqa: ARG002 in place there is one version: what is there
        dimensions: int,
    ) -> Iterator[Edition]:
        """Waits for other editors. `CollectionMismatch`, `StorageFull`, `CorruptData`."""
        home = self._home(database)
        name = safe_name(collection, "collection")
        with mapped_errors(str(home)):
            home.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            with mapped_errors(str(home)):
                stack.enter_context(locked(home / "lock"))
                sweep(home)
            edition = ChromaEdition(home, database, name, dimensions)
            try:
                edition.begin()
                yield edition
                edition.commit()
            finally:
                edition.close()

    def _home(self, database: str) -> Path:
        return self._root / safe_name(database, "database")


def _nothing(database: str, name: str) -> NotFound:
    return NotFound(f"Database {database} has no collection {name}.", hint="Nothing was merged yet.")


class ChromaEdition:
    """The collection as one editor sees it: the current version until the first write, then a draft. It is a `Collection`."""

    in_place = True

    def __init__(self, home: Path, database: str, name: str, dimensions: int) -> None:
        self._home = home
        self._database = database
        self._name = name
        self._dimensions = dimensions
        self._draft: Path | None = None
        self._stack = ExitStack()
        self._inner: ChromaCollection | None = None

    @property
    def collection(self) -> Collection:
        """Where the merge writes."""
        return self

    def begin(self) -> None:
        """Open what is there, for reading; a draft at once where there is nothing to read."""
        path = current(self._home)
        if path is not None:
            found = existing(self._stack.enter_context(client(path)), self._name)
            if found is not None and found.dimensions == self._dimensions:
                self._inner = found
                return
        self._write_to_draft()

    def seal(self, prefix: str) -> None:  # noqa: ARG002 in place nothing goes to the object store
        """Make what was written current, and durable. Later writes begin another draft."""
        if self._draft is not None:
            self.commit()
            self.begin()

    def commit(self) -> None:
        """Make a draft current. The edition has nothing open afterwards."""
        if self._draft is None:
            return
        draft = self._draft
        with mapped_errors(str(self._home)):
            # A count makes Chroma bring its index up to date, so that readers have nothing to write there.
            self._reader().count()
            self._inner = None
            self._stack.close()
            promote(self._home, draft)
            self._draft = None
            sweep(self._home)

    def close(self) -> None:
        """Close, and drop a draft that was not sealed."""
        self._inner = None
        self._stack.close()
        if self._draft is not None:
            shutil.rmtree(self._draft, ignore_errors=True)
            self._draft = None

    def upsert(self, rows: VectorRows) -> None:
        """As the port says."""
        self._write_to_draft().upsert(rows)

    def delete(self, ids: Sequence[str]) -> None:
        """As the port says."""
        self._write_to_draft().delete(ids)

    def get(self, ids: Sequence[str]) -> VectorRows:
        """As the port says."""
        return self._reader().get(ids)

    def ids(self, *, after: str = "") -> Iterator[str]:
        """As the port says."""
        yield from self._reader().ids(after=after)

    def count(self) -> int:
        """How many rows."""
        return self._reader().count()

    def search(self, vector: Vectors, k: int) -> list[Hit]:
        """As the port says."""
        return self._reader().search(vector, k)

    def _reader(self) -> ChromaCollection:
        if self._inner is None:
            raise NotFound(f"The edition of {self._name} is closed.")
        return self._inner

    def _write_to_draft(self) -> ChromaCollection:
        if self._draft is None:
            self._inner = None
            self._stack.close()
            with mapped_errors(str(self._home)):
                self._draft = draft_path(self._home)
                source = current(self._home)
                if source is None:
                    self._draft.mkdir()
                else:
                    copy_version(source, self._draft)
            opened = self._stack.enter_context(client(self._draft))
            self._inner = ensured(opened, self._database, self._name, self._dimensions)
        return self._reader()


if TYPE_CHECKING:
    _store: type[VectorStore] = ChromaVectorStore
    _edition: type[Edition] = ChromaEdition
    _collection: type[Collection] = ChromaEdition
