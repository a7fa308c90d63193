"""One collection as its objects show it: pointer, snapshot, lineage, journal and catalog."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final, TypeVar

import attrs

from embedpipe.layout import Layout
from embedpipe.model import Kind
from embedpipe.ports import BlobStore
from embedpipe.wire import Journal, Latest, Snapshot
from verify.audit.deltas import sha256_of
from verify.audit.keys import is_id
from verify.audit.objects import Unreadable, Why, envelope, guarded

__all__ = ["CollectionSeen", "Named", "read_collection"]

T = TypeVar("T")

LINEAGE_MAX: Final = 100_000
"""[ours] Versions that are followed back."""


@attrs.define(kw_only=True)
class Named:
    """A version that rows name as the one that proved them."""

    count: int = 0
    batch_ids: list[str] = attrs.field(factory=list)

    def add(self, batch_id: str) -> None:
        """One more row."""
        self.count += 1
        if len(self.batch_ids) < 20:
            self.batch_ids.append(batch_id)


@attrs.frozen(kw_only=True, eq=False)
class CollectionSeen:
    """What was published. A field is None where nothing is."""

    kind: Kind
    pointer_key: str
    pointer: Latest | Unreadable | None
    snapshot_key: str = ""
    snapshot: Snapshot | Unreadable | None = None
    snapshot_sha256: str = ""
    catalog_key: str = ""
    catalog_sha256: str | None = None
    """None where it was not read."""
    catalog: Path | Unreadable | None = None
    lineage: tuple[Snapshot, ...] = ()
    """From the published version back, as far as it can be followed."""
    broken_at: Unreadable | None = None
    """Where it can't."""
    journal: Journal | Unreadable | None = None

    @property
    def version(self) -> str | None:
        """The published version."""
        return self.pointer.version if isinstance(self.pointer, Latest) else None

    @property
    def proves(self) -> bool:
        """Whether its catalog can be trusted, or nothing was published yet."""
        if self.pointer is None:
            return True
        whole = (
            isinstance(self.pointer, Latest) and isinstance(self.snapshot, Snapshot) and isinstance(self.catalog, Path)
        )
        return whole and self.hashes_match

    @property
    def hashes_match(self) -> bool:
        """Whether snapshot and catalog are what pointer and snapshot say."""
        if not isinstance(self.pointer, Latest) or not isinstance(self.snapshot, Snapshot):
            return False
        return self.pointer.sha256 == self.snapshot_sha256 and self.catalog_sha256 in (
            None,
            self.snapshot.catalog_sha256,
        )


def read_collection(objects: BlobStore, layout: Layout, kind: Kind, folder: Path, *, content: bool) -> CollectionSeen:
    """The published version of one collection. The catalog stays at `folder`, where `content` is True."""
    journal_key, pointer_key = layout.journal_key(kind.database), layout.latest_key(kind.database)
    # The journal first: who publishes removes it afterwards, so one that is gone now has its catalog published.
    journal = _absent(envelope(objects, Journal, journal_key))
    pointer = _absent(envelope(objects, Latest, pointer_key))
    seen = CollectionSeen(kind=kind, pointer_key=pointer_key, pointer=pointer, journal=journal)
    if not isinstance(pointer, Latest) or not is_id(pointer.version):
        return seen
    prefix = layout.snapshot_prefix(kind.database, pointer.version)
    key = prefix + layout.snapshot_file
    data = guarded(key, lambda: objects.get(key).data)
    if isinstance(data, Unreadable):
        return attrs.evolve(seen, snapshot_key=key, snapshot=data)
    snapshot = guarded(key, lambda: Snapshot.load(data, key))
    lineage, broken_at = _lineage(objects, layout, kind, snapshot)
    seen = attrs.evolve(
        seen,
        snapshot_key=key,
        snapshot=snapshot,
        snapshot_sha256=hashlib.sha256(data).hexdigest(),
        lineage=lineage,
        broken_at=broken_at,
        catalog_key=prefix + layout.catalog_file,
    )
    return _with_catalog(objects, seen, folder, content=content)


def _absent(found: T | Unreadable) -> T | Unreadable | None:
    return None if isinstance(found, Unreadable) and found.why is Why.MISSING else found


def _with_catalog(objects: BlobStore, seen: CollectionSeen, folder: Path, *, content: bool) -> CollectionSeen:
    key = seen.catalog_key
    if not content:
        present = any(info.key == key for info in [next(iter(objects.list(key)), None)] if info is not None)
        missing = Unreadable(key=key, why=Why.MISSING, reason=f"{key} is missing.")
        return seen if present else attrs.evolve(seen, catalog=missing)
    path = folder / f"catalog-{seen.kind.database}.arrow"
    path.unlink(missing_ok=True)
    found = guarded(key, lambda: objects.download(key, path))
    if isinstance(found, Unreadable):
        return attrs.evolve(seen, catalog=found)
    return attrs.evolve(seen, catalog=path, catalog_sha256=sha256_of(path))


def _lineage(
    objects: BlobStore, layout: Layout, kind: Kind, newest: Snapshot | Unreadable
) -> tuple[tuple[Snapshot, ...], Unreadable | None]:
    chain: list[Snapshot] = []
    at: Snapshot | Unreadable = newest
    seen: set[str] = set()
    while isinstance(at, Snapshot) and len(chain) < LINEAGE_MAX:
        chain.append(at)
        seen.add(at.version)
        if at.parent is None:
            return tuple(chain), None
        if at.parent in seen or not is_id(at.parent):
            reason = f"{at.version} names {at.parent!a} as its parent"
            return tuple(chain), Unreadable(key=at.parent, why=Why.CORRUPT, reason=reason)
        key = layout.snapshot_prefix(kind.database, at.parent) + layout.snapshot_file
        at = envelope(objects, Snapshot, key)
    return tuple(chain), at if isinstance(at, Unreadable) else None


Names = Mapping[str, Named]
"""Version -> the rows that name it."""
