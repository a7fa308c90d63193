"""Mutations of a module's source: small changes that a slip of the hand could make, found in its syntax tree.

What is only said, in errors and events, is left alone. Each is a replacement of one span of text, so the rest of the file stays
as it is. Its name is the module, the function, the operator, and which one it is there, so it outlives edits elsewhere. The
new text notes that it was reached.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Final

import attrs

__all__ = ["Mutation", "mutations"]

REACHED: Final = "_mutation_reached()"
"""A builtin that the worker defines: notes the call and is false."""


@attrs.frozen(kw_only=True)
class Mutation:
    """One change of one module."""

    name: str
    module: str
    line: int
    start: int
    """Offset of the replaced text in the source, in bytes of UTF-8."""
    end: int
    before: str
    after: str

    def applied(self, source: str) -> str:
        """The changed source."""
        data = source.encode()
        return (data[: self.start] + self.after.encode() + data[self.end :]).decode()


COMPARISONS: Final[Mapping[type[ast.cmpop], str]] = {
    ast.Eq: "!=",
    ast.NotEq: "==",
    ast.Lt: "<=",
    ast.LtE: "<",
    ast.Gt: ">=",
    ast.GtE: ">",
    ast.In: "not in",
    ast.NotIn: "in",
    ast.Is: "is not",
    ast.IsNot: "is",
}
ARITHMETIC: Final[Mapping[type[ast.operator], str]] = {
    ast.Add: "-",
    ast.Sub: "+",
    ast.Mult: "//",
    ast.FloorDiv: "*",
    ast.BitOr: "&",
    ast.BitAnd: "|",
}
CALLS: Final[Mapping[str, str]] = {"any": "all", "all": "any", "min": "max", "max": "min", "sorted": "list"}
DROPPED: Final = (ast.Expr, ast.Raise, ast.AugAssign, ast.Delete)
"""Statements that stand for what they do."""


def mutations(module: str, source: str) -> list[Mutation]:
    """All of a module, in the order of its text.

    >>> [one.name for one in mutations("m", "def f(a, b):\\n    return a < b and not a\\n")]
    ['m:f:bool-1', 'm:f:compare-1', 'm:f:not-1']
    >>> mutations("m", "def f(y):\\n    return y == z\\n")[0].after
    '(_mutation_reached() or (y != z))'
    """
    return list(_Found(module, source).walk(ast.parse(source), "", annotated=False))


class _Found:
    """Walks a tree; knows the text that a node stands for."""

    def __init__(self, module: str, source: str) -> None:
        self._module = module
        self._data = source.encode()
        self._lines = [0]
        for line in self._data.splitlines(keepends=True):
            self._lines.append(self._lines[-1] + len(line))
        self._counts: Counter[tuple[str, str]] = Counter()

    def walk(self, node: ast.AST, where: str, *, annotated: bool) -> Iterator[Mutation]:
        """Those of a node and of what is below it; annotations and defaults are left alone."""
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            where = f"{where}.{node.name}".strip(".")
        inside = bool(where) and not annotated
        if inside and not isinstance(node, ast.ClassDef):
            for operator, after in _changes(node, self._text):
                yield self._mutation(node, where, operator, after)
        for condition in _conditions(node) if inside else ():
            yield self._mutation(condition, where, "condition", f"({REACHED} or (not ({self._text(condition)})))")
        for name, value in ast.iter_fields(node):
            if _says(node):
                continue
            skipped = name in ("annotation", "returns", "decorator_list", "args") and not isinstance(node, ast.Call)
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from self.walk(child, where, annotated=annotated or skipped)

    def _mutation(self, node: ast.AST, where: str, operator: str, after: str) -> Mutation:
        self._counts[where, operator] += 1
        start, end = self._span(node)
        return Mutation(
            name=f"{self._module}:{where}:{operator}-{self._counts[where, operator]}",
            module=self._module,
            line=node.lineno,  # type: ignore[attr-defined]
            start=start,
            end=end,
            before=self._data[start:end].decode(),
            after=after,
        )

    def _span(self, node: ast.AST) -> tuple[int, int]:
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None
            node = node.type
        start = self._lines[node.lineno - 1] + node.col_offset  # type: ignore[attr-defined]
        return start, self._lines[node.end_lineno - 1] + node.end_col_offset  # type: ignore[attr-defined]

    def _text(self, node: ast.AST) -> str:
        start, end = self._span(node)
        return self._data[start:end].decode()


Text = Callable[[ast.AST], str]


def _changes(node: ast.AST, text: Text) -> Iterator[tuple[str, str]]:
    """(operator, text in place of the node's)."""
    if isinstance(node, ast.expr):
        for operator, changed in _expressions(node, text):
            yield operator, f"({REACHED} or ({changed}))"
    elif isinstance(node, ast.Break):
        yield "break", f"{REACHED}; continue"
    elif isinstance(node, ast.Continue):
        yield "continue", f"{REACHED}; break"
    elif isinstance(node, ast.ExceptHandler) and node.type is not None:
        yield "except", f"({REACHED} or ())"
    elif isinstance(node, DROPPED) and not _only_says(node):
        yield "drop", REACHED


def _conditions(node: ast.AST) -> list[ast.expr]:
    """Tests that no other operator changes."""
    match node:
        case ast.If(test=test) | ast.While(test=test):
            found = [test]
        case ast.comprehension(ifs=tests):
            found = tests
        case _:
            found = []
    return [test for test in found if isinstance(test, ast.Name | ast.Attribute | ast.Call | ast.Subscript)]


def _expressions(node: ast.expr, text: Text) -> Iterator[tuple[str, str]]:
    match node:
        case ast.Compare(ops=[operator], left=left, comparators=[right]):
            yield "compare", f"{text(left)} {COMPARISONS[type(operator)]} {text(right)}"
        case ast.BoolOp(op=operator, values=values):
            word = " or " if isinstance(operator, ast.And) else " and "
            yield "bool", word.join(f"({text(value)})" for value in values)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield "not", text(operand)
        case ast.IfExp(test=test, body=body, orelse=orelse):
            yield "ternary", f"({text(orelse)}) if ({text(test)}) else ({text(body)})"
        case ast.BinOp(left=left, op=operator, right=right) if type(operator) in ARITHMETIC:
            yield "arithmetic", f"({text(left)}) {ARITHMETIC[type(operator)]} ({text(right)})"
        case ast.Constant(value=bool(value)):
            yield "constant", str(not value)
        case ast.Constant(value=int(value)):
            yield "constant", str(value + 1)
        case ast.Call():
            yield from _calls(node, text)


def _calls(node: ast.Call, text: Text) -> Iterator[tuple[str, str]]:
    """Another function, or one named argument less."""
    given = [*map(text, node.args), *(_named(keyword, text) for keyword in node.keywords)]
    if isinstance(node.func, ast.Name) and node.func.id in CALLS:
        yield "call", f"{CALLS[node.func.id]}({', '.join(given)})"
    if ast.unparse(node.func).rpartition(".")[2][:1].isupper():
        return  # a value without one of its fields is seldom a program
    for at, keyword in enumerate(node.keywords, len(node.args)):
        if keyword.arg is not None:
            yield "argument", f"{text(node.func)}({', '.join(given[:at] + given[at + 1 :])})"


def _named(keyword: ast.keyword, text: Text) -> str:
    return f"**{text(keyword.value)}" if keyword.arg is None else f"{keyword.arg}={text(keyword.value)}"


def _says(node: ast.AST) -> bool:
    """Whether what is in it is said and not done: errors and events, and texts, whose parts don't know where they stand."""
    told = isinstance(node, ast.Call) and ast.unparse(node.func).endswith("on_event")
    return told or isinstance(node, ast.Raise | ast.JoinedStr)


def _only_says(node: ast.stmt) -> bool:
    """A docstring, or the report of an event."""
    return isinstance(node, ast.Expr) and (isinstance(node.value, ast.Constant) or _says(node.value))
