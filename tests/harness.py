"""Faults placed by hand: ports that are watched, and do something before or after one chosen call.

A trace is told as: this call of that process does not happen, or its answer is lost, or others run in between. `Crash` is
no `Exception`, so nothing in the pipeline can catch it: what follows the call never happens, as with a process that died.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import attrs

from embedpipe.backends.memory.vectors import MemoryCollection
from embedpipe.errors import NotFound, PreconditionFailed, Unavailable
from embedpipe.pipeline import Pipeline
from tests.worlds import SmallWorld

ANY = ""


class Crash(BaseException):
    """The process ends here."""


def crash() -> NoReturn:
    raise Crash


def dies(call: Callable[[], object]) -> bool:
    """Whether the process ended in `call`."""
    try:
        call()
    except Crash:
        return True
    return False


def lose_answer() -> NoReturn:
    raise Unavailable("The answer was lost.")


def refuse_own_write() -> NoReturn:
    """What a client sees that repeated a conditional write whose first answer was lost."""
    raise PreconditionFailed("The object has changed: by our own first try.")


@attrs.define(kw_only=True)
class Fault:
    """`do` happens once, before or after one call: number `nth` of those named `effect...` whose argument contains `on`."""

    effect: str
    do: Callable[[], object]
    after: bool
    on: str
    nth: int
    seen: int = 0
    struck: bool = False

    def counts(self, effect: str, argument: str) -> bool:
        """Whether this call is the one; it may be asked once for each call."""
        if not effect.startswith(self.effect) or self.on not in argument:
            return False
        self.seen += 1
        return self.seen == self.nth

    def strike(self) -> None:
        self.struck = True
        self.do()


class Faults:
    """The faults of one process, and the names of the calls it made."""

    def __init__(self) -> None:
        self.planned: list[Fault] = []
        self.calls: list[str] = []
        self.armed = False

    def before(self, effect: str, do: Callable[[], object], *, on: str = "", nth: int = 1) -> Faults:
        """Plan a fault: the call has not happened yet."""
        self.planned.append(Fault(effect=effect, do=do, after=False, on=on, nth=nth))
        return self

    def after(self, effect: str, do: Callable[[], object], *, on: str = "", nth: int = 1) -> Faults:
        """Plan a fault: the call has had its effect."""
        self.planned.append(Fault(effect=effect, do=do, after=True, on=on, nth=nth))
        return self

    def around(self, effect: str, argument: str, call: Callable[[], Any]) -> Any:
        self.calls.append(f"{effect} {argument}".strip())
        due = [fault for fault in self.planned if self.armed and fault.counts(effect, argument)]
        for fault in due:
            if not fault.after:
                fault.strike()
        try:
            return call()
        finally:  # also where it has raised: that, too, is an answer
            for fault in due:
                if fault.after:
                    fault.strike()

    def pipeline(self, world: SmallWorld) -> Pipeline:
        """A process on the world's stores that meets these faults, once it is open."""
        opened = world.pipeline(
            objects=Watched(world.objects, "objects", self),
            table=Watched(world.table, "table", self),
            provider=Watched(world.provider, "provider", self),
            vectors=WatchedVectors(world.vectors, self),
        )
        self.calls.clear()
        self.armed = True
        return opened

    def assert_struck(self) -> None:
        """Every planned fault was met; else the test tests nothing."""
        assert [fault for fault in self.planned if not fault.struck] == []


class Watched:
    """A port whose calls the faults see."""

    def __init__(self, inner: Any, name: str, faults: Faults) -> None:
        self._inner = inner
        self._name = name
        self._faults = faults

    def __getattr__(self, attribute: str) -> Any:
        value = getattr(self._inner, attribute)
        if not callable(value):
            return value

        def call(*arguments: Any, **named: Any) -> Any:
            argument = arguments[0] if arguments and isinstance(arguments[0], str) else ""
            return self._faults.around(f"{self._name}.{attribute}", argument, lambda: value(*arguments, **named))

        return call


class WatchedVectors:
    """A vector store whose editions are watched, too."""

    def __init__(self, inner: Any, faults: Faults) -> None:
        self._inner = inner
        self._faults = faults

    def reading(self, database: str, collection: str, *, version: str) -> Any:
        return self._inner.reading(database, collection, version=version)

    @contextmanager
    def editing(self, database: str, collection: str, **options: Any) -> Iterator[Any]:
        with self._inner.editing(database, collection, **options) as edition:
            yield WatchedEdition(edition, self._faults)


class WatchedEdition:
    """An edition whose collection is watched."""

    def __init__(self, inner: Any, faults: Faults) -> None:
        self.in_place = inner.in_place
        self.collection = Watched(inner.collection, "collection", faults)
        self.seal = Watched(inner, "edition", faults).seal


# --- a store that is not merged in place ---------------------------------------------------------------------------


class SnapshotVectors:
    """Each version has a collection of its own, as with snapshots in an object store: merges race for the pointer."""

    def __init__(self) -> None:
        self.versions: dict[str, MemoryCollection] = {}

    @contextmanager
    def reading(self, database: str, collection: str, *, version: str) -> Iterator[MemoryCollection]:
        if version not in self.versions:
            raise NotFound(f"There is no version {version!r}.")
        yield self.versions[version]

    @contextmanager
    def editing(
        self, database: str, collection: str, *, version: str | None, dimensions: int
    ) -> Iterator[SnapshotEdition]:
        copy = MemoryCollection(collection, dimensions)
        if version is not None:
            copy.rows.update(self.versions[version].rows)
        yield SnapshotEdition(self, copy)


class SnapshotEdition:
    """A copy of one version."""

    in_place = False

    def __init__(self, store: SnapshotVectors, collection: MemoryCollection) -> None:
        self._store = store
        self.collection = collection

    def seal(self, prefix: str) -> None:
        self._store.versions[prefix.rstrip("/").rpartition("/")[2]] = self.collection
