"""Bounds along a tangent: no program that differentiates is beyond them, whatever it rounds, nor far below."""

from __future__ import annotations

import functools
import itertools
from pathlib import Path
from types import MappingProxyType, SimpleNamespace

import along
import calculus
import maps
import moments as mo
import msgspec
import numpy as np
import pytest
from arithmetic import Nearest
from panel import Panel
from sums import Serial
from worst import worst

from conformance.cases.building import build
from conformance.cases.cells import CELLS
from conformance.cases.strategies import recipes
from conformance.judging.bounds.bounds import BatchStatistics, Bounds
from conformance.judging.bounds.tangents import TangentBounds
from conformance.model.case import Dtypes
from conformance.model.numerics import Numerics, Units
from conformance.runs.run_case import RunCase
from reference import (
    Parameters,
    Semantics,
    Spec,
    State,
    Tangent,
    train_second_order,
    train_tangents,
    train_third_order,
)
from reference.batches import observe

ALONG = str(Path(__file__).parent / "along.py")
CELLS_ALONG = [c for c in CELLS if c.feature in ("forward", "second order", "forward over forward", "third order")]
FLOAT32 = Units(2.0**-24, 0.0, np.inf, 0.0, 0.0, np.inf)
EPSILON, MOST = 1e-5, 200


def exact_root(_, w):
    """Return 1 / sqrt(w)."""
    return 1 / np.sqrt(w)


def drawn(n, ratio, spread):
    """Return x, dy, a tangent and gamma: spread times sqrt(epsilon) wide, around ratio times that."""
    rng = np.random.default_rng(n)
    x = (rng.normal(size=(n, 4)) + ratio) * spread * EPSILON**0.5
    return x, rng.normal(size=(n, 4)), rng.normal(size=(n, 4)), rng.normal(1, 0.5, 4)


def program(parts, x, dy, tangent, gamma):
    """Return a forward pass and its gradients, computed in float64."""
    c = calculus.Calculus(Nearest("float64"), Serial(), exact_root, len(x), parts.get("slope", calculus.cubed))
    given = {"x": x, "dy": dy, "tangent": tangent, "gamma": gamma, "beta": 0 * gamma, "epsilon": EPSILON}
    plain = {"moments": mo.two_pass, "affine": maps.direct, "written": None}
    return along.Program(SimpleNamespace(**(plain | parts)), c, given, None)


def derivatives(parts, *given):
    """Yield the name and the value of every derivative along the tangent, in every order of modes."""
    p = program(parts, *given)
    if "written" not in parts:
        yield "y_tangent", p.along(p.y)
        yield "y_tangent2", p.along(p.along(p.y))
    for mode in ("forward", "reverse"):
        yield from zip(("dx_tangent", "dgamma_tangent"), p.second(mode), strict=True)
    for order in along.ORDERS:
        yield from zip(("dx_tangent2", "dgamma_tangent2"), p.third(order), strict=True)


def allowed(parts, x, dy, tangent, gamma, words=MappingProxyType({})):
    """Return what a program of these parts is allowed in float32, by output."""
    word = mo.word(parts.get("moments", mo.two_pass)), maps.WORDS.get(parts.get("affine"), {})
    b = Bounds(Numerics(**word[0], affine=word[1].get("affine", "direct"), **words), FLOAT32, len(x), EPSILON)
    batch = BatchStatistics.of(observe(x, None, Spec(axis=1), Semantics()))
    e, none, n = TangentBounds(b, batch, b.used_of(batch), dy, tangent), np.zeros(()), len(x)
    return {
        "y_tangent": e.e_y(gamma, none),
        "dx_tangent": e.e_dx(gamma, none),
        "dgamma_tangent": n * e.e_mean_dgamma(),
        "y_tangent2": e.e_y_twice(gamma, none),
        "dx_tangent2": e.e_dx_twice(gamma, none),
        "dgamma_tangent2": n * e.e_mean_dgamma_twice(),
    }


def parts_of(rho, parts, *given):
    """Add, by output, which part of its bound the worst of one row's roundings is; infinite bounds promise nothing."""
    bounds = allowed(parts, *given)
    for name, value in derivatives(parts, *given):
        bound = bounds[name][0]
        part = worst(value, 0)[np.isfinite(bound)] * FLOAT32.u / bound[np.isfinite(bound)]
        rho.setdefault(name, []).extend(part.tolist())
    return rho


