"""A case that its script is too long for, made shorter: data by a seed, or less of it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping

import msgspec
import numpy as np

from conformance.model.case import Case
from conformance.model.results import Result
from conformance.runs.recording import RecordedAnswer
from conformance.studies.hunt import minimizing
from conformance.studies.upstream import literals, scripts
from conformance.studies.upstream.draft import TooLong
from conformance.studies.upstream.shown import Shown
from reference.precision import widened
from reference.spec import Array

Ask = Callable[[Case], RecordedAnswer | None]
Look = Callable[[Case, RecordedAnswer], Shown | None]
"""What a script would show of an answer to another case; None if there is nothing."""
_SEEDS = 3
_LONG = 24  # elements


class Telling:
    """What became of the search for a case whose script is short.

    first: what is to be shown of the case itself. found: of a shorter one, with its script.
    """

    def __init__(self, first: Shown, look: Look, ask: Ask, seconds: float) -> None:
        self.first, self.look, self.ask = first, look, ask
        self.until = time.monotonic() + seconds
        self.found: tuple[Shown, str] | None = None

    def tell(self) -> tuple[Shown, str]:
        """Return what a script shows, and the script; raise `TooLong` where none is found in time."""
        try:
            return self.first, scripts.script(self.first)
        except TooLong:
            for case, formulas in seeded(self.first.case):
                self.still(case, formulas)
            minimizing.smallest(self.first.case, Result("", "", "FAIL"), self.still)
            if self.found is None:
                raise
            return self.found

    def still(self, case: Case, formulas: Mapping[str, str] | None = None) -> Result | None:
        """Return a failure if another case fails in the same way; None once a script is short enough."""
        if self.found or time.monotonic() > self.until:
            return None
        answer = self.ask(case)
        one = self.look(case, answer) if answer else None
        if one is None or (one.kind, one.output) != (self.first.kind, self.first.output):
            return None
        with contextlib.suppress(TooLong):
            self.found = one, scripts.script(one, formulas)
        return Result("", "", "FAIL")


def seeded(case: Case) -> Iterator[tuple[Case, dict[str, str]]]:
    """Yield the case with its long arrays drawn anew, about as far from 0 and as wide, and expressions for these."""
    long = [n for n, a in case.tensors.items() if a.size > _LONG and n[0].isdigit() and a.dtype.kind == "f"]
    for seed in range(_SEEDS if long else 0):
        formulas = {name: _formula(case.tensors[name], seed) for name in long}
        drawn = {name: eval(text, {"np": np}) for name, text in formulas.items()}  # noqa: S307 - of ours
        yield msgspec.structs.replace(case, tensors=case.tensors | drawn), formulas


def _formula(array: Array, seed: int) -> str:
    wide = widened(array, np.float64)
    mean, deviation = (literals.number(float(f"{value:.1g}")) for value in (wide.mean(), wide.std()))
    return f'np.random.default_rng({seed}).normal({mean}, {deviation}, {array.shape}).astype("{array.dtype}")'
