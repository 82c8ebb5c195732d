"""Expressions as they are written: what they are told apart by, and which of them are never below 0."""

from __future__ import annotations

import functools
import hashlib
from typing import Any

import numpy as np

from conformance.judging.large.expressions import Expression, is_nothing
from conformance.judging.large.pieces import Layout
from reference.spec import Array

Terms = dict[int, tuple[Expression, Any]]
"""Expressions, each with a factor, by their number."""

_LONG = 128  # bytes
_KEEPING = {np.add, np.multiply, np.divide, np.maximum, np.minimum, np.fmax, np.fmin}  # no sign but those given


def linear(constant: Any, *pairs: Any) -> Any:
    """Return the constant, and every expression times its factor, together."""
    out, own = None, None  # own: an array that nobody else holds
    for values, factor in zip(pairs[::2], pairs[1::2], strict=True):
        if is_nothing(values):
            continue
        term = values if is_number(factor, 1) else values * factor
        own = term if own is None and term is not values else own
        out = term if out is None else np.add(out, term, out=own)
        own = own if out is values else out
    if out is None or is_number(constant, 0):
        return constant if out is None else out
    return np.add(out, constant, out=own)


NONNEGATIVE: set[Any] = {linear, np.absolute, np.square, np.sqrt}
"""Functions that give nothing below 0."""


def terms_of(operand: Any) -> tuple[Terms, Any]:
    """Return the expressions of an operand with their factors, by their number, and what is added to them."""
    if not isinstance(operand, Expression):
        return {}, operand
    if operand.apply is not linear:
        return {operand.number: (operand, operand.dtype.type(1))}, operand.dtype.type(0)
    constant, *pairs = operand.arguments
    return {e.number: (e, factor) for e, factor in zip(pairs[::2], pairs[1::2], strict=True)}, constant


def leaf(kind: type[Expression], layout: Layout, array: Array, dtype: Any, *, nonnegative: bool = False) -> Expression:
    """Return an array that is to be taken piece by piece, as a dtype."""
    column = layout.column(array)
    if column is not None:  # the same in all of a channel
        key = linear, _key(column)
        return kind(layout, linear, (column,), dtype, layout.number(key), nonnegative=from_0(column))
    number = layout.number(object())
    return kind(layout, None, (np.broadcast_to(array, layout.shape),), dtype, number, nonnegative=nonnegative)


def written(function: Any, given: tuple[Any, ...]) -> Expression:
    """Return a function of expressions and columns as it is written."""
    one = next(a for a in given if isinstance(a, Expression))
    layout, least = one.layout, given[1:] if function is np.where else given
    number = layout.number((function, *map(_key, given)))
    found = layout.expressions.get(number)
    if found is None:
        keeps = function in _KEEPING or function is np.where
        nonnegative = function in NONNEGATIVE or (keeps and all(map(from_0, least)))
        dtype = _dtype(function, *(a.dtype for a in given))
        found = layout.expressions[number] = type(one)(layout, function, given, dtype, number, nonnegative=nonnegative)
    return found


def product(a: Expression, b: Expression) -> Expression:
    """Return a product, the same in either order."""
    return written(np.multiply, (a, b) if a.number < b.number else (b, a))


@functools.cache
def _dtype(function: Any, *of: Any) -> Any:
    with np.errstate(all="ignore"):
        return np.asarray(function(*(np.ones((1, 1), dtype) for dtype in of))).dtype


def _key(operand: Any) -> Any:
    if isinstance(operand, Expression):
        return operand.number
    dtype: str = operand.dtype.char
    if np.ndim(operand) == 0:
        return dtype, operand
    data: bytes = operand.tobytes()
    return dtype, data if len(data) < _LONG else hashlib.blake2b(data, digest_size=16).digest()


def is_anywhere(column: Any) -> bool:
    """Return whether a number, or that of some channel, is not 0."""
    return bool(column.any() if isinstance(column, np.ndarray) else column)


def from_0(operand: Any) -> bool:
    """Return whether nothing in it can be below 0."""
    if isinstance(operand, Expression):
        return operand.nonnegative
    return bool((operand >= 0).all() if isinstance(operand, np.ndarray) else operand >= 0)


def is_number(operand: Any, number: int) -> bool:
    """Return whether an operand is this number, for all channels alike."""
    return not isinstance(operand, Expression | np.ndarray) and operand == number
