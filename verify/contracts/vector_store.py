"""The suite of `embedpipe.ports.VectorStore`: whole rows, any id, exact order, one editor, and nothing lost on reopening.

Written for stores merged in place and for those that publish versions: each edition is sealed under a version of its own,
and read under that version. Vectors have eight dimensions.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import attrs
import pytest

from embedpipe.errors import CollectionMismatch, EmbedpipeError, InvalidInput, NotFound
from embedpipe.layout import SEED
from embedpipe.ports import Collection, VectorStore
from verify.contracts._base import Contract, race, required
from verify.contracts.vector_versions import (
    DATABASE,
    DIMENSIONS,
    NAME,
    ODD_IDS,
    ODD_METADATA,
    Row,
    Versions,
    exactly,
    rows_of,
    stored,
    vector,
)

__all__ = ["VectorStoreContract"]

OpenPort = Callable[[], VectorStore]

EDITORS: Final = 8
"""Threads that edit at the same time."""


class VectorStoreContract(Contract, abstract=True):
    """What a vector store must do."""

    @required
    def connect(self, store: Any) -> VectorStore:
        """Connect an adapter to the store."""
        raise NotImplementedError

    @required
    def raw_read(self, store: Any, database: str, collection: str, record_id: str) -> Mapping[str, Any] | None:
        """Read the latest row around the port: `vector`, `document`, `metadata`; None where nothing is."""
        raise NotImplementedError

    @required
    def raw_write(self, store: Any, database: str, collection: str, record_id: str, row: Mapping[str, Any]) -> None:
        """Put a row (`vector`, `document`, `metadata`) into the latest version around the port."""
        raise NotImplementedError

    @pytest.fixture
    def versions(self) -> Versions:
        """Remembers versions."""
        return Versions()

    # --- rows ------------------------------------------------------------------------------------------------------

    def test_rows_come_back_as_they_are(self, port: VectorStore, versions: Versions) -> None:
        rows = [
            Row("a", vector(1), "the text", {"line": 1}),
            Row("b", vector(2), "", {"path": "x"}),
            Row("c", vector(3), None, {"line": 2}),
            Row("d", vector(4), "no metadata"),
            Row("e", vector(5), None),
        ]
        versions.write(port, *rows)
        assert versions.read(port, list("abcde")) == rows

    def test_metadata_keeps_its_names_values_and_types(self, port: VectorStore, versions: Versions) -> None:
        versions.write(port, Row("a", vector(1), "text", ODD_METADATA))
        [row] = versions.read(port, ["a"])
        assert exactly(row.metadata) == exactly(ODD_METADATA)

    def test_any_id_is_an_id(self, port: VectorStore, versions: Versions) -> None:
        rows = [Row(row_id, vector(number), row_id, {"n": number}) for number, row_id in enumerate(ODD_IDS)]
        versions.write(port, *rows)
        assert versions.read(port, ODD_IDS) == rows
        assert versions.ids(port) == sorted(ODD_IDS, key=str.encode)

    def test_a_row_is_replaced_wholly(self, port: VectorStore, versions: Versions) -> None:
        versions.write(port, *(Row(row_id, vector(1), "old", {"gone": 1, "kept": "old"}) for row_id in "abcde"))
        new = [
            Row("a", vector(2), "new", {"kept": "new", "added": True}),
            Row("b", vector(3), "new"),
            Row("c", vector(4), None, {"kept": "new"}),
            Row("d", vector(5), None),
        ]
        versions.write(port, *new)
        assert versions.read(port, list("abcd")) == new
        assert versions.read(port, ["e"]) == [Row("e", vector(1), "old", {"gone": 1, "kept": "old"})]

    def test_an_upsert_may_insert_and_replace(self, port: VectorStore, versions: Versions) -> None:
        versions.write(port, Row("b", vector(1), "old", {"gone": 1}))
        rows = [Row(row_id, vector(seed), "new", {"n": seed}) for seed, row_id in enumerate("abc", start=2)]

        def twice(collection: Collection) -> None:
            collection.upsert(rows_of(rows))
            collection.upsert(rows_of(rows))
            assert stored(collection, list("abc")) == rows, "an edition must read what it wrote"

        versions.edit(port, twice)
        assert versions.read(port, list("abc")) == rows
        assert versions.count(port) == 3

    def test_one_upsert_takes_any_number_of_rows(self, port: VectorStore, versions: Versions) -> None:
        rows = [Row(f"r{number:05d}", vector(number), f"text {number}", {"n": number}) for number in range(12_000)]
        versions.write(port, *rows)
        assert versions.count(port) == 12_000
        ids = [row.id for row in rows]
        assert versions.ids(port) == ids
        assert versions.read(port, ids) == rows
        assert versions.read(port, ids[::-7]) == rows[::-7]

    def test_no_rows_are_no_effect(self, port: VectorStore, versions: Versions) -> None:
        versions.write(port)
        assert (versions.count(port), versions.ids(port)) == (0, [])
        assert versions.read(port, ["a"]) == versions.read(port, []) == []

    def test_get_answers_in_the_order_asked_without_the_missing(self, port: VectorStore, versions: Versions) -> None:
        versions.write(port, *(Row(row_id, vector(seed)) for seed, row_id in enumerate("dbca")))
        found = versions.read(port, ["c", "missing", "a", "d", "b", "none"])
        assert [row.id for row in found] == ["c", "a", "d", "b"]
        assert found == [Row(row_id, vector(seed)) for row_id, seed in (("c", 2), ("a", 3), ("d", 0), ("b", 1))]

    def test_ids_ascend_by_bytes_and_go_on_after_any(self, port: VectorStore, versions: Versions) -> None:
        # U+FFFF comes before U+1F600 in UTF-8, and after it in UTF-16.
        ids = ["B", "a", "a0", "b", "z", "é", "\uffff", "\U0001f600"]
        versions.write(port, *(Row(row_id, vector(seed)) for seed, row_id in enumerate(reversed(ids))))
        assert versions.ids(port) == ids
        for position, after in enumerate(ids):
            assert versions.ids(port, after=after) == ids[position + 1 :]
        assert versions.ids(port, after="a!") == ids[2:]

    def test_delete_is_quiet_where_nothing_is(self, port: VectorStore, versions: Versions) -> None:
        versions.write(port, *(Row(row_id, vector(seed)) for seed, row_id in enumerate("abc")))

        def remove(collection: Collection) -> None:
            collection.delete(["b", "missing"])
            collection.delete(["b"])
            collection.delete([])
            assert collection.count() == 2

        versions.edit(port, remove)
        assert [row.id for row in versions.read(port, list("abc"))] == ["a", "c"]
        versions.write(port, Row("b", vector(9), None, {"again": 1}))
        assert versions.read(port, ["b"]) == [Row("b", vector(9), None, {"again": 1})]

    # --- search ----------------------------------------------------------------------------------------------------

    def test_search_finds_the_nearest_first(self, port: VectorStore, versions: Versions) -> None:
        import numpy as np

        rows = [Row(f"r{number}", vector(number), f"text {number}", {"n": number}) for number in range(300)]
        versions.write(port, *rows)
        hits = versions.search(port, np.array(vector(7), np.float32), 5)
        assert (hits[0].id, hits[0].document, hits[0].metadata) == ("r7", "text 7", {"n": 7})
        assert hits[0].distance == pytest.approx(0.0, abs=1e-5)
        assert [hit.distance for hit in hits] == sorted(hit.distance for hit in hits)
        assert len({hit.id for hit in hits}) == 5

    def test_distances_are_cosine(self, port: VectorStore, versions: Versions) -> None:
        import numpy as np

        axis = np.eye(DIMENSIONS, dtype=np.float32)
        shown = {"same": 3 * axis[0], "right": 2 * axis[1], "opposite": -5 * axis[0], "half": axis[0] + axis[1]}
        versions.write(port, *(Row(row_id, tuple(numbers.tolist())) for row_id, numbers in shown.items()))
        hits = versions.search(port, 7 * axis[0], 4)
        assert [hit.id for hit in hits] == ["same", "half", "right", "opposite"]
        assert [hit.distance for hit in hits] == pytest.approx([0.0, 1 - 0.5**0.5, 1.0, 2.0], abs=1e-5)

    def test_search_gives_fewer_only_where_there_are_fewer(self, port: VectorStore, versions: Versions) -> None:
        import numpy as np

        query = np.array(vector(1), np.float32)
        versions.write(port)
        assert versions.search(port, query, 3) == []
        versions.write(port, *(Row(row_id, vector(seed)) for seed, row_id in enumerate("abc")))
        for k, expected in ((1, 1), (3, 3), (1_000, 3)):
            assert len(versions.search(port, query, k)) == expected

    def test_many_equal_vectors_hide_nobody(self, port: VectorStore, versions: Versions) -> None:
        import numpy as np

        versions.write(port, *(Row(f"r{number:04d}", vector(number // 1_000)) for number in range(3_000)))
        hits = versions.search(port, np.array(vector(1), np.float32), 2_500)
        assert len({hit.id for hit in hits}) == 2_500
        assert {hit.id for hit in hits[:1_000]} == {f"r{number:04d}" for number in range(1_000, 2_000)}

    # --- opening ---------------------------------------------------------------------------------------------------

    def test_another_connection_sees_what_was_written(self, open_port: OpenPort, versions: Versions) -> None:
        versions.write(open_port(), Row("a", vector(1), "first"))
        assert versions.read(open_port(), ["a"]) == [Row("a", vector(1), "first")]
        versions.write(open_port(), Row("b", vector(2), "second"))
        assert [row.document for row in versions.read(open_port(), ["a", "b"])] == ["first", "second"]

    def test_reading_what_nobody_made_is_not_found(self, port: VectorStore, versions: Versions) -> None:
        with pytest.raises(NotFound):
            versions.read(port, ["a"])
        with pytest.raises(NotFound):
            versions.read(port, ["a"])

    def test_what_is_sealed_is_read_before_the_edition_ends(self, open_port: OpenPort) -> None:
        writer, reader = open_port(), open_port()
        with writer.editing(DATABASE, NAME, version=None, dimensions=DIMENSIONS) as edition:
            edition.collection.upsert(rows_of([Row("a", vector(1))]))
            edition.seal(SEED.snapshot_prefix(DATABASE, "1-test"))
            with reader.reading(DATABASE, NAME, version="1-test") as collection:
                assert stored(collection, ["a"]) == [Row("a", vector(1))]
            assert stored(edition.collection, ["a"]) == [Row("a", vector(1))]

    def test_an_edition_that_fails_harms_nothing(self, port: VectorStore, versions: Versions) -> None:
        def fail(collection: Collection) -> None:
            collection.upsert(rows_of([Row("b", vector(2))]))
            raise ZeroDivisionError

        versions.write(port, Row("a", vector(1), "kept"))
        with pytest.raises(ZeroDivisionError):
            versions.edit(port, fail)
        versions.write(port, Row("c", vector(3), "after"))
        assert [row.document for row in versions.read(port, ["a", "c"])] == ["kept", "after"]

    def test_databases_do_not_mix(self, port: VectorStore, versions: Versions) -> None:
        for database, text in (("words", "one"), ("lines", "two"), ("ab", "three"), ("ab-", "four"), ("ab_", "five")):
            versions.write(port, Row("a", vector(1), text), database=database)
        found = [
            versions.read(port, ["a"], database=name)[0].document for name in ("words", "lines", "ab", "ab-", "ab_")
        ]
        assert found == ["one", "two", "three", "four", "five"]

    def test_names_may_be_short(self, port: VectorStore) -> None:
        for database, name in (("d1", "a"), ("d2", "ab"), ("d3", "ab-"), ("d4", "x" * 63)):
            with port.editing(database, name, version=None, dimensions=DIMENSIONS) as edition:
                edition.collection.upsert(rows_of([Row("a", vector(1), name)]))
                edition.seal(SEED.snapshot_prefix(database, "1-test"))
            with port.reading(database, name, version="1-test") as collection:
                assert stored(collection, ["a"]) == [Row("a", vector(1), name)]

    # --- refusals --------------------------------------------------------------------------------------------------

    def test_other_dimensions_are_refused_and_nothing_is_lost(self, port: VectorStore, versions: Versions) -> None:
        versions.write(port, Row("a", vector(1), "kept"))
        with (
            pytest.raises(CollectionMismatch),
            port.editing(DATABASE, NAME, version=versions.latest[DATABASE], dimensions=DIMENSIONS + 1) as edition,
        ):
            edition.collection.count()
        with pytest.raises(CollectionMismatch):
            versions.write(port, Row("b", (*vector(2), 1.0)))
        with pytest.raises(CollectionMismatch):
            versions.search(port, rows_of([Row("", (1.0,))]).vectors[0], 1)
        assert versions.read(port, ["a", "b"]) == [Row("a", vector(1), "kept")]

    def test_bad_rows_are_refused_before_any_effect(self, port: VectorStore, versions: Versions) -> None:
        versions.write(port, Row("a", vector(1), "kept"))
        good = rows_of([Row("b", vector(2)), Row("c", vector(3))])
        nan = good.vectors.copy()
        nan[1, 0] = float("nan")
        bad = (
            attrs.evolve(good, ids=["b", "b"]),
            attrs.evolve(good, documents=["one"]),
            attrs.evolve(good, metadatas=[]),
            attrs.evolve(good, vectors=nan),
            attrs.evolve(good, vectors=good.vectors[:1]),
        )
        for rows in bad:
            with pytest.raises(InvalidInput):
                versions.upsert(port, rows)
        assert versions.ids(port) == ["a"]

    # --- around the port -------------------------------------------------------------------------------------------

    def test_what_the_port_writes_is_there(self, store: Any, port: VectorStore, versions: Versions) -> None:
        versions.write(port, Row("a", vector(1), "text", {"n": 1}), Row("b", vector(2), None))
        found = self.raw_read(store, DATABASE, NAME, "a")
        assert found is not None
        numbers = tuple(map(float, found["vector"]))
        assert Row("a", numbers, found["document"], dict(found["metadata"])) == Row("a", vector(1), "text", {"n": 1})
        bare = self.raw_read(store, DATABASE, NAME, "b")
        assert bare is not None
        assert (bare["document"], dict(bare["metadata"] or {})) == (None, {})
        assert self.raw_read(store, DATABASE, NAME, "missing") is None

    def test_what_others_write_is_read(self, store: Any, port: VectorStore, versions: Versions) -> None:
        versions.write(port, Row("a", vector(1)))
        self.raw_write(
            store, DATABASE, NAME, "theirs", {"vector": vector(2), "document": "x", "metadata": {"by": "them"}}
        )
        assert versions.read(port, ["theirs"]) == [Row("theirs", vector(2), "x", {"by": "them"})]
        assert versions.count(port) == 2
        versions.write(port, Row("theirs", vector(3), "mine", {"n": 1}))
        assert versions.read(port, ["theirs"]) == [Row("theirs", vector(3), "mine", {"n": 1})]

    # --- concurrency -----------------------------------------------------------------------------------------------

    def test_one_editor_at_a_time(self, open_port: OpenPort, versions: Versions) -> None:
        with open_port().editing(DATABASE, NAME, version=None, dimensions=DIMENSIONS) as edition:
            if not edition.in_place:
                pytest.skip("versions are exclusive by their pointer, not by a lock")
        inside = threading.Semaphore(1)

        def add_one(port: VectorStore) -> None:
            for _ in range(3):
                with port.editing(DATABASE, NAME, version=None, dimensions=DIMENSIONS) as edition:
                    assert inside.acquire(blocking=False), "two editors at once"
                    found = stored(edition.collection, ["counter"])
                    count = found[0].metadata["n"] if found else 0
                    assert isinstance(count, int)
                    edition.collection.upsert(rows_of([Row("counter", vector(count), None, {"n": count + 1})]))
                    inside.release()

        results = race([partial(add_one, open_port()) for _ in range(EDITORS)])
        assert [result for result in results if isinstance(result, EmbedpipeError)] == []
        assert versions.read(open_port(), ["counter"])[0].metadata == {"n": 3 * EDITORS}

    def test_readers_see_whole_rows_while_others_edit(self, open_port: OpenPort, versions: Versions) -> None:
        versions.write(open_port(), *_generation(0))
        done = threading.Event()

        def edit() -> None:
            try:
                for number in range(1, 6):
                    versions.write(open_port(), *_generation(number))
            finally:
                done.set()

        def read() -> None:
            port = open_port()
            while not done.is_set():
                for row in versions.read(port, [row.id for row in _generation(0)]):
                    assert row in _generation(int(row.metadata["n"]))

        results = race([edit, read, read])
        assert [result for result in results if isinstance(result, EmbedpipeError)] == []
        assert versions.read(open_port(), [row.id for row in _generation(5)]) == _generation(5)


def _generation(number: int) -> list[Row]:
    """The same ids, all else another in each generation."""
    return [Row(f"r{at:02d}", vector(100 * number + at), f"text {number}", {"n": number}) for at in range(40)]
