"""Hypothesis strategies for pipelines: records, submissions that change their texts, and what a provider may do to a batch.

Needs the extra `testing`. Everything drawn is recoverable: once the faults are used up, a correct pipeline ends every batch.
"""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence

from embedpipe.backends.batch_files import ItemError
from embedpipe.backends.memory.behaviour import Behaviour, CreateFault
from embedpipe.errors import missing_extra
from embedpipe.model import ProviderIssue, Record

try:
    from hypothesis import strategies as st
except ImportError as error:
    raise missing_extra("testing", error.name or "hypothesis") from None

__all__ = [
    "behaviours",
    "fates",
    "full_results",
    "listings",
    "map_outputs",
    "record_ids",
    "records",
    "safe_ids",
    "submissions",
]

ITEM_ERRORS = (
    ItemError(status_code=400, code="invalid_request_error", message="no"),
    ItemError(status_code=500, code="server_error", message="later"),
    ItemError(status_code=429, code="rate_limit_exceeded", message="slow down"),
    ItemError(status_code=None, code="batch_expired", message="too late"),
    ItemError(status_code=None, code="batch_cancelled", message="stopped"),
    ItemError(status_code=None, code="request_timeout", message="timed out"),
    None,
)
"""What one request can meet; None is no line at all."""

ODD_LINES = (
    b'{"custom_id": "nobody", "response": null, "error": null}\n',
    b'{"custom_id": "nobody", "response": {"status_code": 200, "body": {"data": []}}, "error": null}\n',
    b"{not json\n",
    b"\n",
    b"[]\n",
    b'{"custom_id": null, "response": {"status_code": 0}}\n',
    b'{"response": {"status_code": 200, "body": {"data": [{"index": 0, "embedding": [1.0, [2.0]]}]}}}\n',
)
"""Lines that belong to no record; they must cost nothing but themselves."""


def record_ids(count: int = 8) -> st.SearchStrategy[str]:
    """Ids from a small pool, so that submissions overlap; some are odd."""
    odd = ["../x", "a/b", "ü\u202e", "\U0001f600", "\uffff", " ", "a" * 300, "\t", "[red]", "%2e"]
    return st.sampled_from([*(f"r{number}" for number in range(count)), *odd[: max(0, count - 2)]])


def records(count: int = 8) -> st.SearchStrategy[tuple[Record, ...]]:
    """Records with distinct ids and few texts, so that some come back unchanged."""
    record = st.builds(
        lambda name, text, tag: Record(id=name, text=text, metadata={"tag": tag} if tag else {}),
        record_ids(count),
        st.sampled_from(["one", "two", "three", "\u00e4 \u2028 text"]),
        st.sampled_from(["", "", "x"]),
    )
    return st.lists(record, max_size=count, unique_by=lambda made: made.id).map(tuple)


def submissions(most: int = 3, count: int = 8) -> st.SearchStrategy[list[tuple[Record, ...]]]:
    """Several submissions one after another."""
    return st.lists(records(count), min_size=1, max_size=most)


def fates(ids: Sequence[str]) -> st.SearchStrategy[Mapping[str, ItemError | None]]:
    """What some of the requests meet."""
    return st.dictionaries(st.sampled_from(list(ids)), st.sampled_from(ITEM_ERRORS), max_size=len(ids))


def behaviours(ids: Sequence[str]) -> st.SearchStrategy[Behaviour]:
    """The life of one batch whose requests are among `ids`."""
    few = st.integers(0, 2)
    return st.builds(
        Behaviour,
        create=st.sampled_from([CreateFault.NONE] * 6 + list(CreateFault)[1:3] + list(CreateFault)[4:]),
        refusal=st.sampled_from(["insufficient_quota", "token_limit_exceeded"]),
        running=st.sampled_from([(), ("in_progress",), ("validating", "unheard_of"), ("cancelling",)]),
        outcome=st.sampled_from(["completed", "completed", "completed", "expired", "cancelled", "failed"]),
        issues=st.sampled_from(
            [
                (),
                (ProviderIssue(code="invalid_json_line", message="bad", line=1),),
                (ProviderIssue(code="token_limit_exceeded", message="queue"),),
                (ProviderIssue(code="mystery", message="why", line=None),),
                (ProviderIssue(code="mystery", message="why", line=99),),
            ]
        ),
        fates=fates(ids),
        shuffle_seed=st.integers(0, 3),
        extra_lines=st.lists(st.sampled_from(ODD_LINES), max_size=2).map(tuple),
        doubled=st.frozensets(st.sampled_from(list(ids)), max_size=2),
        torn=st.booleans(),
        counts_silent=st.booleans(),
        late_retrieves=few,
        null_output_retrieves=few,
        absent_file_id=st.sampled_from([None, ""]),
        unknown_retrieves=few,
        unlisted_calls=st.integers(0, 1),
        content_missing=st.integers(0, 1),
    )


def listings(batches_max: int = 60) -> st.SearchStrategy[list[dict[str, str]]]:
    """Listed batches, distinct, in any number up to `batches_max`."""
    names = st.lists(safe_ids(), max_size=batches_max, unique=True)
    return names.map(lambda found: [{"batch_id": name, "openai_batch_id": f"batch_{name}"} for name in found])


def full_results(batch: Mapping[str, str]) -> st.SearchStrategy[dict[str, object]]:
    """A poll result of the seed's shape for one listed batch."""
    return st.fixed_dictionaries(
        {
            "batch_id": st.just(batch["batch_id"]),
            "openai_batch_id": st.just(batch["openai_batch_id"]),
            "batch_status": st.sampled_from(["completed", "in_progress", "expired", "failed"]),
            "action": st.sampled_from(["process_results", "process_partial", "wait", "handle_failure"]),
            "results_count": st.integers(0, 100),
            "delta_id": st.sampled_from([None, "delta-1"]),
            "delta_key": st.sampled_from([None, "words/delta/words/receipt_words/delta-1/"]),
            "embedding_count": st.integers(0, 100),
            "storage": st.just("s3_delta"),
        }
    )


def map_outputs(listed: Sequence[Mapping[str, str]]) -> st.SearchStrategy[list[object]]:
    """What a Map over `listed` may hand on: full results, references, nulls and errors, in any order, some missing."""
    if not listed:
        return st.lists(st.none(), max_size=2)

    def one(batch: Mapping[str, str]) -> st.SearchStrategy[object]:
        reference = {
            "batch_id": batch["batch_id"],
            "result_s3_key": f"poll_results/{batch['batch_id']}/result.json",
            "result_s3_bucket": None,
        }
        broken = {"batch_id": batch["batch_id"], "action": "no such action"}
        return st.one_of(
            full_results(batch), st.just(reference), st.none(), st.just(broken), st.just({"error": "States.Timeout"})
        )

    return st.tuples(*(one(batch) for batch in listed)).flatmap(lambda found: st.permutations(list(found)))


def safe_ids() -> st.SearchStrategy[str]:
    """Ids that `layout.safe_id` accepts."""
    rest = st.text(string.ascii_letters + string.digits + "._-", max_size=20)
    return st.builds(lambda first, more: first + more, st.sampled_from(string.ascii_letters + string.digits), rest)
