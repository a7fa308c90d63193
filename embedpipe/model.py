"""The values the pipeline speaks in: records, kinds, claims, rows, provider batches. Frozen, checked when made.

Nothing here does IO or knows how a value is written; `wire` and `vectors` do.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Final

import attrs
import msgspec

from embedpipe.errors import InvalidInput
from embedpipe.layout import record_id, safe_id, safe_name
from embedpipe.lifecycle import Status
from embedpipe.limits import METADATA_BYTES_MAX, METADATA_KEYS_MAX, PROVIDER_TEXT_CHARS_MAX, PROVIDER_WORD_CHARS_MAX

_VALUE_TYPES: Final = (str, int, float, bool)
MetadataValue = str | int | float | bool
Metadata = Mapping[str, MetadataValue]

_EMPTY: Final[Metadata] = {}
_encode_sorted: Final = msgspec.json.Encoder(order="sorted").encode
_decode_dict: Final = msgspec.json.Decoder(dict[str, MetadataValue]).decode


def _own(metadata: Metadata) -> Metadata:
    return dict(metadata) if isinstance(metadata, Mapping) and metadata else metadata


@attrs.frozen(kw_only=True)
class Record:
    """One text to embed."""

    id: str
    """Any text of 1 to 512 UTF-8 bytes; unique within its collection."""
    text: str
    """What is embedded; not empty, not only white space."""
    metadata: Metadata = attrs.field(default=_EMPTY, converter=_own)
    """Flat: names to strings, numbers or booleans. A copy: what the caller does with its own later changes nothing."""
    source: str = attrs.field(default="", eq=False)
    """Where it came from, for messages: `file:line`."""

    def __attrs_post_init__(self) -> None:
        record_id(self.id)
        _check_text(self)
        if self.metadata:
            _check_metadata(self)


def place(source: str, line: int) -> str:
    """Where a record came from, as messages say it.

    >>> place("notes.jsonl", 7), place("notes.jsonl:7", 0)
    ('notes.jsonl:7', 'notes.jsonl:7')
    """
    return f"{source}:{line}" if line else source


def _named(record: Record) -> str:
    return f"Record {ascii(record.id)[:80]}" + (f" ({record.source})" if record.source else "")


def _check_text(record: Record) -> None:
    if not isinstance(record.text, str) or not record.text.strip():
        raise InvalidInput(
            f"{_named(record)} has no text.", hint="Give it a non-empty 'text', or leave the record out."
        )
    try:
        record.text.encode()
    except UnicodeEncodeError:
        raise InvalidInput(f"{_named(record)}: the text is not valid Unicode (a lone surrogate).") from None


def _check_metadata(record: Record) -> None:
    if not isinstance(record.metadata, Mapping):
        raise InvalidInput(f"{_named(record)}: 'metadata' must be an object of names and values.")
    if len(record.metadata) > METADATA_KEYS_MAX:
        raise InvalidInput(
            f"{_named(record)}: metadata of {len(record.metadata)} names; at most {METADATA_KEYS_MAX}.",
            hint="Keep the few that are searched by, and the rest elsewhere under the record's id.",
        )
    for name, value in record.metadata.items():
        if not isinstance(name, str) or not name or not isinstance(value, _VALUE_TYPES):
            raise InvalidInput(
                f"{_named(record)}: metadata {ascii(name)[:40]} must be a string, number or boolean.",
                hint="Flatten nested values, and leave out nulls.",
            )
        if isinstance(value, float) and not math.isfinite(value):
            raise InvalidInput(f"{_named(record)}: metadata {ascii(name)[:40]} is not a finite number.")
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise InvalidInput(
                f"{_named(record)}: metadata {ascii(name)[:40]} needs more than 64 bits.", hint="Make it text."
            )
    try:
        size_bytes = len(_encode_sorted(dict(record.metadata)))
    except UnicodeEncodeError:
        raise InvalidInput(f"{_named(record)}: the metadata is not valid Unicode.") from None
    except TypeError as error:  # a number of another library, which only looks like one of Python's
        raise InvalidInput(
            f"{_named(record)}: the metadata can't be stored: {error}.", hint="Convert its values: float(value)."
        ) from None
    if size_bytes > METADATA_BYTES_MAX:
        raise InvalidInput(f"{_named(record)}: metadata of {size_bytes} bytes; at most {METADATA_BYTES_MAX}.")


def metadata_json(metadata: Metadata) -> str:
    """Canonical JSON of one record's metadata: keys sorted, no spaces; the empty string when there is none.

    >>> metadata_json({"b": 1, "a": "x"})
    '{"a":"x","b":1}'
    """
    return _encode_sorted(metadata).decode() if metadata else ""


def metadata_from_json(text: str) -> Metadata:
    """Inverse of `metadata_json`."""
    return _decode_dict(text) if text else _EMPTY


CONTENT_HASH_BYTES: Final = 16


def content_hasher(model: str, dimensions: int) -> Callable[[Iterable[str], Iterable[str]], list[bytes]]:
    """A function `(texts, metadata JSON) -> 16 bytes each`, equal exactly where model, dimensions and both are equal.

    >>> hashes = content_hasher("m", 3)(["a", "a", ""], ["", "", "a"])
    >>> hashes[0] == hashes[1], hashes[0] == hashes[2]
    (True, False)
    """
    framed = f"{len(model.encode())}:{model}{dimensions}:".encode()
    start = hashlib.blake2b(framed, digest_size=CONTENT_HASH_BYTES)
    without_metadata = start.copy()
    without_metadata.update(b"\0")

    def hash_contents(texts: Iterable[str], metadatas: Iterable[str]) -> list[bytes]:
        found = []
        # A loop over columns, and no call for each: a million of them are a fifth of planning.
        for text, metadata in zip(texts, metadatas, strict=True):
            # JSON has no raw NUL, so the first one is where the text begins: no text can imitate another with metadata.
            if metadata:
                state = start.copy()
                state.update(metadata.encode() + b"\0")
            else:
                state = without_metadata.copy()
            state.update(text.encode())
            found.append(state.digest())
        return found

    return hash_contents


@attrs.frozen(kw_only=True, order=True)
class Claim:
    """The order of submissions of one record. The greater claim wins; clocks never decide."""

    seq: int
    """Number of the submission, from the collection's ledger; the first is 1."""
    attempt: int
    """1 for the batch of the submission itself, one more for each retry batch after it."""


