"""Where everything is kept: one frozen value that spells each key, attribute and state name, and the guard on ids.

Nothing else in the project spells a key. `Layout()` is the layout of the seed document; another deployment's names are
given as other templates. Ids that come from outside are checked here, so no key can leave its prefix.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from itertools import combinations
from typing import Final

import attrs

from embedpipe.errors import ConfigError, InvalidId
from embedpipe.key_patterns import fields_of, may_meet, problem_of
from embedpipe.lifecycle import Status
from embedpipe.limits import ID_CHARS_MAX, RECORD_ID_BYTES_MAX

_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_NAME: Final = re.compile(r"[a-z][a-z0-9_-]*")
FILE_CHARS_MAX: Final = 64  # [ours] leaves room for the longest folder within a key
_IS_KEY: Final = "key"
"""Marks the fields whose values become keys of objects."""


def safe_id(value: object, what: str) -> str:
    """Return `value` if it may be one segment of a key: ASCII letters, digits, `.`, `_`, `-`, starting with neither.

    >>> safe_id("0b5c-1", "batch_id")
    '0b5c-1'
    >>> safe_id("../etc", "batch_id")
    Traceback (most recent call last):
    embedpipe.errors.InvalidId: batch_id '../etc' is refused. Use up to 128 letters, digits, '.', '_' ...
    """
    if isinstance(value, str) and len(value) <= ID_CHARS_MAX and _ID.fullmatch(value):
        return value
    shown = ascii(value if not isinstance(value, str) else value[:80])
    hint = "Use up to 128 letters, digits, '.', '_' and '-', the first a letter or a digit."
    raise InvalidId(f"{what} {shown} is refused.", hint=hint, what=what)


def safe_name(value: object, what: str) -> str:
    """Return `value` if it may name a kind, database or collection: as `safe_id`, in lower case, up to 63 long."""
    if isinstance(value, str) and len(value) <= 63 and _NAME.fullmatch(value):
        return value
    shown = ascii(value if not isinstance(value, str) else value[:80])
    raise InvalidId(
        f"{what} {shown} is refused.",
        hint="Use up to 63 lower-case letters, digits, '_' and '-', starting with a letter.",
        what=what,
    )


def record_id(value: object) -> str:
    """Return `value` if it can be a record id: any text of 1 to 512 UTF-8 bytes. It never becomes part of a key."""
    if not isinstance(value, str) or not value:
        raise InvalidId("A record's id must be a non-empty string.", hint=f"Got {ascii(value)[:80]}.")
    try:
        size_bytes = len(value.encode())
    except UnicodeEncodeError:
        raise InvalidId(f"Record id {ascii(value)[:80]} is not valid Unicode (a lone surrogate).") from None
    if size_bytes > RECORD_ID_BYTES_MAX:
        raise InvalidId(
            f"Record id {value[:40]!a}... has {size_bytes} bytes; at most {RECORD_ID_BYTES_MAX} are allowed.",
            hint="Use a hash of it as the id and keep the long form in the metadata.",
        )
    return value


_Check = Callable[[object, "attrs.Attribute[str]", str], None]


def _template(fields: tuple[str, ...], *, key: bool, folder: bool) -> _Check:
    wanted = frozenset(fields)

    def check(_: object, attribute: attrs.Attribute[str], value: str) -> None:
        try:
            found = fields_of(value)
        except ValueError as error:
            raise ConfigError(f"Layout field '{attribute.name}' {error}") from None
        if found != wanted:
            raise ConfigError(
                f"Layout field '{attribute.name}' must name {sorted(wanted)}, and names {sorted(found)}: {value!r}"
            )
        problem = problem_of(value, folder=folder) if key else ""
        if problem:
            raise ConfigError(f"Layout field '{attribute.name}' {problem}: {value!a}")

    return check


def _value(default: str, *fields: str) -> str:
    """A template of a text in the table."""
    return attrs.field(default=default, validator=_template(fields, key=False, folder=False))


def _key(default: str, *fields: str) -> str:
    """A template of an object's key or, with a last slash, of a folder."""
    check = _template(fields, key=True, folder=default.endswith("/"))
    return attrs.field(default=default, validator=check, metadata={_IS_KEY: True})


def _file(default: str) -> str:
    """The name of a file in a folder, up to `FILE_CHARS_MAX` long."""

    def check(_: object, attribute: attrs.Attribute[str], value: str) -> None:
        if len(value) > FILE_CHARS_MAX or not _ID.fullmatch(value):
            raise ConfigError(
                f"Layout field '{attribute.name}' must be a file name of up to {FILE_CHARS_MAX} letters, digits, "
                f"'.', '_' and '-': {value!a}"
            )

    return attrs.field(default=default, validator=check)


