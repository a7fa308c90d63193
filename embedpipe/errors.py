"""Every error embedpipe raises, in three branches, and the exit code each one ends a command with.

`MisuseError`: the caller's input or settings are wrong. `ServiceError`: storage, table, provider or vector store failed.
`CorruptData`: bytes that were stored are not what they should be. A message says what and where; `hint` says what to do.
This module knows nothing of the rest of the package.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar, Final

EXIT_OK: Final = 0
EXIT_FINDINGS: Final = 1
EXIT_USAGE: Final = 2
EXIT_INCOMPLETE: Final = 3
EXIT_INTERNAL: Final = 4
EXIT_INPUT: Final = 5
EXIT_SERVICE: Final = 6
EXIT_CORRUPT: Final = 7
EXIT_LIVENESS: Final = 11
EXIT_CRASH: Final = 12
EXIT_NONDETERMINISM: Final = 13
EXIT_INTERRUPTED: Final = 130

EXIT_CODES: Final[dict[int, str]] = {
    EXIT_OK: "done",
    EXIT_FINDINGS: "done, and an audit has findings at or above its threshold, or a simulated run broke a guarantee",
    EXIT_USAGE: "the command, an option or the configuration is wrong",
    EXIT_INCOMPLETE: "stopped before everything was terminal; run the same command again",
    EXIT_INTERNAL: "an error in embedpipe itself; please report it",
    EXIT_INPUT: "the input, be it records or a plan, was refused; nothing was submitted",
    EXIT_SERVICE: "a store, the disk or the provider failed; nothing was lost, run the same command again",
    EXIT_CORRUPT: "stored data is damaged or was made by a newer version",
    EXIT_LIVENESS: "something in a simulated run never came to its end",
    EXIT_CRASH: "a simulated run met an error that the code has no name for",
    EXIT_NONDETERMINISM: "a simulated run was not the same twice",
    EXIT_INTERRUPTED: "interrupted; run the same command again to go on",
}


class EmbedpipeError(Exception):
    """Root of all errors here. `code` is stable, `hint` is one sentence with the fix, `context` names the objects."""

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = EXIT_INTERNAL

    def __init__(self, message: str, *, hint: str = "", **context: object) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.context = context

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class MisuseError(EmbedpipeError):
    """You misused us: nothing was changed, and the same call will fail again."""

    code = "misuse"
    exit_code = EXIT_USAGE


class ConfigError(MisuseError, ValueError):
    """A setting is unknown, of the wrong type, or contradicts another."""

    code = "config"


class MissingExtra(MisuseError, ImportError):
    """An optional dependency is not installed."""

    code = "missing_extra"


class IllegalTransition(MisuseError, ValueError):
    """A lifecycle table has no such transition."""

    code = "illegal_transition"
    exit_code = EXIT_INTERNAL


class InvalidInput(MisuseError, ValueError):
    """A record, an input file or another value from outside was refused."""

    code = "invalid_input"
    exit_code = EXIT_INPUT


class InvalidId(InvalidInput):
    """An id that would leave its key prefix, or that no store could hold."""

    code = "invalid_id"


class InvalidKey(InvalidInput):
    """An object key that the store cannot hold."""

    code = "invalid_key"


class DuplicateRecord(InvalidInput):
    """Two records of one submission have the same id and different content."""

    code = "duplicate_record"


class CollectionMismatch(InvalidInput):
    """The collection was made with another model, dimension or name."""

    code = "collection_mismatch"


class ServiceError(EmbedpipeError):
    """A service failed. Steps are idempotent, so running again is always safe."""

    code = "service"
    exit_code = EXIT_SERVICE


class NotFound(ServiceError, FileNotFoundError):
    """The object, row, file or batch is not there."""

    code = "not_found"


class PreconditionFailed(ServiceError):
    """A conditional write met another state (HTTP 412, a failed conditional update)."""

    code = "precondition_failed"


class Transient(ServiceError):
    """May succeed when repeated; its effect may or may not have happened."""

    code = "transient"


class Throttled(Transient):
    """Refused for load, with no effect. `retry_after_s` is the service's own advice, if any."""

    code = "throttled"

    def __init__(self, message: str, *, hint: str = "", retry_after_s: float | None = None, **context: object) -> None:
        super().__init__(message, hint=hint, **context)
        self.retry_after_s = retry_after_s


class Unavailable(Transient):
    """No answer, or a 5xx: the effect may have happened."""

    code = "unavailable"


class WriteConflict(Transient):
    """Two writers raced (HTTP 409); this write had no effect."""

    code = "write_conflict"


class Unauthorized(ServiceError, PermissionError):
    """The service answered 401 or 403."""

    code = "unauthorized"


class RefusedRequest(ServiceError):
    """The provider answered a create with a definite no, so nothing exists there and nothing is paid.

    `reason` is the provider's own error code, such as `insufficient_quota`; it decides whether waiting helps.
    """

    code = "refused_request"

    def __init__(self, message: str, *, reason: str, hint: str = "", **context: object) -> None:
        super().__init__(message, hint=hint, reason=reason, **context)
        self.reason = reason


class ProviderMismatch(ServiceError):
    """The provider refuses or does not know most of our batches: probably another key or project."""

    code = "provider_mismatch"


class StorageFull(ServiceError, OSError):
    """No space left where objects, rows or vectors are kept."""

    code = "storage_full"


class CorruptData(EmbedpipeError, ValueError):
    """Stored bytes are truncated, of the wrong shape, or fail their hash."""

    code = "corrupt"
    exit_code = EXIT_CORRUPT


class NewerSchema(CorruptData):
    """The object was written by a newer embedpipe than this one."""

    code = "newer_schema"


class Interrupted(EmbedpipeError):
    """Somebody asked to stop, and a safe boundary was reached."""

    code = "interrupted"
    exit_code = EXIT_INTERRUPTED


class Incomplete(EmbedpipeError):
    """Stopped before everything was terminal; running again goes on."""

    code = "incomplete"
    exit_code = EXIT_INCOMPLETE


FULL_ERRNOS: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""There is no space left: on the disk, for this user, or in this file."""
FREE_SPACE: Final = "Free some space, or raise the limit on it, and run the same command again."


def is_full(error: BaseException) -> bool:
    """Whether the operating system says that there is no space left."""
    return isinstance(error, OSError) and error.errno in FULL_ERRNOS


DENIED_ERRNOS: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
"""This user may not do that there."""
CHECK_PERMISSIONS: Final = "Check who owns the directory and its permissions."


@contextmanager
def full_disk(what: str) -> Iterator[None]:
    """Inside it, an `OSError` that says "full" comes out as `StorageFull` naming `what`; others pass as they are.

    >>> with full_disk("part-1.jsonl"):
    ...     raise OSError(errno.EFBIG, "File too large")
    Traceback (most recent call last):
    embedpipe.errors.StorageFull: part-1.jsonl: File too large. Free some space, or raise the limit on it, and run ...
    """
    try:
        yield
    except OSError as error:
        if not is_full(error):
            raise
        raise StorageFull(f"{what}: {error.strerror or error}.", hint=FREE_SPACE, what=what) from error


def missing_extra(extra: str, module: str) -> MissingExtra:
    """The one sentence a user sees when an optional dependency is absent.

    >>> str(missing_extra("vectors", "pyarrow"))
    "pyarrow is not installed. Install it with: pip install 'embedpipe[vectors]'"
    """
    return MissingExtra(
        f"{module} is not installed.", hint=f"Install it with: pip install 'embedpipe[{extra}]'", extra=extra
    )
