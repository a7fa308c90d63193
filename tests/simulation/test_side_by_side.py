"""The simulated object store and table, and S3 and DynamoDB on moto, are asked the same and must answer the same.

Every answer and every class of error is compared; etags are compared by what they say of each other. Pages have three entries,
so that listings cross them. HYPOTHESIS_PROFILE=thorough searches for some minutes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import attrs
import hypothesis.strategies as st
import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, multiple, rule, run_state_machine_as_test

from embedpipe.backends.dynamodb import DynamoDBBatchTable
from embedpipe.backends.memory.clock import MemoryClock
from embedpipe.backends.s3 import S3BlobStore
from embedpipe.backends.table_rules import item_bytes
from embedpipe.errors import EmbedpipeError
from embedpipe.lifecycle import Status
from embedpipe.model import BatchRow
from simulator.world import World
from tests.contract.aws import Cloud, in_process
from tests.simulation.inside import ask

PAGE = 3
MOTO_ITEM_BYTES_MAX = 405_000
ENTRIES_MAX = 50
"""Of a listing: one that goes round in circles is to be seen as such."""
Text = str | int
PAGES = ("embedpipe.backends.s3.LIST_PAGE_KEYS", "embedpipe.backends.dynamodb.PAGE_ROWS")
SIMULATED_PAGES = (
    "simulator.ports.LIST_PAGE_KEYS",
    "simulator.ports.INDEX_PAGE",
    "embedpipe.backends.memory.table.PAGE_ROWS",
)

KEYS = st.sampled_from(["a", "a/b", "a/c", "a0", "b", "b/\u00e9", "b/\uffee", "b/\U00010000", "c d", "c%20d", "c+d"])
BAD_KEYS = st.sampled_from(["", "/a", "a//b", "../a", "k" * 1_025, "\ud800"])
DATA = st.sampled_from([b"", b"one", b"two", b"three"])
IDS = st.sampled_from(["b1", "b10", "b2", "B2", "b-3", "z_9"])
TYPES = st.sampled_from(["WORD_EMBEDDING", "LINE_EMBEDDING"])
STATUSES = st.sampled_from([Status.INTENT, Status.CREATING, Status.PENDING, Status.COMPLETED])
CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "status": STATUSES,
        "reason": st.sampled_from(["", "why", 300_000]) | st.none(),
        "collection": st.sampled_from(["words", "x"]) | st.none(),
        "retry_batch_ids": st.lists(st.sampled_from(["r1", "r2", 150_000]), max_size=2),
    },
)


def spelled(value: Any) -> Any:
    """A number stands for so many characters, since an example is printed."""
    if isinstance(value, list):
        return tuple(map(spelled, value))
    return "x" * value if isinstance(value, int) else value


@attrs.frozen
class Etag:
    """Of the same object in both stores."""

    simulated: str
    real: str


@attrs.frozen
class Error:
    """What a call raised."""

    kind: type[EmbedpipeError]


def answer(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except EmbedpipeError as error:
        return Error(type(error))


class SideBySide(RuleBasedStateMachine):
    """One world and one cloud."""

    cloud: ClassVar[Cloud]
    etags = Bundle("etags")

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.world = self.stack.enter_context(World(1))
        self.folder = Path(self.stack.enter_context(TemporaryDirectory()))
        self.objects = S3BlobStore(self.cloud.new_bucket(), session=self.cloud.session, **self.cloud.where)
        self.table = DynamoDBBatchTable(
            self.cloud.new_table(), MemoryClock(), session=self.cloud.session, **self.cloud.where
        )
        self.seen: set[Etag] = set()

    def teardown(self) -> None:
        self.stack.close()

    def simulated(self, call: Callable[[], Any]) -> Any:
        return answer(lambda: ask(self.world, call))

    def both(self, call: Callable[[Any], Any], service: str) -> Any:
        """The answer that both give."""
        found = self.simulated(lambda: call(getattr(self.world, service)))
        assert found == answer(lambda: call(getattr(self, service)))
        return found

    def wrote(self, simulated: Any, real: Any) -> Any:
        """The etag of a write. Equal ones in one store are equal in the other."""
        if isinstance(simulated, Error) or isinstance(real, Error):
            assert simulated == real
            return multiple()
        made = Etag(simulated, real)
        for other in self.seen:
            assert (other.simulated == simulated) == (other.real == real)
        self.seen.add(made)
        return made

    @initialize(
        keys=st.sets(KEYS, min_size=2), data=DATA, ids=st.sets(IDS, min_size=2), batch_type=TYPES, status=STATUSES
    )
    def fill(self, keys: set[str], data: bytes, ids: set[str], batch_type: str, status: Status) -> None:
        """Enough that listings have several pages, and conditions something to hold of."""
        for key in sorted(keys):
            self.put(key, data, fresh=False)
        for batch_id in sorted(ids):
            self.put_new(batch_id, batch_type, status, None)

    # --- objects -----------------------------------------------------------------------------------------------------

    @rule(target=etags, key=KEYS | BAD_KEYS, data=DATA, fresh=st.booleans())
    def put(self, key: str, data: bytes, fresh: bool) -> Any:
        simulated = self.simulated(lambda: self.world.objects.put(key, data, if_none_match=fresh))
        return self.wrote(simulated, answer(lambda: self.objects.put(key, data, if_none_match=fresh)))

    @rule(target=etags, key=KEYS, data=DATA, etag=etags)
    def replace(self, key: str, data: bytes, etag: Etag) -> Any:
        simulated = self.simulated(lambda: self.world.objects.put(key, data, if_match=etag.simulated))
        return self.wrote(simulated, answer(lambda: self.objects.put(key, data, if_match=etag.real)))

    @rule(target=etags, key=KEYS | BAD_KEYS, data=DATA, fresh=st.booleans())
    def upload(self, key: str, data: bytes, fresh: bool) -> Any:
        path = self.folder / "source"
        path.write_bytes(data)
        simulated = self.simulated(lambda: self.world.objects.upload(key, path, if_none_match=fresh))
        return self.wrote(simulated, answer(lambda: self.objects.upload(key, path, if_none_match=fresh)))

    @rule(key=KEYS | BAD_KEYS)
    def get(self, key: str) -> None:
        simulated = self.simulated(lambda: self.world.objects.get(key))
        real = answer(lambda: self.objects.get(key))
        if isinstance(simulated, Error) or isinstance(real, Error):
            assert simulated == real
        else:
            assert simulated.data == real.data
            assert Etag(simulated.etag, real.etag) in self.seen

    @rule(key=KEYS | BAD_KEYS)
    def download(self, key: str) -> None:
        def downloaded(objects: Any) -> bytes:
            path = self.folder / "target"
            path.unlink(missing_ok=True)
            objects.download(key, path)
            return path.read_bytes()

        self.both(downloaded, "objects")

    @rule(key=KEYS | BAD_KEYS)
    def delete(self, key: str) -> None:
        self.both(lambda objects: objects.delete(key), "objects")

    @rule(prefix=KEYS | st.sampled_from(["", "a", "a/", "b/", "c", "\ud800"]), after=st.none() | KEYS)
    def list_objects(self, prefix: str, after: str | None) -> None:
        self.both(
            lambda objects: [
                (info.key, info.size_bytes) for info in islice(objects.list(prefix, after=after), ENTRIES_MAX)
            ],
            "objects",
        )

    # --- rows --------------------------------------------------------------------------------------------------------

    @rule(batch_id=IDS, batch_type=TYPES, status=STATUSES, reason=st.sampled_from([None, "why", 410_000]))
    def put_new(self, batch_id: str, batch_type: str, status: Status, reason: Text | None) -> None:
        new = BatchRow(batch_id=batch_id, batch_type=batch_type, status=status, reason=spelled(reason))
        self.both(lambda table: table.put_new(new), "table")

    @rule(batch_id=IDS, changes=CHANGES, status=st.none() | STATUSES, off_by=st.sampled_from([0, 0, 1, -1]))
    def update(self, batch_id: str, changes: Any, status: Status | None, off_by: int) -> None:
        """Often under the condition that holds, or one that nearly does."""
        row = self.world.stores.table.get_many([batch_id]).get(batch_id)
        status = status or (row.status if row else Status.PENDING)
        revision = max(0, off_by + (row.revision if row else 0))
        changes = {name: spelled(value) for name, value in changes.items()}
        if self._counted_twice(batch_id, changes):
            return
        self.both(lambda table: table.update(batch_id, changes, status=status, revision=revision), "table")

    def _counted_twice(self, batch_id: str, changes: dict[str, Any]) -> bool:
        """moto adds what replaces to what is replaced: `moto/update_size` in the list of differences."""
        item = self.world.stores.table.read_raw(batch_id) or {}
        return item_bytes(item) + item_bytes(changes) > MOTO_ITEM_BYTES_MAX >= item_bytes({**item, **changes})

    @rule(batch_ids=st.lists(IDS, max_size=8))
    def get_many(self, batch_ids: Any) -> None:
        self.both(lambda table: dict(table.get_many(batch_ids)), "table")

    @rule(batch_type=TYPES, status=STATUSES, after=st.just("") | IDS)
    def by_status(self, batch_type: str, status: Status, after: str) -> None:
        self.both(lambda table: [*islice(table.by_status(batch_type, status, after=after), ENTRIES_MAX)], "table")


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    for name in (*PAGES, *SIMULATED_PAGES):
        monkeypatch.setattr(name, PAGE)
    with in_process() as made:
        yield made


def test_simulator_and_moto_answer_alike(cloud: Cloud) -> None:
    SideBySide.cloud = cloud
    quick = settings.default.max_examples <= 100
    run_state_machine_as_test(
        SideBySide,
        settings=settings(
            derandomize=quick,
            database=None,
            # To shrink takes minutes, and to explain is to trace all of moto.
            phases=[Phase.generate] if quick else [Phase.generate, Phase.shrink],
            report_multiple_bugs=False,
            max_examples=50 if quick else settings.default.max_examples,
            stateful_step_count=30,
        ),
    )
