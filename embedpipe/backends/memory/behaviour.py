"""What a scripted provider does with one batch, as data: the vocabulary of faults that real providers have shown.

A `Behaviour` says everything about one batch; the provider (`memory.provider`) only acts it out. Nothing here has effects.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Final

import attrs

from embedpipe.backends.batch_files import ItemError
from embedpipe.model import ProviderIssue

FOR_EVER: Final = 1 << 60
"""For counters: it never ends."""

RUNNING: Final = ("validating", "in_progress", "finalizing")
ENDED: Final = frozenset({"completed", "expired", "cancelled", "failed"})

SILENT: Final = None
"""The fate of a request that gets no line at all. `batch_files` names the usual errors: EXPIRED, CANCELLED, TIMEOUT."""


class CreateFault(StrEnum):
    """What happens to a create call."""

    NONE = "none"
    THROTTLED = "throttled"  # 429 before any effect
    REFUSED = "refused"  # a definite no: nothing exists
    UNAUTHORIZED = "unauthorized"  # 401: nothing exists
    ANSWER_LOST = "answer_lost"  # the batch exists and is paid for; the caller sees Unavailable
    LOST = "lost"  # nothing was made; the caller sees Unavailable all the same


@attrs.frozen(kw_only=True)
class Behaviour:
    """The life of one batch. The default: created at once, runs through three retrieves, all requests embedded."""

    create: CreateFault = CreateFault.NONE
    refusal: str = "insufficient_quota"
    """The provider's code where `create` is refused or throttled."""
    running: tuple[str, ...] = RUNNING
    """What retrieves say before the end, one each; the empty tuple ends at the first retrieve."""
    ends_after_s: float | None = None
    """If given, the batch ends when so much time has passed since its creation, and not by the number of retrieves;
    meanwhile `running` is spread evenly over that time."""
    outcome: str | None = "completed"
    """How it ends; None: never, it says the last word of `running` for ever."""
    issues: tuple[ProviderIssue, ...] = ()
    """Of a `failed` batch. A batch with an invalid input file fails with its own issues, whatever is written here."""
    fates: Mapping[str, ItemError | None] = attrs.field(factory=dict)
    """By `custom_id`: an error, or `SILENT` for no line; who is not named is embedded."""
    shuffle_seed: int | None = 0
    """Order of the lines in each file; None keeps the order of the input."""
    extra_lines: tuple[bytes, ...] = ()
    """Raw lines (each with its newline, if it is to have one) put between the others: unknown ids, garbage."""
    doubled: frozenset[str] = frozenset()
    """These ids have their line twice."""
    torn: bool = False
    """The output file ends in the middle of a line that would have been the second copy of its first."""
    counts_silent: bool = False
    """Whether `request_counts.completed` counts requests that never get a line."""
    late_retrieves: int = 0
    """During the first so many terminal retrieves, the files lack the second half of their lines; counts are whole."""
    null_output_retrieves: int = 0
    """During the first so many terminal retrieves, `output_file_id` is absent; counts are whole."""
    absent_file_id: str | None = None
    """How an absent file id is spelled; some servers say ""."""
    unknown_retrieves: int = 0
    """The first so many retrieves answer 404. A provider that lost the batch: `FOR_EVER`."""
    lost_after_retrieves: int = FOR_EVER
    """Retrieves after this many answer 404."""
    unauthorized_retrieves: int = 0
    """The first so many retrieves (after the 404s) answer 401."""
    unlisted_calls: int = 0
    """The first so many full listings after its creation do not show it."""
    content_missing: int = 0
    """The first so many reads of its files answer 404."""


GOOD: Final = Behaviour()

ChooseBehaviour = Callable[[int, Mapping[str, str]], Behaviour]
"""`(number of the create call from 1, metadata of the create) -> Behaviour`."""


def always_good(_: int, __: Mapping[str, str]) -> Behaviour:
    """The chooser of a provider that never fails."""
    return GOOD
