"""Cases drawn by seed, each with a correct implementation to answer it, and what every rule says of an answer."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import msgspec
import numpy as np
from layer import CLASSES, Layer, Replace, Subject
from named_faults import Fault
from rules import DTYPES, HALVES, RULES

from conformance.cases import building, cells, strategies
from conformance.hosts import worker
from conformance.judging.expectation import trajectory
from conformance.judging.judgment import judge
from conformance.judging.promise import Promise
from conformance.model.case import Dtypes, content
from conformance.model.outcome import Outputs, Reply
from conformance.runs.run_case import RunCase
from reference.precision import widened
from reference.spec import reduced_axes

BOUNDS, WITHOUT_RESIDUAL = "bounds", "bounds without the residual check"
EVERY_RULE = (BOUNDS, WITHOUT_RESIDUAL, *RULES)
LARGE = (10_000, 2)
MODERATE = 256
EASY = 10.0
"""The largest |mean| / standard deviation of a channel on easy data."""

Data = Literal["easy", "hard"]
Answer = list[dict[str, Any]]


@dataclass(frozen=True)
class Trial:
    """A case, and the subject that is asked."""

    item: RunCase
    subject: Subject
    dtype: str
    data: Data

    def answer(self, replaced: Mapping[str, Replace] | None = None, tensors: dict[str, Any] | None = None) -> Answer:
        """Return the outputs of each step, with values replaced or as they should be; tensors: see `asked`."""
        with np.errstate(all="ignore"):
            return list(Layer(self.subject, replaced).run(self.asked(tensors)))

    def asked(self, tensors: dict[str, Any] | None = None) -> Any:
        """Return the case as a worker sees it; tensors: instead of the case's own."""
        fields = json.loads(json.dumps(content(self.item.case)))
        return worker.Case(fields, tensors or self.item.case.tensors, self.subject.base.statement)

    @cached_property
    def exact(self) -> list[dict[str, Any]]:
        """The exact outputs of each step."""
        with np.errstate(all="ignore"):
            steps = trajectory(Promise.of(self.item.exact_case, self.subject.statement))
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
        checked = [c for r in self._results(answer) for c in r.checks.items() if c[1] is not None and float(c[1]) > 1]
        return {BOUNDS for _ in checked} | {WITHOUT_RESIDUAL for name, _ in checked if name != "residual"}

    def rho(self, answer: Answer, output: str) -> float:
        """Return the largest ρ of one output."""
        checks = [r.checks.values() for r in self._results(answer) if r.output == output]
        return max(float(rho) for rhos in checks for rho in rhos if rho is not None)

    def _results(self, answer: Answer) -> list[Any]:
        """Return what the judge says of every array."""
        reply = Reply(0, self.subject.statement.id, tuple(map(Outputs, answer)))
        results = judge(self.item.id, self.item.exact_case, self.subject.statement, reply)
        assert all(r.checks for r in results), "an array is missing, of another shape or dtype, or could not be judged"
        return results

    # --- what a fault does here ----------------------------------------------------------------------------------

    def changed(self, answer: Answer, fault: Fault) -> set[str]:
        """Return the outputs in which a fault shows on this case, however little.

        That is where exact arithmetic, each output rounded once to its dtype, gives other numbers with the fault than
        without; for a fault of rounding, where the subject itself does.
        """
        if fault.category == "rounding":
            return _different(answer, self.right)
        return _different(self.ideal(fault.at), self._ideal)

    def ideal(self, replaced: Mapping[str, Replace] | None = None) -> Answer:
        """Return what `answer` does in long double and two passes, rounded once."""
        plain = dataclasses.replace(self.subject, numerical_class="A·S")
        wide = {n: a if a.dtype == bool else a.astype(np.longdouble) for n, a in self.item.case.tensors.items()}
        steps = dataclasses.replace(self, subject=plain).answer(replaced, wide)
        with np.errstate(all="ignore"):
            return [
                {name: array.astype(right[name].dtype) for name, array in step.items()}
                for step, right in zip(steps, self.right, strict=True)
            ]

    @cached_property
    def _ideal(self) -> Answer:
        return self.ideal()

    def visible(self, answer: Answer) -> bool:
        """Return whether some array is more than twice as far from the exact one as the right answer's is."""
        return any(
            _farthest(got[name], exact) > 2 * _farthest(right[name], exact)
            for got, right, step in zip(answer, self.right, self.exact, strict=True)
            for name, exact in step.items()
            if name in right
        )


