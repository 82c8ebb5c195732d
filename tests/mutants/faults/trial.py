"""Cases drawn by seed, each with a correct implementation to answer it, and what every rule says of an answer."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import msgspec
import numpy as np
from layer import CLASSES, Layer, Replace, Subject
from rules import DTYPES, HALVES, RULES

from conformance import strategies, worker
from conformance.case import Dtypes, question
from conformance.expectation import trajectory
from conformance.item import Item
from conformance.judgment import judge
from conformance.outcome import Outputs, Reply
from conformance.question import Plan
from reference.precision import widened

BOUNDS, WITHOUT_RESIDUAL = "bounds", "bounds without the residual check"
EVERY_RULE = (BOUNDS, WITHOUT_RESIDUAL, *RULES)
LARGE = (20_000, 2)
EASY = 10.0
"""The largest |mean| / standard deviation of a channel on easy data."""

Data = Literal["easy", "hard"]
Answer = list[dict[str, Any]]


@dataclass(frozen=True)
class Trial:
    """A case, and the subject that is asked."""

    item: Item
    subject: Subject
    dtype: str
    data: Data

    def answer(self, replaced: Mapping[str, Replace] | None = None) -> Answer:
        """Return the outputs of each step, with values replaced or as they should be."""
        case = self.item.case
        fields = json.loads(json.dumps(question(case)))
        asked = worker.Case(fields, case.tensors, self.subject.base.statement)
        with np.errstate(all="ignore"):
            return list(Layer(self.subject, replaced).run(asked))

    @cached_property
    def exact(self) -> list[dict[str, Any]]:
        """The exact outputs of each step."""
        with np.errstate(all="ignore"):
            steps = trajectory(Plan(self.item.question, self.subject.statement))
        assert all(isinstance(step, dict) for step in steps), "the reference refuses the case"
        return [{name: expected.value for name, expected in step.items()} for step in steps]

    @cached_property
    def right(self) -> Answer:
        """The answer without a fault."""
        return self.answer()

    @cached_property
    def alarms(self) -> set[str]:
        """The rules that the right answer fails."""
        return self.failed(self.right)

    def failed(self, answer: Answer) -> set[str]:
        """Return the rules that an answer fails."""
        found = self._bounds(answer)
        with np.errstate(all="ignore"):
            return found | {name for name, passes in RULES.items() if not all(map(passes, *self._pairs(answer)))}

    def _pairs(self, answer: Answer) -> tuple[list[Any], list[Any]]:
        pairs = [
            (got[name], value)
            for got, exact in zip(answer, self.exact, strict=True)
            for name, value in exact.items()
            if name in got
        ]
        return [got for got, _ in pairs], [value for _, value in pairs]

    def _bounds(self, answer: Answer) -> set[str]:
        reply = Reply(0, self.subject.statement.id, tuple(map(Outputs, answer)))
        results = judge(self.item.id, self.item.question, self.subject.statement, reply)
        wrong = [r for r in results if r.verdict in {"FAIL", "ERROR"}]
        assert all(r.verdict == "FAIL" and isinstance(r.checks, dict) for r in wrong), wrong[0].reason
        others = [rho for r in wrong for name, rho in r.checks.items() if name != "residual" and rho is not None]
        found = {BOUNDS} if wrong else set[str]()
        return found | {WITHOUT_RESIDUAL for rho in others if float(rho) > 1}

    # --- what a fault does here ----------------------------------------------------------------------------------

    def changed(self, answer: Answer) -> set[str]:
        """Return the outputs that differ from the right ones in any bit."""
        return {
            name
            for got, right in zip(answer, self.right, strict=True)
            for name, array in right.items()
            if got[name].tobytes() != array.tobytes()
        }

    def visible(self, answer: Answer) -> bool:
        """Return whether any array is farther from the right answer than this itself is anywhere from the exact one."""
        return any(
            self._stands_out(got[name], right[name], value)
            for got, right, exact in zip(answer, self.right, self.exact, strict=True)
            for name, value in exact.items()
            if name in right
        )

    def _stands_out(self, got: Any, right: Any, exact: Any) -> bool:
        with np.errstate(all="ignore"):
            got, right = (widened(a, exact.dtype.type) for a in (got, right))
            change, noise = np.abs(got - right), np.abs(right - exact)
        if not np.array_equal(np.isfinite(got), np.isfinite(right)):
            return True
        return bool(np.nanmax(change, initial=0) > np.nanmax(noise, initial=0))


# --- drawing ------------------------------------------------------------------------------------------------------


def trials(seed: int, dtype: str, data: Data, draws: int) -> Iterator[Trial]:
    """Yield trials, the same for the same seed: numerical classes in turn, one case in six with a mask.

    Easy data has means of at most ten standard deviations, and at most a few hundred values per channel. Hard data is
    offset by up to a million of them or degenerate (constant, nearly so, tiny, large, sparse, with an outlier) in turn,
    and one case in six has twenty thousand values per channel.
    """
    rng = np.random.default_rng([seed, DTYPES.index(dtype), data == "hard"])
    for i in range(draws):
        conditioning = "easy" if data == "easy" else ("offset", "degenerate")[i % 2]
        subject = Subject(
            list(CLASSES)[i % len(CLASSES)],
            str(rng.choice(["biased", "unbiased"])),
            str(rng.choice(["exponential", "exponential", "zero_debiased"])),
        )
        large = data == "hard" and i % 6 == 2
        item = drawn(rng, dtype, conditioning, masked=i % 6 == 5, large=large)
        yield Trial(item, subject, dtype, data)


def drawn(rng: np.random.Generator, dtype: str, conditioning: str, *, masked: bool, large: bool = False) -> Item:
    """Return a case of the suite's own strategies, in this dtype; easy ones until one is easy enough."""
    for number in itertools.count():
        placement = "rank 2, axis 1" if large else str(rng.choice(list(strategies.PLACEMENTS)))
        cell, run_seed = strategies.Cell(placement, conditioning, "float32"), int(rng.integers(2**31))
        recipe = strategies.recipes(cell, run_seed, 2)[1]  # the first one's signature is of a pool
        signature = msgspec.structs.replace(recipe.signature, dtypes=_dtypes(dtype))
        if large:
            signature = msgspec.structs.replace(signature, shape=LARGE)
        if masked:
            signature = msgspec.structs.replace(signature, feature="mask", variant=str(rng.choice(["full", "spread"])))
        recipe = msgspec.structs.replace(recipe, signature=signature)
        item = Item(number, recipe, strategies.build(recipe, run_seed))
        if conditioning != "easy" or (item.record().conditioning or 0) <= EASY:
            return item
    raise AssertionError


def _dtypes(dtype: Any) -> Dtypes:
    other = "float32" if dtype in HALVES else dtype
    return Dtypes(dtype, other, other)


