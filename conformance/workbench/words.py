"""The words in which somebody's step is told, the same for `expected`, `check` and `assert_conforms`."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Required, TypedDict, TypeVar

from conformance.model.numerics import Numerics
from conformance.model.spelling import nearest
from reference import Semantics

UNSAID: Any = object()
"""Of momentum, for which None means something."""
_F = TypeVar("_F", bound=Callable[..., Any])


class Said(TypedDict, total=False):
    """The words, as a type checker has them."""

    axis: Required[int | tuple[int, ...]]
    epsilon: Required[float]
    momentum: float | None
    gamma: Any
    beta: Any
    dy: Any
    mask: Any
    training: bool
    moving_mean: Any
    moving_variance: Any
    batches: int
    semantics: Semantics | str
    numerics: Numerics | Mapping[str, Any] | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Words:
    """The words with their defaults."""

    x: Any
    axis: int | tuple[int, ...]
    epsilon: float
    momentum: float | None = UNSAID
    gamma: Any = None
    beta: Any = None
    dy: Any = None
    mask: Any = None
    training: bool = True
    moving_mean: Any = None
    moving_variance: Any = None
    batches: int = 0
    semantics: Semantics | str = "numpy"
    numerics: Numerics | Mapping[str, Any] | None = None


def spelled_out(function: _F) -> _F:
    """Let a function that takes words show them all in `help`, and name the nearest one where one is wrong."""
    own = [p for p in inspect.signature(function).parameters.values() if p.kind is not p.VAR_KEYWORD]
    words = [p for name, p in inspect.signature(Words).parameters.items() if name != "x"]
    known = [p.name for p in words]

    @functools.wraps(function)
    def taking(*arguments: Any, **given: Any) -> Any:
        __tracebackhide__ = True
        if wrong := next((name for name in given if name not in [*known, *(p.name for p in own)]), ""):
            raise TypeError(
                f"{function.__name__}() takes no {wrong!r}; did you mean {nearest(wrong, known)!r}? "
                f"all of them: {', '.join(known)}"
            )
        return function(*arguments, **given)

    taking.__signature__ = inspect.Signature([*own, *words])  # pyright: ignore[reportAttributeAccessIssue]
    return taking  # pyright: ignore[reportReturnType]
