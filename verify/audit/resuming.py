"""What an audit keeps on disk so that it can go on after it was interrupted: which batches were checked, on what evidence.

The rule kept here: a batch that was checked is not read again while its row, its register's size and time, and everything
that names it are as they were. What the journal says counts up to its last checkpoint, by when the claims of those batches
are on disk, too; what is torn, or came later, is checked again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from typing import IO, Final

import attrs
import msgspec

from embedpipe.errors import full_disk
from verify.audit.coverage import State
from verify.audit.entries import Checked, encoded, remember
from verify.audit.findings import Finding, Severity, WrongQuestion
from verify.audit.journeys import Standing
from verify.audit.options import Options
from verify.audit.rows import Batch
from verify.audit.sorting import Sorter
from verify.audit.sources import Source

__all__ = ["Journal", "Stored", "checked", "evidence_of", "findings_of", "states_of"]

QUESTION_FILE: Final = "audit.json"
JOURNAL_FILE: Final = "checked.jsonl"
FORMAT: Final = 1
CHECKPOINT_BATCHES: Final = 5_000
"""[ours] Batches that are checked again at most, where a process is killed; an interrupted one loses none."""


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What an audit was asked, and when. Findings are comparable only where all of it is the same."""

    asked: str
    now: datetime
    since: datetime | None
    format: int = FORMAT


class Stored(msgspec.Struct, frozen=True):
    """The claims of one collection on disk."""

    files: list[str]
    batches: int
    """Numbers that were given."""


class _Checkpoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    claims: dict[str, Stored]


_encode: Final = msgspec.json.Encoder().encode
_line: Final = msgspec.json.Decoder(tuple[str, Checked]).decode
_checkpoint: Final = msgspec.json.Decoder(_Checkpoint).decode


# --- one batch -----------------------------------------------------------------------------------------------------


def evidence_of(batch: Batch, provider: State) -> bytes:
    """What a batch is known by before its objects are read: equal where nothing has changed, at the `provider` neither."""
    seen = repr((batch.row, sorted(batch.retry_rows), batch.ledger_unseen, provider))
    digest = blake2b(seen.encode(errors="backslashreplace"), digest_size=16)
    for entry in batch.entries:
        digest.update(encoded(entry))
    return digest.digest()


def checked(
    evidence: bytes,
    findings: Iterable[Finding],
    states: Mapping[str, State],
    stood: Iterable[Standing],
    *,
    number: int,
    unretried: bool,
) -> Checked:
    """What became of a batch, to be kept."""
    told = [(f.code, f.location, dict(f.evidence), list(f.batch_ids), f.severity.value) for f in findings]
    ledger = {family: state.value for family, state in states.items()}
    return Checked(evidence, number, unretried, ledger, told, [standing.value for standing in stood])


def findings_of(entry: Checked) -> Iterator[Finding]:
    """Its findings."""
    for code, location, evidence, batch_ids, severity in entry.findings:
        yield Finding(
            code=code,
            severity=Severity(severity),
            location=location,
            evidence=evidence,
            batch_ids=tuple(batch_ids),
        )


def states_of(entry: Checked) -> dict[str, State]:
    """Its line of the ledger."""
    return {family: State(state) for family, state in entry.states.items()}


# --- the journal ---------------------------------------------------------------------------------------------------


@attrs.define(kw_only=True, eq=False)
class Journal:
    """The state of one audit in a folder."""

    folder: Path
    question: Question
    stored: Mapping[str, Stored]
    """Collection -> its claims at the last checkpoint of the audit that goes on."""
    _file: IO[bytes]
    _since_checkpoint: int = 0

    @classmethod
    def open(cls, folder: Path, source: Source, options: Options) -> Journal:
        """Begin in an empty folder, or go on where the same was asked. `WrongQuestion`, `StorageFull`."""
        with full_disk(str(folder)):
            folder.mkdir(parents=True, exist_ok=True)
            asked = _asked(source, options)
            path = folder / QUESTION_FILE
            if path.exists():
                question = _known(path, asked)
                stored = _cut(folder / JOURNAL_FILE)
            elif any(folder.iterdir()):
                raise WrongQuestion(f"{folder} holds no state of an audit.", hint="Name a new directory.")
            else:
                question = Question(asked=asked, now=source.clock.now(), since=options.since)
                path.write_bytes(_encode(question))
                stored = {}
            kept = {QUESTION_FILE, JOURNAL_FILE, *(name for each in stored.values() for name in each.files)}
            for other in folder.iterdir():
                if other.name not in kept:  # what the interrupted process was sorting
                    other.unlink()
            return cls(folder=folder, question=question, stored=stored, file=(folder / JOURNAL_FILE).open("ab"))

    def known(self, batches: Sorter) -> None:
        """Put what was checked beside what names each batch."""
        if not self.stored:
            return
        with (self.folder / JOURNAL_FILE).open("rb") as lines:
            for line in lines:
                try:
                    name, entry = _line(line)
                except msgspec.DecodeError:  # a checkpoint, or torn: then it is checked again
                    continue
                remember(batches, name, entry)

    def note(self, name: str, entry: Checked) -> None:
        """One more batch was checked."""
        try:
            line = _encode((name, entry)) + b"\n"
        except UnicodeEncodeError:  # evidence that is no text: it is looked for again
            return
        with full_disk(str(self.folder)):
            self._file.write(line)
        self._since_checkpoint += 1

    @property
    def is_due(self) -> bool:
        """Whether a checkpoint is worth it."""
        return self._since_checkpoint >= CHECKPOINT_BATCHES

    def checkpoint(self, claims: Mapping[str, Stored]) -> None:
        """From here on everything noted so far counts; `claims` are on disk."""
        with full_disk(str(self.folder)):
            self._file.write(_encode(_Checkpoint(dict(claims))) + b"\n")
            self._file.flush()
        self._since_checkpoint = 0

    def close(self) -> None:
        """Stop writing."""
        self._file.close()

    def remove(self) -> None:
        """The audit is over: nothing of it stays."""
        self.close()
        for path in self.folder.iterdir():
            path.unlink()
        self.folder.rmdir()


def _asked(source: Source, options: Options) -> str:
    ports = [name for name in ("vectors", "provider", "histories", "logs") if getattr(source, name) is not None]
    limits = (options.since is not None, sorted(options.executions), sorted(options.codes), float(options.grace_s))
    asked = (
        source.name,
        str(options.depth),
        ports,
        repr(source.kinds),
        repr(source.layout),
        limits,
        version("embedpipe"),
    )
    return blake2b(repr(asked).encode(errors="backslashreplace"), digest_size=16).hexdigest()


def _known(path: Path, asked: str) -> Question:
    try:
        question = msgspec.json.decode(path.read_bytes(), type=Question)
    except msgspec.DecodeError as error:
        raise WrongQuestion(f"{path} is no state of an audit: {error}.", hint="Name a new directory.") from None
    if (question.asked, question.format) != (asked, FORMAT):
        raise WrongQuestion(
            f"{path.parent} is the state of another audit, or of another version of this program.",
            hint="Repeat the command that was interrupted, with the same options, or name a new directory.",
        )
    return question


def _cut(path: Path) -> dict[str, Stored]:
    """Cut the journal after its last checkpoint; the claims that stand there."""
    claims: dict[str, Stored] = {}
    good = at = 0
    if not path.exists():
        return claims
    with path.open("r+b") as file:
        for line in file:
            at += len(line)
            if line.startswith(b'{"claims":') and line.endswith(b"\n"):
                claims, good = _checkpoint(line).claims, at
        file.truncate(good)
    return claims
