"""Large arrays are judged in pieces: with the same results as whole, and without ever being whole."""

from __future__ import annotations

import tracemalloc
from typing import Any

import msgspec
import numpy as np
import pytest

from conformance.cases import corpus, strategies
from conformance.hosts.environment import Environment, Request
from conformance.hosts.in_process import LocalWorker
from conformance.hosts.roster import select
from conformance.judging import exact_case
from conformance.judging.exact_case import ExactCase
from conformance.judging.judgment import compared, judge
from conformance.judging.large import pieces
from conformance.judging.large.pieces import Layout, added
from conformance.judging.large.streamed import Streamed, elementwise
from conformance.judging.step import OWN
from conformance.model import codec
from conformance.model.case import Case, Derivative, Step, case_id
from conformance.model.outcome import Outputs, Reply
from reference import Spec
from reference.batches import total

NAMES = ("numpy.two_pass", "numpy.fast", "numpy.folded", "numpy.renorm", "numpy.welford")
WORKERS: dict[str, Any] = {}


def answered(case: Case, name: str) -> Reply:
    """Return what an implementation answers, asked in this process."""
    (entry,) = select((name,))
    worker = WORKERS.setdefault(name, LocalWorker(Environment("here", (entry.target,), (entry.id,))))
    (reply,) = worker.ask([Request(0, lambda extra: codec.encode_case(case, extra), [entry.id])])
    return reply


def spoiled(reply: Reply, rng: np.random.Generator) -> Reply:
    """Return a reply with one element of each array changed: by little, by much, or to what is not finite."""
    outcomes = []
    for outcome in reply.outcomes:
        tensors = {n: np.array(a) for n, a in outcome.tensors.items()} if isinstance(outcome, Outputs) else {}
        for array in tensors.values():
            if array.size:
                place = np.unravel_index(rng.integers(array.size), array.shape)
                array[place] = rng.choice([array[place] * 1.0001, array[place] + 1, np.nan, np.inf])
        outcomes.append(Outputs(tensors) if isinstance(outcome, Outputs) else outcome)
    return msgspec.structs.replace(reply, outcomes=tuple(outcomes))


def likened(case: Case, name: str, reply: Reply) -> tuple[list[Any], int]:
    """Return the results of a reply, as far as pieces must not change them, and how many arrays came in pieces."""
    (entry,) = select((name,))
    judged, found = ExactCase(case), list[Any]()
    results = judge(case_id(case), judged, entry.statement, reply)
    for result in results:
        fields = msgspec.structs.asdict(result)
        said = {n: fields[n] for n in ("verdict", "reason", "step", "output", "vacuous", "not_finite", "dtype")}
        found.append((said, [fields["rho"], *dict(fields["checks"] or {}).values()]))
    arrays = [
        expected.value
        for t in range(len(reply.outcomes))
        if all(isinstance(o, Outputs) for o in reply.outcomes)
        for checks in compared(judged, entry.statement, reply, t).values()
        for expected in checks.values()
    ]
    return found, sum(isinstance(value, Streamed) for value in arrays)


def near(one: object, other: object, own: float) -> bool:
    """Return whether two ρ are alike, but for what the reference's own error, in sums in another order, is worth."""
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) <= own * max(1, one)
    return one == other


@pytest.mark.parametrize("of", range(4))
def test_pieces_give_what_the_whole_gives(of, monkeypatch):
    """Of generated cases and the corpus, right answers and spoiled ones: verdicts, counts and ρ are the same."""
    rng, streamed = np.random.default_rng(of), 0
    cases = [case for _, case in strategies.cases(3, 146)] + [named.case for named in corpus.read()]
    for number, case in list(enumerate(cases))[of::40]:
        name = NAMES[number % len(NAMES)]
        reply, own = answered(case, name), OWN if case.dtypes.x == "float64" else 2e-6
        for given in (reply, spoiled(reply, rng)):
            monkeypatch.setattr(exact_case, "LARGE", 1 << 16)
            whole, _ = likened(case, name, given)
            monkeypatch.setattr(exact_case, "LARGE", 1)
            most = case.nbytes >> 10  # of a large case, so that there are some hundred pieces
            monkeypatch.setattr(pieces, "ELEMENTS", max(int(rng.integers(5, 60)), most))
            parts, count = likened(case, name, given)
            assert [said for said, _ in parts] == [said for said, _ in whole]
            for (said, ours), (_, its) in zip(parts, whole, strict=True):
                assert all(near(a, b, own) for a, b in zip(ours, its, strict=True)), (
                    case_id(case),
                    name,
                    said,
                    ours,
                    its,
                )
            streamed += count
    assert streamed > 5


