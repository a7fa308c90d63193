"""A copy of a root on this machine, and its stores opened so that faults can be planted in them.

The rule: only what lies in the copy is ever opened for writing. A root with a store elsewhere, or with a link that leads out of
it, is refused, since a copy would share that with the original.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from embedpipe.assembly import Choice
from embedpipe.config import Config
from embedpipe.errors import InvalidInput, full_disk
from embedpipe.model import Kind
from embedpipe.ports import VectorRows
from verify.audit.findings import WrongQuestion
from verify.inject.ground import Broken, CannotPlant, Ground
from verify.sources.live import opened

if TYPE_CHECKING:
    from embedpipe.ports import VectorStore
    from verify.inject.ground import VectorEdits

__all__ = ["copied", "ground_of", "moved"]

LOCAL: Final = {"objects": "files", "table": "sqlite", "vectors": "chroma", "provider": "local_model"}
"""Backends that lie in a root."""
NEEDED: Final = ("objects", "table")
PATHS: Final = ("root", "path")
SQLITE_FILE: Final = "chroma.sqlite3"


def copied(config: Config, copy: Path) -> None:
    """Copy the root of a configuration, links as links. `WrongQuestion` where that can't be done safely."""
    if copy.exists() or copy.is_symlink():
        raise WrongQuestion(f"{copy} exists already.", hint="Remove it, or name another place with --out.")
    if not config.root.is_dir():
        raise WrongQuestion(f"{config.root}: nothing is there.", hint="Check the name of the root.")
    if copy.absolute().is_relative_to(config.root.absolute()):
        raise WrongQuestion(f"{copy} is inside the root.", hint="Name a place beside it with --out.")
    for port in NEEDED:
        _check_inside(port, getattr(config, port), config.root)
    with full_disk(str(copy)):
        shutil.copytree(config.root, copy, symlinks=True)
    for path in copy.rglob("*"):
        if path.is_symlink() and not path.resolve().is_relative_to(copy.resolve()):
            shutil.rmtree(copy)
            original = config.root / path.relative_to(copy)
            raise WrongQuestion(
                f"{original} is a link that leads out of the root, so a copy would share what is behind it.",
                hint="Copy the root with what its links lead to (cp -aL), and use that.",
            )


def _check_inside(port: str, choice: Choice, root: Path) -> None:
    if choice.backend != LOCAL[port] or not _inside(choice, root):
        raise WrongQuestion(
            f"The {port} of this root are elsewhere ({choice.backend}), so a copy of the root would not have its own.",
            hint="Faults are planted in copies of local roots: files and SQLite, both inside the root.",
        )


def _inside(choice: Choice, root: Path) -> bool:
    paths = [Path(str(choice.options[name])) for name in PATHS if name in choice.options]
    return all(path.resolve().is_relative_to(root.resolve()) for path in paths)


def moved(config: Config, copy: Path) -> Config:
    """The configuration of the copy: each place in the root is the same place in the copy."""
    changed: dict[str, Any] = {port: _moved_choice(getattr(config, port), config.root, copy) for port in LOCAL}
    return attrs.evolve(config, root=copy, **changed)


def _moved_choice(choice: Choice, root: Path, copy: Path) -> Choice:
    options = dict(choice.options)
    for name in PATHS:
        place = Path(str(options[name])).resolve() if name in options else None
        if place is not None and place.is_relative_to(root.resolve()):
            options[name] = copy.absolute() / place.relative_to(root.resolve())
    return attrs.evolve(choice, options=options)


@contextmanager
def ground_of(config: Config, kind: Kind, version: str) -> Iterator[Ground]:
    """The stores of a copied root, and nothing that lies elsewhere. `version` is what it publishes; empty: nothing."""
    choices = {port: getattr(config, port) for port in LOCAL}
    mine = {port: each for port, each in choices.items() if each.backend == LOCAL[port] and _inside(each, config.root)}
    missing = [port for port in NEEDED if port not in mine]
    if missing:
        raise WrongQuestion(
            f"{config.root} has no {missing[0]} of its own.", hint="Is its configuration the original's?"
        )
    made = opened(config, mine, config.layout)
    try:
        home = Path(str(config.vectors.options.get("root", ""))) / kind.database
        vectors = made.ports.get("vectors")
        dimensions = config.model.dimensions
        yield Ground(
            kind=kind,
            layout=config.layout,
            dimensions=dimensions,
            clock=made.clock,
            objects=made.ports["objects"],
            table=made.ports["table"],
            vectors=_ChromaEdits(vectors, kind, version, dimensions, home) if vectors is not None and version else None,
            provider=_provider(made.ports.get("provider"), mine.get("provider")),
        )
    finally:
        made.close()


def _provider(backend: Any, choice: Choice | None) -> Any:
    if backend is None or choice is None:
        return None
    from verify.inject.local_provider import LocalProviderEdits

    return LocalProviderEdits(backend, Path(str(choice.options["root"])))


class _ChromaEdits:
    """A collection of the local Chroma, changed through its port; its file is damaged where reading is to fail."""

    def __init__(self, store: VectorStore, kind: Kind, version: str, dimensions: int, home: Path) -> None:
        self._store, self._kind, self._version, self._dimensions = store, kind, version, dimensions
        self._home = home

    def _names(self) -> tuple[str, str]:
        return self._kind.database, self._kind.collection

    def ids(self) -> list[str]:
        """Every id, sorted."""
        with self._store.reading(*self._names(), version=self._version) as collection:
            return list(collection.ids())

    def get(self, ids: Sequence[str]) -> VectorRows:
        """Rows by id."""
        with self._store.reading(*self._names(), version=self._version) as collection:
            return collection.get(ids)

    def write(self, rows: VectorRows) -> None:
        """Put rows. `CannotPlant` where the store refuses the vectors."""
        try:
            with self._store.editing(*self._names(), version=self._version, dimensions=self._dimensions) as edition:
                edition.collection.upsert(rows)
        except InvalidInput as error:
            raise CannotPlant(f"The vector store refuses such vectors: {error.message}") from None

    def delete(self, ids: Sequence[str]) -> None:
        """Remove rows."""
        with self._store.editing(*self._names(), version=self._version, dimensions=self._dimensions) as edition:
            edition.collection.delete(ids)

    def break_reading(self, how: Broken, ids: Sequence[str]) -> None:  # noqa: ARG002  all of it breaks
        """Cut its database in half. `CannotPlant` for what can't be done to a file."""
        if how is not Broken.READING_FAILS:
            raise CannotPlant(f"Nothing that can be done to files brings it about that {how.value}.")
        path = self._home / "current" / SQLITE_FILE
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])


if TYPE_CHECKING:
    _vectors: type[VectorEdits] = _ChromaEdits
