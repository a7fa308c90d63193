"""The tree of errors: three branches, stable codes, exit codes from one table, sentences that say what to do."""

from __future__ import annotations

import inspect
import re

import pytest

from embedpipe import errors
from embedpipe.errors import (
    EXIT_CODES,
    CorruptData,
    EmbedpipeError,
    Incomplete,
    Interrupted,
    MisuseError,
    RefusedRequest,
    ServiceError,
    Throttled,
    Transient,
    missing_extra,
)

CLASSES = [value for _, value in inspect.getmembers(errors, inspect.isclass) if issubclass(value, EmbedpipeError)]


@pytest.mark.parametrize("cls", CLASSES)
def test_each_has_a_code_an_exit_code_and_a_docstring(cls: type[EmbedpipeError]) -> None:
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", cls.code)
    assert "code" in vars(cls), "a code that is inherited names two errors"
    assert cls.exit_code in EXIT_CODES
    assert cls.exit_code != errors.EXIT_OK
    assert inspect.getdoc(cls)


def test_codes_are_unique() -> None:
    assert len({cls.code for cls in CLASSES}) == len(CLASSES)


@pytest.mark.parametrize("cls", [cls for cls in CLASSES if cls is not EmbedpipeError])
def test_each_is_in_one_branch(cls: type[EmbedpipeError]) -> None:
    branches = [MisuseError, ServiceError, CorruptData, Interrupted, Incomplete]
    assert sum(issubclass(cls, branch) for branch in branches) == 1


def test_the_branches_end_a_command_differently() -> None:
    assert (MisuseError.exit_code, ServiceError.exit_code, CorruptData.exit_code) == (2, 6, 7)
    assert (errors.InvalidInput.exit_code, errors.DuplicateRecord.exit_code, errors.CollectionMismatch.exit_code) == (
        5,
    ) * 3
    assert (Interrupted.exit_code, Incomplete.exit_code, EmbedpipeError.exit_code) == (130, 3, 4)


def test_exit_codes_mean_one_thing_each() -> None:
    assert len(set(EXIT_CODES.values())) == len(EXIT_CODES)
    assert all(meaning and meaning[-1].isalpha() for meaning in EXIT_CODES.values())
    named = {name: value for name, value in vars(errors).items() if name.startswith("EXIT_") and isinstance(value, int)}
    assert sorted(named.values()) == sorted(EXIT_CODES)


@pytest.mark.parametrize(
    ("ours", "builtin"),
    [
        (errors.NotFound, FileNotFoundError),
        (errors.Unauthorized, PermissionError),
        (errors.StorageFull, OSError),
        (errors.CorruptData, ValueError),
        (errors.InvalidInput, ValueError),
        (errors.ConfigError, ValueError),
        (errors.MissingExtra, ImportError),
        (errors.IllegalTransition, ValueError),
    ],
)
def test_who_catches_the_builtin_catches_ours(ours: type[Exception], builtin: type[Exception]) -> None:
    with pytest.raises(builtin):
        raise ours("What happened.")


def test_a_sentence_says_what_and_then_what_to_do() -> None:
    error = errors.NotFound("There is no object a/b.", hint="Check the key.", key="a/b", bucket="x")
    assert str(error) == "There is no object a/b. Check the key."
    assert (error.message, error.hint) == ("There is no object a/b.", "Check the key.")
    assert error.context == {"key": "a/b", "bucket": "x"}
    assert str(errors.NotFound("Only this.")) == "Only this."


def test_what_may_be_repeated_is_one_branch() -> None:
    repeatable = {cls for cls in CLASSES if issubclass(cls, Transient)}
    assert repeatable == {Transient, Throttled, errors.Unavailable, errors.WriteConflict}


def test_a_service_may_advise() -> None:
    assert Throttled("Slow down.").retry_after_s is None
    assert Throttled("Slow down.", retry_after_s=2.5).retry_after_s == 2.5


def test_a_refusal_carries_the_providers_word() -> None:
    error = RefusedRequest("No.", reason="insufficient_quota", batch_id="b")
    assert error.reason == "insufficient_quota"
    assert error.context == {"reason": "insufficient_quota", "batch_id": "b"}


def test_a_missing_extra_is_one_sentence_with_the_command() -> None:
    error = missing_extra("aws", "boto3")
    assert str(error) == "boto3 is not installed. Install it with: pip install 'embedpipe[aws]'"
    assert error.context == {"extra": "aws"}
