"""Rules about the code that no linter knows, read from its syntax tree."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("embedpipe", "verify", "simulator")
LINES_MAX = 500
ENTRY_POINTS = frozenset(
    {
        "embedpipe",
        "embedpipe.__main__",
        "embedpipe.aws.handlers",
        "simulator.mutations.forking",
        "simulator.mutations.reaching",
        "simulator.mutants.worker",
        "verify",
    }
)
FOR_TESTS = ("verify.", "embedpipe.backends.memory.")  # made for tests, ours and other people's
CLOCK = "embedpipe.backends.system"

# Time, chance and fresh ids come in through the Clock.
IMPURE = frozenset(
    {
        "time.time",
        "time.time_ns",
        "time.monotonic",
        "time.perf_counter",
        "time.sleep",
        "datetime.now",
        "datetime.utcnow",
        "datetime.today",
        "datetime.datetime.now",
        "date.today",
        "uuid.uuid1",
        "uuid.uuid4",
        "uuid1",
        "uuid4",
        "os.urandom",
        "os.getrandom",
        "urandom",
    }
)
SEEDED = "random.Random"  # a generator of its own, made from a seed
IMPURE_MODULES = ("random.", "secrets.", "numpy.random.", "np.random.")

STAGES_MAY_IMPORT = frozenset(
    f"embedpipe.{name}" for name in ("errors", "layout", "lifecycle", "limits", "model", "stages", "vectors", "wire")
)


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


MODULES = {module_name(path): ast.parse(path.read_text()) for path in sources(*PACKAGES)}


def imported(tree: ast.AST) -> Iterator[str]:
    """Full names of what is imported anywhere in a module: `a.b` and, of `from a import b`, both `a` and `a.b`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def named_as_text(tree: ast.AST) -> Iterator[str]:
    """Modules in texts of the form `module:attribute`, which are imported by name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found = re.fullmatch(r"([\w.]+):\w+", node.value)
            if found:
                yield found[1]


def calls(tree: ast.AST) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node.lineno


def test_every_module_is_used() -> None:
    used = {name for tree in MODULES.values() for name in (*imported(tree), *named_as_text(tree))}
    used |= {name.rpartition(".")[0] for name in used}  # a package is used where a module of it is
    tests = {name for path in sources("tests", "benchmarks") for name in imported(ast.parse(path.read_text()))}
    dead = [
        name
        for name in MODULES
        if name not in used | ENTRY_POINTS and not (name.startswith(FOR_TESTS) and name in tests)
    ]
    assert dead == []


@pytest.mark.parametrize(
    "path", sources(*PACKAGES, "tests", "benchmarks"), ids=lambda path: str(path.relative_to(ROOT))
)
def test_no_file_is_long(path: Path) -> None:
    assert len(path.read_text().splitlines()) < LINES_MAX


@pytest.mark.parametrize("name", MODULES)
def test_every_module_says_what_it_is_for(name: str) -> None:
    assert ast.get_docstring(MODULES[name])


@pytest.mark.parametrize("name", [name for name in MODULES if not name.startswith("verify") and name != CLOCK])
def test_time_chance_and_ids_come_from_the_clock(name: str) -> None:
    found = [
        f"line {line}: {call}"
        for call, line in calls(MODULES[name])
        if call in IMPURE or (call.startswith(IMPURE_MODULES) and not call.startswith(SEEDED))
    ]
    assert found == []


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith("embedpipe.stages")])
def test_a_stage_imports_only_values(name: str) -> None:
    ours = {target for target in imported(MODULES[name]) if target.startswith("embedpipe.")}
    beyond = {target for target in ours if not {target, ".".join(target.split(".")[:2])} & STAGES_MAY_IMPORT}
    assert beyond == set()


@pytest.mark.parametrize("name", [name for name, tree in MODULES.items() if "__all__" in ast.unparse(tree)])
def test_exports_exist_and_are_documented(name: str) -> None:
    module = importlib.import_module(name)
    assert len(set(module.__all__)) == len(module.__all__)
    for export in module.__all__:
        value = getattr(module, export)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert inspect.getdoc(value), f"{name}.{export} has no docstring"


@pytest.mark.parametrize("path", sources("tests"), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_mocks(path: Path) -> None:
    assert not {name for name in imported(ast.parse(path.read_text())) if "mock" in name.split(".")}
