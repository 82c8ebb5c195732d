"""What a renderer makes of a draft: the framework's part of a script."""

from __future__ import annotations

from dataclasses import dataclass, field

from conformance.studies.upstream.draft import Draft, Untold


@dataclass
class Program:
    """Lines of Python.

    imports: import statements. lines: what asks the framework, after which `got` is an expression of a NumPy array.
    versions: an expression for the framework's version, by its name. environment: variables to set before the import.
    """

    imports: list[str]
    versions: dict[str, str]
    lines: list[str] = field(default_factory=list[str])
    got: str = ""
    environment: dict[str, str] = field(default_factory=dict[str, str])


def unless(draft: Draft, *outputs: str) -> None:
    """Raise where another output than these is to be shown."""
    if draft.output not in outputs:
        raise Untold(f"no script is written that shows {draft.output} of {draft.entry}")


def shaped(got: str, *, kept: bool) -> str:
    """Return what is kept as a vector, as bnconf counts its elements."""
    return f"np.ravel({got})" if kept else got
