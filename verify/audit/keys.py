"""From the keys of a listing to what they are keys of, by the templates of a layout. Nothing else here spells a key."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

import attrs

from embedpipe.errors import InvalidId
from embedpipe.layout import Layout, safe_id
from embedpipe.model import BlobInfo
from embedpipe.ports import BlobStore

__all__ = ["EXECUTION_KEYS", "Seen", "folders", "is_id", "seen"]

EXECUTION_KEYS: Final = ("manifest", "deployed_manifest", "items", "poll_results", "marked", "chunks")
"""Fields of a layout whose keys name an execution."""
BATCH_KEYS: Final = ("result",)
"""Fields of a layout whose keys name a batch."""

_FIELD: Final = re.compile(r"\{\w+\}")


@attrs.frozen(kw_only=True)
class Seen:
    """One object of a listing."""

    what: str
    """Field of the layout."""
    id: str
    """The execution or batch that its key names."""
    info: BlobInfo


def _pattern(template: str) -> re.Pattern[str]:
    parts = [re.escape(part) for part in _FIELD.split(template)]
    # One id; where a template names it twice, both are the same.
    return re.compile("(?P<id>[^/]+)".join(parts[:2]) + "".join(f"(?P=id){part}" for part in parts[2:]))


def _prefixes(layout: Layout) -> Mapping[str, dict[str, re.Pattern[str]]]:
    """What has to be listed -> the patterns of what is found there. A prefix within another is listed once."""
    templates = {name: getattr(layout, name) for name in (*EXECUTION_KEYS, *BATCH_KEYS)}
    starts = sorted({template.partition("{")[0] for template in templates.values()})
    listed = [start for at, start in enumerate(starts) if not any(start.startswith(other) for other in starts[:at])]
    return {
        prefix: {name: _pattern(text) for name, text in templates.items() if text.startswith(prefix)}
        for prefix in listed
    }


def seen(objects: BlobStore, layout: Layout) -> Iterator[Seen]:
    """Every object of an execution, and every register, with one listing for each prefix. Other keys are passed over."""
    for prefix, patterns in _prefixes(layout).items():
        for info in objects.list(prefix):
            for what, pattern in patterns.items():
                found = pattern.fullmatch(info.key)
                if found is not None and is_id(found["id"]):
                    yield Seen(what=what, id=found["id"], info=info)
                    break


def is_id(value: object) -> bool:
    """Whether it may be an id of ours."""
    try:
        safe_id(value, "id")
    except InvalidId:
        return False
    return True


def folders(objects: BlobStore, prefix: str = "") -> Iterator[str]:
    """Names of the folders directly below `prefix`: one listing call for each, however much is in it."""
    after: str | None = None
    while True:
        info = next(iter(objects.list(prefix, after=after)), None)
        if info is None:
            return
        name, slash, _ = info.key[len(prefix) :].partition("/")
        if not slash:
            after = info.key
            continue
        yield name
        after = f"{prefix}{name}/\U0010ffff"
