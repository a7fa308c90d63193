"""Scratch rows: order, bounds, and what happens when the disk is full."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from embedpipe.errors import CorruptData, InvalidInput, StorageFull
from embedpipe.vectors import Scratch


def test_dimensions_are_learned_from_the_first_row_and_then_kept(tmp_path: Path) -> None:
    with Scratch(tmp_path / "rows", None) as scratch:
        assert (scratch.dimensions, scratch.count) == (None, 0)
        assert scratch.append(np.array([1, 2], np.float32)) == 0
        assert (scratch.dimensions, scratch.count) == (2, 1)
        for odd in (np.ones(3, np.float32), np.ones((1, 2), np.float32), np.ones(0, np.float32)):
            with pytest.raises(InvalidInput, match="does not fit"):
                scratch.append(odd)
        assert scratch.count == 1


@pytest.mark.parametrize("order", [[1], [-1], [0, 5]])
def test_ordinals_outside_are_refused(tmp_path: Path, order: list[int]) -> None:
    with Scratch(tmp_path / "rows", 1) as scratch:
        scratch.append(np.ones(1, np.float32))
        with pytest.raises(InvalidInput, match="outside"):
            list(scratch.batches(np.array(order)))


def test_no_rows_give_no_blocks(tmp_path: Path) -> None:
    with Scratch(tmp_path / "rows", None) as scratch:
        assert list(scratch.batches(np.array([], np.int64))) == []


def test_rows_may_be_added_after_reading_and_blocks_are_the_callers_own(tmp_path: Path) -> None:
    with Scratch(tmp_path / "rows", 2) as scratch:
        scratch.append(np.array([1, 2], np.float32))
        (first,) = scratch.batches(np.array([0]))
        first[:] = 9
        scratch.append(np.array([4, 3], np.float32)[::-1])
        (both,) = scratch.batches(np.array([1, 0]))
        assert both.tolist() == [[3, 4], [1, 2]]


def test_what_a_dead_process_left_is_overwritten_and_the_file_goes_with_close(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    path.write_bytes(b"left from before")
    with Scratch(path, 1) as scratch:
        scratch.append(np.ones(1, np.float32))
        assert [rows.tolist() for rows in scratch.batches(np.array([0]))] == [[[1.0]]]
        scratch.close()
        assert not path.exists()


def test_a_file_cut_short_by_others_is_found_out(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    with Scratch(path, 1) as scratch:
        scratch.append(np.ones(1, np.float32))
        list(scratch.batches(np.array([0])))
        path.write_bytes(b"")
        with pytest.raises(CorruptData, match="shorter"):
            list(scratch.batches(np.array([0])))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the device that is always full is Linux's")
@pytest.mark.parametrize("dimensions", [1, 1 << 20])
def test_a_full_disk_is_named(tmp_path: Path, dimensions: int) -> None:
    path = tmp_path / "rows"
    path.symlink_to("/dev/full")

    def fill() -> None:
        with Scratch(path, None) as scratch:
            scratch.append(np.ones(dimensions, np.float32))
            list(scratch.batches(np.array([0])))

    with pytest.raises(StorageFull, match="rows"):
        fill()
    assert not path.exists()
    assert Path("/dev/full").is_char_device()
