"""Reading definitions: JSON or YAML, alone, in a CloudFormation or SAM template, or as `describe-state-machine` prints them.

Everything refused is one `WrongQuestion` that names the file and says why. Sizes and depths are bounded before anything
walks the document.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from embedpipe.errors import missing_extra
from verify.audit.findings import WrongQuestion
from verify.flow.shape import check

__all__ = ["Machine", "machines_of", "read"]

FILE_BYTES_MAX: Final = 16 * 1024 * 1024
"""[ours] A definition has at most 1 MB at AWS; a template holds a few."""
DEPTH_MAX: Final = 150
NODES_MAX: Final = 500_000
_TYPES: Final = {"AWS::Serverless::StateMachine", "AWS::StepFunctions::StateMachine"}


@attrs.frozen(kw_only=True)
class Machine:
    """One definition and where it was found."""

    name: str
    file: str
    definition: Mapping[str, Any] = attrs.field(eq=False)
    text: str = attrs.field(repr=False, eq=False)

    def line(self, state: str) -> tuple[int, int]:
        """Line and column of a state in the file, from 1; the beginning where it can't be told."""
        name = re.escape(json.dumps(state)[1:-1])
        found = re.search(rf'(?m)\\?"{name}\\?"\s*:\s*(?=[{{!]|$)|^[ \t]*["\']?{name}["\']?:\s*$', self.text)
        if found is None:
            return 1, 1
        start = found.end() - len(found.group().lstrip())
        return self.text.count("\n", 0, start) + 1, start - (self.text.rfind("\n", 0, start) + 1) + 1


def read(path: str | Path) -> tuple[Machine, ...]:
    """The machines in a file. `WrongQuestion`, `MissingExtra` for YAML without its parser."""
    file = Path(path)
    try:
        with file.open("rb") as stream:
            data = stream.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise WrongQuestion(f"{path}: {error.strerror or error}.") from None
    if len(data) > FILE_BYTES_MAX:
        raise WrongQuestion(f"{path} has more than {FILE_BYTES_MAX:,} bytes; a definition has at most 1 MB.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise WrongQuestion(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}.") from None
    return machines_of(text, file=str(path), folder=file.parent)


def machines_of(text: str, *, file: str, folder: Path | None = None) -> tuple[Machine, ...]:
    """The machines in a text; `folder` is where a template's `DefinitionUri` starts from."""
    document = _parse(text, file)
    _check_size(document, file)
    if not isinstance(document, Mapping):
        raise WrongQuestion(f"{file} is not a state machine but {_what(document)}.")
    found = tuple(_machines(document, text, file, folder))
    if not found:
        raise WrongQuestion(
            f"{file} is not a state machine: it has neither States and StartAt nor a resource with a definition.",
            hint="Give a definition in Amazon States Language, or a template that holds one.",
        )
    for machine in found:
        check(machine.definition, machine.file if machine.name == "" else f"{machine.file}: {machine.name}")
    return found


def _machines(document: Mapping[str, Any], text: str, file: str, folder: Path | None) -> Iterator[Machine]:
    if "States" in document or "StartAt" in document:
        yield Machine(name="", file=file, definition=document, text=text)
    elif isinstance(document.get("definition"), str):  # what `aws stepfunctions describe-state-machine` prints
        yield Machine(name="", file=file, definition=_inner(document["definition"], file), text=text)
    elif isinstance(document.get("Resources"), Mapping):
        for name, resource in document["Resources"].items():
            if isinstance(resource, Mapping) and resource.get("Type") in _TYPES:
                yield from _resource(str(name), resource.get("Properties"), text, file, folder)


def _resource(name: str, properties: Any, text: str, file: str, folder: Path | None) -> Iterator[Machine]:
    if not isinstance(properties, Mapping):
        raise WrongQuestion(f"{file}: {name} has no Properties.")
    if isinstance(properties.get("Definition"), Mapping):
        yield Machine(name=name, file=file, definition=properties["Definition"], text=text)
    elif "DefinitionString" in properties:
        written = _text_of(properties["DefinitionString"])
        yield Machine(name=name, file=file, definition=_inner(written, f"{file}: {name}"), text=text)
    elif isinstance(properties.get("DefinitionUri"), str) and folder is not None:
        for machine in read(folder / properties["DefinitionUri"]):
            yield attrs.evolve(machine, name=name)
    else:
        raise WrongQuestion(
            f"{file}: the definition of {name} is not in this file.", hint="Give the definition's own file."
        )


def _inner(text: str, where: str) -> Mapping[str, Any]:
    document = _parse(text, where)
    _check_size(document, where)
    if not isinstance(document, Mapping):
        raise WrongQuestion(f"{where} is not a state machine but {_what(document)}.")
    return document


def _text_of(node: Any) -> str:
    """A text behind `Fn::Sub` and `Fn::Join`; what the deployment fills in stays `${...}`."""
    if isinstance(node, str):
        return node
    if isinstance(node, Mapping) and len(node) == 1:
        name, inner = next(iter(node.items()))
        if name == "Fn::Sub":
            return _text_of(inner[0] if isinstance(inner, list) and inner else inner)
        if name == "Fn::Join" and isinstance(inner, list) and len(inner) == 2 and isinstance(inner[1], list):
            return str(inner[0]).join(map(_text_of, inner[1]))
    return "${Reference}"


def _parse(text: str, where: str) -> Any:
    if text.lstrip()[:1] in {"{", "["}:
        try:
            return json.loads(text)
        except RecursionError:
            raise WrongQuestion(f"{where} is nested more than {DEPTH_MAX} levels deep.") from None
        except ValueError as error:
            if not where.endswith((".yaml", ".yml")):
                raise WrongQuestion(f"{where} is not JSON: {error}.") from None
    return _yaml(text, where)


def _yaml(text: str, where: str) -> Any:
    try:
        import yaml
    except ImportError:
        raise missing_extra("yaml", "pyyaml") from None

    class Loader(yaml.SafeLoader):  # type: ignore[misc]  # it has no types
        """Tags such as `!Sub` are read as `{"Fn::Sub": ...}`."""

    def tagged(loader: Any, suffix: str, node: Any) -> Any:
        if isinstance(node, yaml.ScalarNode):
            inner: Any = loader.construct_scalar(node)
        elif isinstance(node, yaml.SequenceNode):
            inner = loader.construct_sequence(node, deep=True)
        else:
            inner = loader.construct_mapping(node, deep=True)
        return {suffix if suffix in {"Ref", "Condition"} else f"Fn::{suffix}": inner}

    Loader.add_multi_constructor("!", tagged)
    try:
        return yaml.load(text, Loader)
    except RecursionError:
        raise WrongQuestion(f"{where} is nested more than {DEPTH_MAX} levels deep.") from None
    except (yaml.YAMLError, ValueError, TypeError) as error:
        raise WrongQuestion(f"{where} is neither JSON nor YAML: {' '.join(str(error).split())[:300]}") from None


def _check_size(document: Any, where: str) -> None:
    """Refuse what is deep, or what aliases make large or endless."""
    level, nodes = [document], 0
    for _ in range(DEPTH_MAX):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        nodes += len(level)
        if not level:
            return
        if nodes > NODES_MAX:
            raise WrongQuestion(f"{where} holds more than {NODES_MAX:,} values.")
    raise WrongQuestion(f"{where} is nested more than {DEPTH_MAX} levels deep.")


def _what(document: object) -> str:
    return {dict: "an object", list: "an array", str: "a text", type(None): "empty"}.get(type(document), "a number")
