"""The rules by which what is to be computed becomes shorter.

Sums and products of magnitudes, none of which is below 0, are kept as a + b|u| + c|v|, where a, b and c are one number
for each channel: as many additions in another order, each good to the last place. Differences stay as they are written,
since there the order matters. And a comparison that no element can fail, by the largest that each operand can be, is
decided before anything is computed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from conformance.judging.large.channels import finite, most
from conformance.judging.large.expressions import Expression
from conformance.judging.large.pieces import Layout
from conformance.judging.large.written import (
    Terms,
    from_0,
    is_anywhere,
    is_number,
    leaf,
    linear,
    product,
    terms_of,
    written,
)
from reference.spec import Array

_PRODUCTS = 4  # at most, that a product of sums is multiplied out to
_ROOM = 1 + 1e-9  # for the roundings of what the largest magnitudes are computed with


def made(kind: type[Expression], layout: Layout, function: Any, inputs: tuple[Any, ...]) -> Any:
    """Return a function of expressions and arrays as an expression of a kind, or as an array where it is known."""
    given = tuple(_operand(kind, layout, value) for value in inputs)
    rule = _RULES.get(function)
    found = rule(*given) if rule else None
    found = written(function, given) if found is None else found
    if isinstance(found, Expression):
        return found
    return layout.aligned(found) if isinstance(found, np.ndarray) else np.asarray(found)


def _operand(kind: type[Expression], layout: Layout, value: Any) -> Any:
    """Return an expression as it is, or a number, or a column: one number for each channel."""
    if isinstance(value, Expression) and value.layout is layout:
        return value
    array: Array = np.asarray(value)
    if not array.ndim:
        return array[()]
    column = layout.column(array)
    if column is not None:
        return column[0, 0] if len(column) == 1 else column
    if id(array) not in layout.arrays:
        layout.arrays[id(array)] = array, leaf(kind, layout, array, array.dtype, nonnegative=bool((array >= 0).all()))
    return layout.arrays[id(array)][1]


# --- a + b|u| + c|v| ----------------------------------------------------------------------------------------------


def _together(terms: Terms, constant: Any) -> Any:
    terms = {n: (e, factor) for n, (e, factor) in terms.items() if is_anywhere(factor) or not finite(e)}
    if not terms:
        return constant
    (one, factor), *others = terms.values()
    if not others and is_number(factor, 1) and is_number(constant, 0):
        return one
    return written(linear, (constant, *(part for pair in terms.values() for part in pair)))


def _add(a: Any, b: Any) -> Any:
    if is_number(a, 0) or is_number(b, 0):
        return b if is_number(a, 0) else a
    if not (from_0(a) and from_0(b)):
        return None
    (terms, constant), (others, more) = terms_of(a), terms_of(b)
    return _together(_sum(terms, others.values()), constant + more)


def _sum(terms: Terms, others: Any) -> Terms:
    found = dict(terms)
    for e, factor in others:
        found[e.number] = e, found[e.number][1] + factor if e.number in found else factor
    return found


def _multiply(a: Any, b: Any) -> Any:
    if is_number(a, 1) or is_number(b, 1):
        return b if is_number(a, 1) else a
    if not (from_0(a) and from_0(b)):
        return None
    (terms, constant), (others, more) = terms_of(a), terms_of(b)
    if len(terms) * len(others) > _PRODUCTS:
        return None
    found: Terms = {}
    for pairs, by in ((terms, more), (others, constant)):
        found = _sum(found, [(e, factor * by) for e, factor in pairs.values()] if is_anywhere(by) else [])
    found = _sum(found, [(product(e, o), f * its) for e, f in terms.values() for o, its in others.values()])
    return _together(found, constant * more)


def _divide(a: Any, b: Any) -> Any:
    return None if isinstance(b, Expression) or not (from_0(a) and from_0(b)) else _multiply(a, 1 / b)


def _absolute(a: Expression) -> Any:
    if a.nonnegative:
        return a
    if a.apply not in (np.multiply, np.divide):
        return None
    parts = [_absolute(part) if isinstance(part, Expression) else np.abs(part) for part in a.arguments]
    given = [written(np.absolute, (e,)) if part is None else part for part, e in zip(parts, a.arguments, strict=True)]
    return _RULES[a.apply](*given)


def _power(a: Any, b: Any) -> Any:
    return written(np.square, (a,)) if is_number(b, 2) else None


# --- what no element can fail -------------------------------------------------------------------------------------


def _greater(a: Any, b: Any) -> Any:
    if isinstance(b, Expression):
        return None
    largest = most(a)
    return np.False_ if largest is not None and np.all(largest * _ROOM <= b) else None


def _decided(value: Any) -> Callable[[Expression], Any]:
    return lambda a: value if finite(a) else None


def _where(condition: Any, a: Any, b: Any) -> Any:
    if isinstance(condition, Expression):
        return None
    return a if np.all(condition) else None if np.any(condition) else b


def _or(a: Any, b: Any) -> Any:
    if is_number(a, 0) or is_number(b, 0):
        return b if is_number(a, 0) else a
    return np.True_ if is_number(a, 1) or is_number(b, 1) else None


def _and(a: Any, b: Any) -> Any:
    if is_number(a, 1) or is_number(b, 1):
        return b if is_number(a, 1) else a
    return np.False_ if is_number(a, 0) or is_number(b, 0) else None


_RULES: dict[Any, Callable[..., Any]] = {
    np.add: _add,
    np.multiply: _multiply,
    np.divide: _divide,
    np.absolute: _absolute,
    np.power: _power,
    np.greater: _greater,
    np.isfinite: _decided(np.True_),
    np.isnan: _decided(np.False_),
    np.isposinf: _decided(np.False_),
    np.isneginf: _decided(np.False_),
    np.where: _where,
    np.bitwise_or: _or,
    np.bitwise_and: _and,
}
