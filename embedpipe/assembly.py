"""From the name of a backend to a live one: the table of names, and the one place that imports backends.

Any class that fits a port can be named as `package.module:Class`. Its constructor is given the options of its section
as keyword arguments and, where it has parameters of these names, `clock`, `layout`, `limits`, `model`, `dimensions`,
`send_dimensions` and, below `[table]` and `[vectors]`, `objects`. What it annotates as `Path` is given one, absolute.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from embedpipe.errors import ConfigError, EmbedpipeError, MissingExtra
from embedpipe.ports import BatchProvider, BatchTable, BlobStore, Clock, QueryEmbedder, VectorStore

if TYPE_CHECKING:
    from embedpipe.ports import Vectors

__all__ = ["BACKENDS", "PORTS", "Backends", "Builtin", "Choice", "close", "construct", "embedder_of"]

PORTS: Final[Mapping[str, type]] = {
    "objects": BlobStore,
    "table": BatchTable,
    "provider": BatchProvider,
    "vectors": VectorStore,
}
"""Section of the configuration -> the port behind it."""


@attrs.frozen
class Builtin:
    """A backend that can be named in one word."""

    target: str
    """`package.module:Class`."""
    options: Mapping[str, Any] = attrs.field(factory=dict)
    """Keyword arguments that may be set, with their defaults. `Path("x")` is x in the root."""


_AWS: Final[Mapping[str, Any]] = {"region": "", "endpoint_url": "", "profile": "", "attempts": 4}
"""Options of every backend that asks AWS; the SDK chooses where one is empty."""

BACKENDS: Final[Mapping[str, Mapping[str, Builtin]]] = {
    "objects": {
        "files": Builtin("embedpipe.backends.files:FilesBlobStore", {"root": Path("objects"), "bucket": "local"}),
        "memory": Builtin("embedpipe.backends.memory.objects:MemoryBlobStore"),
        "s3": Builtin("embedpipe.backends.s3:S3BlobStore", {"bucket": "", "prefix": "", **_AWS, "timeout_s": 60.0}),
    },
    "table": {
        "sqlite": Builtin("embedpipe.backends.sqlite:SqliteBatchTable", {"path": Path("table.sqlite3")}),
        "memory": Builtin("embedpipe.backends.memory.table:MemoryBatchTable"),
        "dynamodb": Builtin("embedpipe.backends.dynamodb:DynamoDBBatchTable", {"name": "", **_AWS, "timeout_s": 10.0}),
    },
    "provider": {
        "local_model": Builtin(
            "embedpipe.backends.local_model:LocalModelProvider", {"root": Path("provider"), "delay_s": 0.0}
        ),
        "memory": Builtin("embedpipe.backends.memory.provider:MemoryProvider"),
        "openai": Builtin(
            "embedpipe.backends.openai:OpenAIProvider",
            {"base_url": "", "api_version": "", "timeout_s": 600.0, "file_ready_s": 300.0},
        ),
    },
    "vectors": {
        "chroma": Builtin("embedpipe.backends.chroma:ChromaVectorStore", {"root": Path("chroma")}),
        "chroma_s3": Builtin(
            "embedpipe.backends.chroma_s3:ChromaSnapshotStore",
            {"cache": Path("chroma-cache"), "lease_s": 60.0, "patience_s": 300.0},
        ),
        "chroma_server": Builtin(
            "embedpipe.backends.chroma_server:ChromaServerStore",
            {
                "url": "",
                "tenant": "default_tenant",
                "database": "default_database",
                "lease_s": 120.0,
                "patience_s": 600.0,
            },
        ),
        "memory": Builtin("embedpipe.backends.memory.vectors:MemoryVectorStore"),
    },
}
"""Every name that `backend = "name"` can have."""


@attrs.frozen(kw_only=True)
class Choice:
    """Which backend stands behind a port, and its keyword arguments."""

    backend: str
    options: Mapping[str, Any] = attrs.field(factory=dict)
    directories: Mapping[str, Path] = attrs.field(factory=dict)
    """Of options whose type only the backend knows: where a relative path in them counts from."""


@attrs.frozen(kw_only=True)
class Backends:
    """The live backends of one configuration. Close them when done."""

    objects: BlobStore
    table: BatchTable
    provider: BatchProvider
    embedder: QueryEmbedder
    vectors: VectorStore
    clock: Clock

    def close(self) -> None:
        """Close those that can be closed; quiet when called twice."""
        with ExitStack() as stack:
            for backend in (self.objects, self.table, self.provider, self.vectors):
                stack.callback(close, backend)


def close(backend: object) -> None:
    """Close a backend that can be closed."""
    method = getattr(backend, "close", None)
    if method is not None:
        method()


@attrs.frozen
class _NoEmbedder:
    """Stands in where a provider cannot embed questions: everything but a search works."""

    provider: str

    def embed(self, texts: Sequence[str], *, model: str, dimensions: int) -> Vectors:  # noqa: ARG002  the port's
        raise ConfigError(f"{self.provider} has no method 'embed', so it cannot answer a search.")


def embedder_of(provider: object) -> QueryEmbedder:
    """The provider itself where it can embed questions, else one that says so when it is asked."""
    if _has(provider, "embed"):
        embedder: QueryEmbedder = provider  # type: ignore[assignment]  # as far as can be told without calling it
        return embedder
    return _NoEmbedder(type(provider).__name__)


def _has(made: object, name: str) -> bool:
    """Whether it has the attribute, told without computing it: a property may need what is not there yet."""
    try:
        inspect.getattr_static(made, name)
    except AttributeError:
        # What a `__getattr__` passes on cannot be seen from outside.
        return hasattr(type(made), "__getattr__") and hasattr(made, name)
    return True


def construct(
    section: str,
    backend: str,
    options: Mapping[str, Any],
    offered: Mapping[str, Any],
    *,
    directories: Mapping[str, Path] | None = None,
) -> Any:
    """Make one backend. `offered` is passed on where the constructor has a parameter of that name.

    `directories`: option -> the directory that it counts from, if the constructor takes a path there.
    """
    target = backend if ":" in backend else BACKENDS[section][backend].target
    factory = _imported(section, target)
    if not callable(factory):
        raise ConfigError(f"{section}.backend {target!a} is a {type(factory).__name__}, and no class.", hint=_PORT_HINT)
    arguments = {**_wanted(factory, offered), **_with_paths(factory, options, directories or {})}
    _check_arguments(section, target, factory, arguments)
    made = _made(section, target, factory, arguments)
    missing = [name for name in vars(PORTS[section]) if not name.startswith("_") and not _has(made, name)]
    if missing:
        raise ConfigError(
            f"{section}.backend {target!a} is no {PORTS[section].__name__}: it lacks {', '.join(missing)}.",
            hint=_PORT_HINT,
        )
    return made


_PORT_HINT: Final = "The port is described in embedpipe.ports."


def _made(section: str, target: str, factory: Any, arguments: Mapping[str, Any]) -> Any:
    try:
        return factory(**arguments)
    except EmbedpipeError:
        raise  # some of ours are a ValueError too
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"{section}.backend {target!a} cannot be made: {type(error).__name__}: {error}",
            hint=f"Look at the settings below [{section}].",
        ) from error


def _imported(section: str, target: str) -> Any:
    module_name, _, name = target.partition(":")
    try:
        return getattr(importlib.import_module(module_name), name)
    except MissingExtra:
        raise
    except (Exception, SystemExit) as error:  # a module may raise anything, and a script ends
        raise ConfigError(
            f"{section}.backend {target!a} cannot be imported: {type(error).__name__}: {error}",
            hint="Is its package installed, or its directory on PYTHONPATH?",
        ) from error


def _parameters(factory: Any) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(factory).parameters
    except (TypeError, ValueError):
        return {}


def _wanted(factory: Any, offered: Mapping[str, Any]) -> dict[str, Any]:
    parameters = _parameters(factory)
    return {name: value for name, value in offered.items() if name in parameters}


def _with_paths(factory: Any, options: Mapping[str, Any], directories: Mapping[str, Path]) -> dict[str, Any]:
    """The options, with those that the constructor annotates as paths made absolute."""
    parameters = _parameters(factory)
    return {
        name: (directories[name] / Path(value).expanduser()).absolute()
        if name in directories and isinstance(value, str) and name in parameters and _is_path(parameters[name])
        else value
        for name, value in options.items()
    }


def _is_path(parameter: inspect.Parameter) -> bool:
    """Whether it is annotated as `Path`, `Path | None` or the like, as a type or as its text."""
    annotation = parameter.annotation
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return re.search(r"\bPath\b", text) is not None


def _check_arguments(section: str, target: str, factory: Any, arguments: Mapping[str, Any]) -> None:
    parameters = _parameters(factory)
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    for name in arguments:
        if parameters and name not in parameters:
            near = difflib.get_close_matches(name, list(parameters), 1, 0.6)
            hint = f"Did you mean '{section}.{near[0]}'?" if near else f"It takes {', '.join(parameters)}."
            raise ConfigError(f"{section}.{name} is no option of {target!a}.", hint=hint)
    required = [name for name, parameter in parameters.items() if parameter.default is parameter.empty]
    missing = [f"{section}.{name}" for name in required if name not in arguments]
    if missing:
        raise ConfigError(f"{target!a} needs {', '.join(missing)}.", hint="Set it in embedpipe.toml.")
