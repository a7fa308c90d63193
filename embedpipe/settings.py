"""Layers of settings: dotted keys from a file, the environment and flags, checked and converted, with their origins.

Generic: it is told which keys there are and knows nothing of what they mean. `embedpipe.config` is its one user.
"""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from embedpipe.errors import ConfigError

__all__ = ["Layer", "convert", "environment_layer", "file_layer", "flag_layer", "unknown_key"]

PREFIX: Final = "EMBEDPIPE_"
_WHOLE_FLOAT_MAX: Final = 2**53  # beyond it, a float cannot hold every whole number


@attrs.frozen(kw_only=True)
class Layer:
    """What one source says."""

    values: Mapping[str, Any]
    """Dotted key, at most one dot, to the value as given."""
    source: Callable[[str], str]
    """How to name the source of a key in a message."""
    directory: Path | None = None
    """What relative paths count from; None is the working directory."""


def file_layer(path: Path) -> Layer:
    """A TOML file. Tables become `table.key`; deeper tables stay values. Raises `ConfigError`."""
    try:
        tables = tomllib.loads(path.read_bytes().decode())
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file.", hint="Write one with: embedpipe init") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: byte {error.start + 1} is not UTF-8.") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: is not TOML: {error}.") from None
    values: dict[str, Any] = {}
    for name, value in tables.items():
        if isinstance(value, dict):
            values.update({f"{name}.{key}": item for key, item in value.items()})
            values.setdefault(f"{name}.", None)
        else:
            values[name] = value
    return Layer(values=values, source=lambda _: f"file {path}", directory=path.absolute().parent)


def environment_layer(env: Mapping[str, str], *, other: Iterable[str] = ()) -> Layer:
    """`EMBEDPIPE_LIMITS__FILE_BYTES` is `limits.file_bytes`. Names in `other` are ours and no setting."""
    names = {
        name.removeprefix(PREFIX).lower().replace("__", ".", 1): name
        for name in env
        if name.startswith(PREFIX) and name not in other
    }
    return Layer(
        values={key: env[name] for key, name in names.items()},
        source=lambda key: f"environment variable {names[key]}",
    )


def flag_layer(flags: Mapping[str, Any]) -> Layer:
    """Values from the command line or from code."""
    return Layer(values=dict(flags), source=lambda _: "flag")


def unknown_key(key: str, source: str, known: Iterable[str]) -> ConfigError:
    """The error for a key that means nothing, with the nearest one that does."""
    near = difflib.get_close_matches(key, list(known), 1, 0.6)
    hint = f"Did you mean '{near[0]}'?" if near else "See: embedpipe config show"
    return ConfigError(f"{source}: the key {key!a} is unknown.", hint=hint, key=key)


_TRUE: Final = ("true", "yes", "on", "1")
_FALSE: Final = ("false", "no", "off", "0")


def _boolean(text: str) -> bool:
    word = text.strip().lower()
    if word not in _TRUE + _FALSE:
        raise ValueError(word)
    return word in _TRUE


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


_FROM_TEXT: Final[Mapping[Any, Callable[[str], Any]]] = {
    str: str,
    Path: str,
    int: int,
    float: float,
    bool: _boolean,
    object: _toml_value,
    dict: _toml_value,
}
_NAMES: Final = {
    str: "a string",
    Path: "a path",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    dict: "a table of strings",
}


def convert(key: str, value: Any, wanted: type, layer: Layer) -> Any:
    """`value` as `wanted`: str, int, float, bool, Path, dict (of strings) or object (anything). Raises `ConfigError`.

    Texts from the environment and from flags are read as numbers and booleans where those are wanted.
    """
    given = value
    if isinstance(value, str) and layer.directory is None:
        try:
            value = _FROM_TEXT[wanted](value)
        except ValueError:
            raise _wrong(key, given, wanted, layer) from None
    if wanted is float and type(value) is int and abs(value) < _WHOLE_FLOAT_MAX:
        value = float(value)
    if not _fits(value, wanted):
        raise _wrong(key, given, wanted, layer)
    if wanted is not Path:
        return value
    try:
        return _absolute(value, layer)
    except RuntimeError:  # `~name` of a user whom this machine does not know
        raise _wrong(key, given, wanted, layer) from None


def _fits(value: Any, wanted: type) -> bool:
    if wanted is object:
        return True
    if wanted is dict:
        return isinstance(value, dict) and all(isinstance(item, str) for item in value.values())
    if wanted is Path:
        return isinstance(value, str | Path) and bool(str(value)) and "\0" not in str(value)
    return type(value) is wanted and not (isinstance(value, float) and not math.isfinite(value))


def _absolute(value: str | Path, layer: Layer) -> Path:
    path = Path(value).expanduser()
    return (layer.directory / path if layer.directory else path).absolute()


def _wrong(key: str, value: Any, wanted: type, layer: Layer) -> ConfigError:
    return ConfigError(f"{layer.source(key)}: {key} must be {_NAMES[wanted]}, not {ascii(value)[:60]}.", key=key)
