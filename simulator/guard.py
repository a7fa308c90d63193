"""Keeps clock, network, threads and processes of the machine out of a world: who asks for them is named, and the run ends.

Only while a world runs are functions of `time` and `Thread.start` replaced; only an actor is refused, and only in the thread
that runs its world. What else the interpreter reports is heard by a hook. An actor that does not come back, since it waits for
a real lock or turns in circles, is named by an alarm. `datetime.now` and chance can't be watched like that: a run that depends
on them is not the same twice, and a sweep that repeats it says so.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from types import FrameType, TracebackType
from typing import Any, Final

from embedpipe.errors import InvalidInput
from simulator.kernel import Kernel

__all__ = ["Stuck", "guarded"]

TIMES: Final = ("sleep", "time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns")
REPLACED: Final[tuple[tuple[str, Any, str], ...]] = (
    *(("time", time, name) for name in TIMES),
    ("Thread", threading.Thread, "start"),
)
"""What it is called in, what it is an attribute of, and its name: what interpreters do not report, or only newer ones."""
OUTSIDE: Final = frozenset(
    {
        *("time.sleep", "_thread.start_new_thread"),
        *("socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg"),
        *("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"),
        *("subprocess.Popen", "os.system", "os.posix_spawn", "os.fork", "os.forkpty", "os.exec"),
    }
)
"""What the interpreter reports that leads out of the world, or to work that its kernel does not know of."""
EXEMPT: Final = frozenset({"logging"})
"""Modules whose records have a time that nobody decides by."""
STUCK_S: Final = 60.0
"""[ours] Real seconds within which some actor comes to a call, or is named."""


class Stuck(BaseException):
    """Raised in an actor that does not come back to the kernel, and by the run."""


class _Running(threading.local):
    """The worlds that run in this thread, the innermost last."""

    def __init__(self) -> None:
        self.kernels: list[Kernel] = []


class _Replacing:
    """They are others while some world runs in some thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._worlds = 0
        self._functions: list[Any] = []

    def __enter__(self) -> None:
        with self._lock:
            self._worlds += 1
            if self._worlds == 1:
                self._functions = [getattr(holder, name) for _, holder, name in REPLACED]
                for (called, holder, name), function in zip(REPLACED, self._functions, strict=True):
                    setattr(holder, name, _refusing(f"{called}.{name}", function))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._lock:
            self._worlds -= 1
            if self._worlds == 0:
                for (_, holder, name), function in zip(REPLACED, self._functions, strict=True):
                    setattr(holder, name, function)


_running: Final = _Running()
_replacing: Final = _Replacing()


@contextmanager
def guarded(kernel: Kernel) -> Iterator[None]:
    """While it runs. `InvalidInput` afterwards where an actor has trespassed, whatever became of the actor."""
    _listen()
    _running.kernels.append(kernel)
    try:
        with _replacing, _alarm(kernel):
            yield
    finally:
        _running.kernels.pop()
    if kernel.trespasses:
        raise InvalidInput(kernel.trespasses[0], hint="Take the clock and the stores from the world's ports.")


def _refusing(called: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def guard(*given: Any) -> Any:
        if sys._getframe(1).f_globals.get("__name__") not in EXEMPT:
            _refuse(called)
        return function(*given)

    return guard


@cache
def _listen() -> None:
    """A hook stays for as long as the process lives, so there is one."""

    def heard(event: str, _: tuple[Any, ...]) -> None:
        if event in OUTSIDE:
            _refuse(event)

    sys.addaudithook(heard)


def _refuse(what: str) -> None:
    kernels = _running.kernels
    actor = kernels[-1].current if kernels else None
    if actor is not None:
        said = f"{actor.name} calls {what} inside a simulated world."
        kernels[-1].trespasses.append(said)
        raise InvalidInput(said, hint="Take the clock and the stores from the world's ports.")


@contextmanager
def _alarm(kernel: Kernel) -> Iterator[None]:
    """`Stuck` in the actor that makes no call for so long. Not in a thread of its own, nor where others use the alarm."""
    mine = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGALRM) == signal.SIG_DFL
    if not mine:
        yield
        return
    before = [kernel.moments]

    def rings(_number: int, _frame: FrameType | None) -> None:
        actor = kernel.current
        if actor is not None and kernel.moments == before[0]:
            raise Stuck(f"{actor.name} does not come to its next call: it waits for what is not of this world.")
        before[0] = kernel.moments

    signal.signal(signal.SIGALRM, rings)
    signal.setitimer(signal.ITIMER_REAL, STUCK_S, STUCK_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
