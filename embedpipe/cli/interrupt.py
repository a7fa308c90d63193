"""Ctrl-C, and SIGTERM: the first asks for a stop at the next safe boundary, the second ends the process at once.

Both are safe, since every step can be repeated; the first is tidier.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

from embedpipe.blocks import RecordBlock, RecordStream, blocks_of
from embedpipe.errors import EXIT_INTERRUPTED
from embedpipe.model import Record

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_STOPPING: Final = b"\nStopping at the next safe boundary. Press Ctrl-C again to end at once.\n"
_STDERR: Final = 2


class Stopper:
    """Counts signals. While input is read nothing has been submitted yet, so there the first one ends it."""

    def __init__(self, stop: Callable[[], None]) -> None:
        self._stop = stop
        self._asked = False
        self._reading = False

    def reading(self, records: Iterable[Record]) -> RecordStream:
        """Pass on `records`; reading may be waiting for a pipe, which a signal must be able to end."""
        return RecordStream(self._passed_on(blocks_of(records)))

    def _passed_on(self, blocks: Iterator[RecordBlock]) -> Iterator[RecordBlock]:
        self._reading = True
        try:
            yield from blocks
        finally:
            self._reading = False

    def on_signal(self, _number: int, _frame: FrameType | None) -> None:
        """The signal handler. It writes past Python's streams, which it may have interrupted."""
        if self._reading:
            raise KeyboardInterrupt
        if self._asked:
            _end_children()
            os._exit(EXIT_INTERRUPTED)
        self._asked = True
        os.write(_STDERR, _STOPPING)
        self._stop()


def _end_children() -> None:
    """The processes of a pool wait for work for ever when the one that gives it is gone."""
    if (loaded := sys.modules.get("multiprocessing")) is not None:
        for child in loaded.active_children():
            child.kill()


@contextmanager
def stoppable(stop: Callable[[], None]) -> Iterator[Stopper]:
    """Listen to signals while the block runs. In another thread than the main one nothing can, and nothing does."""
    stopper = Stopper(stop)
    if threading.current_thread() is not threading.main_thread():
        yield stopper
        return
    before = {number: signal.signal(number, stopper.on_signal) for number in _SIGNALS}
    try:
        yield stopper
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def like_ctrl_c() -> Iterator[None]:
    """SIGTERM is Ctrl-C while the block runs, for what may end anywhere. Only the main thread can listen."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
