"""What each kind of action does to its target, how it is told that it was done, and what puts its target back. One table.

The rule kept here: a write holds only where its target is as the plan saw it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

import attrs

from embedpipe.errors import CorruptData, NotFound, PreconditionFailed
from embedpipe.lifecycle import Status
from embedpipe.model import BatchRow
from embedpipe.wire import decode, encode, item_to_row
from verify.repair.plan import CHANGED, Action, Do
from verify.repair.reading import digest, row_state
from verify.repair.stores import Stores

__all__ = ["ACTS", "Act", "body"]


@attrs.frozen(kw_only=True)
class Act:
    """One kind of action."""

    do: Callable[[Action, Stores], None]
    """`PreconditionFailed` where the target has moved."""
    seen: Callable[[Action, Stores], str | None]
    """The state of the target now, in the words of `Action.saw`."""
    is_done: Callable[[Action, Stores], bool]
    """Whether the target is as the action leaves it."""
    before: Callable[[Action, Stores], bytes | None] = lambda *_: None
    """What has to be kept of the target for the way back; None where nothing is there."""
    is_back: Callable[[Action, bytes | None, Stores], bool] = lambda *_: False
    """Whether the target is as it was, given what was kept."""
    put_back: Callable[[Action, bytes | None, Stores], None] | None = None
    """None where there is no way back, and `one_way` says why. `PreconditionFailed` where something newer stands there."""
    one_way: str = ""


def body(key: str, stores: Stores) -> bytes | None:
    """An object's bytes; None where nothing is."""
    try:
        return stores.objects.get(key).data
    except NotFound:
        return None


# --- objects -------------------------------------------------------------------------------------------------------


def _object_seen(action: Action, stores: Stores) -> str | None:
    return digest(body(action.target, stores))


def _object_before(action: Action, stores: Stores) -> bytes | None:
    return body(action.target, stores)


def _object_is_back(action: Action, before: bytes | None, stores: Stores) -> bool:
    return body(action.target, stores) == before


def _bytes(action: Action) -> bytes:
    return (action.body or "").encode()


def _write(action: Action, stores: Stores) -> None:
    if action.saw is None:
        stores.objects.put(action.target, _bytes(action), if_none_match=True)
    else:
        stores.objects.put(action.target, _bytes(action), if_match=_etag_of(action, action.saw, stores))


def _unwrite(action: Action, before: bytes | None, stores: Stores) -> None:
    etag = _etag_of(action, digest(_bytes(action)), stores)
    if before is None:
        stores.objects.delete(action.target)  # it was made here, and its body is in the journal
    else:
        stores.objects.put(action.target, before, if_match=etag)


def _etag_of(action: Action, wanted: str | None, stores: Stores) -> str:
    """The etag of the target while its bytes are these. `PreconditionFailed` where they are not, or it is gone."""
    try:
        now = stores.objects.get(action.target)
    except NotFound:
        raise PreconditionFailed(f"{action.target} is gone.") from None
    if digest(now.data) != wanted:
        raise PreconditionFailed(f"{action.target} has changed.")
    return now.etag


def _move_away(action: Action, stores: Stores) -> None:
    _etag_of(action, action.saw, stores)  # a delete has no condition of its own
    stores.objects.delete(action.target)


def _move_back(action: Action, before: bytes | None, stores: Stores) -> None:
    stores.objects.put(action.target, before or b"", if_none_match=True)


# --- rows ----------------------------------------------------------------------------------------------------------


def _row(action: Action, stores: Stores) -> BatchRow | None:
    try:
        return stores.table.get_many([action.target]).get(action.target)
    except CorruptData:
        return None


def _row_seen(action: Action, stores: Stores) -> str | None:
    row = _row(action, stores)
    return row_state(row) if row is not None else None


def _changes(action: Action) -> dict[str, Any]:
    return _values(decode(_bytes(action), f"the plan's change of {action.target}"))


def _values(stored: Mapping[str, Any]) -> dict[str, Any]:
    """What JSON has of a row's fields, as the row has it."""
    unknown = sorted(stored.keys() - CHANGED.keys())
    if unknown:
        raise CorruptData(f"A repair changes no {unknown[0]!a} of a row.")
    return {name: CHANGED[name](value) if value is not None else None for name, value in stored.items()}


def _holds(row: BatchRow, values: Mapping[str, Any]) -> bool:
    return all(
        getattr(row, name) == (() if name == "retry_batch_ids" and value is None else value)
        for name, value in values.items()
    )


def _is_updated(action: Action, stores: Stores) -> bool:
    row, (_, revision) = _row(action, stores), _saw(action)
    return row is not None and row.revision == revision + 1 and _holds(row, _changes(action))


def _saw(action: Action) -> tuple[Status, int]:
    status, _, revision = (action.saw or "").partition(" ")
    return Status(status), int(revision)


def _update(action: Action, stores: Stores) -> None:
    status, revision = _saw(action)
    stores.table.update(action.target, _changes(action), status=status, revision=revision)


def _row_before(action: Action, stores: Stores) -> bytes | None:
    row = _row(action, stores)
    return encode({name: getattr(row, name) for name in sorted(_changes(action))}) if row is not None else None


def _row_is_back(action: Action, before: bytes | None, stores: Stores) -> bool:
    row, (_, revision) = _row(action, stores), _saw(action)
    kept = _values(decode(before or b"{}", "the journal"))
    return row is not None and row.revision == revision + 2 and _holds(row, kept)


def _update_back(action: Action, before: bytes | None, stores: Stores) -> None:
    status, revision = _changes(action).get("status") or _saw(action)[0], _saw(action)[1] + 1
    stores.table.update(
        action.target, _values(decode(before or b"{}", "the journal")), status=status, revision=revision
    )


def _new_row(action: Action, stores: Stores) -> BatchRow:
    return item_to_row(decode(_bytes(action), f"the plan's row of {action.target}"), stores.layout)


def _put_row(action: Action, stores: Stores) -> None:
    if not stores.table.put_new(_new_row(action, stores)):
        raise PreconditionFailed(f"There is a row of batch {action.target} now.")


def _is_put(action: Action, stores: Stores) -> bool:
    return _row(action, stores) == _new_row(action, stores)


ACTS: Final[Mapping[Do, Act]] = MappingProxyType(
    {
        Do.WRITE: Act(
            do=_write,
            seen=_object_seen,
            is_done=lambda action, stores: body(action.target, stores) == _bytes(action),
            before=_object_before,
            is_back=_object_is_back,
            put_back=_unwrite,
        ),
        Do.QUARANTINE: Act(
            do=_move_away,
            seen=_object_seen,
            is_done=lambda action, stores: body(action.target, stores) is None,
            before=_object_before,
            is_back=_object_is_back,
            put_back=_move_back,
        ),
        Do.REINDEX: Act(
            do=_update,
            seen=_row_seen,
            is_done=_is_updated,
            one_way="index keys follow from the status: there is nothing to put back",
        ),
        Do.UPDATE: Act(
            do=_update,
            seen=_row_seen,
            is_done=_is_updated,
            before=_row_before,
            is_back=_row_is_back,
            put_back=_update_back,
        ),
        Do.PUT: Act(
            do=_put_row,
            seen=_row_seen,
            is_done=_is_put,
            one_way="no row is ever deleted: the next ingest goes on with it",
        ),
    }
)
