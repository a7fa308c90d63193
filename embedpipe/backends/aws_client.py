"""Clients of the AWS SDK: how they are made, how often they try, and how their errors become ours.

The rule: credentials come from the SDK's own chain and reach no message. A call that may be repeated without harm is sent
up to `attempts` times by the SDK; a conditional write is sent once, for a second try would meet the first one's effect.
The SDK is imported when the first call is made. Knows nothing of objects or rows.
"""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urlsplit

import attrs

from embedpipe.backends.aws_errors import Answer, Call, Resource, error_of, no_answer
from embedpipe.errors import ConfigError, EmbedpipeError, missing_extra

__all__ = ["ATTEMPTS", "Connection"]

ATTEMPTS: Final = 4
"""[ours] Tries of a call that may be repeated, the first included."""
CONNECT_TIMEOUT_S: Final = 5.0
CONNECTIONS_MAX: Final = 64
"""Kept open by one client. More threads than this still work, and open new ones."""
_making: Final = threading.Lock()
"""A session makes one client at a time, and may be shared by many of us."""
_HTTP_LIBRARY: Final = "urllib3"
_VENDOR: Final = frozenset({"boto3", "botocore", _HTTP_LIBRARY})


class Connection:
    """Two clients of one service, made at the first call and shared by all threads."""

    def __init__(
        self,
        resource: Resource,
        *,
        region: str = "",
        endpoint_url: str = "",
        profile: str = "",
        attempts: int = ATTEMPTS,
        timeout_s: float = 60.0,
        session: Any = None,
        settings: Mapping[str, Any] | None = None,
        hooks: Mapping[str, Callable[..., None]] | None = None,
    ) -> None:
        """`settings` go into botocore's `Config`. `session` is a `boto3.Session` that takes the place of `profile`.

        `hooks`: event of the SDK -> what it calls, in the clients made here and in no other of the session.

        `MissingExtra` without boto3; `ConfigError` for a name that is empty, or a URL that is none or holds a password.
        """
        if importlib.util.find_spec("boto3") is None:
            raise missing_extra("aws", "boto3")
        if not resource.name:
            raise ConfigError(f"{resource.option} is not set.", hint=f"Name the {resource.kind}.")
        if attempts < 1 or timeout_s <= 0:
            raise ConfigError(f"{resource.section}.attempts and {resource.section}.timeout_s must be greater than 0.")
        self._resource = resource
        self._region = region
        self._endpoint_url = _checked_url(endpoint_url, resource)
        self._profile = profile
        self._attempts = attempts
        self._timeout_s = timeout_s
        self._session = session
        self._settings = settings or {}
        self._hooks = hooks or {}
        self._clients: dict[int, Any] = {}

    @property
    def resource(self) -> Resource:
        """What messages name."""
        return self._resource

    @contextmanager
    def asking(self, call: Call, *, once: bool = False, writes: bool = False) -> Iterator[Any]:
        """Gives a client; whatever goes wrong in the block comes out as ours.

        `once`: the SDK sends it once. `writes`: an effect of an earlier try would count.
        The SDK's own error is not kept as the cause: it may hold what was signed.
        """
        attempts = 1 if once else self._attempts
        try:
            client = self._client(attempts)
            yield client
        except EmbedpipeError:
            raise  # some of ours are an OSError too, as some of the SDK's are
        except KeyError as error:
            raise no_answer("ResponseParserError", self._placed(call), f"without {error}") from None
        except Exception as error:
            if type(error).__module__.partition(".")[0] not in _VENDOR:
                raise
            raise _mapped(error, self._placed(call), repeatable=writes and attempts > 1) from None

    def close(self) -> None:
        """Close the connections; quiet when called twice. A later call makes new ones."""
        with _making:
            clients, self._clients = self._clients, {}
        for client in clients.values():
            client.close()

    def _placed(self, call: Call) -> Call:
        """The call, with the region that the SDK has chosen."""
        region = next((client.meta.region_name for client in self._clients.values()), None) or self._region
        if not region or region == "aws-global":
            return call
        return attrs.evolve(call, resource=attrs.evolve(call.resource, region=region))

    def _client(self, attempts: int) -> Any:
        client = self._clients.get(attempts)
        if client is None:
            with _making:
                client = self._clients.get(attempts) or self._connect(attempts)
                self._clients[attempts] = client
        return client

    def _connect(self, attempts: int) -> Any:
        import boto3
        from botocore.config import Config

        if self._session is None:
            self._session = boto3.Session(profile_name=self._profile or None)
        config = Config(
            retries={"mode": "standard", "total_max_attempts": attempts},
            connect_timeout=CONNECT_TIMEOUT_S,
            read_timeout=self._timeout_s,
            max_pool_connections=CONNECTIONS_MAX,
            **self._settings,
        )
        client = self._session.client(
            self._resource.service.lower(),
            region_name=self._region or None,
            endpoint_url=self._endpoint_url or None,
            config=config,
        )
        for event, hook in self._hooks.items():
            client.meta.events.register(event, hook)
        return client


def _mapped(error: Exception, call: Call, *, repeatable: bool) -> EmbedpipeError:
    if type(error).__module__.startswith(_HTTP_LIBRARY):  # while a body is streamed, the SDK lets some through
        return no_answer("ResponseStreamingError", call)
    response = getattr(error, "response", None)
    if not isinstance(response, Mapping):
        said = str(error) if type(error).__name__ == "ParamValidationError" else ""
        return no_answer(type(error).__name__, attrs.evolve(call, repeated=repeatable), said)
    metadata = response.get("ResponseMetadata", {})
    repeated = repeatable and metadata.get("RetryAttempts", 0) > 0
    return error_of(_answer(response, metadata), attrs.evolve(call, repeated=repeated))


def _answer(response: Mapping[str, Any], metadata: Mapping[str, Any]) -> Answer:
    said = response.get("Error", {})
    headers = metadata.get("HTTPHeaders", {})
    return Answer(
        status=metadata.get("HTTPStatusCode", 0),
        code=str(said.get("Code", "")),
        message=str(said.get("Message", "")),
        request_id=str(metadata.get("RequestId", ""))[:80],
        region=str(said.get("Region") or headers.get("x-amz-bucket-region", "")),
    )


def _checked_url(url: str, resource: Resource) -> str:
    option = f"{resource.section}.endpoint_url"
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ConfigError(f"{option} is no URL.", hint="Such as http://127.0.0.1:9000.") from None
    if url and (parts.scheme not in ("http", "https") or not parts.hostname):
        raise ConfigError(f"{option} is no URL with http or https.", hint="Such as http://127.0.0.1:9000.")
    if parts.username is not None or parts.password is not None:
        raise ConfigError(f"{option} holds a user or a password.", hint="Credentials come from the SDK's own chain.")
    return url