def _word(default: str) -> str:
    """The name of an attribute or the like."""

    def check(_: object, attribute: attrs.Attribute[str], value: str) -> None:
        if not value or not value.isprintable():
            raise ConfigError(f"Layout field '{attribute.name}' must be a printable word: {value!a}")

    return attrs.field(default=default, validator=check)


_APART: Final = (
    ("vectors_file", "rejected_file", "retry_file", "delta_file"),
    ("snapshot_file", "catalog_file", "collection_file"),
    ("pk", "sk", "index_pk", "index_sk", "type_attribute"),
)
"""Fields whose values stand side by side, so that no two may be equal."""


@attrs.frozen(kw_only=True, cache_hash=True)
class Layout:
    """All keys, attribute names and state names. Templates are checked when the value is made."""

    root: str = _key("embedpipe.json")
    manifest: str = _key("manifests/{execution_id}/batches.json", "execution_id")
    deployed_manifest: str = _key("poll_manifests/{execution_id}/manifest.json", "execution_id")
    items: str = _key("manifests/{execution_id}/items.json", "execution_id")
    result: str = _key("poll_results/{batch_id}/result.json", "batch_id")
    poll_results: str = _key("poll_results/{execution_id}/poll_results.json", "execution_id")
    marked: str = _key("poll_results/{execution_id}/marked.json", "execution_id")
    requests: str = _key("requests/{batch_id}/request.jsonl", "batch_id")
    records: str = _key("requests/{batch_id}/records.arrow", "batch_id")
    head: str = _key("{database}/submissions/{collection}/head.json", "database", "collection")
    delta: str = _key("{database}/delta/{database}/{collection}/{delta_id}/", "database", "collection", "delta_id")
    chunks: str = _key("chunks/{execution_id}/chunks.json", "execution_id")
    intermediate: str = _key("intermediate/{execution_id}/{chunk_id}.arrow", "execution_id", "chunk_id")
    packed: str = _key("intermediate/{execution_id}/{chunk_id}.json", "execution_id", "chunk_id")
    latest: str = _key("{database}/snapshot/latest.json", "database")
    snapshot: str = _key("{database}/snapshot/{version}/", "database", "version")
    journal: str = _key("{database}/snapshot/merging.json", "database")
    lease: str = _key("{database}/snapshot/lease.json", "database")

    # Names inside a delta and a snapshot.
    vectors_file: str = _file("vectors.arrow")
    rejected_file: str = _file("rejected.jsonl")
    retry_file: str = _file("retry.jsonl")
    delta_file: str = _file("delta.json")
    snapshot_file: str = _file("snapshot.json")
    catalog_file: str = _file("catalog.arrow")
    collection_file: str = _file("collection.json")
    collection_folder: str = attrs.field(default="collection/", validator=_template((), key=True, folder=True))

    # Table attributes.
    pk: str = _word("PK")
    sk: str = _word("SK")
    index_pk: str = _word("GSI1PK")
    index_sk: str = _word("GSI1SK")
    index_name: str = _word("GSI1")
    type_attribute: str = _word("TYPE")
    type_value: str = _word("BATCH_SUMMARY")
    sk_value: str = _word("STATUS")
    pk_value: str = _value("BATCH#{batch_id}", "batch_id")
    index_pk_value: str = _value("STATUS#{status}", "status")
    index_sk_value: str = _value("BATCH_TYPE#{batch_type}#BATCH_ID#{batch_id}", "batch_type", "batch_id")
    attributes: Mapping[str, str] = attrs.field(factory=lambda: {"provider_batch_id": "openai_batch_id"}, hash=False)
    """Field of `model.BatchRow` -> attribute of the item, where the two differ."""
    statuses: Mapping[str, str] = attrs.field(factory=dict, hash=False)
    """Our status name -> the deployment's, where the two differ."""
    more_statuses: Mapping[str, str] = attrs.field(factory=dict, hash=False)
    """Further words that others write -> our status that they count as, as `IN_PROGRESS` -> `PENDING`. We never write them."""

    def status_word(self, status: Status) -> str:
        """The word that is written for a status."""
        return self.statuses.get(status.value, status.value)

    def status_words(self, status: Status) -> tuple[str, ...]:
        """Every word that is read as a status, the written one first.

        >>> Layout(more_statuses={"IN_PROGRESS": "PENDING"}).status_words(Status.PENDING)
        ('PENDING', 'IN_PROGRESS')
        """
        return self.status_word(status), *(word for word, meant in self.more_statuses.items() if meant == status)

    def __attrs_post_init__(self) -> None:
        self._check_words()
        self._check_apart()

    def _check_words(self) -> None:
        for word, status in self.more_statuses.items():
            if status not in Status.__members__ or word in map(self.status_word, Status):
                raise ConfigError(
                    f"Layout field 'more_statuses' can't read {word!a} as {status!a}.",
                    hint=f"Name a word of nobody else's, and one of {', '.join(Status)}.",
                )

    def _check_apart(self) -> None:
        for names in _APART:
            for name, other_name in combinations(names, 2):
                if getattr(self, name) == getattr(self, other_name):
                    raise ConfigError(
                        f"Layout fields '{name}' and '{other_name}' are both {getattr(self, name)!a}.",
                        hint="Give each a name of its own.",
                        fields=(name, other_name),
                    )
        for (name, one), (other_name, other) in combinations(self.patterns().items(), 2):
            if may_meet(one, other):
                raise ConfigError(
                    f"Layout fields '{name}' and '{other_name}' can give the same key: {one!a} and {other!a}",
                    hint="What is written under the one would replace the other.",
                    fields=(name, other_name),
                )

    def patterns(self) -> dict[str, str]:
        """Field -> template, of all that become keys of objects."""
        return {at.name: getattr(self, at.name) for at in attrs.fields(Layout) if at.metadata.get(_IS_KEY)}

    def root_key(self) -> str:
        """The identity of this root."""
        return self.root

    def manifest_key(self, execution_id: str) -> str:
        """The listing of one execution."""
        return self.manifest.format(execution_id=safe_id(execution_id, "execution_id"))

    def deployed_manifest_key(self, execution_id: str) -> str:
        """Where deployments of the seed's design may have put it; read where the other is not, and never written."""
        return self.deployed_manifest.format(execution_id=safe_id(execution_id, "execution_id"))

    def items_key(self, execution_id: str) -> str:
        """The same listing as a plain array, for a Distributed Map."""
        return self.items.format(execution_id=safe_id(execution_id, "execution_id"))

    def result_key(self, batch_id: str) -> str:
        """The register of one batch."""
        return self.result.format(batch_id=safe_id(batch_id, "batch_id"))

    def poll_results_key(self, execution_id: str) -> str:
        """All results of one execution."""
        return self.poll_results.format(execution_id=safe_id(execution_id, "execution_id"))

    def marked_key(self, execution_id: str) -> str:
        """What mark did in one execution, with reasons."""
        return self.marked.format(execution_id=safe_id(execution_id, "execution_id"))

    def requests_key(self, batch_id: str) -> str:
        """The provider input file."""
        return self.requests.format(batch_id=safe_id(batch_id, "batch_id"))

    def records_key(self, batch_id: str) -> str:
        """The records of one batch."""
        return self.records.format(batch_id=safe_id(batch_id, "batch_id"))

    def head_key(self, database: str, collection: str) -> str:
        """The submission ledger of one collection."""
        return self.head.format(
            database=safe_name(database, "database"), collection=safe_name(collection, "collection")
        )

    def head_pattern(self, database: str) -> tuple[str, str]:
        """What the keys of all ledgers of a database begin and end with.

        >>> Layout().head_pattern("words")
        ('words/submissions/', '/head.json')
        """
        before, _, after = self.head.partition("{collection}")
        name = safe_name(database, "database")
        return before.format(database=name), after.format(database=name)

    def delta_prefix(self, database: str, collection: str, delta_id: str) -> str:
        """The folder of one delta, with its last slash."""
        return self.delta.format(
            database=safe_name(database, "database"),
            collection=safe_name(collection, "collection"),
            delta_id=safe_id(delta_id, "delta_id"),
        )

    def chunks_key(self, execution_id: str) -> str:
        """The list of chunks of one execution."""
        return self.chunks.format(execution_id=safe_id(execution_id, "execution_id"))

    def intermediate_key(self, execution_id: str, chunk_id: str) -> str:
        """One sorted and packed chunk."""
        return self.intermediate.format(
            execution_id=safe_id(execution_id, "execution_id"), chunk_id=safe_id(chunk_id, "chunk_id")
        )

    def packed_key(self, execution_id: str, chunk_id: str) -> str:
        """What was packed into it, and its hash."""
        return self.packed.format(
            execution_id=safe_id(execution_id, "execution_id"), chunk_id=safe_id(chunk_id, "chunk_id")
        )

    def latest_key(self, database: str) -> str:
        """The pointer to the published version."""
        return self.latest.format(database=safe_name(database, "database"))

    def snapshot_prefix(self, database: str, version: str) -> str:
        """The folder of one version, with its last slash."""
        return self.snapshot.format(database=safe_name(database, "database"), version=safe_id(version, "version"))

    def journal_key(self, database: str) -> str:
        """The journal of a merge in place."""
        return self.journal.format(database=safe_name(database, "database"))

    def lease_key(self, database: str) -> str:
        """Who edits a collection that has no lock of its own."""
        return self.lease.format(database=safe_name(database, "database"))


SEED: Final = Layout()