@pytest.mark.parametrize(("name", "parts"), list(along.parts()), ids=lambda p: p if isinstance(p, str) else "")
def test_programs_differentiate_rightly(name, parts):
    """In float64 every program, in every order of modes, gives the reference's derivatives."""
    x, dy, tangent, gamma = given = drawn(5, 1, 3)
    layer = Parameters(gamma, None), State(np.zeros(4), np.ones(4)), Spec(axis=1, epsilon=EPSILON), Semantics()
    second = train_second_order(x, dy, Tangent(tangent), *layer)
    third = train_third_order(x, dy, tangent, *layer)
    wanted = {"y_tangent": train_tangents(x, Tangent(tangent), *layer).y, "y_tangent2": third.y}
    wanted |= {"dx_tangent": second.dx, "dgamma_tangent": second.dgamma}
    wanted |= {"dx_tangent2": third.dx, "dgamma_tangent2": third.dgamma}
    for output, value in derivatives(parts, *given):
        size = np.abs(wanted[output]).max()
        np.testing.assert_allclose(value.data, wanted[output], rtol=1e-9, atol=1e-9 * size, err_msg=f"{name} {output}")


@pytest.mark.parametrize("n", [1, 2, 8, *(pytest.param(n, marks=pytest.mark.proof) for n in (3, 33))])
@np.errstate(all="ignore")  # of a variance that may be 0 no bound is finite
def test_the_worst_roundings_of_every_program_are_within_its_bounds(n):
    """Every rounding a whole unit, each in the direction that moves one element most: no more than is allowed."""
    rho = {}
    cases = [drawn(n, *of) for of in itertools.product((0, 10, 300), (0.1, 3, 1e3))]
    for number, (_, parts) in enumerate(along.parts()):
        parts_of(rho, parts, *cases[number % 9])
        parts_of(rho, parts, *cases[(5 * number + n) % 9])
    assert {name: max(of) for name, of in rho.items() if max(of) > 1} == {}


@pytest.mark.parametrize("n", [2, 8, 100])
def test_the_worst_roundings_of_a_matrix_of_derivatives_are_within_its_bounds(n):
    """Along each element by itself, and multiplied by the tangent then: a way of its own, which may lose more."""
    given = drawn(n, 0, 0.1)
    bounds = allowed({}, *given, {"tangent": "each"})
    for mode in ("forward", "reverse"):
        for name, value in zip(("dx_tangent", "dgamma_tangent"), each(given, mode), strict=True):
            assert (worst(value, 0) * FLOAT32.u <= bounds[name][0]).all()


def each(given, mode):
    """Return dx and dgamma along the tangent, from those along each row."""
    p, found = program({}, *given), []
    for row, size in enumerate(given[2]):
        p.tangent = p.c.take(np.where(np.arange(len(given[2]))[:, None] == row, 1.0, np.zeros_like(given[2])))
        found.append([p.c.mul(value, p.c.take(size)) for value in p.second(mode)])
    return [functools.reduce(p.c.add, values) for values in zip(*found, strict=True)]


@pytest.mark.parametrize("n", [4, 12, 64])
def test_bounds_of_a_plain_program_are_within_30_times_its_worst_roundings(n):
    """Two passes and the direct map, of data around 0: in no element is more than that allowed for nothing."""
    rho = {}
    for slope in along.SLOPES:
        parts_of(rho, {"slope": slope}, *drawn(n, 0, 3))
    assert {name: 1 / min(of) for name, of in rho.items() if min(of) < 1 / 30} == {}


def items(*dtypes):
    """Return small cases of every cell with tangents, in these dtypes."""
    drawn = [recipe for cell in CELLS_ALONG for recipe in recipes(cell, 7, 4)]
    for number, dtype in enumerate(itertools.islice(itertools.cycle(dtypes), len(drawn))):
        signature = msgspec.structs.replace(drawn[number].signature, dtypes=Dtypes(x=dtype))
        drawn[number] = msgspec.structs.replace(drawn[number], signature=signature)
    cases = [(recipe, build(recipe, 7)) for recipe in drawn]
    return [RunCase(n, recipe, case) for n, (recipe, case) in enumerate(cases) if case.x(0).size <= MOST]


@pytest.mark.parametrize(
    ("every", "dtypes"),
    [(5, ()), pytest.param(7, ("float16", "bfloat16"), marks=pytest.mark.proof)],
    ids=["single", "half"],
)
def test_ways_that_differentiate_are_no_alarm(every, dtypes):
    """They round to nearest, with subnormals flushed, or by whole units one way, and pass in every output."""
    made = along.halves() if dtypes else along.ways()
    panel = Panel(ALONG, [way.__name__ for way in itertools.islice(made, 0, None, every)])
    with np.errstate(all="ignore"):
        results = [result for item in items(*dtypes) for result in panel.results(item)]
    assert [r for r in results if r.failed] == []
    assert {r.output for r in results if r.size > 0} >= {*along.TANGENTS}
