"""Settings: one frozen, picklable `Config`, and where each of its values came from.

A flag beats the environment, which beats the file, which beats the default. The environment spells `limits.file_bytes`
as `EMBEDPIPE_LIMITS__FILE_BYTES`. The file is `embedpipe.toml` in the root, or any other by name; relative paths in it
count from its directory, and the root is that directory unless the file or something stronger names another. Unknown
keys are refused.

Nothing here opens a store: `build` does, and it alone imports a backend.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, TypeVar, get_origin, get_type_hints

import attrs

from embedpipe.assembly import BACKENDS, PORTS, Backends, Choice, close, construct, embedder_of
from embedpipe.errors import ConfigError, InvalidId
from embedpipe.layout import Layout
from embedpipe.limits import Limits, Policy
from embedpipe.model import EmbeddingModel
from embedpipe.ports import Clock
from embedpipe.retry import RetryPolicy
from embedpipe.setting_rules import check_apart, check_directory, check_value, naming_problem
from embedpipe.settings import Layer, convert, environment_layer, file_layer, flag_layer, unknown_key

__all__ = [
    "CONFIG_FILE",
    "DEFAULT_ROOT",
    "PROVIDER_DEFAULTS",
    "Backends",
    "Choice",
    "Config",
    "Origin",
    "RunSettings",
    "build",
]

T = TypeVar("T")

DEFAULT_ROOT: Final = Path(".embedpipe")
CONFIG_FILE: Final = "embedpipe.toml"
CONFIG_VARIABLE: Final = "EMBEDPIPE_CONFIG"
"""Names the file, so it is no setting."""


DEFAULT_BACKENDS: Final = {"objects": "files", "table": "sqlite", "provider": "local_model", "vectors": "chroma"}

PROVIDER_DEFAULTS: Final[Mapping[str, Mapping[str, object]]] = {
    # Its listing is complete at once and its work takes seconds, so nothing is gained by waiting as for a remote one.
    "local_model": {
        "policy.ambiguous_after_s": 5.0,
        "run.poll_interval_s": 0.2,
        "provider.send_dimensions": True,  # it can shorten its vectors
    },
}
"""Defaults that depend on `provider.backend`."""


@attrs.frozen(kw_only=True)
class RunSettings:
    """How the local runner works."""

    threads: int = attrs.field(default=8, validator=attrs.validators.gt(0))
    """Iterations of a fan-out at the same time."""
    poll_interval_s: float = attrs.field(default=60.0, validator=attrs.validators.ge(0))
    """Pause between two executions of `run` while batches are open."""


@attrs.frozen(kw_only=True)
class Origin:
    """One value and where it came from."""

    value: Any
    source: str
    """`default`, `default of provider 'x'`, `file PATH`, `environment variable NAME` or `flag`."""
    directory: Path | None = attrs.field(default=None, eq=False)
    """Where it counts from if its backend, which is not imported yet, takes it for a path."""


_SECTIONS: Final[Mapping[str, type[attrs.AttrsInstance]]] = {
    "limits": Limits,
    "policy": Policy,
    "retry": RetryPolicy,
    "run": RunSettings,
    "layout": Layout,
}
_MODEL: Final = EmbeddingModel(name="wordllama-l2-256", dimensions=256)


@attrs.frozen(kw_only=True)
class Config:
    """Everything a run needs to know. Plain values only, so it can be pickled and sent to another process."""

    root: Path
    kind: str
    """Name of the kind that commands serve when they are given none."""
    objects: Choice
    table: Choice
    provider: Choice
    vectors: Choice
    model: EmbeddingModel = _MODEL
    """`model`, `dimensions` and `send_dimensions` of `[provider]`."""
    limits: Limits = Limits()
    policy: Policy = Policy()
    retry: RetryPolicy = RetryPolicy()
    run: RunSettings = RunSettings()
    layout: Layout = Layout()
    file: Path | None = attrs.field(default=None, eq=False)
    """The file that was read, if any."""
    origins: Mapping[str, Origin] = attrs.field(factory=dict, eq=False, repr=False)
    """Every dotted key there is, sorted by section."""

    @classmethod
    def load(
        cls,
        root: str | Path | None = None,
        *,
        file: str | Path | None = None,
        flags: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Config:
        """Read all sources. `flags` are dotted keys; texts among them are read as in the environment.

        `env` is the process's unless given. Raises `ConfigError`, which names the source and the key.
        """
        env = os.environ if env is None else env
        given = {**(flags or {}), **({} if root is None else {"root": str(root)})}
        variables = environment_layer(env, other={CONFIG_VARIABLE})
        layers = [variables, flag_layer(given)]
        named = file if file is not None else env.get(CONFIG_VARIABLE)
        if file is not None and not str(file):
            raise ConfigError("The name of the file of settings is empty.", hint="Name one, or leave it out.")
        start = Path(given.get("root") or variables.values.get("root") or DEFAULT_ROOT)
        path = Path(named) if named else start / CONFIG_FILE
        if not named and not (path.exists() or path.is_symlink()):
            return _config(layers, DEFAULT_ROOT.absolute(), None)
        return _config([file_layer(path), *layers], path.absolute().parent, path)


# --- resolving -----------------------------------------------------------------------------------------------------


def _wanted_types() -> dict[str, type]:
    """Type of each key that does not belong to a backend."""
    types: dict[str, type] = {"root": Path, "kind": str, "provider.model": str, "provider.dimensions": int}
    types["provider.send_dimensions"] = bool
    types.update({f"{section}.backend": str for section in PORTS})
    for section, cls in _SECTIONS.items():
        for name, hint in get_type_hints(cls).items():
            types[f"{section}.{name}"] = dict if get_origin(hint) is not None else hint
    return types


_TYPES: Final = _wanted_types()


def _defaults(root: Path) -> dict[str, Origin]:
    values: dict[str, Any] = {"root": root, "kind": "record"}
    values.update({f"{section}.backend": name for section, name in DEFAULT_BACKENDS.items()})
    values["provider.model"] = _MODEL.name
    values["provider.dimensions"] = _MODEL.dimensions
    values["provider.send_dimensions"] = _MODEL.send_dimensions
    for section, cls in _SECTIONS.items():
        values.update({f"{section}.{name}": value for name, value in _shallow(cls()).items()})
    return {key: Origin(value=value, source="default") for key, value in values.items()}


def _shallow(value: attrs.AttrsInstance) -> dict[str, Any]:
    return attrs.asdict(value, recurse=False)


def _config(layers: list[Layer], default_root: Path, file: Path | None) -> Config:
    origins = _defaults(default_root)
    for layer in layers:
        _apply(layer, origins)
    _apply_provider_defaults(origins)
    root: Path = origins["root"].value
    check_directory(root, origins["root"].source)
    choices = {section: _choice(section, origins, root) for section in PORTS}
    check_apart(choices, {key: origin.source for key, origin in origins.items()})
    values = {key: origin.value for key, origin in origins.items()}
    return Config(
        root=root,
        kind=values["kind"],
        objects=choices["objects"],
        table=choices["table"],
        provider=choices["provider"],
        vectors=choices["vectors"],
        model=EmbeddingModel(
            name=values["provider.model"],
            dimensions=values["provider.dimensions"],
            send_dimensions=values["provider.send_dimensions"],
        ),
        limits=Limits(**_of("limits", values)),
        policy=Policy(**_of("policy", values)),
        retry=RetryPolicy(**_of("retry", values)),
        run=RunSettings(**_of("run", values)),
        layout=_layout(origins),
        file=file,
        origins={key: origins[key] for key in sorted(origins, key=_section_first)},
    )


def _layout(origins: Mapping[str, Origin]) -> Layout:
    """The layout: its fields were checked one by one, and are checked against each other here."""
    try:
        layout = Layout(**{name: origin.value for name, origin in _of("layout", origins).items()})
        fields, problem = naming_problem(layout)
    except ConfigError as error:
        fields, problem = error.context["fields"], str(error)  # type: ignore[assignment]  # a context holds anything
    if problem:
        key = next(f"layout.{name}" for name in fields if origins[f"layout.{name}"].source != "default")
        raise ConfigError(f"{origins[key].source}: {key}: {problem}", key=key)
    return layout


def _section_first(key: str) -> tuple[str, bool, str]:
    section, _, name = key.rpartition(".")
    return section, name != "backend", name


def _of(section: str, values: Mapping[str, T]) -> dict[str, T]:
    start = f"{section}."
    return {key.removeprefix(start): value for key, value in values.items() if key.startswith(start)}


def _apply(layer: Layer, origins: dict[str, Origin]) -> None:
    """Lay one layer over what is there. A layer that names another backend drops the options of the one below."""
    for section in PORTS:
        key = f"{section}.backend"
        chosen = layer.values.get(key, origins[key].value)
        if chosen != origins[key].value:
            for option in [name for name in origins if name.startswith(f"{section}.") and name not in _TYPES]:
                del origins[option]
            origins[key] = _checked(key, chosen, layer)
    for key, value in layer.values.items():
        if key.endswith(".") and value is None:
            _check_section(key, layer)
        else:
            origins[key] = _checked(key, value, layer, origins)


def _check_section(key: str, layer: Layer) -> None:
    name = key.removesuffix(".")
    sections = [*PORTS, *_SECTIONS]
    if name not in sections:
        raise unknown_key(name, layer.source(key), [*sections, "root", "kind"])


def _checked(key: str, value: Any, layer: Layer, origins: Mapping[str, Origin] | None = None) -> Origin:
    wanted = _TYPES.get(key) or _option_type(key, layer, origins or {})
    converted = convert(key, value, wanted, layer)
    try:
        if wanted is not object:  # what one's own backend takes is its own affair
            check_value(key, converted, _SECTIONS)
    except (ConfigError, InvalidId, ValueError) as error:
        raise ConfigError(f"{layer.source(key)}: {key}: {error}", key=key) from None
    directory = (layer.directory or Path.cwd()) if wanted is object else None
    return Origin(value=converted, source=layer.source(key), directory=directory)


def _option_type(key: str, layer: Layer, origins: Mapping[str, Origin]) -> type:
    section, _, name = key.partition(".")
    if section not in PORTS or not name:
        raise unknown_key(key, layer.source(key), _TYPES)
    backend = origins[f"{section}.backend"].value
    if ":" in backend:
        return object
    options = BACKENDS[section][backend].options
    if name not in options:
        raise unknown_key(key, layer.source(key), [*_TYPES, *(f"{section}.{option}" for option in options)])
    return Path if isinstance(options[name], Path) else type(options[name])


def _apply_provider_defaults(origins: dict[str, Origin]) -> None:
    backend = origins["provider.backend"].value
    for key, value in PROVIDER_DEFAULTS.get(backend, {}).items():
        if origins[key].source == "default":
            origins[key] = Origin(value=value, source=f"default of provider '{backend}'")


def _choice(section: str, origins: dict[str, Origin], root: Path) -> Choice:
    backend = origins[f"{section}.backend"].value
    if ":" not in backend:
        for name, default in BACKENDS[section][backend].options.items():
            value = root / default if isinstance(default, Path) else default
            origins.setdefault(f"{section}.{name}", Origin(value=value, source="default"))
    given = {
        key.partition(".")[2]: origin
        for key, origin in origins.items()
        if key.startswith(f"{section}.") and key not in _TYPES
    }
    return Choice(
        backend=backend,
        options={name: origin.value for name, origin in given.items()},
        directories={name: origin.directory for name, origin in given.items() if origin.directory is not None},
    )


# --- building ------------------------------------------------------------------------------------------------------


def build(config: Config, *, clock: Clock) -> Backends:
    """Open the backends of `config`. What was opened is closed again when a later one fails.

    Raises `ConfigError` for a backend that cannot be imported, does not fit its port or its model, `MissingExtra`, and what the
    backends themselves raise.
    """
    offered: dict[str, Any] = {
        "clock": clock,
        "layout": config.layout,
        "limits": config.limits,
        "model": config.model.name,
        "dimensions": config.model.dimensions,
        "send_dimensions": config.model.send_dimensions,
    }
    with ExitStack() as opened:

        def open_one(section: str, choice: Choice) -> Any:
            backend = construct(section, choice.backend, choice.options, offered, directories=choice.directories)
            opened.callback(close, backend)
            return backend

        provider = open_one("provider", config.provider)
        objects = offered["objects"] = open_one("objects", config.objects)
        backends = Backends(
            objects=objects,
            table=open_one("table", config.table),
            provider=provider,
            embedder=embedder_of(provider),
            vectors=open_one("vectors", config.vectors),
            clock=clock,
        )
        opened.pop_all()
    return backends
