"""A layer called with other shapes: what is asked, and faults that nothing else finds."""

from __future__ import annotations

import numpy as np
import pytest
from plain_numpy import TwoPass, asked, judged

from conformance.cases.features import FEATURES
from conformance.cases.large import LARGE
from conformance.cases.shapes import SHAPES
from conformance.cases.sizes import SIZES
from conformance.judging.exact_case import ExactCase
from conformance.model.case import Case, Step
from reference import Spec


class FirstAxes(TwoPass):
    """Averages over the axes of the first batch, whatever the rank of this one."""

    def placed(self, step, *arrays):
        """Return the arrays for the step, and keep the axes."""
        axes, found = self.axes, TwoPass.placed(self, step, *arrays)
        self.axes = axes
        return found


class OneRowKept(TwoPass):
    """Takes a single row of many pixels for one value, once it has seen more rows: its variance is 0."""

    most = 0

    def moments(self, x):
        """Return mean and variance."""
        self.most = max(self.most, len(x))
        mean, variance = TwoPass.moments(self, x)
        return mean, variance * 0 if len(x) == 1 < self.most and x.size > variance.size else variance


def fails(kind, feature):
    """Return whether a subject fails some case of a feature."""
    return any(r.verdict == "FAIL" for e in asked(feature, None if feature in SHAPES else 1) for r in judged(kind, e))


@pytest.mark.parametrize(("kind", "found_by"), [(FirstAxes, "other ranks"), (OneRowKept, "other sizes")])
def test_faults_that_only_other_shapes_find(kind, found_by):
    """Each is found by its feature, and by no plain case and no other feature."""
    others = [f for f in FEATURES if f not in {*SHAPES, *SIZES, *LARGE}]
    assert fails(kind, found_by)
    assert [feature for feature in ("", *others) if fails(kind, feature)] == []


def test_every_rank_and_size_is_asked():
    """One layer sees ranks 2, 3 and 4, channels second and last; fewer rows, fewer pixels, one row after several."""
    ranks = {tuple(s.rank for s in e.facts) for e in asked("other ranks") if e.case.spec.axis == 1}
    assert (2, 3, 4) in ranks
    assert (4, 3, 2) in {tuple(s.rank for s in e.facts) for e in asked("other ranks") if e.case.spec.axis == -1}
    shapes = [[e.case.x(t).shape for t in range(3)] for e in asked("other sizes")]
    assert any(first[0] > second[0] == 1 and first[2:] == second[2:] for first, second, _ in shapes)
    assert any(first[0] == second[0] and first[2:] > second[2:] for first, second, _ in shapes)
    assert any(first[0] > second[0] > 1 for first, second, _ in shapes)


def test_a_refused_first_step_does_not_decide_the_rank():
    """A layer that refused images and then took lines has seen no other rank."""
    shapes = ((2, 2, 2, 3), (2, 2, 3), (2, 2, 2, 3))
    x = {f"{t}.x": np.ones(shape, np.float32) for t, shape in enumerate(shapes)}
    exact_case = ExactCase(Case(Spec(), (Step("train"),) * 3, tensors=x))
    assert [exact_case.seen(t, ()).reranked for t in range(3)] == [False, True, False]
    assert not exact_case.seen(1, {0}).reranked
