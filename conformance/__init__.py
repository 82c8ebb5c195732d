"""Who agrees with the reference: cases, implementations, bounds, verdicts, reports.

For arrays of one's own, in one's own test: `expected`, `check` and `assert_conforms`, which load what they need when
they are first asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from conformance.workbench.checking import assert_conforms as assert_conforms
    from conformance.workbench.checking import check as check
    from conformance.workbench.checking import expected as expected

__all__ = ["assert_conforms", "check", "expected"]


def __getattr__(name: str) -> Any:
    """Return what stands at the top, when it is first asked for."""
    if name not in __all__:
        raise AttributeError(f"module 'conformance' has no attribute {name!r}")
    return getattr(importlib.import_module("conformance.workbench.checking"), name)
