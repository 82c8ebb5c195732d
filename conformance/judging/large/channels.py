"""What there is one number of for each channel: sums, maxima, and the largest magnitude that an element may have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from conformance.judging.large.expressions import Expression, over_pieces
from conformance.judging.large.written import NONNEGATIVE, linear, product, terms_of, written
from reference.spec import Array


def total(expression: Expression) -> Array:
    """Return the sum of each channel, as a column."""
    terms, constant = _factored(expression)
    sums = over_channels([(e, np.add) for e, _ in terms])
    found = (factor * each for (_, factor), each in zip(terms, sums, strict=True))
    return np.asarray(sum(found, constant * float(expression.layout.n)))


def maximum(expression: Expression) -> Array:
    """Return the largest element of each channel, as a column."""
    terms, constant = terms_of(expression)
    if expression.apply is not linear or len(terms) != 1:
        return over_channels([(expression, np.maximum)])[0]
    ((one, factor),) = terms.values()
    return factor * over_channels([(one, np.maximum)])[0] + constant


def _factored(e: Expression) -> tuple[list[tuple[Expression, Any]], Any]:
    """Return an expression as a sum of others with factors, and a constant: what is the same in a channel taken out."""
    if e.apply is linear:
        terms, constant = terms_of(e)
        return list(terms.values()), constant
    found, factor = _without_factors(e)
    return [(found, factor)], e.dtype.type(0)


def _without_factors(e: Expression) -> tuple[Expression, Any]:
    if e.apply not in (np.multiply, np.divide):
        return e, e.dtype.type(1)
    a, b = e.arguments
    if e.apply is np.divide:
        return (e, e.dtype.type(1)) if isinstance(b, Expression) else _scaled(a, 1 / b)
    if not (isinstance(a, Expression) and isinstance(b, Expression)):
        return _scaled(a, b) if isinstance(a, Expression) else _scaled(b, a)
    (a, factor), (b, its) = _without_factors(a), _without_factors(b)
    return (written(np.square, (a,)) if a is b or a.number == b.number else product(a, b)), factor * its


def _scaled(e: Expression, by: Any) -> tuple[Expression, Any]:
    found, factor = _without_factors(e)
    return found, factor * by


def over_channels(wanted: list[tuple[Expression, Any]]) -> list[Array]:
    """Return sums and maxima of every channel, as columns, computed in one sweep with what is asked for next."""
    if not wanted:
        return []
    known, added = wanted[0][0].layout.known, [e for e, how in wanted if how in (np.add, np.maximum)]
    every = [*wanted, *(one for e in added for one in _asked_next(e))]
    missing = {(e.number, how): (e, how) for e, how in every if (e.number, how) not in known}
    if any((e.number, how) in missing for e, how in wanted):
        over_pieces(list(missing.values()))
    return [known[e.number, how] for e, how in wanted]


def _asked_next(e: Expression) -> list[tuple[Expression, Any]]:
    """Return what a formula that adds something up needs of it besides: its magnitudes, and the largest of these."""
    if e.apply is np.square:
        return [(e.operands[0], np.add), *_asked_next(e.operands[0])]
    size = e if e.apply is np.absolute else None if e.nonnegative else _size(e)
    if size is None:
        return []
    return [(size, np.add)] if e.apply is np.multiply else [(size, np.add), (size, np.maximum)]


def _size(e: Expression) -> Expression:
    parts = e.operands
    if e.apply is np.multiply and len(parts) == len(e.arguments):
        return product(_size(parts[0]), _size(parts[1]))
    return e if e.nonnegative else written(np.absolute, (e,))


def finite(operand: Any) -> bool:
    """Return whether all elements are known to be finite."""
    largest = most(operand)
    return largest is not None and bool(np.isfinite(largest).all())


def most(operand: Any) -> Any:
    """Return the largest magnitude that an element of each channel may have; None: unknown."""
    if not isinstance(operand, Expression):
        return np.abs(operand)
    key, known = (operand.number, "most"), operand.layout.known
    if key not in known:
        known[key] = _most(operand)
    return known[key]


def _most(e: Expression) -> Any:
    if e.apply is None:
        return e.layout.largest(e.arguments[0])
    rule = _MOST.get(e.apply)
    operands = [most(a) for a in (e.arguments[1:] if e.apply is np.where else e.arguments)] if rule else []
    if (
        rule is None
        or any(a is None for a in operands)
        or (e.apply is np.divide and isinstance(e.arguments[1], Expression))
    ):
        return None
    return rule(*operands)


def _most_linear(constant: Any, *pairs: Any) -> Any:
    return sum((values * factor for values, factor in zip(pairs[::2], pairs[1::2], strict=True)), constant)


def _itself(a: Any, *_: Any) -> Any:
    return a


_MOST: dict[Any, Callable[..., Any]] = {
    linear: _most_linear,
    np.absolute: _itself,
    np.negative: _itself,
    np.square: np.square,
    np.sqrt: np.sqrt,
    np.add: np.add,
    np.subtract: np.add,
    np.multiply: np.multiply,
    np.divide: np.divide,
    np.where: np.maximum,
    np.maximum: np.maximum,
    np.fmax: np.maximum,
    np.minimum: np.maximum,
    np.fmin: np.maximum,
}


def register(function: Any, *, shrinks: bool) -> None:
    """Let a function be known to give nothing below 0; shrinks: and nothing larger than its first argument."""
    NONNEGATIVE.add(function)
    if shrinks:
        _MOST[function] = _itself
