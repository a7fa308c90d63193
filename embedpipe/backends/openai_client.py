"""The SDK's client for an OpenAI-compatible provider: how it is made, and how its errors become ours.

The rule: the key comes from the SDK's own chain, the environment, and reaches no message, no log of ours and no error; the
SDK repeats nothing. The SDK is imported when the first call is made. Knows nothing of batches.
"""

from __future__ import annotations

import importlib.util
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import attrs

from embedpipe.backends.openai_errors import Account, Answer, error_of, no_answer, redacted, retry_after_s, word_of
from embedpipe.errors import ConfigError, EmbedpipeError, Unauthorized, Unavailable, missing_extra
from embedpipe.ports import Clock

if TYPE_CHECKING:
    from openai import OpenAI

__all__ = ["Connection"]

NO_KEY_NEEDED: Final = "no-key-needed"
"""Sent to a server on this machine where the environment has no key: `embedpipe serve` asks for none."""

_HTTP_MODULES: Final = frozenset({"httpx", "httpx2", "httpcore", "httpcore2", "ssl", "anyio"})
_AZURE_TOKEN: Final = "AZURE_OPENAI_AD_TOKEN"
_AZURE_ENDPOINT: Final = "AZURE_OPENAI_ENDPOINT"


class Connection:
    """A client, made at the first call and shared by all threads. With `api_version`, Azure's."""

    def __init__(self, clock: Clock, *, base_url: str, api_version: str, timeout_s: float) -> None:
        """`MissingExtra` without the SDK, `ConfigError` for a `base_url` that is none, or that holds a password."""
        if importlib.util.find_spec("openai") is None:
            raise missing_extra("openai", "openai")
        self._clock = clock
        from_environment = os.environ.get(_AZURE_ENDPOINT if api_version else "OPENAI_BASE_URL", "")
        self._base_url = _checked_url(base_url or from_environment)
        self._api_version = api_version
        self._timeout_s = timeout_s
        self._account = _account(self._base_url, azure=bool(api_version))
        self._client: OpenAI | None = None
        self._lock = threading.Lock()

    @contextmanager
    def asking(self, what: str) -> Iterator[OpenAI]:
        """Gives the client; whatever goes wrong in the block comes out as ours. `what` says what is asked for.

        The SDK's own error is not kept as the cause: what a server says there, or an HTTP library, may hold the key.
        """
        client = self._connected()
        import openai

        try:
            yield client
        except EmbedpipeError:
            raise  # some of ours are a ValueError too
        except openai.APIStatusError as error:
            raise error_of(self._answer(error, client), what, self._account) from None
        except openai.APIConnectionError as error:
            raise no_answer(type(error.__cause__ or error).__name__, what, self._account) from None
        except (openai.OpenAIError, ValueError, TypeError, AttributeError) as error:
            # An answer that is no JSON, or has another shape than its type says.
            raise no_answer(type(error).__name__, what, self._account) from None
        except Exception as error:
            # While a body is streamed the SDK lets the errors of its HTTP library through.
            if type(error).__module__.partition(".")[0] not in _HTTP_MODULES:
                raise
            raise no_answer(type(error).__name__, what, self._account) from None

    def nonsense(self, what: str, why: str = "something else than its API does") -> Unavailable:
        """The error where an answer came and is not what was asked for."""
        return Unavailable(f"{what}: {self._account.host} answered {why}.", hint="Check provider.base_url.")

    def close(self) -> None:
        """Close the connections; quiet when called twice. A later call makes new ones."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def _answer(self, error: Any, client: OpenAI) -> Answer:
        body = error.body if isinstance(error.body, Mapping) else {}
        message = body.get("message") or body.get("detail") or ""
        secrets = (client.api_key, os.environ.get(_AZURE_TOKEN, ""))
        return Answer(
            status=error.status_code,
            code=redacted(word_of(error.code, error.type), secrets),
            message=redacted(str(message), secrets).rstrip("."),
            retry_after_s=retry_after_s(error.response.headers, self._clock.now()),
            request_id=redacted(str(error.request_id or ""), secrets)[:80],
        )

    # --- making the client -----------------------------------------------------------------------------------------

    def _connected(self) -> OpenAI:
        with self._lock:
            if self._client is None:
                self._client = self._connect()
            return self._client

    def _connect(self) -> OpenAI:
        """`Unauthorized` where the SDK finds no key, or one that can't be one."""
        import openai

        try:
            client = self._azure() if self._api_version else self._openai()
        except openai.OpenAIError:
            raise self._no_key() from None
        if not client.api_key:  # the SDK is also content with an admin key, which no batch may use
            raise self._no_key()
        self._account = attrs.evolve(self._account, host=_host(str(client.base_url)))
        keys = (os.environ.get(_AZURE_TOKEN) or client.api_key) if self._api_version else client.api_key
        if not all("!" <= character <= "~" for character in keys):
            # The HTTP library would refuse it too, and quote it.
            hint = f"Set {self._account.variables} again, without spaces and line breaks."
            raise Unauthorized(f"The key for {self._account.host} has a character that no key has.", hint=hint)
        return client

    def _no_key(self) -> Unauthorized:
        hint = f"Set {self._account.variables} in the environment."
        return Unauthorized(f"There is no key for {self._account.host}.", hint=hint)

    def _openai(self) -> OpenAI:
        import openai

        # None leaves the key to the SDK's chain.
        key = NO_KEY_NEEDED if _is_loopback(self._base_url) and not os.environ.get("OPENAI_API_KEY") else None
        return openai.OpenAI(base_url=self._base_url or None, api_key=key, max_retries=0, timeout=self._timeout_s)

    def _azure(self) -> OpenAI:
        import openai

        if not self._base_url:
            hint = f"Set provider.base_url, or {_AZURE_ENDPOINT} in the environment."
            raise Unauthorized("The resource of Azure OpenAI has no address.", hint=hint)
        return openai.AzureOpenAI(
            api_version=self._api_version, azure_endpoint=self._base_url, max_retries=0, timeout=self._timeout_s
        )


def _checked_url(base_url: str) -> str:
    if not base_url:
        return base_url
    try:
        parts = urlsplit(base_url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise ConfigError(
            f"{_redacted_url(base_url)} is no address of a provider.",
            hint="Set provider.base_url to one, such as http://127.0.0.1:8766/v1.",
        )
    if parts.username is not None or parts.password is not None:
        raise ConfigError("The provider's address holds a user or password.", hint="Keys come from the environment.")
    return base_url


def _redacted_url(base_url: str) -> str:
    """As it may be shown: without what stands before an @."""
    return ascii(base_url.rpartition("@")[2])[:80]


def _is_loopback(base_url: str) -> bool:
    host = urlsplit(base_url).hostname or ""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _host(base_url: str) -> str:
    """Host and port, without the user that an address may name."""
    return urlsplit(base_url).netloc.rpartition("@")[2]


def _account(base_url: str, *, azure: bool) -> Account:
    host = _host(base_url) or ("Azure OpenAI" if azure else "OpenAI")
    if not azure:
        return Account(host=host)
    return Account(
        host=host,
        variables="AZURE_OPENAI_API_KEY or AZURE_OPENAI_AD_TOKEN",
        choose_project="provider.base_url or AZURE_OPENAI_ENDPOINT chooses the resource",
    )