def _state_name(name: str) -> str:
    return "".join(part.capitalize() for part in name.replace("_", "-").split("-"))


@attrs.frozen
class Kind:
    """What the records are. Data, never a second code path: any name works.

    >>> Kind("articles").collection, WORD.collection, Kind("my-notes").batch_type
    ('articles', 'receipt_words', 'MY_NOTES_EMBEDDING')
    """

    name: str = attrs.field(validator=lambda _, __, value: safe_name(value, "kind"))
    database: str = attrs.field(kw_only=True)
    """Prefix of its objects. One database holds one collection."""
    collection: str = attrs.field(kw_only=True)
    """Name of its collection in the vector store."""

    @database.default
    def _default_database(self) -> str:
        return self.name

    @collection.default
    def _default_collection(self) -> str:
        return self.name

    def __attrs_post_init__(self) -> None:
        safe_name(self.database, "database")
        safe_name(self.collection, "collection")

    @property
    def batch_type(self) -> str:
        """Value of a row's `batch_type`."""
        return f"{self.name.upper().replace('-', '_')}_EMBEDDING"

    @property
    def state_name(self) -> str:
        """The kind's part of a state name: `Word` in `ListPendingWordBatches`."""
        return _state_name(self.name)


WORD: Final = Kind("word", database="words", collection="receipt_words")
LINE: Final = Kind("line", database="lines", collection="receipt_lines")
BUILT_IN_KINDS: Final = {kind.name: kind for kind in (WORD, LINE)}


def kind_named(name: str) -> Kind:
    """The built-in kind of that name, or a new one."""
    return BUILT_IN_KINDS.get(name) or Kind(name)


@attrs.frozen(kw_only=True)
class EmbeddingModel:
    """What turns text into vectors. Frozen into each row at submission."""

    name: str = attrs.field(validator=attrs.validators.min_len(1))
    """The provider's name of the model."""
    dimensions: int = attrs.field(validator=attrs.validators.gt(0))
    """Length of each vector."""
    send_dimensions: bool = False
    """Whether requests carry `dimensions`; only models that can shorten their vectors accept it."""


