"""The operators that mutate the reference: small changes to its syntax tree, one at a time.

| operator | change |
|---|---|
| compare | `<` and `<=`, `>` and `>=`, `==` and `!=`, `is` and `is not`, `in` and `not in` change places |
| arithmetic | `+` and `-`, `*` and `/` change places; `**` becomes `*`, `//` becomes `*`, `%` becomes `//` |
| operand | `a + b`, `a - b`, `a * b`, `a / b`, `a ** b` become `a` |
| sign | `-a` and `not a` become `a` |
| logic | `and` and `or` change places |
| condition | the test of an `if`, or of a conditional expression, becomes True, and False |
| number | a number n becomes n + 1; True and False change places |
| text | a string that is compared, looked up or passed becomes another string |
| function | maximum and minimum, max and min change places; `np.sqrt(a)` becomes `a` |

Docstrings, annotations, type aliases and `raise` statements are not mutated; nor are imports. That a refusal is raised
is what the operators on conditions see to.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

Change = Callable[[ast.AST], list[ast.AST]]

COMPARE: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.Pow: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
}
FUNCTIONS = {"maximum": "minimum", "minimum": "maximum", "max": "min", "min": "max"}


@dataclass(frozen=True)
class Mutant:
    """One change: the operator's name, where, what became of what, and the changed tree."""

    operator: str
    line: int
    before: str
    after: str
    tree: ast.Module

    @property
    def label(self) -> str:
        """One line that names the mutant; the same as long as the mutated expression stays."""
        return f"{self.operator}: {self.before}  ->  {self.after}"


def compare(node: ast.AST) -> list[ast.AST]:
    """Exchange a comparison."""
    if not isinstance(node, ast.Compare) or len(node.ops) != 1 or type(node.ops[0]) not in COMPARE:
        return []
    changed = copy.deepcopy(node)
    changed.ops = [COMPARE[type(node.ops[0])]()]
    return [changed]


def arithmetic(node: ast.AST) -> list[ast.AST]:
    """Exchange an arithmetic operator."""
    if not isinstance(node, ast.BinOp) or type(node.op) not in ARITHMETIC:
        return []
    changed = copy.deepcopy(node)
    changed.op = ARITHMETIC[type(node.op)]()
    return [changed]


def operand(node: ast.AST) -> list[ast.AST]:
    """Drop the right operand."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub | ast.Mult | ast.Div | ast.Pow):
        return [node.left]
    return []


def sign(node: ast.AST) -> list[ast.AST]:
    """Drop a minus or a not."""
    return [node.operand] if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Not) else []


def logic(node: ast.AST) -> list[ast.AST]:
    """Exchange `and` and `or`."""
    if not isinstance(node, ast.BoolOp):
        return []
    changed = copy.deepcopy(node)
    changed.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
    return [changed]


def condition(node: ast.AST) -> list[ast.AST]:
    """Make a test true, and false."""
    if not isinstance(node, ast.If | ast.IfExp):
        return []
    made: list[ast.AST] = []
    for value in (True, False):
        changed = copy.deepcopy(node)
        changed.test = ast.copy_location(ast.Constant(value), node.test)
        made.append(changed)
    return made


def number(node: ast.AST) -> list[ast.AST]:
    """Add one to a number; exchange True and False."""
    if not isinstance(node, ast.Constant) or isinstance(node.value, str | bytes) or node.value in (None, ...):
        return []
    value = node.value
    return [ast.Constant(not value if isinstance(value, bool) else value + 1)]  # pyright: ignore


def text(node: ast.AST) -> list[ast.AST]:
    """Change a string."""
    return [ast.Constant(node.value + "~")] if isinstance(node, ast.Constant) and isinstance(node.value, str) else []


def function(node: ast.AST) -> list[ast.AST]:
    """Exchange maximum and minimum; drop a square root."""
    if not isinstance(node, ast.Call):
        return []
    called = node.func
    if isinstance(called, ast.Attribute) and called.attr == "sqrt":
        return [node.args[0]]
    changed = copy.deepcopy(node)
    if isinstance(called, ast.Attribute) and called.attr in FUNCTIONS:
        changed.func = ast.Attribute(called.value, FUNCTIONS[called.attr], ast.Load())
        return [changed]
    if isinstance(called, ast.Name) and called.id in FUNCTIONS:
        changed.func = ast.Name(FUNCTIONS[called.id], ast.Load())
        return [changed]
    return []


OPERATORS: tuple[Change, ...] = (compare, arithmetic, operand, sign, logic, condition, number, text, function)


def mutants(source: str) -> Iterator[Mutant]:
    """Yield every mutant of a module's source."""
    tree = ast.parse(source)
    for parent, field, index, node in _places(tree):
        for operator in OPERATORS:
            for changed in operator(node):
                before, after = _short(node), _short(changed)
                if before == after:
                    continue
                _put(parent, field, index, ast.copy_location(changed, node))
                yield Mutant(
                    operator.__name__, node.lineno, before, after, ast.fix_missing_locations(copy.deepcopy(tree))
                )
                _put(parent, field, index, node)


def _places(node: ast.AST) -> Iterator[tuple[ast.AST, str, int | None, ast.AST]]:
    """Yield every expression and statement with its place, but for docstrings, annotations, messages and imports."""
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns") or isinstance(node, ast.JoinedStr | ast.Import | ast.ImportFrom):
            continue
        for index, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if not isinstance(child, ast.AST) or _skipped(child):
                continue
            if hasattr(child, "lineno"):
                yield node, field, index, child
            yield from _places(child)


def _skipped(node: ast.AST) -> bool:
    documentation = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    decorator = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dataclass"
    alias = isinstance(node, ast.Assign) and isinstance(node.value, ast.Subscript)
    return documentation or decorator or alias or isinstance(node, ast.Raise)


def _put(parent: ast.AST, field: str, index: int | None, node: ast.AST) -> None:
    if index is None:
        setattr(parent, field, node)
    else:
        getattr(parent, field)[index] = node


def _short(node: ast.AST) -> str:
    """Return an expression's text; of an `if`, only its first line."""
    return ast.unparse(node).splitlines()[0]