@pytest.mark.parametrize(
    ("shape", "axes"), [((7, 3, 5, 4), (0, 2, 3)), ((9, 40), (0,)), ((3, 5, 2, 6), (1, 3)), ((50,), (0,))]
)
def test_every_element_is_in_one_piece(shape, axes, monkeypatch):
    """Pieces put together are the array; sums and maxima over them are the reference's; and a place is found again."""
    monkeypatch.setattr(pieces, "ELEMENTS", 12)
    array, layout = np.random.default_rng(0).normal(size=shape), Layout(shape, axes)
    streamed = Streamed.of(array, layout, np.float64)
    assert len(layout.pieces) > 1
    assert sum(int(np.prod(piece.shape)) for piece in layout.pieces) == array.size
    np.testing.assert_array_equal(np.asarray(streamed), array)
    np.testing.assert_allclose(total(streamed, axes), total(array, axes), atol=1e-14)
    monkeypatch.setattr(Streamed, "__array__", None)  # from here on, the whole is not asked for
    np.testing.assert_allclose(np.add.reduce(streamed, axes, keepdims=True, initial=0), total(array, axes), atol=1e-14)
    np.testing.assert_array_equal(streamed.max(axes, keepdims=True), array.max(axes, keepdims=True))
    assert np.argmax(streamed) == np.argmax(array)
    few = tuple(slice(1, 3) if axis in axes else slice(None) for axis in range(array.ndim))
    np.testing.assert_array_equal(streamed[few], array[few])
    np.testing.assert_array_equal((streamed > 1).any(axes, keepdims=True), (array > 1).any(axes, keepdims=True))
    assert (streamed < 9).all()
    assert all(added(values).shape == (values.shape[0],) for values in (np.ones((2, 9)), np.ones((9, 2)).T))


def test_magnitudes_are_multiplied_out_and_differences_are_not():
    """Sums of magnitudes are kept as a + b|x|; x - m is computed as it is written; what cannot fail is not computed."""
    layout = Layout((4, 2), (0,))
    array = np.array([[1e9 + 1, 2], [1e9, 3], [1e9 + 3, 4], [1e9 - 1, -5]])
    x, mean = Streamed.of(array, layout, np.float64), np.array([[1e9, 1.0]])
    bound = 3 * (np.abs(x) * mean + 2) + np.abs(x)
    assert len(bound.arguments) == 3  # a constant, |x|, and its factor
    np.testing.assert_allclose(np.asarray(bound), 3 * (np.abs(array) * mean + 2) + np.abs(array), rtol=1e-15)
    np.testing.assert_array_equal(np.asarray((x - mean) * mean + mean), (array - mean) * mean + mean)
    assert not isinstance(np.abs(x) > 2e9, Streamed)
    assert isinstance(np.abs(x) > 1e9, Streamed)


def test_what_nothing_is_known_of_is_computed_from_the_whole():
    """A function that is not of elements gets the whole array; a function of elements that says so gets pieces."""

    @elementwise()
    def cubed(values):
        return np.abs(values) ** 3

    array = np.arange(12.0).reshape(6, 2) - 5
    x = Streamed.of(array, Layout((6, 2), (0,)), np.float64)
    np.testing.assert_array_equal(np.sort(x, axis=0), np.sort(array, axis=0))
    np.testing.assert_array_equal(np.asarray(cubed(x)), np.abs(array) ** 3)
    assert isinstance(cubed(x), Streamed)


def test_memory_is_that_of_a_few_pieces():
    """Judging y, dx and all statistics of a million elements allocates no more than 16 arrays of a piece hold."""
    rng, n = np.random.default_rng(0), 1 << 20
    tensors = {name: np.ones(4, np.float32) for name in ("gamma", "beta", "moving_mean", "moving_variance")}
    tensors |= {name: rng.standard_normal((n // 64, 4, 16), dtype=np.float32) for name in ("0.x", "0.dy")}
    case = Case(Spec(axis=1), (Step("train", derivatives=(Derivative(),)),), tensors=tensors)
    (entry,) = select(("numpy.two_pass",))
    reply, judged = answered(case, "numpy.two_pass"), ExactCase(case)
    assert isinstance(judged.array(0, "x"), Streamed)
    tracemalloc.start()
    try:
        results = judge("", judged, entry.statement, reply)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert {r.verdict for r in results} == {"PASS"}
    assert most < 16 * 8 * pieces.ELEMENTS, f"{most / n:.2f} bytes per element"
