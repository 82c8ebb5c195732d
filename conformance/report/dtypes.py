"""Which dtype a case is in: what its input is stored as."""

from __future__ import annotations

from conformance.model.results import CaseRecord

DTYPES = ("float16", "bfloat16", "float32", "float64")


def dtype_of(case: CaseRecord | None) -> str:
    """Return the dtype of a case's input; a named case says it in its summary. Empty where nothing says it.

    >>> dtype_of(CaseRecord("c", 0, "corpus", "f", "(6, 7) axis=0 float64: two", {}, True, None))
    'float64'
    """
    if case is None:
        return ""
    if case.recipe:
        return str(case.recipe.get("signature", {}).get("dtypes", {}).get("x", "float32"))
    return next((word for word in case.summary.replace(":", " ").split() if word in DTYPES), "")
