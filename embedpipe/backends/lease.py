"""A lease: one object that says who works, kept alive by signs of life, taken over when these cease.

It moves by compare-and-swap only. A waiter calls a holder dead when the object has not changed for `lease_s` of the waiter's
own time, so no two clocks are ever compared. A holder that could not renew in time knows it and stops by itself: it asks
`check` before each effect. Where what the lease guards is published by compare-and-swap anyway, it only saves work.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Final

import attrs

from embedpipe.errors import (
    ConfigError,
    CorruptData,
    NewerSchema,
    NotFound,
    PreconditionFailed,
    ServiceError,
    Transient,
    WriteConflict,
)
from embedpipe.ports import BlobStore, Clock
from embedpipe.wire import Lease, format_time

__all__ = ["Held", "leased"]

LEASE_S_MAX: Final = 3_600.0
"""[ours] The longest that a stored lease may ask a waiter to wait."""
BEATS: Final = 6
"""Signs of life within one lease, so that one or two may fail."""
LOOKS: Final = 60
"""Looks of a waiter within one lease."""
LOOK_S_MAX: Final = 5.0


@contextmanager
def leased(
    objects: BlobStore, key: str, clock: Clock, *, lease_s: float, patience_s: float | None = None
) -> Iterator[Held | None]:
    """Wait for and hold the lease at `key`. After `patience_s`, if that is given, the block runs without it: None."""
    if lease_s <= 0:
        raise ConfigError("vectors.lease_s must be greater than 0.")
    held = Held(objects, key, clock, lease_s)
    if not held.acquire(patience_s):
        yield None
        return
    beating = threading.Thread(target=held.keep_alive, name="embedpipe-lease", daemon=True)
    beating.start()
    try:
        yield held
    finally:
        held.end()
        beating.join()
        with suppress(ServiceError, CorruptData):  # then it is free when its time is over
            held.release()


class Held:
    """One holding, from the first look to the release."""

    def __init__(self, objects: BlobStore, key: str, clock: Clock, lease_s: float) -> None:
        self._objects = objects
        self._key = key
        self._clock = clock
        self._state = Lease(holder=clock.new_id(), lease_s=float(lease_s), renewed_at="")
        self._etag: str | None = None
        self._alive = self._times()
        self._lost = False
        self._ending = threading.Event()

    def check(self) -> None:
        """`WriteConflict` where the lease is lost, or was not renewed for so long that another may soon take it."""
        if self._lost or self._silent_s() > self._state.lease_s / 2:
            raise WriteConflict(
                f"The lease {self._key} was lost, or could not be renewed for {self._state.lease_s / 2:g} s.",
                hint="Nothing is lost: what was written is merged again. Run again.",
                key=self._key,
            )

    def acquire(self, patience_s: float | None) -> bool:
        """Wait until it is ours; False after `patience_s`."""
        began = seen_at = self._clock.monotonic_s()
        seen = None
        while True:
            found, etag = self._read()
            now = self._clock.monotonic_s()
            if etag != seen:
                seen, seen_at = etag, now
            if self._may_take(found, now - seen_at):
                if self._move(found, etag, self._state.holder):
                    return True
                continue
            if patience_s is not None and now - began >= patience_s:
                return False
            self._clock.sleep(min(LOOK_S_MAX, self._state.lease_s / LOOKS))

    def keep_alive(self) -> None:
        """Renew until `end`. Runs in a thread of its own."""
        while not self._ending.wait(self._state.lease_s / BEATS):
            # While a beat fails, `check` counts the time.
            with suppress(ServiceError, CorruptData):
                if not self._move(self._state, self._etag, self._state.holder):
                    found, self._etag = self._read()
                    self._lost = found is None or found.holder != self._state.holder
            if self._lost:
                return

    def end(self) -> None:
        """No more signs of life."""
        self._ending.set()

    def release(self) -> None:
        """Say that it is free, unless another has it."""
        if not self._lost:
            self._move(self._state, self._etag, None)

    def _may_take(self, found: Lease | None, unchanged_s: float) -> bool:
        if found is None or found.holder in (None, self._state.holder):
            return True  # ours: a write of ours arrived after its answer was given up
        return unchanged_s >= min(max(found.lease_s, 0.0), LEASE_S_MAX)

    def _move(self, before: Lease | None, etag: str | None, holder: str | None) -> bool:
        """Write the next state over `etag`. False where another was first."""
        began = self._times()
        wanted = attrs.evolve(
            self._state,
            holder=holder,
            beat=(before.beat if before else 0) + 1,
            renewed_at=format_time(self._clock.now()),
        )
        try:
            moved = self._objects.put(self._key, wanted.dump(), if_none_match=etag is None, if_match=etag)
        except (PreconditionFailed, Transient) as error:
            # The answer may have been lost, and not the write.
            found, now_etag = self._read()
            if found is None or now_etag is None or (found.holder, found.beat) != (wanted.holder, wanted.beat):
                if isinstance(error, PreconditionFailed | WriteConflict):
                    return False
                raise
            moved = now_etag
        self._state, self._etag, self._alive = attrs.evolve(wanted, holder=self._state.holder), moved, began
        return True

    def _read(self) -> tuple[Lease | None, str | None]:
        try:
            blob = self._objects.get(self._key)
        except NotFound:
            return None, None
        try:
            return Lease.load(blob.data, self._key), blob.etag
        except NewerSchema:
            raise
        except CorruptData:  # somebody's, as far as anybody can tell
            return Lease(holder="", lease_s=self._state.lease_s, renewed_at=""), blob.etag

    def _times(self) -> tuple[float, datetime]:
        return self._clock.monotonic_s(), self._clock.now()

    def _silent_s(self) -> float:
        """Since the last sign of life was sent, by the longer of two clocks: one of them stops when a machine sleeps."""
        monotonic_s, now = self._times()
        return max(monotonic_s - self._alive[0], (now - self._alive[1]).total_seconds())
