"""What an audit remembers of each batch while it sorts: small facts, keyed by `batch_id`, from every place that names it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar

import msgspec

from verify.audit.sorting import Sorter

__all__ = [
    "Checked",
    "Chunked",
    "Entry",
    "Indexed",
    "Listed",
    "Opened",
    "Polled",
    "Provided",
    "Stored",
    "entries_of",
    "remember",
]


class Indexed(msgspec.Struct, tag="i", array_like=True, frozen=True):
    """The index has it under this status."""

    status: str


class Stored(msgspec.Struct, tag="s", array_like=True, frozen=True):
    """Its register is there."""

    size_bytes: int
    modified_at: float
    """Seconds since the epoch."""


class Opened(msgspec.Struct, tag="o", array_like=True, frozen=True):
    """The ledger has it as open."""

    key: str
    seq: int
    submitted_at: str


class Listed(msgspec.Struct, tag="l", array_like=True, frozen=True):
    """An execution listed it."""

    execution_id: str
    openai_batch_id: str | None


class Polled(msgspec.Struct, tag="p", array_like=True, frozen=True):
    """An element of an execution's poll_results.json."""

    execution_id: str
    key: str
    action: str
    schema: int | None
    facts: dict[str, str | int | None]
    """What has to be the same in its register."""


class Chunked(msgspec.Struct, tag="c", array_like=True, frozen=True):
    """A chunk of an execution has its delta."""

    execution_id: str
    delta_key: str


class Provided(msgspec.Struct, tag="v", array_like=True, frozen=True):
    """The provider has a batch that carries its name."""

    openai_batch_id: str
    status: str
    created_at: str
    ended_at: str
    """Empty where the provider doesn't say, or it has not ended."""
    total: int
    completed: int
    failed: int
    output_file_id: str
    error_file_id: str


class Checked(msgspec.Struct, tag="k", array_like=True, frozen=True):
    """This audit has checked it before it was interrupted."""

    evidence: bytes
    """What it was known by."""
    number: int
    """Of its claims; -1 where it has none."""
    unretried: bool
    states: dict[str, str]
    findings: list[tuple[str, str, dict[str, Any], list[str], str]]
    """Code, location, evidence, batches, severity."""
    stood: list[str]
    """Of each stage of its journey."""


Entry = Indexed | Stored | Opened | Listed | Polled | Chunked | Provided | Checked

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final[Callable[[bytes], Entry]] = msgspec.msgpack.Decoder(Entry).decode

E = TypeVar("E")


def remember(sorter: Sorter, batch_id: str, entry: Entry) -> None:
    """Keep one fact."""
    sorter.add(batch_id, _encode(entry))


def decoded(payload: bytes) -> Entry:
    """One fact."""
    return _decode(payload)


def encoded(entry: Entry) -> bytes:
    """One fact, to be kept elsewhere."""
    return _encode(entry)


def entries_of(payloads: Iterable[bytes]) -> tuple[Entry, ...]:
    """The facts that were kept of one batch."""
    return tuple(_decode(payload) for payload in payloads)


def only(entries: Iterable[Entry], kind: type[E]) -> tuple[E, ...]:
    """Those of one kind."""
    return tuple(entry for entry in entries if isinstance(entry, kind))
