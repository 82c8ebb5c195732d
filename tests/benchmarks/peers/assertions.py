"""A pytest plugin that counts the assertions that pass: bare ones, those of NumPy, of unittest's classes and of torch.

An assertion that is made within another counts with it. The number is written where PEERS_ASSERTIONS says.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

_NUMPY = ("allclose", "array_equal", "equal", "almost_equal", "array_almost_equal", "array_less", "raises")


class _Count:
    passed = 0
    depth = 0


def _counted(check: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(check)
    def checked(*arguments: Any, **named: Any) -> Any:
        _Count.depth += 1
        try:
            result = check(*arguments, **named)
        finally:
            _Count.depth -= 1
        _Count.passed += not _Count.depth
        return result

    checked.is_counted = True  # type: ignore[attr-defined]
    return checked


for _name in _NUMPY:
    setattr(np.testing, f"assert_{_name}", _counted(getattr(np.testing, f"assert_{_name}")))


def pytest_collection_modifyitems(items: list[Any]) -> None:
    """Count what the classes of the tests assert with, their own methods included."""
    for cls in {base for item in items if item.cls for base in item.cls.__mro__}:
        for name, check in list(vars(cls).items()):
            if name.lstrip("_").startswith("assert") and callable(check) and not hasattr(check, "is_counted"):
                setattr(cls, name, _counted(check))


def pytest_assertion_pass() -> None:
    """Count an assert statement."""
    _Count.passed += not _Count.depth


def pytest_sessionfinish() -> None:
    """Write the number down."""
    Path(os.environ["PEERS_ASSERTIONS"]).write_text(str(_Count.passed))
