"""An audit only reads; what it may not or can't read stands in the ledger and is never taken for a fault."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embedpipe.errors import CorruptData, NotFound, Throttled, Unauthorized, Unavailable
from embedpipe.lifecycle import Status
from embedpipe.model import BatchRow, Blob
from tests.harness import Faults, Watched
from tests.verify.auditing import THOROUGH, source_of
from tests.verify.mutators import MUTATORS
from tests.verify.planting import Plant
from tests.worlds import KIND
from verify.audit.api import check
from verify.audit.coverage import State
from verify.audit.findings import Finding
from verify.audit.report import Report
from verify.audit.sources import Source, WriteRefused


class Refusing:
    """A port whose writes end the test."""

    WRITES = frozenset({"put", "delete", "upload", "put_new", "update", "create", "cancel", "editing", "upsert"})

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        assert name not in self.WRITES, f"the audit called {name}"
        return getattr(self._inner, name)

    @contextmanager
    def reading(self, *where: Any, **version: Any) -> Iterator[Any]:
        with self._inner.reading(*where, **version) as collection:
            yield Refusing(collection)


def ports_of(plant: Plant, wrap: Any) -> dict[str, Any]:
    world = plant.world
    return {
        "objects": wrap(world.objects),
        "table": wrap(world.table),
        "vectors": wrap(world.vectors),
        "provider": wrap(plant.provider),
    }


@pytest.mark.parametrize("code", [None, *MUTATORS])
def test_nothing_is_written(code: str | None) -> None:
    plant = Plant()
    if code is not None:
        MUTATORS[code][0](plant)
    before = plant.world.objects.contents()
    items = {batch_id: plant.world.table.read_raw(batch_id) for batch_id in plant.rows}
    report = check(source_of(plant.world, **ports_of(plant, Refusing)), depth="vectors", grace_s=-1)
    assert code is None or code in {finding.code for finding in report.findings}
    assert plant.world.objects.contents() == before
    assert {batch_id: plant.world.table.read_raw(batch_id) for batch_id in plant.rows} == items


def test_the_ports_of_a_source_refuse_each_write(tmp_path: Path) -> None:
    plant = Plant()
    source = source_of(plant.world, **ports_of(plant, lambda port: port))
    assert source.provider is not None
    assert source.vectors is not None
    row = BatchRow(batch_id="x", batch_type="X", status=Status.INTENT)
    for write in (
        lambda: source.objects.put("k", b""),
        lambda: source.objects.delete("k"),
        lambda: source.objects.upload("k", tmp_path / "x"),
        lambda: source.table.put_new(row),
        lambda: source.table.update("x", {}, status=Status.INTENT, revision=0),
        lambda: source.provider.upload(tmp_path / "x"),  # type: ignore[union-attr]
        lambda: source.provider.create("f", {}),  # type: ignore[union-attr]
        lambda: source.provider.cancel("b"),  # type: ignore[union-attr]
        lambda: source.vectors.editing("d", "c", version=None, dimensions=8),  # type: ignore[union-attr]
    ):
        with pytest.raises(WriteRefused):
            write()
    with source.vectors.reading(KIND.database, KIND.collection, version="") as collection:
        with pytest.raises(WriteRefused):
            collection.upsert(collection.get([]))
        with pytest.raises(WriteRefused):
            collection.delete(["r1"])


# --- what can't be read --------------------------------------------------------------------------------------------


def faulty(plant: Plant, faults: Faults) -> Source:
    faults.armed = True
    return source_of(
        plant.world,
        objects=Watched(plant.world.objects, "objects", faults),
        table=Watched(plant.world.table, "table", faults),
        vectors=Watched(plant.world.vectors, "vectors", faults),
        provider=Watched(plant.provider, "provider", faults),
    )


def faults_of(report: Report) -> list[Finding]:
    return [finding for finding in report.findings if not finding.code.startswith("A")]


def assert_adds_up(report: Report) -> None:
    for line in report.coverage.lines:
        assert line.total == sum(int(getattr(line, state.value)) for state in State)


ERRORS = (
    Unauthorized("You may not read that."),
    Unavailable("The store is down."),
    NotFound("There is no such bucket."),
)


@settings(max_examples=400 if THOROUGH else 40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 120), st.sampled_from(["metadata", "content", "vectors"]), st.data())
def test_one_denied_read_is_no_finding(nth: int, depth: str, data: st.DataObject) -> None:
    """Whichever read is refused, once and for all that follow: it is said, and no fault is made of it."""
    plant = Plant()
    error = data.draw(st.sampled_from(ERRORS[:2]))

    def refuse() -> NoReturn:
        raise error

    port = data.draw(
        st.sampled_from(["objects.get", "objects.list", "objects.download", "table", "provider", "vectors", ""])
    )
    faults = Faults()
    for later in range(nth, nth + (200 if data.draw(st.booleans()) else 1)):
        faults.before(port, refuse, nth=later + 1)
    report = check(faulty(plant, faults), depth=depth)
    assert faults_of(report) == []
    assert_adds_up(report)
    struck = sum(fault.struck for fault in faults.planned)
    if struck and isinstance(error, Unauthorized):
        met = [call for call in faults.calls if call.startswith(port)][nth]
        read_again = faults.calls.count(met) > 1
        assert report.verdict == "incomplete" or read_again, met
        assert {finding.code for finding in report.findings} <= {"A901"}
        assert report.exit_code in (0, 3)


def test_a_throttled_read_is_repeated() -> None:
    plant = Plant()

    def refuse() -> NoReturn:
        raise Throttled("Slow down.", retry_after_s=2.0)

    faults = Faults()
    for effect in ("objects.get", "objects.list", "table.get_many", "table.by_status", "objects.download"):
        faults.before(effect, refuse, nth=2)
    report = check(faulty(plant, faults), depth="vectors")
    assert (report.verdict, report.findings) == ("clean", ())
    faults.assert_struck()


class Pages:
    """A listing that fails in the middle, once."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.failed = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def list(self, prefix: str, *, after: str | None = None) -> Iterator[Any]:
        for count, info in enumerate(self._inner.list(prefix, after=after)):
            if count == 3 and not self.failed:
                self.failed += 1
                raise Unavailable("This page is gone.")
            yield info


