"""A copy of a Chroma directory without its link: refused, and nothing of it is removed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from embedpipe.backends.chroma import ChromaVectorStore
from embedpipe.errors import CorruptData
from embedpipe.ports import VectorRows

np = pytest.importorskip("numpy")


def one_row(store: ChromaVectorStore, name: str) -> None:
    with store.editing("notes", "notes", version=None, dimensions=2) as edition:
        vectors = np.ones((1, 2), np.float32)
        edition.collection.upsert(VectorRows(ids=[name], vectors=vectors, documents=[name], metadatas=[{}]))
        edition.seal("")


@pytest.mark.parametrize("resolved", [False, True])
def test_versions_without_their_link_are_no_rubbish(tmp_path: Path, resolved: bool) -> None:
    one_row(ChromaVectorStore(tmp_path / "whole"), "a")
    copy = tmp_path / "copy"
    shutil.copytree(tmp_path / "whole", copy, symlinks=True)
    link = copy / "notes" / "current"
    target = link.readlink()
    link.unlink()
    if resolved:  # as `cp -rL` leaves it
        link.mkdir()
    for call in (lambda: one_row(ChromaVectorStore(copy), "b"),) * 2:
        with pytest.raises(CorruptData, match="current.*cp -a"):
            call()
    assert (copy / "notes" / target / "chroma.sqlite3").exists()
    if resolved:
        link.rmdir()
    link.symlink_to(target)
    one_row(ChromaVectorStore(copy), "b")
    with ChromaVectorStore(copy).reading("notes", "notes", version="") as collection:
        assert sorted(collection.ids()) == ["a", "b"]
