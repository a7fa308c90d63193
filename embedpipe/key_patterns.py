"""Patterns of object keys, as a layout spells them: whether one gives keys at all, and whether two may give the same.

A pattern is text with named fields, `requests/{batch_id}/records.arrow`; with a last slash it is a folder. Ids and names that
fill the fields are single segments (see `layout.safe_id`), so a pattern is judged segment by segment.
"""

from __future__ import annotations

import re
from typing import Final

from embedpipe.limits import KEY_BYTES_MAX

_NAMES: Final = frozenset({"database", "collection"})
_FIELD: Final = re.compile(r"\{([a-z0-9_]*)\}")


def fields_of(pattern: str) -> frozenset[str]:
    """The names of its fields. `ValueError` where a brace is left open, or a field is more than a name or stands twice.

    >>> sorted(fields_of("{database}/{version}/"))
    ['database', 'version']
    >>> fields_of("{version!r}")
    Traceback (most recent call last):
    ValueError: has a field that is more than a name: '{version!r}'
    """
    names = _FIELD.findall(pattern)
    plain = _FIELD.sub("", pattern)
    if "{" in plain or "}" in plain:
        raise ValueError(f"has a field that is more than a name: {pattern!a}")
    doubled = next((name for name in names if names.count(name) > 1 and name != "database"), None)
    if doubled is not None:
        raise ValueError(f"names {{{doubled}}} twice: {pattern!a}")
    return frozenset(names)


def problem_of(pattern: str, *, folder: bool) -> str:
    """Why this pattern can give no key; "" where it can.

    >>> problem_of("../{batch_id}", folder=False), problem_of("a/{batch_id}", folder=False)
    ("has the segment '..'", '')
    """
    if pattern.endswith("/") is not folder:
        return "must end with '/'" if folder else "must not end with '/'"
    if not pattern.isprintable() or not pattern.isascii():
        return "must be printable ASCII"
    if len(pattern) > KEY_BYTES_MAX // 2:
        return f"is longer than {KEY_BYTES_MAX // 2} characters"
    return next(filter(None, map(_segment_problem, _segments(pattern))), "")


def _segment_problem(segment: str) -> str:
    if segment in ("", ".", ".."):
        return f"has the segment '{segment}'" if segment else "has an empty segment"
    return (
        "has two fields in one segment, whose values could not be told apart"
        if len(_FIELD.findall(segment)) > 1
        else ""
    )


def may_meet(one: str, other: str) -> bool:
    """Whether two patterns may give the same key, or one a key that is a folder of the other's.

    >>> may_meet("polled/{batch_id}/x.json", "polled/{execution_id}/x.json"), may_meet("a/{batch_id}", "b/{batch_id}")
    (True, False)
    """
    segments, others = _segments(one), _segments(other)
    if len(segments) == len(others) and one.endswith("/") is not other.endswith("/"):
        return False  # an object beside folders, as the pointer is beside the versions
    return all(map(_may_equal, segments, others))


def _segments(pattern: str) -> list[str]:
    return pattern.removesuffix("/").split("/")


def _may_equal(left: str, right: str) -> bool:
    """Whether two segments may be equal. A database is called as nothing that stands in its place in another pattern."""
    if (_NAMES & {*_FIELD.findall(left)} == set()) != (_NAMES & {*_FIELD.findall(right)} == set()):
        return False
    (start, *_, end), (other_start, *_, other_end) = _around(left), _around(right)
    same_start = start.startswith(other_start) or other_start.startswith(start)
    same_end = end.endswith(other_end) or other_end.endswith(end)
    return left == right if left == start and right == other_start else same_start and same_end


def _around(segment: str) -> list[str]:
    """What stands around its fields; a segment without fields is its own start and end."""
    parts = _FIELD.split(segment)[::2]
    return parts if len(parts) > 1 else [segment, segment]
