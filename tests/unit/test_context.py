"""What the steps share."""

from __future__ import annotations

import errno

import pytest

from embedpipe.errors import StorageFull
from tests.worlds import SmallWorld


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_temporary_files_that_do_not_fit_are_a_full_storage(number: int) -> None:
    context = SmallWorld().pipeline().context
    with pytest.raises(StorageFull, match="Temporary files in"), context.scratch() as folder:
        raise OSError(number, "no room")
    assert not folder.exists()


def test_other_errors_of_temporary_files_stay_as_they_are() -> None:
    context = SmallWorld().pipeline().context
    with pytest.raises(PermissionError), context.scratch():
        raise PermissionError(errno.EACCES, "not yours")
