"""Planners of what is mended in rows: a row is opened again, put, or told what everything else says of its batch.

The rule kept here: a row is opened again only where all that its proof needs is there and whole, or at the provider, so that
the next ingest ends it; and a row is put only where that can't make anybody pay twice.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from embedpipe.errors import CorruptData, NotFound, ServiceError
from embedpipe.lifecycle import OPEN, PROVIDER_PHASES, TERMINAL, TERMINAL_ACTIONS, Phase, Status
from embedpipe.model import BatchRow
from embedpipe.wire import encode, row_to_item
from verify.audit.deltas import DeltaSeen, arrow_batches, downloaded, read_delta, sha256_of
from verify.audit.findings import Finding
from verify.audit.objects import Unreadable
from verify.audit.rows import healthy_rows
from verify.repair.plan import Action, Do, Proposal
from verify.repair.reading import Reader, Step, proposed, row_state

__all__ = ["ROW_PLANNERS", "reopen"]

UNNAMED: Final = frozenset({Status.INTENT, Status.CREATING})
REOPENED: Final[Mapping[str, object]] = MappingProxyType(
    {"status": Status.PENDING, "completed_by": None, "snapshot_version": None}
)
"""What an ended row becomes, so that the next ingest proves it once more. The rest is written when it ends again."""


def _update(row: BatchRow, changes: Mapping[str, object], finding: Finding, reason: str) -> Action:
    """Always with the status, so that the index keys are written along with it."""
    return Action(
        do=Do.UPDATE,
        target=row.batch_id,
        saw=row_state(row),
        body=encode({"status": row.status, **changes}).decode(),
        mends=(finding.code,),
        batch_ids=(row.batch_id,),
        reason=reason,
    )


# --- opening again -------------------------------------------------------------------------------------------------


def reopen(reader: Reader, finding: Finding, batch_ids: Iterable[str], reason: str) -> Iterator[Step]:
    """Each of these batches that has ended is merged, proven and marked once more by the next ingest."""
    for batch_id in dict.fromkeys(batch_ids):
        row = reader.row(batch_id)
        if row is None or row.status in OPEN:
            continue
        hindrance = _hindrance(reader, row)
        if hindrance:
            yield proposed(finding, f"batch {batch_id} can't be opened again: {hindrance}; mend that first")
        else:
            yield _update(row, REOPENED, finding, reason)


def _hindrance(reader: Reader, row: BatchRow) -> str:
    """Why the next ingest could not end this row again without the provider; empty where it can."""
    register = reader.register(row.batch_id)
    if row.provider_batch_id is None:
        return "it has no openai_batch_id"
    if register is None or register.action not in TERMINAL_ACTIONS or not register.delta_key:
        return "its result names no delta"
    if row.request_count is None or row.seq is None:
        return "it has no records of its own to be proven by"
    with tempfile.TemporaryDirectory() as folder:
        delta = read_delta(reader.objects, reader.layout, register, Path(folder), signed=False)
        if isinstance(delta, Unreadable) or not delta.whole or delta.delta.batch_id != row.batch_id:
            return "its delta is not whole"
        return _unlike_hash(reader, row, delta, Path(folder))


def _unlike_hash(reader: Reader, row: BatchRow, delta: DeltaSeen, folder: Path) -> str:
    """The files that its proof, and the files of its retry, are made from."""
    wanted = {reader.layout.records_key(row.batch_id): row.records_sha256}
    if delta.retry:
        wanted[reader.layout.requests_key(row.batch_id)] = row.request_sha256
    for key, sha256 in wanted.items():
        try:
            with downloaded(reader.objects, key, folder) as path:
                if sha256 is not None and sha256_of(path) != sha256:
                    return f"{key} is not what was submitted"
        except (NotFound, CorruptData):
            return f"{key} can't be read"
    return ""


def _dropped(reader: Reader, finding: Finding) -> Iterator[Step]:
    """D404."""
    yield from reopen(reader, finding, finding.batch_ids, "its delta was dropped: the next ingest merges it")


def _lost_version(reader: Reader, finding: Finding) -> Iterator[Step]:
    """S503: every row that a lost version proved. The lineage itself is history."""
    lost = finding.evidence.get("lost_version")
    if lost is None or not finding.batch_ids:
        yield proposed(
            finding,
            "nothing rewrites the lineage: where no record is missing (R101, B701), suppress it with its reason",
        )
        return
    named = [row.batch_id for row in _ended_beside(reader, finding.batch_ids[0]) if row.snapshot_version == lost]
    yield from reopen(reader, finding, named, f"version {lost} was lost: the next ingest merges its deltas again")


def _ended_beside(reader: Reader, batch_id: str) -> Iterator[BatchRow]:
    """The ended rows of the same type."""
    row = reader.row(batch_id)
    for status in sorted(TERMINAL) if row is not None else ():
        names = list(reader.source.table.by_status(row.batch_type, status))  # type: ignore[union-attr]
        yield from (one for one in healthy_rows(reader.source.table, names).values() if isinstance(one, BatchRow))


# --- polling again -------------------------------------------------------------------------------------------------


def _poll_again(reader: Reader, finding: Finding) -> Iterator[Step]:
    """D401 to D403, O104: an open batch is polled again; one that has ended only where the provider still has its files."""
    for batch_id in finding.batch_ids:
        row = reader.row(batch_id)
        if row is None:
            yield proposed(finding, "its row can't be read: mend that first")
        elif row.status in OPEN:
            yield from reader.quarantine(reader.layout.result_key(batch_id), finding, "the batch is polled again")
            yield proposed(finding, "the next ingest polls it again: embedpipe ingest", by_ingest=True)
        elif hindrance := _unpollable(reader, finding, row):
            yield proposed(finding, f"batch {batch_id} has ended, and {hindrance}: restore its delta from a backup")
        else:
            if finding.code == "D403":  # its delta is whole, and would be kept
                yield from reader.quarantine(reader.layout.result_key(batch_id), finding, "it counts what is not there")
            yield _update(row, REOPENED, finding, "its delta is made again from the provider's files")


def _unpollable(reader: Reader, finding: Finding, row: BatchRow) -> str:
    """Why the next ingest could not make its delta again; empty where it can."""
    provider = reader.source.provider
    if finding.code == "O104":
        return "what its files lack is lost"
    if provider is None:
        return "the provider, which may have its files, is not in scope (--config names it)"
    if row.provider_batch_id is None or row.request_count is None or row.seq is None:
        return "it is not known what was asked for it"
    try:
        batch = provider.retrieve(row.provider_batch_id)
        file_id = batch.output_file_id or batch.error_file_id
        if PROVIDER_PHASES.get(batch.status) is not Phase.ENDED or file_id is None:
            return "the provider has no files of it"
        next(iter(provider.content(file_id)), b"")
        with tempfile.TemporaryDirectory() as name:
            key = reader.layout.records_key(row.batch_id)
            with downloaded(reader.objects, key, Path(name)) as path:
                count = sum(len(part[0]) for part in arrow_batches(path, ("seq",)))
                whole = count == row.request_count and row.records_sha256 in (None, sha256_of(path))
    except (ServiceError, CorruptData) as error:
        return error.message.rstrip(".")
    return "" if whole else f"{key} is not what its row says"


# --- retries -------------------------------------------------------------------------------------------------------


def _retry_rows(reader: Reader, finding: Finding) -> Iterator[Step]:
    """R102: a retry that was created gets its row back; one that was not is put by the mark step, once more."""
    parent = reader.row(finding.batch_ids[0]) if finding.batch_ids else None
    absent: Any = finding.evidence.get("without_row") or ()
    if parent is None:
        yield proposed(finding, "the row of the batch itself can't be read: mend that first")
        return
    created = _created(reader, absent)
    if created is None:
        advice = (
            "whether its retry was created, only the provider knows: name it with --config, or it is paid for twice"
        )
        yield proposed(finding, advice)
        return
    for batch_id, name in created.items():
        yield _put(reader, finding, parent, batch_id, name)
    if not absent or len(created) < len(absent):
        yield from reopen(reader, finding, [parent.batch_id], "the next ingest marks it again, and puts its retry")


def _created(reader: Reader, batch_ids: Iterable[str]) -> dict[str, str] | None:
    """Which of these batches the provider has, and its names for them. None where nobody can tell."""
    registers = {name: reader.register(name) for name in batch_ids}
    created = {name: found.openai_batch_id for name, found in registers.items() if found and found.openai_batch_id}
    asked = registers.keys() - created.keys()
    if asked and reader.source.provider is None:
        return None
    if asked and reader.source.provider is not None:
        listed = {batch.metadata.get("batch_id", ""): batch.id for batch in reader.source.provider.list()}
        created |= {name: listed[name] for name in asked & listed.keys()}
    return created


def _put(reader: Reader, finding: Finding, parent: BatchRow, batch_id: str, provider_batch_id: str) -> Step:
    try:
        row = _retry_row(reader, parent, batch_id, provider_batch_id)
    except (CorruptData, NotFound) as error:
        return proposed(finding, f"the files of retry {batch_id} can't be used: {error.message}")
    return Action(
        do=Do.PUT,
        target=batch_id,
        saw=None,
        body=encode(row_to_item(row, reader.layout)).decode(),
        mends=(finding.code,),
        batch_ids=(parent.batch_id, batch_id),
        reason=f"it was created as {provider_batch_id}, and its row is gone",
    )


def _retry_row(reader: Reader, parent: BatchRow, batch_id: str, provider_batch_id: str) -> BatchRow:
    """The row of a retry that the provider has, from its files and its parent. `CorruptData`, `NotFound`."""
    claim = (parent.seq, parent.attempt + 1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with downloaded(reader.objects, reader.layout.requests_key(batch_id), folder) as path:
            request_sha256 = sha256_of(path)
        with downloaded(reader.objects, reader.layout.records_key(batch_id), folder) as path:
            records_sha256 = sha256_of(path)
            claims = [pair for part in arrow_batches(path, ("seq", "attempt")) for pair in zip(*part, strict=True)]
    if any((seq.as_py(), attempt.as_py()) != claim for seq, attempt in claims):
        raise CorruptData(f"{reader.layout.records_key(batch_id)} is no retry of batch {parent.batch_id}.")
    return BatchRow(
        batch_id=batch_id,
        batch_type=parent.batch_type,
        status=Status.PENDING,
        provider_batch_id=provider_batch_id,
        submitted_at=reader.source.clock.now(),
        request_count=len(claims),
        request_sha256=request_sha256,
        records_sha256=records_sha256,
        seq=parent.seq,
        attempt=parent.attempt + 1,
        parent_batch_id=parent.batch_id,
        collection=parent.collection,
        database=parent.database,
        model=parent.model,
        dimensions=parent.dimensions,
    )


# --- contradictions ------------------------------------------------------------------------------------------------


def _contradicting(reader: Reader, finding: Finding) -> Iterator[Step]:
    """B702: index keys are written again; a row's own attributes are mended where its result says how."""
    for batch_id in finding.batch_ids:
        row = reader.row(batch_id)
        if row is None:
            yield proposed(finding, "its item can't be read: mend it by hand, or from a backup")
        elif finding.location.startswith("index:"):
            yield _reindex(row, finding)
        else:
            yield from _consistent(reader, finding, row)


