"""Records from files and standard input: JSON lines, or one text a line. Streamed, so memory stays flat.

Every refusal is one `InvalidInput` that names `file:line` and the fix. Nothing here knows what becomes of a record.

JSON lines hold `id`, `text` and optionally `metadata`; other fields are ignored. A whole number as `id` is taken as its
digits. Of plain text, each non-empty line is a record without its surrounding white space, and its id is a hash of that
text: so changing one line embeds one line, moving lines embeds none, and a line that stands twice is one record.
"""

from __future__ import annotations

import codecs
import hashlib
import io
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import IO, Final, Literal, TypeVar, get_args

import msgspec

from embedpipe.blocks import RecordBlock, RecordStream
from embedpipe.errors import InvalidInput
from embedpipe.limits import LINE_BYTES_MAX
from embedpipe.model import Metadata, MetadataValue
from embedpipe.refused_lines import explained

__all__ = ["STDIN", "Format", "read_records", "text_id"]

Format = Literal["auto", "jsonl", "text"]
T = TypeVar("T")
STDIN: Final = "-"

_CHUNK_BYTES: Final = 1 << 17
_JSON_SUFFIXES: Final = frozenset({".jsonl", ".ndjson", ".json"})
_TEXT_SUFFIXES: Final = frozenset({".txt", ".text", ".md", ".rst", ".log"})
_UTF16_MARKS: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_NO_METADATA: Final[Metadata] = {}

_Lines = tuple[Sequence[int], Sequence[bytes]]
"""Some lines that are not blank, after their numbers."""


class _Line(msgspec.Struct, gc=False):
    id: str | int
    text: str
    metadata: dict[str, MetadataValue] | None = None


_ID: Final[Callable[[_Line], str | int]] = attrgetter("id")
_TEXT: Final[Callable[[_Line], str]] = attrgetter("text")
_decode_line: Final = msgspec.json.Decoder(_Line).decode


def read_records(
    paths: Sequence[str | Path], *, format: Format = "auto", encoding: str = "utf-8", stdin: IO[bytes] | None = None
) -> RecordStream:
    """The records of `paths` in order; `"-"` is standard input. Each has its `source`, `file:line`.

    Paths, `format` and `encoding` are checked at once, contents while they are read. `auto` goes by the file's suffix,
    and for other names by its first character: `{` begins JSON lines, `[{` an array, which is refused. Raises
    `InvalidInput`.
    """
    if format not in get_args(Format):
        raise InvalidInput(f"Format {format!r} is unknown.", hint="Use auto, jsonl or text.")
    codec = _codec(encoding)
    names = [str(path) for path in paths]
    if names.count(STDIN) > 1:
        raise InvalidInput("Standard input ('-') is named twice.", hint="It can be read once.")
    for name in names:
        if name != STDIN:
            _check_path(name)
    source = stdin or (sys.stdin.buffer if sys.stdin is not None else None)
    if source is None and STDIN in names:
        raise InvalidInput("Standard input is closed.", hint="Name a file, or pipe the records in.")
    return RecordStream(chain.from_iterable(_read_one(name, format, codec, source) for name in names))


def read_copy(path: Path, shown: str) -> RecordStream:
    """The records of a file of JSON lines that is a copy of `shown`, which is what messages name."""
    return RecordStream(_read_one(str(path), "jsonl", "utf-8", None, ascii(shown)[1:-1]))


def text_id(text: str) -> str:
    """The id of a plain text line: 32 hexadecimal digits of its BLAKE2b.

    >>> text_id("hello")
    '46fb7408d4f285228f4af516ea25851b'
    """
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _read_one(name: str, format: Format, codec: str, stdin: IO[bytes] | None, shown: str = "") -> Iterator[RecordBlock]:
    with _opened(name, stdin) as stream:
        shown = shown or ("<stdin>" if name == STDIN else name.encode(errors="backslashreplace").decode())
        groups = _utf8_lines(stream, shown) if codec == "utf-8" else _recoded_lines(stream, shown, codec)
        first = next(groups, None)
        if first is None:
            return
        kind = format if format != "auto" else _guess(name, first[1][0])
        convert = _from_json if kind == "jsonl" else _from_text
        for numbers, lines in chain([first], groups):
            yield from convert(numbers, lines, shown)


def _codec(encoding: str) -> str:
    try:
        io.TextIOWrapper(io.BytesIO(), encoding=encoding)  # refuses codecs that do not decode to text
        return codecs.lookup(encoding).name
    except LookupError:
        raise InvalidInput(
            f"Encoding {encoding!r} is unknown.", hint="Examples: utf-8, utf-16, latin-1, cp1252, shift_jis."
        ) from None


def _check_path(name: str) -> None:
    try:
        mode = Path(name).stat().st_mode
    except FileNotFoundError:
        raise InvalidInput(
            f"{name}: there is no such file.", hint="Check the path, or use '-' for standard input."
        ) from None
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{name!a}: cannot be read: {error}.") from None
    if stat.S_ISDIR(mode):
        raise InvalidInput(f"{name}: is a directory.", hint=f"Name the files in it, such as {Path(name) / '*.jsonl'}.")


@contextmanager
def _opened(name: str, stdin: IO[bytes] | None) -> Iterator[IO[bytes]]:
    if name == STDIN and stdin is not None:
        yield stdin
        return
    try:
        # Unbuffered, because whole chunks are read; and one read of a pipe returns what is there.
        file = open(name, "rb", buffering=0)  # noqa: SIM115  closed below, apart from the error of opening
    except OSError as error:
        raise InvalidInput(f"{name}: cannot be read: {error.strerror}.") from None
    with file:
        yield file


