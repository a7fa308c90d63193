"""A connection to a Chroma server: how it is made, when it gives up, and the one table from its answers to our errors.

Credentials are what Chroma's own client takes from the environment (`CHROMA_CLIENT_AUTH_PROVIDER`,
`CHROMA_CLIENT_AUTH_CREDENTIALS`); they have no place in our settings and reach no message. Knows no locks.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit, urlunsplit

from embedpipe.errors import (
    ConfigError,
    EmbedpipeError,
    ServiceError,
    Throttled,
    Unauthorized,
    Unavailable,
    WriteConflict,
    missing_extra,
)

__all__ = ["Server"]

PORT: Final = 8_000
"""[chroma] Where a URL without https names none."""
SAID_CHARS_MAX: Final = 200
"""Of an answer, in a message."""
WRITES: Final = frozenset({"upsert", "delete", "create_collection", "delete_collection"})
"""Calls that change something there."""
COLLECTIONS: Final = frozenset({"get_collection", "create_collection"})
"""Calls that answer with a collection."""

CREDENTIALS: Final = (
    "Set CHROMA_CLIENT_AUTH_PROVIDER and CHROMA_CLIENT_AUTH_CREDENTIALS, which Chroma's own client reads."
)
NO_CHROMA: Final = "Does vectors.url lead to a Chroma server of version 1, and not to a proxy or a web page?"
LOOK: Final = "Look at the server's log, and run again."

ANSWERS: Final[Mapping[int, tuple[type[EmbedpipeError], str]]] = {
    401: (Unauthorized, CREDENTIALS),
    403: (Unauthorized, CREDENTIALS),
    404: (ConfigError, NO_CHROMA),
    405: (ConfigError, NO_CHROMA),
    408: (Unavailable, LOOK),
    409: (WriteConflict, "Another program changes the same collection; run again."),
    410: (ConfigError, "The server speaks another version of Chroma's API: install the client that fits it."),
    413: (ServiceError, "Raise max_payload_size_bytes in the server's configuration."),
    429: (Throttled, "The server limits the rate of calls; run again later."),
    501: (ServiceError, "The server is older or newer than the client: install the client that fits it."),
}
"""HTTP status -> error and hint. Any other 5xx is `Unavailable`: the effect may have happened."""


class Server:
    """One Chroma database of one server. Connects at the first call; threads share the connection.

    `url`: such as `http://127.0.0.1:8000`; a path before `/api/v2` is kept. A wait for the network ends after `timeout_s`.
    `ConfigError` for what is no URL, or holds a password.
    """

    def __init__(self, url: str, *, tenant: str, database: str, timeout_s: float) -> None:
        self._parts = _checked_url(url)
        self.where = f"Chroma server {self._parts.scheme}://{self._parts.netloc}"
        self._tenant = tenant
        self._database = database
        self._timeout_s = timeout_s
        self._opening = threading.Lock()
        self._opened: Any = None

    def client(self, *, before_write: Callable[[], None] | None = None) -> Any:
        """Chroma's client, whose errors are ours. `before_write` is called before each call that changes something."""
        with self._opening, answers(self.where):
            if self._opened is None:
                self._opened = self._open()
        return _Answering(self._opened, self.where, before_write or _nothing)

    def close(self) -> None:
        """Close the connection; quiet when called twice. A later call makes a new one."""
        with self._opening:
            opened, self._opened = self._opened, None
        if opened is not None:
            _close(opened)

    def _open(self) -> Any:
        try:
            from chromadb.config import Settings
        except ImportError as error:
            raise missing_extra("chroma", error.name or "chromadb") from None
        parts = self._parts
        make_settings: Any = Settings  # its type does not tell of `_env_file`
        settings = make_settings(
            _env_file=None,
            anonymized_telemetry=False,
            chroma_api_impl="chromadb.api.fastapi.FastAPI",
            # With a path, Chroma wants the whole URL for a host.
            chroma_server_host=urlunsplit(parts) if parts.path.strip("/") else parts.hostname,
            chroma_server_http_port=parts.port or (443 if parts.scheme == "https" else PORT),
            chroma_server_ssl_enabled=parts.scheme == "https",
        )
        begun: list[Any] = []
        try:
            return _client_class()(begun, self._timeout_s, self._tenant, self._database, settings)
        except BaseException as error:
            for client in begun:
                _close(client)
            if type(error).__name__ == "NotFoundError":
                raise ConfigError(
                    f"{self.where} has no database '{self._database}' of tenant '{self._tenant}'.",
                    hint="Create it, or name another: vectors.database, vectors.tenant.",
                ) from None
            raise