def _reindex(row: BatchRow, finding: Finding) -> Action:
    return Action(
        do=Do.REINDEX,
        target=row.batch_id,
        saw=row_state(row),
        body=encode({"status": row.status}).decode(),
        mends=(finding.code,),
        batch_ids=(row.batch_id,),
        reason="the index keys follow from the status",
    )


def _consistent(reader: Reader, finding: Finding, row: BatchRow) -> Iterator[Step]:
    register = reader.register(row.batch_id)
    name = register.openai_batch_id if register is not None else None
    if row.status not in UNNAMED and row.provider_batch_id is None and name is not None:
        yield _update(row, {"provider_batch_id": name}, finding, "the openai_batch_id is that of its result")
    elif row.status in UNNAMED and row.provider_batch_id is not None and row.provider_batch_id == name:
        yield _update(row, {"status": Status.PENDING}, finding, "its result shows that it was created")
    elif row.status is Status.PENDING and row.provider_batch_id is not None and row.completed_by is not None:
        yield _update(row, REOPENED, finding, "an open row was ended by nobody: the next ingest ends it")
    elif row.status in TERMINAL and row.provider_batch_id is not None and row.completed_by is None:
        yield from reopen(reader, finding, [row.batch_id], "nobody ended it: the next ingest does, with its proof")
    else:
        yield proposed(finding, "nothing else says which of its attributes is right: mend the item from a backup")


def _ledger(_: Reader, finding: Finding) -> Iterator[Step]:
    """B705: an entry without a row is finished by whoever submits or ingests next."""
    if finding.evidence.get("row") == "missing":
        yield proposed(finding, "the next ingest puts its row: embedpipe ingest", by_ingest=True)
    else:
        yield proposed(finding, "an open row without an entry goes on by itself; look again when it has ended")


ROW_PLANNERS: Final[Mapping[str, Callable[[Reader, Finding], Iterator[Action | Proposal]]]] = MappingProxyType(
    {
        "O104": _poll_again,
        "D401": _poll_again,
        "D402": _poll_again,
        "D403": _poll_again,
        "D404": _dropped,
        "R102": _retry_rows,
        "S503": _lost_version,
        "B702": _contradicting,
        "B705": _ledger,
    }
)
"""Code -> what mends it."""