@attrs.frozen(kw_only=True)
class BatchRow:
    """One row of the batch table: the summary of one provider batch."""

    batch_id: str = attrs.field(validator=lambda _, __, value: safe_id(value, "batch_id"))
    batch_type: str
    status: Status
    provider_batch_id: str | None = None
    submitted_at: datetime | None = None
    result_file_id: str | None = None
    provider_status: str | None = None
    request_count: int | None = None
    """Records in it; None on rows of a deployment without request files."""
    request_sha256: str | None = None
    records_sha256: str | None = None
    seq: int | None = None
    attempt: int = 1
    parent_batch_id: str | None = None
    collection: str | None = None
    database: str | None = None
    model: str | None = None
    dimensions: int | None = None
    input_file_id: str | None = None
    creating_at: datetime | None = None
    """When the row went to CREATING."""
    not_before: datetime | None = None
    """A batch refused for capacity is not created again before this time."""
    retry_batch_ids: tuple[str, ...] = ()
    completed_by: str | None = None
    snapshot_version: str | None = None
    reason: str | None = None
    revision: int = 0
    """Goes up by one with each update; 0 also stands for rows that have none."""
    extra: Mapping[str, object] = attrs.field(factory=dict)
    """Attributes of the item that we do not know. Updates leave them alone."""

    @property
    def claim(self) -> Claim:
        """The claim that its records carry."""
        return Claim(seq=self.seq or 0, attempt=self.attempt)

    def serves(self, kind: Kind) -> bool:
        """Whether it belongs to that kind's collection. A row that names none belongs to its `batch_type`'s."""
        return (
            self.batch_type == kind.batch_type
            and self.database in (None, kind.database)
            and self.collection in (None, kind.collection)
        )


@attrs.frozen(kw_only=True)
class RequestCounts:
    """The provider's own counts of one batch. They may run ahead of the lines in its files."""

    total: int = 0
    completed: int = 0
    failed: int = 0


def provider_word(value: str | None) -> str:
    """A status or code of the provider: valid Unicode, and short enough to be kept everywhere.

    >>> provider_word("rate_limit_exceeded"), provider_word("odd\\ud800"), len(provider_word("long" * 100))
    ('rate_limit_exceeded', 'odd?', 100)
    """
    return (value or "")[:PROVIDER_WORD_CHARS_MAX].encode(errors="replace").decode()


def provider_text(value: str | None) -> str:
    """A message of the provider: likewise."""
    return (value or "")[:PROVIDER_TEXT_CHARS_MAX].encode(errors="replace").decode()


@attrs.frozen(kw_only=True)
class ProviderIssue:
    """One validation error of a batch."""

    code: str = attrs.field(converter=provider_word)
    message: str = attrs.field(default="", converter=provider_text)
    line: int | None = None
    """Line of the input file, from 1; None when the whole batch is meant."""


@attrs.frozen(kw_only=True)
class ProviderBatch:
    """What the provider says of one batch. An empty file id is None."""

    id: str
    status: str = attrs.field(converter=provider_word)
    input_file_id: str | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    counts: RequestCounts = RequestCounts()
    issues: tuple[ProviderIssue, ...] = ()
    metadata: Mapping[str, str] = attrs.field(factory=dict)
    created_at: datetime | None = None
    ended_at: datetime | None = None
    """When it became terminal, if the provider says so."""


@attrs.frozen(kw_only=True)
class Blob:
    """An object read whole."""

    data: bytes
    etag: str


@attrs.frozen(kw_only=True)
class BlobInfo:
    """One entry of a listing. No etag: a directory of files could only tell it by reading every file."""

    key: str
    size_bytes: int
    modified_at: datetime


def _in_range(distance: float) -> float:
    return min(max(float(distance), 0.0), 2.0)


@attrs.frozen(kw_only=True)
class Hit:
    """One answer of a search."""

    id: str
    distance: float = attrs.field(converter=_in_range)
    """Cosine distance, 0 to 2; smaller is nearer. What rounding adds beyond that is cut off."""
    document: str | None = None
    metadata: Metadata = _EMPTY
