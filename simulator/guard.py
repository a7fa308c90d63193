"""Keeps the real clock and the network out of a simulated world: an actor that asks for them is named, and the run ends.

Only while a world runs are the functions of `time` replaced, and only an actor is refused. `datetime.now` and chance can't be
watched like that: a run that depends on them is not the same twice, and a sweep that repeats it says so.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Final

from embedpipe.errors import InvalidInput
from simulator.kernel import Kernel

__all__ = ["guarded"]

CLOCK: Final = ("sleep", "time", "time_ns", "monotonic", "monotonic_ns")
NETWORK: Final = frozenset({"socket.connect", "socket.getaddrinfo", "socket.bind", "socket.sendto"})
EXEMPT: Final = frozenset({"logging"})
"""Modules whose records have a time that nobody decides by."""

_running: list[Kernel] = []
"""The innermost world that runs is the last."""


@contextmanager
def guarded(kernel: Kernel) -> Iterator[None]:
    """While it runs. `InvalidInput` afterwards where an actor has trespassed, whatever became of the actor."""
    _watch_the_network()
    before = {name: getattr(time, name) for name in CLOCK}
    _running.append(kernel)
    for name, function in before.items():
        setattr(time, name, _refusing(name, function))
    try:
        yield
    finally:
        _running.pop()
        for name, function in before.items():
            setattr(time, name, function)
    if kernel.trespasses:
        raise InvalidInput(kernel.trespasses[0], hint="Take the clock and the stores from the world's ports.")


def _refusing(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def guard(*given: Any) -> Any:
        if sys._getframe(1).f_globals.get("__name__") not in EXEMPT:
            _refuse(f"time.{name}")
        return function(*given)

    return guard


@cache
def _watch_the_network() -> None:
    """A hook stays for as long as the process lives, so there is one."""

    def heard(event: str, _: tuple[Any, ...]) -> None:
        if event in NETWORK:
            _refuse(event)

    sys.addaudithook(heard)


def _refuse(what: str) -> None:
    actor = _running[-1].current if _running else None
    if actor is not None:
        said = f"{actor.name} calls {what} inside a simulated world."
        _running[-1].trespasses.append(said)
        raise InvalidInput(said, hint="Take the clock and the stores from the world's ports.")
