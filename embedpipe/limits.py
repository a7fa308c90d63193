"""Every bound in one place, each with its source. `Limits` holds the ones that a deployment may override.

Sizes are bytes, times are seconds, counts are plain. Sources: [openai] the Batch and Embeddings API references,
[aws] the service quota pages of S3, DynamoDB, Step Functions and Lambda, [chroma] chromadb 1.5, [ours] our own choice.
"""

from __future__ import annotations

from typing import Any, Final

import attrs

# Our own bounds on names. A key must fit S3's 1,024 bytes whatever it is made of. [ours]
ID_CHARS_MAX: Final = 128
RECORD_ID_BYTES_MAX: Final = 512
KEY_BYTES_MAX: Final = 1_024  # [aws] S3 object key

# Wire bounds.
STATE_BYTES_MAX: Final = 262_144  # [aws] Step Functions payload
ITEM_BYTES_MAX: Final = 400 * 1024  # [aws] DynamoDB item
METADATA_KEYS_MAX: Final = 1_000  # [chroma] SQLite refuses an upsert whose row has some 5,000
METADATA_BYTES_MAX: Final = 64 * 1024  # [ours] canonical JSON of one record's metadata
LINE_BYTES_MAX: Final = 64 * 1024 * 1024  # [ours] one line of provider output; 40 MB lines were seen
BATCH_GET_KEYS_MAX: Final = 100  # [aws] DynamoDB BatchGetItem
LIST_PAGE_KEYS: Final = 1_000  # [aws] S3 ListObjectsV2
INLINE_BATCHES_MAX: Final = 50  # [seed] above it, the listing travels through S3
SUBMITTERS_KEPT: Final = 1_000  # [design] execution ids the ledger head remembers
ANCESTORS_KEPT: Final = 100  # [ours] versions a snapshot names, so that a slow winner recognises itself

# A token is at least one UTF-8 byte in every byte-level BPE, so bytes bound tokens from above; the longest token of the
# known vocabularies is 128 bytes, which bounds them from below. [openai] cl100k_base, o200k_base
UTF8_BYTES_MAX: Final = 4  # of one character
BYTES_PER_TOKEN_MIN: Final = 1
BYTES_PER_TOKEN_MAX: Final = 128

PROVIDER_LIST_PAGE: Final = 100  # [openai] batches.list
METADATA_PAIRS_MAX: Final = 16  # [openai] batch metadata
METADATA_KEY_CHARS_MAX: Final = 64  # [openai]
METADATA_VALUE_CHARS_MAX: Final = 512  # [openai]
BATCH_WINDOW_S: Final = 24 * 3600  # [openai] completion window

PAUSE_MAX_S: Final = 3_600.0  # [ours] the longest pause before something is tried again, whoever advises it
PROVIDER_WORD_CHARS_MAX: Final = 100  # [ours] a status or an error code of the provider, as we keep it
PROVIDER_TEXT_CHARS_MAX: Final = 300  # [ours] a message of the provider, as we keep it

CHROMA_BATCH_MAX: Final = 5_461  # [chroma] max_batch_size with SQLite
CHROMA_NAME_CHARS_MIN: Final = 3  # [chroma]

_positive: Any = attrs.validators.gt(0)


def pause_s(advice_s: float | None) -> float:
    """A service's advice how long to wait, within reason; 0 where it gives none or makes no sense.

    >>> [pause_s(advice_s) for advice_s in (None, 5.0, -1.0, 1e12, float("inf"), float("nan"))]
    [0.0, 5.0, 0.0, 3600.0, 3600.0, 0.0]
    """
    return min(advice_s, PAUSE_MAX_S) if advice_s is not None and advice_s > 0 else 0.0


@attrs.frozen(kw_only=True)
class Limits:
    """What one provider batch may hold. [openai], overridable per deployment."""

    requests_per_batch: int = attrs.field(default=50_000, validator=_positive)
    """Requests (lines) of one input file; one record is one request."""
    file_bytes: int = attrs.field(default=200_000_000, validator=_positive)
    """Size of one input file."""
    tokens_per_input: int = attrs.field(default=8_192, validator=_positive)
    """Tokens of one text."""
    tokens_per_batch: int = attrs.field(default=0, validator=attrs.validators.ge(0))
    """Enqueued tokens one batch may add, by tier; 0 means that the provider sets none."""
    enqueued_tokens: int = attrs.field(default=0, validator=attrs.validators.ge(0))
    """Tokens of all open batches of a kind together, counted as bytes; what exceeds it waits in line. 0: no limit."""
    creates_per_minute: int = attrs.field(default=0, validator=attrs.validators.ge(0))
    """Batches of a kind created within a minute; the others wait for a later ingest. 0: no limit."""


@attrs.frozen(kw_only=True)
class Policy:
    """Our own decisions about time, retries and sizes. All overridable."""

    attempts_max: int = attrs.field(default=3, validator=_positive)
    """Tries a record may cost before it is rejected as `attempts_exhausted`."""
    ambiguous_after_s: float = attrs.field(default=3_600.0, validator=attrs.validators.ge(0))
    """How long a create with no known answer is searched for before it counts as lost."""
    settle_max_s: float = attrs.field(default=24 * 3600.0, validator=attrs.validators.ge(0))
    """How long a terminal batch may show fewer lines than its counts before the rest counts as missing."""
    not_found_grace_s: float = attrs.field(default=300.0, validator=attrs.validators.ge(0))
    """How long after its creation a batch may be unknown to the provider without anything being wrong."""
    lost_after_s: float = attrs.field(default=24 * 3600.0, validator=attrs.validators.ge(0))
    """How long a 404 for a batch is a wait."""
    give_up_after_s: float = attrs.field(default=30 * 24 * 3600.0, validator=attrs.validators.ge(0))
    """How long a 404 is a wait where the provider knows nothing else of this root either: it may be another project."""
    capacity_wait_s: float = attrs.field(default=60.0, validator=attrs.validators.ge(0))
    """First pause before work that was refused for capacity is created again; doubles to one hour."""
    inline_batches_max: int = attrs.field(default=INLINE_BATCHES_MAX, validator=_positive)
    """Listings up to this length travel inside the workflow state."""
    chunk_rows: int = attrs.field(default=100_000, validator=_positive)
    """Vectors one chunk sorts and packs, more only when one delta alone has more."""
    merge_rows: int = attrs.field(default=250_000, validator=_positive)
    """Vectors one published version takes in; bounds the memory of the final merge."""
    upsert_rows: int = attrs.field(default=5_461, validator=_positive)
    """Rows handed to a collection at once, and read back. Chroma's own maximum, so that nothing is split twice."""
    merge_budget_s: float = attrs.field(default=600.0, validator=_positive)
    """After this long the final merge publishes, answers `more` and is called again. Lambda ends at 900 s."""
    delete_provider_files: bool = False
    """Whether the provider's files of a batch are deleted once its vectors are published. They are kept 30 days else."""
    merge_conflicts_max: int = attrs.field(default=10, validator=_positive)
    """Lost publishing races before a merge gives up for this execution."""
