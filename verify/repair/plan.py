"""A plan of repair as a value and as a JSON file: conditional writes, each with what it saw and why, and what is proposed only.

An action names the state that it was planned for; where that has moved, it is refused. Nothing here has effects.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import attrs
import msgspec

from embedpipe.errors import CorruptData, NewerSchema
from embedpipe.lifecycle import Status
from verify.audit.findings import WrongQuestion

__all__ = ["CHANGED", "Action", "Do", "Plan", "Proposal", "read_plan"]

FORMAT: Final = 1


class Do(StrEnum):
    """What an action does."""

    WRITE = "write"
    """Put a body where the one that was seen, or nothing, is."""
    QUARANTINE = "quarantine"
    """Move an object away, so that the pipeline makes it anew."""
    REINDEX = "reindex"
    """Write the index keys of a row again, from its status."""
    UPDATE = "update"
    """Change fields of a row."""
    PUT = "put"
    """Put a row where none is."""


CHANGED: Final[Mapping[str, Callable[[Any], object]]] = MappingProxyType(
    {
        "status": Status,
        "provider_batch_id": str,
        "completed_by": str,
        "snapshot_version": str,
        "reason": str,
        "retry_batch_ids": tuple,
    }
)
"""Fields of a row that a repair may change -> how what JSON has of one becomes its value."""


@attrs.frozen(kw_only=True)
class Action:
    """One write."""

    do: Do
    target: str
    """Object key, or `batch_id` of a row."""
    saw: str | None
    """SHA-256 of the object's bytes, or `STATUS revision` of the row; None where nothing was."""
    body: str | None = None
    """JSON. Of a write the object, of an update or reindex the fields with their new values, of a put the item."""
    mends: tuple[str, ...]
    """Codes of the findings."""
    batch_ids: tuple[str, ...]
    reason: str


@attrs.frozen(kw_only=True)
class Proposal:
    """A finding that no action mends, and what would."""

    code: str
    location: str
    batch_ids: tuple[str, ...]
    advice: str
    """What to do, with its precondition."""
    by_ingest: bool = False
    """Whether the next ingest does it."""


@attrs.frozen(kw_only=True)
class Plan:
    """What an audit led to."""

    source: str
    place: str = ""
    """Which objects and rows it is for, as `Source.place`."""
    watermark: str
    actions: tuple[Action, ...] = ()
    proposals: tuple[Proposal, ...] = ()
    format: int = FORMAT

    @property
    def id(self) -> str:
        """Follows from all that it says: the same plan keeps one journal, however often it is applied."""
        return hashlib.sha256(msgspec.json.encode(attrs.asdict(self))).hexdigest()[:16]

    @property
    def then_ingest(self) -> bool:
        """Whether the pipeline has to go on after it, for all to be mended."""
        moved = any(action.do is Do.QUARANTINE and "P207" not in action.mends for action in self.actions)
        merged = any(action.reason.startswith(MERGE_AGAIN) for action in self.actions)
        opened = any(action.do in (Do.UPDATE, Do.PUT) for action in self.actions)
        return moved or merged or opened or any(proposal.by_ingest for proposal in self.proposals)

    def dump(self) -> str:
        """As the file has it."""
        stored = {"id": self.id, **attrs.asdict(self)}
        return msgspec.json.format(msgspec.json.encode(stored), indent=2).decode() + "\n"


MERGE_AGAIN: Final = "merge again"


class _Stored(msgspec.Struct, kw_only=True):
    """The file, its types checked."""

    id: str
    source: str
    place: str
    watermark: str
    actions: list[_StoredAction]
    proposals: list[_StoredProposal]
    format: int


class _StoredAction(msgspec.Struct, kw_only=True):
    do: Do
    target: str
    saw: str | None
    body: str | None
    mends: list[str]
    batch_ids: list[str]
    reason: str


class _StoredProposal(msgspec.Struct, kw_only=True):
    code: str
    location: str
    batch_ids: list[str]
    advice: str
    by_ingest: bool


def read_plan(path: Path) -> Plan:
    """The plan in a file. `WrongQuestion`, `CorruptData`, `NewerSchema`."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise WrongQuestion(f"{path}: {error.strerror}.") from None
    return parse_plan(data, str(path))


def parse_plan(data: bytes, where: str) -> Plan:
    """The plan in `data`."""
    try:
        version = msgspec.json.decode(data, type=dict[str, object]).get("format")
        if isinstance(version, int) and version > FORMAT:
            raise NewerSchema(
                f"{where} has format {version}; this version reads {FORMAT}.", hint="Use a newer embedpipe."
            )
        stored = msgspec.json.decode(data, type=_Stored)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CorruptData(f"{where} is no plan of repair: {error}") from None
    plan = _plan(stored)
    if plan.id != stored.id or stored.format != FORMAT:
        raise CorruptData(
            f"{where} was changed after it was planned.", hint="Plan again; --select and --ignore leave things out."
        )
    return plan


def _plan(stored: _Stored) -> Plan:
    return Plan(
        source=stored.source,
        place=stored.place,
        watermark=stored.watermark,
        actions=tuple(
            Action(
                do=each.do,
                target=each.target,
                saw=each.saw,
                body=each.body,
                mends=tuple(each.mends),
                batch_ids=tuple(each.batch_ids),
                reason=each.reason,
            )
            for each in stored.actions
        ),
        proposals=tuple(
            Proposal(
                code=each.code,
                location=each.location,
                batch_ids=tuple(each.batch_ids),
                advice=each.advice,
                by_ingest=each.by_ingest,
            )
            for each in stored.proposals
        ),
        format=stored.format,
    )
