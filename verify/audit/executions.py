"""One execution as its objects show it: listing, poll results, chunks; and the facts it adds to each of its batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final

import attrs
import msgspec

from embedpipe.errors import CorruptData
from embedpipe.layout import Layout
from embedpipe.lifecycle import TERMINAL_ACTIONS
from embedpipe.model import BlobInfo
from embedpipe.ports import BlobStore
from embedpipe.wire import Chunk, Manifest, ManifestBatch, Result, parse_time
from verify.audit.entries import Chunked, Entry, Listed, Polled
from verify.audit.keys import is_id
from verify.audit.objects import Unreadable, envelope, envelopes, guarded, too_large

__all__ = ["Execution", "facts_by_batch", "facts_of", "read_execution"]

SAME_FIELDS: Final = (
    "openai_batch_id",
    "batch_status",
    "action",
    "results_count",
    "delta_id",
    "delta_key",
    "delta_sha256",
    "embedding_count",
    "rejected_count",
    "retry_count",
    "retry_sha256",
    "execution_id",
)
"""Fields of a result that its register and every poll_results.json that quotes it have in common."""


@attrs.frozen(kw_only=True)
class OddElement:
    """An element of poll_results.json that names no batch."""

    index: int
    text: str


@attrs.frozen(kw_only=True, eq=False)
class Execution:
    """What the objects of one execution say. A field is None where there is nothing, or where the depth leaves it out."""

    execution_id: str
    present: Mapping[str, BlobInfo]
    """Field of the layout -> its object."""
    manifest: Manifest | Unreadable | None = None
    items: tuple[ManifestBatch, ...] | Unreadable | None = None
    results: tuple[Result, ...] | Unreadable | None = None
    """The elements that name a batch."""
    odd: tuple[OddElement, ...] = ()
    chunks: tuple[Chunk, ...] | Unreadable | None = None

    @property
    def went_on(self) -> bool:
        """Whether a step after normalising has left something."""
        return "chunks" in self.present or "marked" in self.present

    @property
    def ended(self) -> bool:
        """Whether its mark step has written what it did."""
        return "marked" in self.present

    @property
    def began_at(self) -> datetime | None:
        """When it listed its batches."""
        if isinstance(self.manifest, Manifest):
            try:
                return parse_time(self.manifest.created_at)
            except CorruptData:
                pass
        infos = [info.modified_at for info in self.present.values()]
        return min(infos, default=None)

    @property
    def listed(self) -> tuple[ManifestBatch, ...]:
        """The batches of its manifest; where that is lost, those of items.json, which is the same listing."""
        if isinstance(self.manifest, Manifest):
            return self.manifest.batches
        return self.items if isinstance(self.items, tuple) else ()

    @property
    def has_listing(self) -> bool:
        """Whether what it listed is known."""
        return isinstance(self.manifest, Manifest) or isinstance(self.items, tuple)


def read_execution(
    objects: BlobStore, layout: Layout, execution_id: str, present: Mapping[str, BlobInfo], *, content: bool
) -> Execution:
    """Read the objects of one execution; only its manifest where `content` is False."""

    def stored(what: str, key: str, read: Any) -> Any:
        if what not in present:
            return None
        return too_large(key, present[what].size_bytes) or read(key)

    def listing(what: str, key: str) -> Any:
        return stored(what, key, lambda key: envelope(objects, Manifest, key))

    manifest = listing("manifest", layout.manifest_key(execution_id))
    if manifest is None:  # a deployment of the seed's design has it elsewhere
        manifest = listing("deployed_manifest", layout.deployed_manifest_key(execution_id))
    if not content:
        return Execution(execution_id=execution_id, present=present, manifest=manifest)
    items = stored("items", layout.items_key(execution_id), lambda key: envelopes(objects, ManifestBatch, key))
    chunks = stored("chunks", layout.chunks_key(execution_id), lambda key: envelopes(objects, Chunk, key))
    found = stored(
        "poll_results", layout.poll_results_key(execution_id), lambda key: guarded(key, lambda: _elements(objects, key))
    )
    results, odd = found if isinstance(found, tuple) else (found, ())
    return Execution(
        execution_id=execution_id,
        present=present,
        manifest=manifest,
        items=items,
        results=results,
        odd=odd,
        chunks=chunks,
    )


_split: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
_parse: Final = msgspec.json.decode


def _elements(objects: BlobStore, key: str) -> tuple[tuple[Result, ...], tuple[OddElement, ...]]:
    """The elements of poll_results.json, parsed one after another. `CorruptData` where it is no array of objects."""
    data = objects.get(key).data
    try:
        parts = _split(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CorruptData(f"{key} is not a JSON array ({len(data)} bytes): {error}") from None
    results: list[Result] = []
    odd: list[OddElement] = []
    for index, part in enumerate(parts):
        where = f"{key}[{index}]"
        try:
            value = _parse(part)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise CorruptData(f"{where} is not JSON: {error}") from None
        if isinstance(value, dict) and is_id(value.get("batch_id")):
            results.append(Result.load(value, where))
        else:
            odd.append(OddElement(index=index, text=bytes(part)[:200].decode(errors="replace")))
    return tuple(results), tuple(odd)


def facts_of(result: Result) -> dict[str, str | int | None]:
    """What a register and those who quote it have in common."""
    found = {name: getattr(result, name) for name in SAME_FIELDS}
    return {name: str(value) if isinstance(value, str) else value for name, value in found.items()}


def is_terminal(action: str) -> bool:
    """Whether the action of a result is final."""
    return action in TERMINAL_ACTIONS


def facts_by_batch(execution: Execution) -> Iterator[tuple[str, Entry]]:
    """What it says of each batch. Ids that could not be keys are no batches of anybody."""
    for batch in execution.listed:
        yield batch.batch_id, Listed(execution.execution_id, batch.openai_batch_id)
    results = execution.results if isinstance(execution.results, tuple) else ()
    info = execution.present.get("poll_results")
    for result in results:
        yield (
            result.batch_id,
            Polled(
                execution.execution_id, info.key if info else "", str(result.action), result.schema, facts_of(result)
            ),
        )
    for chunk in execution.chunks if isinstance(execution.chunks, tuple) else ():
        for ref in chunk.deltas:
            yield ref.batch_id, Chunked(execution.execution_id, ref.delta_key)


def named_batches(execution: Execution) -> Iterable[str]:
    """Ids of the batches that it listed."""
    return dict.fromkeys(batch.batch_id for batch in execution.listed)
