"""Keeps clock, network, threads and processes of the machine out of a world: who asks for them is named, and the run ends.

Only while a world runs are the functions of `time` replaced, and `Thread.start`; only an actor is refused. `datetime.now` and
chance can't be watched like that: a run that depends on them is not the same twice, and a sweep that repeats it says so.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Final

from embedpipe.errors import InvalidInput
from simulator.kernel import Kernel

__all__ = ["guarded"]

REPLACED: Final[tuple[tuple[str, Any, str], ...]] = (
    *(("time", time, name) for name in ("sleep", "time", "time_ns", "monotonic", "monotonic_ns")),
    ("Thread", threading.Thread, "start"),
)
"""What it is called in, what it is an attribute of, and its name."""
OUTSIDE: Final = frozenset(
    {
        *("socket.connect", "socket.getaddrinfo", "socket.bind", "socket.sendto"),
        *("subprocess.Popen", "os.system", "os.posix_spawn"),
    }
)
"""What the interpreter reports that leads out of the world, or to work that its kernel does not know of."""
EXEMPT: Final = frozenset({"logging"})
"""Modules whose records have a time that nobody decides by."""

_running: list[Kernel] = []
"""The innermost world that runs is the last."""


@contextmanager
def guarded(kernel: Kernel) -> Iterator[None]:
    """While it runs. `InvalidInput` afterwards where an actor has trespassed, whatever became of the actor."""
    _watch_the_interpreter()
    before = [getattr(holder, name) for _, holder, name in REPLACED]
    _running.append(kernel)
    for (called, holder, name), function in zip(REPLACED, before, strict=True):
        setattr(holder, name, _refusing(f"{called}.{name}", function))
    try:
        yield
    finally:
        _running.pop()
        for (_, holder, name), function in zip(REPLACED, before, strict=True):
            setattr(holder, name, function)
    if kernel.trespasses:
        raise InvalidInput(kernel.trespasses[0], hint="Take the clock and the stores from the world's ports.")


def _refusing(called: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def guard(*given: Any) -> Any:
        if sys._getframe(1).f_globals.get("__name__") not in EXEMPT:
            _refuse(called)
        return function(*given)

    return guard


@cache
def _watch_the_interpreter() -> None:
    """A hook stays for as long as the process lives, so there is one."""

    def heard(event: str, _: tuple[Any, ...]) -> None:
        if event in OUTSIDE:
            _refuse(event)

    sys.addaudithook(heard)


def _refuse(what: str) -> None:
    actor = _running[-1].current if _running else None
    if actor is not None:
        said = f"{actor.name} calls {what} inside a simulated world."
        _running[-1].trespasses.append(said)
        raise InvalidInput(said, hint="Take the clock and the stores from the world's ports.")
