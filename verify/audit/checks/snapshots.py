"""S: is what the pointer names there and whole, does its lineage hold every version that was published, is a merge stuck?"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from embedpipe.wire import Journal, Latest, Snapshot
from verify.audit.checks import Moment, found
from verify.audit.collections import CollectionSeen, Names
from verify.audit.findings import Finding
from verify.audit.objects import Unreadable, Why

__all__ = ["collection_findings"]


def collection_findings(seen: CollectionSeen, named: Names, moment: Moment) -> Iterator[Finding]:
    """S501, S502, S503 and S505 of one collection. `named`: versions that rows name."""
    yield from _incomplete(seen, named)
    yield from _hashes(seen)
    yield from _lost_update(seen, named)
    yield from _unfinished_merge(seen, moment)


def _incomplete(seen: CollectionSeen, named: Names) -> Iterator[Finding]:
    """S501: pointer, snapshot and catalog are there, and name each other."""
    location = f"objects:{seen.pointer_key}"
    if seen.pointer is None:
        if named:
            version, rows = next(iter(named.items()))
            yield found("S501", location, *rows.batch_ids, pointer="missing", version_named_by_rows=version)
        return
    if isinstance(seen.pointer, Unreadable):
        if seen.pointer.is_fault:
            yield found("S501", location, pointer=seen.pointer.reason)
        return
    for part in (seen.snapshot, seen.catalog):
        if isinstance(part, Unreadable) and part.is_fault:
            yield found("S501", f"objects:{part.key}", pointer_version=seen.pointer.version, message=part.reason)
    if isinstance(seen.snapshot, Snapshot) and seen.snapshot.version != seen.pointer.version:
        yield found(
            "S501",
            f"objects:{seen.snapshot_key}",
            pointer_version=seen.pointer.version,
            snapshot_version=seen.snapshot.version,
        )


def _hashes(seen: CollectionSeen) -> Iterator[Finding]:
    """S502."""
    if not isinstance(seen.pointer, Latest) or not isinstance(seen.snapshot, Snapshot):
        return
    if seen.pointer.sha256 != seen.snapshot_sha256:
        yield found(
            "S502", f"objects:{seen.snapshot_key}", pointer_sha256=seen.pointer.sha256, sha256=seen.snapshot_sha256
        )
    if seen.catalog_sha256 not in (None, seen.snapshot.catalog_sha256):
        yield found(
            "S502",
            f"objects:{seen.catalog_key}",
            snapshot_sha256=seen.snapshot.catalog_sha256,
            sha256=seen.catalog_sha256,
        )


def _lost_update(seen: CollectionSeen, named: Names) -> Iterator[Finding]:
    """S503: each version was made from the one before it, and none that proved a row is missing from the chain."""
    if not isinstance(seen.snapshot, Snapshot):
        return
    chain = [snapshot.version for snapshot in seen.lineage]
    for newer, older in pairwise(seen.lineage):
        if newer.n != older.n + 1:
            yield found(
                "S503",
                f"objects:{seen.snapshot_key.replace(seen.snapshot.version, newer.version)}",
                version=newer.version,
                n=newer.n,
                parent=older.version,
                parent_n=older.n,
            )
    oldest = seen.lineage[-1] if seen.lineage else None
    if seen.broken_at is not None and seen.broken_at.is_fault and oldest is not None:
        yield found(
            "S503",
            f"objects:{seen.broken_at.key}",
            version=oldest.version,
            parent=oldest.parent,
            message=seen.broken_at.reason,
        )
        return
    if seen.broken_at is not None:
        return
    for version, rows in named.items():
        if version not in chain:
            yield found(
                "S503",
                f"objects:{seen.pointer_key}",
                *rows.batch_ids,
                published=seen.version,
                lineage=chain[:20],
                lost_version=version,
                rows=rows.count,
            )


def _unfinished_merge(seen: CollectionSeen, moment: Moment) -> Iterator[Finding]:
    """S505."""
    journal = seen.journal
    location = f"objects:{seen.pointer_key}"
    if isinstance(journal, Unreadable) and journal.why is Why.CORRUPT:
        yield found("S505", f"objects:{journal.key}", message=journal.reason)
    if isinstance(journal, Journal) and moment.is_old(journal.started_at):
        yield found(
            "S505",
            location,
            *(ref.batch_id for ref in journal.deltas),
            journal={"execution_id": journal.execution_id, "started_at": journal.started_at},
            age_s=round(moment.age_s(journal.started_at) or 0),
            suspects=list(journal.suspects)[:20],
        )
