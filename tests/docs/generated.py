"""The parts of the documentation that are made from the code. `python -m tests.docs.generated` writes them anew.

They stand between `<!-- generated: NAME -->` and `<!-- end -->`; a test compares.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import attrs
import click

from embedpipe import assembly, config, errors, flow, lifecycle, limits, retry
from embedpipe.aws import permissions, template
from embedpipe.cli import cli
from embedpipe.cli.commands import COMMANDS
from embedpipe.model import WORD
from tests.docs import fidelity
from tests.docs.pages import GENERATED, PAGES, ROOT
from tests.docs.tables import code, rows
from verify.audit import catalogue
from verify.audit.explain import as_markdown

# --- architecture --------------------------------------------------------------------------------------------------


def lifecycle_diagram() -> str:
    return f"```mermaid\n{lifecycle.diagram()}```\n"


def flow_table() -> str:
    body = []
    for number, step in enumerate(flow.INGEST):
        inputs = dict(step.inputs) | (
            {name: f"{step.over.items}[].{field}" for name, field in step.over.item.items()} if step.over else {}
        )
        how = "a Map" if step.over else f"again while `{step.again}`" if step.again else "once"
        given = ", ".join(code(path) for path in dict.fromkeys(inputs.values()))
        body.append([number, code(step.state.format(kind="Word")), code(step.name), given, code(step.result), how])
    return rows(["#", "state (for `word`)", "step", "is given", "puts its output under", "called"], body)


def backends_table() -> str:
    body = [
        [
            code(section),
            code(assembly.PORTS[section].__name__),
            code(name),
            code(builtin.target),
            ", ".join(map(code, builtin.options)),
        ]
        for section, names in assembly.BACKENDS.items()
        for name, builtin in names.items()
    ]
    return rows(["section", "port", "backend", "class", "options"], body)


# --- command line --------------------------------------------------------------------------------------------------


def commands_table() -> str:
    return rows(
        ["command", "what it does"], [[code(f"embedpipe {name}"), entry.summary] for name, entry in COMMANDS.items()]
    )


def _commands() -> Iterator[tuple[str, click.Command]]:
    context = click.Context(cli)
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            found = ((inner, command.get_command(context, inner)) for inner in command.list_commands(context))
            yield from ((f"{name} {inner}", made) for inner, made in found if made is not None)
        else:
            yield name, command


def options_table() -> str:
    commands = dict(_commands())
    shown: dict[str, tuple[str, list[str]]] = {}
    for name, command in commands.items():
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                spelled = ", ".join(sorted(parameter.opts, key=len, reverse=True)) + _value(parameter)
                shown.setdefault(spelled, (parameter.help or "", []))[1].append(name)
    body = [
        [code(spelled), said, "all" if len(names) == len(commands) else ", ".join(map(code, names))]
        for spelled, (said, names) in shown.items()
    ]
    return rows(["option", "meaning", "of"], sorted(body, key=lambda line: (line[2] != "all", line[2], line[0])))


def _value(option: click.Option) -> str:
    if option.is_flag:
        return ""
    if isinstance(option.type, click.Choice):
        return " " + "|".join(map(str, option.type.choices))
    return f" {option.metavar or 'N'}"


def exit_codes_table() -> str:
    return rows(["code", "meaning"], [[number, meaning] for number, meaning in errors.EXIT_CODES.items()])


def errors_table() -> str:
    found = [
        value for _, value in inspect.getmembers(errors, inspect.isclass) if issubclass(value, errors.EmbedpipeError)
    ]
    ordered = sorted(found, key=lambda cls: [one.__name__ for one in reversed(cls.__mro__) if one in found])
    body = [
        [code(cls.code), code(cls.__name__), cls.exit_code, (inspect.getdoc(cls) or "").split("\n")[0]]
        for cls in ordered
    ]
    return rows(["`code`", "class", "exit", "meaning"], body)


def settings_table() -> str:
    root = Path("/root-of-the-table")
    loaded = config.Config.load(root, env={})
    meanings = _meanings()
    body = [
        [code(key), code(_default(origin.value, root)), meanings.get(key, "")]
        for key, origin in loaded.origins.items()
        if key != "root" and not key.startswith("layout.")
    ]
    return rows(["key", "default", "meaning"], body)


def _default(value: Any, root: Path) -> object:
    return value.relative_to(root) if isinstance(value, Path) else value


SECTIONS: Final[Mapping[str, type]] = {
    "limits": limits.Limits,
    "policy": limits.Policy,
    "retry": retry.RetryPolicy,
    "run": config.RunSettings,
}


def _meanings() -> dict[str, str]:
    """Key -> the sentence under the field in the source."""
    found = {f"{section}.{name}": said for section, cls in SECTIONS.items() for name, said in _field_docs(cls)}
    return found | {
        "kind": "What the records are, for commands that are not told.",
        "provider.model": "The provider's name of the model. Frozen into a collection.",
        "provider.dimensions": "Length of each vector; the local model gives 64, 128 or 256. Frozen into a collection.",
        "provider.send_dimensions": "Whether requests carry `dimensions`.",
        **{f"{section}.backend": "One word, or `package.module:Class`." for section in assembly.PORTS},
    }


def _field_docs(cls: type[Any]) -> Iterator[tuple[str, str]]:
    (tree,) = ast.parse(inspect.getsource(cls)).body
    assert isinstance(tree, ast.ClassDef)
    names = {field.name for field in attrs.fields(cls)}
    for field, following in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and field.target.id in names:
            said = following.value if isinstance(following, ast.Expr) else None
            if isinstance(said, ast.Constant):
                yield field.target.id, " ".join(str(said.value).split())


# --- findings ------------------------------------------------------------------------------------------------------


def findings_page() -> str:
    return as_markdown(catalogue.RULES.values()).replace("### ", "## ")


def causes_table() -> str:
    body = [
        [code(name), ", ".join(map(code, sorted(found.implies))), ", ".join(map(code, sorted(found.masks)))]
        for name, found in catalogue.BRINGS.items()
    ]
    return rows(["code", "implies", "hides"], body)


# --- AWS -----------------------------------------------------------------------------------------------------------


def functions_table() -> str:
    body = [
        [
            code(step.name),
            code(step.state.format(kind="Word")),
            ", ".join(map(code, sorted(permissions.FUNCTIONS[step.name]))),
        ]
        for step in (*flow.SUBMIT, *flow.INGEST)
    ]
    return rows(["function", "state (for `word`)", "may do, on our bucket, table and index"], body)


def alarms_table() -> str:
    resources = template.template(WORD)["Resources"]
    found = {name: body["Properties"] for name, body in resources.items() if body["Type"] == "AWS::CloudWatch::Alarm"}
    body = [
        [code(name), code(f"{alarm['Namespace']} {alarm['MetricName']}"), alarm["AlarmDescription"]]
        for name, alarm in found.items()
    ]
    return rows(["alarm", "metric", "what it means"], body)


# --- pages ---------------------------------------------------------------------------------------------------------

PARTS: Final[Mapping[str, Callable[[], str]]] = {
    "lifecycle": lifecycle_diagram,
    "flow": flow_table,
    "backends": backends_table,
    "commands": commands_table,
    "options": options_table,
    "exit-codes": exit_codes_table,
    "errors": errors_table,
    "settings": settings_table,
    "findings": findings_page,
    "causes": causes_table,
    "functions": functions_table,
    "alarms": alarms_table,
    "fidelity-places": fidelity.places_table,
    "fidelity-suites": fidelity.suites_table,
    "fidelity-behaviours": fidelity.behaviours_table,
    "fidelity-faults": fidelity.faults_table,
    "fidelity-crashes": fidelity.crashes_table,
    "fidelity-differences": fidelity.differences_table,
}


def regenerated(page: str) -> str:
    """The page with its generated parts as they should be."""
    return GENERATED.sub(lambda found: f"{found['start']}\n{PARTS[found['name']]()}\n{found['end']}", page)


def main() -> None:
    for path in PAGES:
        path.write_text(regenerated(path.read_text()))
        click.echo(f"written: {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
