"""Reading one object: what it says, or why it can't be read, as a value. Nothing here judges.

The rule kept here: an object that is damaged, gone, denied or too large costs itself alone.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Final, TypeVar

import attrs

from embedpipe.errors import CorruptData, EmbedpipeError, NewerSchema, NotFound, ServiceError
from embedpipe.ports import BlobStore
from embedpipe.wire import Envelope

__all__ = ["OBJECT_BYTES_MAX", "Unreadable", "Why", "envelope", "envelopes", "guarded"]

OBJECT_BYTES_MAX: Final = 256 * 1024 * 1024
"""[ours] JSON objects above it are not read: a listing of a million batches is far below."""

T = TypeVar("T")
E = TypeVar("E", bound=Envelope)


class Why(StrEnum):
    """Why something can't be read."""

    MISSING = "missing"
    CORRUPT = "corrupt"
    NEWER = "newer"
    UNREACHABLE = "unreachable"


@attrs.frozen(kw_only=True)
class Unreadable:
    """Something that can't be read."""

    key: str
    why: Why
    reason: str

    @property
    def is_fault(self) -> bool:
        """Whether it says something about what is audited; the others say that the audit could not look."""
        return self.why in (Why.MISSING, Why.CORRUPT)


def guarded(key: str, read: Callable[[], T]) -> T | Unreadable:
    """What `read` gives, or why it gives nothing."""
    try:
        return read()
    except NotFound as error:
        return _unreadable(key, Why.MISSING, error)
    except NewerSchema as error:
        return _unreadable(key, Why.NEWER, error)
    except CorruptData as error:
        return _unreadable(key, Why.CORRUPT, error)
    except ServiceError as error:
        return _unreadable(key, Why.UNREACHABLE, error)


def _unreadable(key: str, why: Why, error: EmbedpipeError) -> Unreadable:
    return Unreadable(key=key, why=why, reason=error.message)


def too_large(key: str, size_bytes: int) -> Unreadable | None:
    """Set where an object is too large to be parsed."""
    if size_bytes <= OBJECT_BYTES_MAX:
        return None
    reason = f"{key} has {size_bytes} bytes; at most {OBJECT_BYTES_MAX} are parsed."
    return Unreadable(key=key, why=Why.UNREACHABLE, reason=reason)


def envelope(objects: BlobStore, kind: type[E], key: str) -> E | Unreadable:
    """One envelope."""
    return guarded(key, lambda: kind.load(objects.get(key).data, key))


def envelopes(objects: BlobStore, kind: type[E], key: str) -> tuple[E, ...] | Unreadable:
    """An array of envelopes."""
    return guarded(key, lambda: kind.load_many(objects.get(key).data, key))