def test_a_listing_goes_on_where_it_stopped() -> None:
    plant = Plant()
    pages = Pages(plant.world.objects)
    plain = check(source_of(plant.world))
    report = check(source_of(plant.world, objects=pages))
    assert pages.failed == 1
    assert (report.verdict, report.coverage.lines) == ("clean", plain.coverage.lines)


def test_a_table_that_is_damaged_as_a_whole_is_not_evaluated() -> None:
    plant = Plant()

    def broken(*_: Any, **__: Any) -> NoReturn:
        raise CorruptData("table.sqlite3 is not a database.")

    report = check(source_of(plant.world, table=_Broken(broken)))
    assert report.exit_code == 3
    assert faults_of(report) == []


class _Broken:
    def __init__(self, broken: Any) -> None:
        self.get_many = self.by_status = self.put_new = self.update = broken


def test_an_object_deleted_during_the_audit_is_judged_by_the_second_reading() -> None:
    """It is gone for good: then it is a finding, and the audit ends."""
    plant = Plant()
    row = plant.some(Status.COMPLETED)
    faults = Faults().before("table.get_many", lambda: plant.delete(plant.result_key(row)))
    report = check(faulty(plant, faults))
    assert {finding.code for finding in report.findings} == {"P201"}


# --- twice before it is told ---------------------------------------------------------------------------------------


class Flickering:
    """A port that answers wrongly once, and rightly ever after."""

    def __init__(self, inner: Any, wrong: Callable[[str], Any], key: str) -> None:
        self._inner = inner
        self._wrong = wrong
        self._key = key
        self.struck = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def get(self, key: str) -> Blob:
        if key == self._key and not self.struck:
            self.struck = True
            return Blob(data=self._wrong(key), etag="x")
        blob: Blob = self._inner.get(key)
        return blob

    def download(self, key: str, path: Path) -> None:
        if key == self._key and not self.struck:
            self.struck = True
            path.write_bytes(self._wrong(key))
        else:
            self._inner.download(key, path)


def gone(key: str) -> NoReturn:
    raise NotFound(f"There is no {key}.")


@pytest.mark.parametrize("wrong", [gone, lambda _: b"{", lambda _: b"{}"], ids=["gone", "torn", "empty"])
def test_what_one_reading_shows_is_not_told(wrong: Callable[[str], Any]) -> None:
    """Whichever object it is: where a second reading shows it whole, nothing is wrong."""
    plant = Plant()
    keys = sorted(plant.world.objects.contents())
    met = 0
    for key in keys if THOROUGH else keys[:: len(keys) // 25]:
        objects = Flickering(plant.world.objects, wrong, key)
        report = check(source_of(plant.world, objects=objects, provider=plant.provider), depth="vectors", grace_s=-1)
        assert faults_of(report) == [], key
        met += objects.struck
    assert met > 10


# --- too large, too deep -------------------------------------------------------------------------------------------


class Huge:
    """Objects of which one is said to have two gigabytes, and is not to be read."""

    def __init__(self, inner: Any, key: str) -> None:
        self._inner = inner
        self._key = key

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def list(self, prefix: str, *, after: str | None = None) -> Iterator[Any]:
        for info in self._inner.list(prefix, after=after):
            yield attrs.evolve(info, size_bytes=2 << 30) if info.key == self._key else info

    def get(self, key: str) -> Blob:
        assert key != self._key
        blob: Blob = self._inner.get(key)
        return blob


@pytest.mark.parametrize("what", ["poll_results", "manifest", "items", "chunks", "result"])
def test_what_has_two_gigabytes_is_not_read(what: str) -> None:
    plant = Plant()
    key = getattr(plant.layout, f"{what}_key")(plant.merged().batch_id if what == "result" else plant.some_execution())
    report = check(source_of(plant.world, objects=Huge(plant.world.objects, key)))
    assert (report.verdict, faults_of(report)) == ("incomplete", [])
    assert key in {finding.location.removeprefix("objects:") for finding in report.findings}
    assert_adds_up(report)


@pytest.mark.parametrize(
    "torn", [b"[" * 100_000, b'[{"batch_id":' * 100_000, b"[{}" + b"]" * 100_000, b'[{"batch_id":"a']
)
def test_poll_results_that_are_no_json_are_a_finding(torn: bytes) -> None:
    plant = Plant()
    plant.put(plant.layout.poll_results_key(plant.some_execution()), torn)
    report = check(source_of(plant.world), grace_s=-1)
    assert "P205" in {finding.code for finding in report.findings}
    assert report.exit_code == 1