def _different(answer: Answer, other: Answer) -> set[str]:
    pairs = [(name, got[name], want[name]) for got, want in zip(answer, other, strict=True) for name in want]
    return {name for name, got, want in pairs if not ((got == want) | (np.isnan(got) & np.isnan(want))).all()}


def _farthest(got: Any, exact: Any) -> float:
    """Return the largest error among the elements that should be finite; infinite where one is not."""
    with np.errstate(all="ignore"):
        error = np.abs(widened(got, exact.dtype.type) - exact)[np.isfinite(exact)]
    return float(np.nan_to_num(error, nan=np.inf).max(initial=0))


# --- drawing ------------------------------------------------------------------------------------------------------


def trials(seed: int, dtype: str, data: Data, draws: int) -> Iterator[Trial]:
    """Yield trials, the same for the same seed: numerical classes in turn, one case in six with a mask.

    Easy data has means of at most ten standard deviations, and at most a few hundred values per channel. Hard data is
    offset by up to a million of them or degenerate (constant, nearly so, tiny, large, sparse, with an outlier) in turn,
    and one case in six has ten thousand values per channel.
    """
    rng = np.random.default_rng([seed, DTYPES.index(dtype), data == "hard"])
    for i in range(draws):
        changes, placement = {"dtypes": _dtypes(dtype)}, ""
        if i % 6 == 5:
            changes |= {"feature": "mask", "variant": str(rng.choice(["full", "spread"]))}
        if data == "hard" and i % 6 == 2:
            changes, placement = changes | {"shape": LARGE}, "rank 2, axis 1"
        item = drawn(rng, "easy" if data == "easy" else ("offset", "degenerate")[i % 2], changes, placement)
        yield Trial(item, _subject(rng, i, item), dtype, data)


def moderate_trials(seed: int, dtype: str, draws: int) -> Iterator[Trial]:
    """Yield trials of at most 256 easy values per channel, each batch moving the averages by a tenth or more."""
    rng = np.random.default_rng([seed, DTYPES.index(dtype), 2])
    for i in range(draws):
        changes = {"dtypes": _dtypes(dtype), "momentum": float(rng.choice([0.9, 0.5, 0.0]))}
        item = drawn(rng, "easy", changes)
        while item.exact_case.whole(0).count > MODERATE:
            item = drawn(rng, "easy", changes)
        yield Trial(item, _subject(rng, i, item), dtype, "easy")


def drawn(rng: np.random.Generator, conditioning: str, changes: dict[str, Any], placement: str = "") -> RunCase:
    """Return a case of the suite's own strategies with parts of its signature changed; an easy one is easy enough.

    Of placements it takes the plain ones: where nothing is reduced, no mistake in statistics is one.
    """
    while True:
        where, run_seed = placement or str(rng.choice(cells.PLAIN)), int(rng.integers(2**31))
        plain = strategies.recipe(cells.Cell(where, conditioning, "float32"))
        recipe = strategies._draw(plain, (run_seed,), 2)[1]  # the first is the simplest; `recipes` also makes a pool
        recipe = msgspec.structs.replace(recipe, signature=msgspec.structs.replace(recipe.signature, **changes))
        item = RunCase(0, recipe, building.build(recipe, run_seed))
        if conditioning != "easy" or (item.record().conditioning or 0) <= EASY:
            return item


def leaning(trial: Trial) -> Trial:
    """Return the trial with gradients dy that are 0 where x is below its mean, and positive above: no sum cancels."""
    case = trial.item.case
    tensors, axes = dict(case.tensors), reduced_axes(case.spec, len(case.shape))
    for t in range(len(case.steps)):
        x, dy = case.x(t), case.tensors[f"{t}.dy"]
        above = x > x.astype(np.longdouble).mean(axes, keepdims=True)
        tensors[f"{t}.dy"] = np.where(above, np.abs(dy), 0).astype(dy.dtype)
    item = RunCase(0, trial.item.origin, msgspec.structs.replace(case, tensors=tensors))
    return dataclasses.replace(trial, item=item)


def _subject(rng: np.random.Generator, number: int, item: RunCase) -> Subject:
    """Return a subject of the class whose turn it is; with momentum 1 zero-debiasing would divide by 0."""
    stored, average = rng.choice(["biased", "unbiased"]), rng.choice(["exponential", "exponential", "zero_debiased"])
    if item.case.spec.momentum == 1:
        average = "exponential"
    return Subject(list(CLASSES)[number % len(CLASSES)], str(stored), str(average))


def _dtypes(dtype: Any) -> Dtypes:
    other = "float32" if dtype in HALVES else dtype
    return Dtypes(dtype, other, other)