@cache
def _client_class() -> Any:
    """Chroma's client, with an end to its waiting, which it has no setting for, and which it does from the first call on."""
    from chromadb.api.client import Client

    class Patient(Client):
        def __init__(self, begun: list[Any], timeout_s: float, tenant: str, database: str, settings: Any) -> None:
            self._begun = begun
            self._timeout_s = timeout_s
            super().__init__(tenant=tenant, database=database, settings=settings)

        def get_user_identity(self) -> Any:
            self._begun.append(self)
            _session(self).timeout = self._timeout_s
            return super().get_user_identity()

        def _validate_tenant_database(self, tenant: str, database: str) -> None:
            _session(self._admin_client).timeout = self._timeout_s
            super()._validate_tenant_database(tenant, database)

    return Patient


def _close(client: Any) -> None:
    """With its two connections, which Chroma leaves open."""
    for part in (client, getattr(client, "_admin_client", None)):
        if part is not None:
            _session(part).close()
    client.close()


def _session(client: Any) -> Any:
    return client._server._session


class _Answering:
    """An object of Chroma's client whose calls raise our errors, and whose collections do, too."""

    def __init__(self, inner: Any, where: str, before_write: Callable[[], None]) -> None:
        self._inner = inner
        self._where = where
        self._before_write = before_write

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        if not callable(value):
            return value

        def call(*arguments: Any, **named: Any) -> Any:
            if name in WRITES:
                self._before_write()
            with answers(self._where):
                found = value(*arguments, **named)
            return _Answering(found, self._where, self._before_write) if name in COLLECTIONS else found

        return call


def _nothing() -> None:
    return None


@contextmanager
def answers(where: str) -> Iterator[None]:
    """Inside it, what went wrong with the server comes out as ours; what it says about our rows is left to the caller."""
    try:
        yield
    except EmbedpipeError:
        raise
    except Exception as error:
        found = _ours(error, where)
        if found is None:
            raise
        raise found from None  # Chroma's own may hold the request, and its headers


def _ours(error: BaseException, where: str) -> EmbedpipeError | None:
    """None for what Chroma said itself about a collection, a tenant or an argument."""
    import httpx
    from chromadb.errors import ChromaError

    chain = list(_chain(error))
    named = next((each for each in chain if isinstance(each, ChromaError)), None)
    if named is not None:
        status = _STATUSES.get(type(named).__name__)
        return _answered(status, str(named), where) if status else None
    cause = next((each for each in chain if isinstance(each, httpx.HTTPError)), None)
    if isinstance(cause, httpx.HTTPStatusError):
        return _answered(cause.response.status_code, cause.response.text, where)
    if isinstance(cause, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout):
        return Throttled(f"{where} cannot be reached: {cause}.", hint="Does it run, and is vectors.url right?")
    if cause is not None:
        return Unavailable(f"{where}: {type(cause).__name__} {cause}".rstrip(), hint=LOOK)
    if isinstance(chain[-1], ValueError) and type(chain[-1]).__name__ == "JSONDecodeError":
        return ConfigError(f"{where} answers, but not as Chroma does.", hint=NO_CHROMA)
    return None


_STATUSES: Final[Mapping[str, int]] = {
    "ChromaAuthError": 403,
    "AuthorizationError": 401,
    "InternalError": 500,
    "RateLimitError": 429,
    "UniqueConstraintError": 409,
    "QuotaError": 413,
    "VersionMismatchError": 410,
}
"""Errors that Chroma's client makes of an answer -> the answer's status."""


def _answered(status: int, text: str, where: str) -> EmbedpipeError:
    said = " ".join(text.split())[:SAID_CHARS_MAX]
    kind, hint = ANSWERS.get(status, (Unavailable if status >= 500 else ServiceError, LOOK))
    return kind(f"{where} answers {status}: {said}", hint=hint)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _checked_url(url: str) -> SplitResult:
    such_as = "Such as http://127.0.0.1:8000."
    if not url:
        raise ConfigError("vectors.url is not set.", hint=such_as)
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        valid = False
    if not valid:
        raise ConfigError("vectors.url is no URL with http or https.", hint=such_as)
    if parts.username is not None or parts.password is not None:
        raise ConfigError("vectors.url holds a user or a password.", hint=CREDENTIALS)
    return parts
