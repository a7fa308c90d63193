"""What planners of repairs look at, and the actions that they are made of. Reads only."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from embedpipe.errors import CorruptData, NotFound
from embedpipe.lifecycle import Status
from embedpipe.model import BatchRow
from embedpipe.wire import Manifest, Result, decode
from verify.audit.enumeration import kind_of
from verify.audit.findings import Finding
from verify.audit.keys import is_id
from verify.audit.objects import envelope
from verify.audit.rows import healthy_rows
from verify.audit.sources import Source
from verify.repair.plan import Action, Do, Proposal

__all__ = ["Reader", "Step", "digest", "proposed", "row_state"]

Step = Action | Proposal


def proposed(finding: Finding, advice: str, *, by_ingest: bool = False) -> Proposal:
    """What a finding is left with where no action mends it."""
    return Proposal(
        code=finding.code,
        location=finding.location,
        batch_ids=finding.batch_ids,
        advice=advice,
        by_ingest=by_ingest,
    )


class Reader:
    """What planners look at."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.layout = source.layout
        self.objects = source.objects

    def body(self, key: str) -> bytes | None:
        """None where nothing is."""
        try:
            return self.objects.get(key).data
        except NotFound:
            return None

    def row(self, batch_id: str) -> BatchRow | None:
        """None where there is none that can be read."""
        found = healthy_rows(self.source.table, [batch_id]).get(batch_id)
        return found if isinstance(found, BatchRow) else None

    def register(self, batch_id: str) -> Result | None:
        """The register of a batch, where it is its own."""
        found = envelope(self.objects, Result, self.layout.result_key(batch_id))
        return found if isinstance(found, Result) and found.batch_id == batch_id else None

    def manifest(self, execution_id: str) -> Manifest | None:
        """The listing of an execution."""
        for key in (self.layout.manifest_key(execution_id), self.layout.deployed_manifest_key(execution_id)):
            found = envelope(self.objects, Manifest, key)
            if isinstance(found, Manifest):
                return found
        return None

    def elements(self, execution_id: str) -> dict[str, Result]:
        """Elements of its poll_results.json that can be read, by the batch that they name; those named twice are left out."""
        data = self.body(self.layout.poll_results_key(execution_id))
        try:
            parts = decode(data or b"[]", "poll_results")
        except CorruptData:
            return {}
        found: dict[str, list[Result]] = {}
        for part in parts if isinstance(parts, list) else ():
            if isinstance(part, dict) and is_id(part.get("batch_id")):
                try:
                    result = Result.load(part, "poll_results")
                except CorruptData:
                    continue
                found.setdefault(result.batch_id, []).append(result)
        return {name: results[0] for name, results in found.items() if len(results) == 1}

    def write(self, key: str, body: bytes, finding: Finding, reason: str) -> Action:
        """Put `body` in place of what is there now."""
        before = self.body(key)
        return Action(
            do=Do.WRITE,
            target=key,
            saw=digest(before),
            body=body.decode(),
            mends=(finding.code,),
            batch_ids=finding.batch_ids,
            reason=reason,
        )

    def quarantine(self, key: str, finding: Finding, reason: str) -> Iterator[Action]:
        """Move away what is there; nothing where nothing is."""
        before = self.body(key)
        if before is not None:
            yield Action(
                do=Do.QUARANTINE,
                target=key,
                saw=digest(before),
                mends=(finding.code,),
                batch_ids=finding.batch_ids,
                reason=reason,
            )

    def ended(self, location: str) -> tuple[str, ...]:
        """Every COMPLETED batch of the collection that a finding names: which of them are concerned, it does not say."""
        database, _, collection = location.partition(":")[2].partition("/")
        if not database or not collection or "/" in collection:
            return ()
        kind = kind_of(database, collection)
        names = list(self.source.table.by_status(kind.batch_type, Status.COMPLETED))
        rows = healthy_rows(self.source.table, names)
        return tuple(name for name, row in rows.items() if isinstance(row, BatchRow) and row.serves(kind))


def row_state(row: BatchRow) -> str:
    """What the state of a row is known by."""
    return f"{row.status} {row.revision}"


def digest(body: bytes | None) -> str | None:
    """What a body is known by."""
    return None if body is None else hashlib.sha256(body).hexdigest()
