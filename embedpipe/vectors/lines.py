"""Lines of a provider's files: cut from a stream, and what one says once it has been read.

The rule kept here: how the stream was cut into pieces never shows, and a line beyond the bound costs no memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

import attrs

from embedpipe.limits import LINE_BYTES_MAX

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vector = NDArray[np.float32]


@attrs.frozen(kw_only=True, eq=False)
class OutputLine:
    """One line of a provider's output or error file."""

    number: int
    """From 1; blank lines count and are not given."""
    custom_id: str | None = None
    """None where the line can't be parsed, or has none that is valid Unicode."""
    vector: Vector | None = None
    """Shape (dimensions,), finite, not all zero. It is not reused for later lines, and not to be written to."""
    status_code: int | None = None
    """`response.status_code`, where it is a number from 0 to 999."""
    error_code: str | None = None
    """`error.code`, else the code or type in the response's body."""
    error_message: str = ""
    """At most 300 characters."""
    problem: str | None = None
    """Why a line that reports no error has no vector, or why nobody can have it: see `PROBLEMS`."""

    @property
    def has_vector(self) -> bool:
        """Whether it has a usable vector."""
        return self.vector is not None


PROBLEMS: Final = {
    "unparsable": "not a JSON object in UTF-8",
    "line_too_long": "longer than the bound; nothing of it was kept",
    "no_custom_id": "no custom_id, or one that is not text",
    "empty_response": "neither a response with a body nor an error",
    "provider_error": "an error without a code",
    "no_embedding": "no item of index 0, or nothing in it",
    "nested_embedding": "an array within the embedding",
    "not_numbers": "something in the embedding is not a number",
    "bad_base64": "not the base64 of float32 values",
    "wrong_dimensions": "another length than was asked for",
    "not_finite": "infinite or not a number, as float32",
    "zero_vector": "all zero, as float32",
}


LINE_TOO_LONG: Final = bytes(bytearray(b"\0 line too long"))  # an object of its own: compared with `is`


def split_lines(pieces: Iterable[bytes], max_bytes: int = LINE_BYTES_MAX) -> Iterator[bytes]:
    r"""Lines without their `\n` or `\r\n`, blank ones too; a last line without an end is a line.

    In the place of a line of more than `max_bytes` (before its `\n`) stands `LINE_TOO_LONG`; it is never held whole.

    >>> list(split_lines([b"a\r", b"\n\nb", b"c"]))
    [b'a', b'', b'bc']
    """
    held = bytearray()  # the front of a line that goes on in the next piece
    held_bytes = 0
    for piece in pieces:
        start = 0
        while (end := piece.find(b"\n", start)) >= 0:
            held_bytes += end - start
            line = LINE_TOO_LONG if held_bytes > max_bytes else _joined(held, piece[start:end])
            held.clear()
            held_bytes, start = 0, end + 1
            yield line
        held_bytes += len(piece) - start
        if held_bytes <= max_bytes:
            held += piece[start:] if start else piece
    if held_bytes:
        yield LINE_TOO_LONG if held_bytes > max_bytes else _joined(held, b"")


def _joined(front: bytearray, rest: bytes) -> bytes:
    if front:
        front += rest
        rest = bytes(front)
    return rest[:-1] if rest.endswith(b"\r") else rest
