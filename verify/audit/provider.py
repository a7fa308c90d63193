"""What the provider says, gathered once: its batches by listing, 100 a call, and the files of those that have ended."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from embedpipe.errors import CorruptData, NotFound, ServiceError
from embedpipe.lifecycle import Status
from embedpipe.model import BatchRow, ProviderBatch
from embedpipe.ports import BatchProvider
from embedpipe.wire import Root, format_time
from verify.audit.checks import Moment, found
from verify.audit.checks import provider as checks_provider
from verify.audit.checks.provider import Answers
from verify.audit.coverage import State
from verify.audit.entries import Entry, Provided, encoded, only, remember
from verify.audit.findings import Finding
from verify.audit.keys import is_id
from verify.audit.rows import Batch
from verify.audit.sorting import Sorter
from verify.audit.sources import Source

__all__ = ["ProviderSide", "is_entry"]


def root_id(source: Source) -> str | None:
    """The identity of this root, which its creates carry; None where it has none. `ServiceError`, `CorruptData`."""
    key = source.layout.root_key()
    try:
        return Root.load(source.objects.get(key).data, key).root_id
    except NotFound:
        return None


def listed_batches(provider: BatchProvider, root: str | None) -> Iterator[tuple[str | None, Provided, bool]]:
    """Every batch of the account, our name for it where its metadata says that it is this root's, and if it is a root's."""
    for batch in provider.list():
        name, of_root = batch.metadata.get("batch_id"), batch.metadata.get("root_id")
        ours = root is not None and of_root == root and is_id(name)
        yield name if ours else None, provided(batch), of_root is not None


def provided(batch: ProviderBatch) -> Provided:
    """A batch as it is remembered."""
    return Provided(
        openai_batch_id=batch.id,
        status=batch.status,
        created_at=format_time(batch.created_at) if batch.created_at else "",
        ended_at=format_time(batch.ended_at) if batch.ended_at else "",
        total=batch.counts.total,
        completed=batch.counts.completed,
        failed=batch.counts.failed,
        output_file_id=batch.output_file_id or "",
        error_file_id=batch.error_file_id or "",
    )


def answers_of(provider: BatchProvider, seen: Provided) -> Answers:
    """The lines of its files, read as streams; vectors are not kept."""
    from embedpipe.vectors import parse_output

    answers = Answers()
    for file_id in (seen.output_file_id, seen.error_file_id):
        if not file_id:
            continue
        try:
            for line in parse_output(provider.content(file_id), None):
                answers.usable += line.has_vector
                if line.custom_id is not None:
                    answers.ids[line.custom_id] += 1
        except NotFound:
            answers.files_gone += 1
    return answers


def is_entry(payload: bytes) -> bool:
    """Whether a payload is a fact and not a batch_id: a MessagePack array begins with no letter or digit."""
    return payload[0] >= 0x80


class ProviderSide:
    """What one audit knows of the provider. `state` is what the ledger says of everything that the provider would tell."""

    def __init__(self, source: Source, moment: Moment) -> None:
        self._source = source
        self._moment = moment
        self._ended_badly: dict[str, str] = {}
        self._states: dict[str, State] = {}
        self.is_rootless = False
        """Whether it has batches of embedpipe's, and which are of this root is not known, as the root has lost its identity."""
        self.state = State.CHECKED if source.provider is not None else State.OUT_OF_SCOPE

    def gather(self, batches: Sorter, names: Sorter) -> Iterator[Finding]:
        """Remember every batch, under its own name and, where it is this root's, under ours."""
        if self._source.provider is None:
            return
        try:
            root = root_id(self._source)
            for name, entry, of_root in listed_batches(self._source.provider, root):
                self.is_rootless |= root is None and of_root
                names.add(entry.openai_batch_id, encoded(entry))
                if name is not None:
                    remember(batches, name, entry)
        except (ServiceError, CorruptData) as error:
            self.state = State.NOT_EVALUATED
            yield found("A901", "provider:", reason=error.message)

    def state_of(self, batch: Batch) -> State:
        """What the ledger says of one batch, after `answers`."""
        return self._states.pop(batch.batch_id, self.state)

    def note(self, batch: Batch) -> None:
        """Remember what the provider failed and a row says is complete."""
        row = batch.known_row
        if row is None or row.status is not Status.COMPLETED or self.state is not State.CHECKED:
            return
        for entry in only(batch.entries, Provided):
            if entry.openai_batch_id == row.provider_batch_id and entry.status in checks_provider.ENDED_BADLY:
                self._ended_badly[batch.batch_id] = entry.status

    def answers(self, batch: Batch) -> Iterator[Finding]:
        """O104 and O105, and what could not be read: the files of a batch that has ended on both sides."""
        provider, row = self._source.provider, batch.known_row
        if provider is None or row is None or not batch.is_terminal or self.state is not State.CHECKED:
            return
        for entry in only(batch.entries, Provided):
            if entry.openai_batch_id != row.provider_batch_id or not checks_provider.has_ended(entry.status):
                continue
            if not self._moment.depth.reads_content:
                continue
            try:
                answers = answers_of(provider, entry)
            except (ServiceError, CorruptData) as error:
                self._states[batch.batch_id] = State.NOT_EVALUATED
                yield found("A901", f"provider:{entry.openai_batch_id}", batch.batch_id, reason=error.message)
                return
            if answers.files_gone:  # kept for thirty days, and what they gave is in the delta
                self._states[batch.batch_id] = State.OUT_OF_SCOPE
                return
            yield from checks_provider.answers_findings(batch, entry, answers)

    def is_odd(self, entry: Entry | None) -> bool:
        """Whether a row may contradict it: it has ended, or nothing is listed under that name."""
        if self.state is not State.CHECKED:
            return False
        return not isinstance(entry, Provided) or checks_provider.has_ended(entry.status)

    def named(self, name: str, rows: Sequence[BatchRow], entry: Entry | None) -> Iterator[Finding]:
        """O101 and O102 of the rows that name one provider batch."""
        if self.state is State.CHECKED:
            seen = entry if isinstance(entry, Provided) else self._retrieved(name)
            yield from checks_provider.named_findings(name, rows, seen, self._moment)

    def _retrieved(self, name: str) -> Provided | None:
        """A batch that the listing does not show; None where the provider does not know it."""
        assert self._source.provider is not None
        try:
            return provided(self._source.provider.retrieve(name))
        except NotFound:
            return None

    def failed_and_completed(self, findings: Iterable[Finding]) -> Iterator[Finding]:
        """O103: what the provider failed, and a row says is complete, without proof."""
        for finding in findings:
            name = finding.batch_ids[0] if finding.code == "B701" else ""
            if name in self._ended_badly:
                yield found(
                    "O103",
                    f"table:{name}",
                    name,
                    provider_status=self._ended_badly[name],
                    row_status="COMPLETED",
                    gap=dict(finding.evidence),
                )
