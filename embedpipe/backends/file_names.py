"""Object keys as file names: readable where they can be, reversible always. Pure.

A segment of a key is one name, with `%XX` for what is unsafe in a name. A name that would be too long is cut into
several: all but the last are directories marked with `%+`. No key yields a `%` that two hexadecimal digits do not follow,
so other names with one are free for the store's own use.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["CONTINUED", "decode_segment", "encode_segment"]

NAME_BYTES_MAX: Final = 200
"""File systems take 255 bytes; the rest is left for the mark and for tools that add an ending."""
CONTINUED: Final = b"%+"

_UNSAFE: Final = re.compile(r"[\x00-\x1f\x7f%\\]|[. ]\Z")
_UNSAFE_FOLDED: Final = re.compile(r"[^a-z0-9._ -]|[. ]\Z")
_ESCAPE: Final = re.compile(rb"%([0-9A-F]{2})")
_UNITS: Final = re.compile(r"%[0-9A-F]{2}|.", re.DOTALL)


def _escape(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match[0].encode())


def encode_segment(segment: str, *, folded: bool = False) -> tuple[bytes, ...]:
    r"""The names of one segment of a key: directories, and the last one a file or a directory.

    `folded` is for file systems that do not tell `a` from `A`: there, only lower-case ASCII is left as it is.

    >>> encode_segment("50% of a\\b."), encode_segment("Ä", folded=True)
    ((b'50%25 of a%5Cb%2E',), (b'%C3%84',))
    """
    unsafe = _UNSAFE_FOLDED if folded else _UNSAFE
    name = unsafe.sub(_escape, segment)
    encoded = name.encode()
    return (encoded,) if len(encoded) <= NAME_BYTES_MAX else tuple(_cut(name))


def _cut(name: str) -> list[bytes]:
    names, current = [], b""
    for unit in _UNITS.findall(name):
        encoded = unit.encode()
        if len(current) + len(encoded) > NAME_BYTES_MAX:
            names.append(current + CONTINUED)
            current = b""
        current += encoded
    return [*names, current]


def decode_segment(names: tuple[bytes, ...], *, folded: bool = False) -> str | None:
    """The segment that has these names; None where no segment has, because someone else made the file.

    >>> decode_segment((b"50%25",)), decode_segment((b"50%",)), decode_segment((b"%store",))
    ('50%', None, None)
    """
    joined = b"".join(name.removesuffix(CONTINUED) for name in names)
    try:
        segment = _ESCAPE.sub(lambda match: bytes([int(match[1], 16)]), joined).decode()
    except UnicodeDecodeError:
        return None
    if segment in ("", ".", "..") or "/" in segment:
        return None
    return segment if encode_segment(segment, folded=folded) == names else None
