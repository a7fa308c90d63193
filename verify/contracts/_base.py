"""What the suites have in common: the methods a subclass must give, connections that are closed, and races.

A subclass that lacks a method is refused when Python reads it, so that no suite is ever green because it tested nothing.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar, Final, TypeVar

import pytest

from embedpipe.backends.system import SystemClock
from embedpipe.errors import EmbedpipeError, Throttled, WriteConflict

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

CONNECTIONS: Final = 16
"""How many writers race."""
THROTTLED_MAX: Final = 1_000
PAUSE_S: Final = 0.01
_CLOCK: Final = SystemClock()


def required(method: F) -> F:
    """Mark a method that every subclass must define."""
    method.__contract_requires__ = True  # type: ignore[attr-defined]  # a mark on the function itself
    return method


class Contract:
    """Base of the suites. A subclass that is itself a base says so: `class Mine(BlobStoreContract, abstract=True)`."""

    index_lag_s: ClassVar[float] = 0.0
    """How long the store may show an older state where its port allows it."""

    def __init_subclass__(cls, *, abstract: bool = False, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        missing = [name for name, member in inspect.getmembers(cls) if hasattr(member, "__contract_requires__")]
        if missing and not abstract:
            wanted = "; ".join(_described(getattr(cls, name)) for name in missing)
            raise TypeError(
                f"{cls.__name__} does not define {', '.join(missing)}. It must have: {wanted} "
                f"If other suites derive from it, write class {cls.__name__}(..., abstract=True)."
            )

    @required
    def create(self) -> Any:
        """Make a fresh, empty store, and return whatever the other methods need to find it."""
        raise NotImplementedError

    def destroy(self, store: Any) -> None:
        """Remove what `create` made. Nothing to do for a temporary directory."""

    @pytest.fixture
    def store(self) -> Iterator[Any]:
        """What `create` returned."""
        store = self.create()
        yield store
        self.destroy(store)

    @pytest.fixture
    def open_port(self, store: Any) -> Iterator[Callable[[], Any]]:
        """Makes one more connection; all are closed after the test."""
        opened: list[Any] = []

        def connect() -> Any:
            opened.append(self.connect(store))  # type: ignore[attr-defined]  # each suite says what it connects to
            return opened[-1]

        yield connect
        for port in opened:
            close = getattr(port, "close", None)
            if close is not None:
                close()

    @pytest.fixture
    def port(self, open_port: Callable[[], Any]) -> Any:
        """One connection."""
        return open_port()

    def eventually(self, holds: Callable[[], bool]) -> bool:
        """Whether it holds now, or within `index_lag_s`."""
        end_s = _CLOCK.monotonic_s() + self.index_lag_s
        while not holds():
            if _CLOCK.monotonic_s() >= end_s:
                return False
            _CLOCK.sleep(PAUSE_S)
        return True


def _described(method: Callable[..., Any]) -> str:
    parameters = ", ".join(inspect.signature(method).parameters)
    first_line = (inspect.getdoc(method) or "").split("\n")[0]
    return f"{method.__name__}({parameters}): {first_line}"


def race(works: Sequence[Callable[[], T]]) -> list[T | EmbedpipeError]:
    """Run all at the same moment, each in its thread. The result of each, or the error of ours that it raised.

    Any other exception is raised here: no adapter may leak one.
    """
    start = threading.Barrier(len(works))
    results: list[Any] = [None] * len(works)

    def run(index: int) -> None:
        start.wait()
        try:
            results[index] = patiently(works[index])
        except BaseException as error:  # noqa: BLE001  it is raised again, in the test's own thread
            results[index] = error

    threads = [threading.Thread(target=run, args=(index,), daemon=True) for index in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, EmbedpipeError):
            raise result
    return results


def in_parallel(works: Sequence[Callable[[], object]]) -> None:
    """Run all, some at a time, each patiently. Raises the first error."""
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        for _ in pool.map(patiently, works):
            pass


def patiently(work: Callable[[], T]) -> T:
    """`work()`, repeated while the store refuses it for load, which has no effect."""
    for _ in range(THROTTLED_MAX):
        try:
            return work()
        except Throttled:
            _CLOCK.sleep(PAUSE_S)
    return work()


def until_won(work: Callable[[], T]) -> T:
    """`work()`, repeated while the store cannot decide a race."""
    for _ in range(THROTTLED_MAX):
        try:
            return patiently(work)
        except WriteConflict:
            _CLOCK.sleep(PAUSE_S)
    return work()