def _guess(name: str, first: bytes) -> Format:
    suffix = Path(name).suffix.lower()
    if suffix in _JSON_SUFFIXES:
        return "jsonl"
    if suffix in _TEXT_SUFFIXES:
        return "text"
    # An array, too, so that it is refused with advice: as text it would be embedded, brackets and all.
    return "jsonl" if first.lstrip().startswith((b"{", b"[{")) or first.strip() == b"[" else "text"


# --- lines ---------------------------------------------------------------------------------------------------------


def _chunks(stream: IO[bytes], shown: str) -> Iterator[bytes]:
    read: Callable[[int], bytes] = getattr(stream, "read1", stream.read)
    while True:
        try:
            chunk = read(_CHUNK_BYTES)
        except OSError as error:
            raise InvalidInput(f"{shown}: cannot be read: {error.strerror}.") from None
        if not chunk:
            return
        yield chunk


def _utf8_lines(stream: IO[bytes], shown: str) -> Iterator[_Lines]:
    """Numbered lines that are not blank, as they are in the file, without a byte order mark."""
    return _split(_without_mark(_chunks(stream, shown), shown), shown)


def _without_mark(chunks: Iterator[bytes], shown: str) -> Iterator[bytes]:
    start = b""
    for chunk in chunks:
        start += chunk
        if len(start) >= len(codecs.BOM_UTF8):
            break
    if start.startswith(_UTF16_MARKS):
        raise InvalidInput(f"{shown}: is UTF-16, not UTF-8.", hint="Read it with --encoding utf-16.")
    return chain([start.removeprefix(codecs.BOM_UTF8)], chunks)


def _split(chunks: Iterator[bytes], shown: str) -> Iterator[_Lines]:
    before, tail = 0, b""
    for chunk in chunks:
        *whole, rest = chunk.split(b"\n")
        if whole:
            whole[0] = tail + whole[0]
            tail = b""
            yield from _not_blank(before + 1, whole)
            before += len(whole)
        tail = tail + rest if tail else rest
        if len(tail) > LINE_BYTES_MAX:
            raise InvalidInput(
                f"{shown}:{before + 1}: the line is longer than {LINE_BYTES_MAX} bytes.",
                hint="Is it one record a line? A JSON array is turned into lines by: jq -c '.[]'",
            )
    yield from _not_blank(before + 1, [tail])


def _not_blank(number: int, lines: list[bytes]) -> Iterator[_Lines]:
    numbers: Sequence[int] = range(number, number + len(lines))
    if not all(map(bytes.strip, lines)):
        kept = [at for at, line in enumerate(lines) if line.strip()]
        numbers, lines = [numbers[at] for at in kept], [lines[at] for at in kept]
    if lines:
        yield numbers, lines


def _recoded_lines(stream: IO[bytes], shown: str, codec: str) -> Iterator[_Lines]:
    """The same lines from another encoding, as UTF-8."""
    decoder = codecs.getincrementaldecoder(codec)()
    return _split(_recoded(_chunks(stream, shown), decoder, shown, codec), shown)


def _recoded(chunks: Iterator[bytes], decoder: codecs.IncrementalDecoder, shown: str, codec: str) -> Iterator[bytes]:
    done_bytes = 0
    for chunk in chain(chunks, [b""]):
        pending = len(decoder.getstate()[0])
        try:
            text = decoder.decode(chunk, final=not chunk)
        except UnicodeError as error:
            at = done_bytes - pending + getattr(error, "start", 0)
            raise InvalidInput(
                f"{shown}: byte {at + 1} is not {codec}: {getattr(error, 'reason', error)}.",
                hint="Name the file's encoding with --encoding.",
            ) from None
        if text and not done_bytes:
            text = text.removeprefix("\ufeff")
        done_bytes += len(chunk)
        yield text.encode(errors="surrogatepass")


# --- records -------------------------------------------------------------------------------------------------------


def _from_text(numbers: Sequence[int], lines: Sequence[bytes], shown: str) -> Iterator[RecordBlock]:
    decoded = _until_refused(bytes.decode, lines)
    texts = [text.strip() for text in decoded]
    kept = [at for at, text in enumerate(texts) if text]  # there are more blanks in Unicode than in bytes
    texts = [texts[at] for at in kept]
    yield _block([numbers[at] for at in kept], list(map(text_id, texts)), texts, [_NO_METADATA] * len(kept), shown)
    if len(decoded) < len(lines):
        raise explained(lines[len(decoded)], shown, numbers[len(decoded)])


def _from_json(numbers: Sequence[int], lines: Sequence[bytes], shown: str) -> Iterator[RecordBlock]:
    found = _until_refused(_decode_line, lines)
    ids = list(map(str, map(_ID, found)))
    texts = list(map(_TEXT, found))
    if not (all(ids) and all(texts)):
        good = next(at for at, row in enumerate(zip(ids, texts, strict=True)) if not all(row))
        found, ids, texts = found[:good], ids[:good], texts[:good]
    yield _block(numbers[: len(found)], ids, texts, [fields.metadata or _NO_METADATA for fields in found], shown)
    if len(found) < len(lines):
        raise explained(lines[len(found)], shown, numbers[len(found)])


def _until_refused(decode: Callable[[bytes], T], lines: Sequence[bytes]) -> list[T]:
    """What the lines hold, up to the first that can't be decoded."""
    found: list[T] = []
    with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        found.extend(map(decode, lines))
    return found


def _block(
    numbers: Sequence[int], ids: list[str], texts: list[str], metadatas: list[Metadata], shown: str
) -> RecordBlock:
    sources = [shown] * len(ids)
    return RecordBlock(ids=ids, texts=texts, metadatas=metadatas, sources=sources, lines=numbers).checked()
