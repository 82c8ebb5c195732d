"""What is right, and whether somebody's arrays are: `expected`, `check`, `assert_conforms`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Unpack

import msgspec
import numpy as np

from conformance.judging.causes import cause
from conformance.judging.causes.failed_step import FailedStep, wrong_of
from conformance.judging.causes.where import described
from conformance.judging.exact_case import ExactCase
from conformance.judging.expectation import trajectory
from conformance.judging.judgment import compared, judge, rho_of
from conformance.judging.promise import Promise
from conformance.model.outcome import Outputs, Reply
from conformance.model.outputs import LIKE_INPUT
from conformance.model.results import Result, Rho
from conformance.workbench.given import GivenStep, asked
from conformance.workbench.report import OutputReport, Report, WorstElement
from conformance.workbench.words import Said, Words, spelled_out
from reference import Refusal
from reference.spec import Array, kept_axes


class ExpectedArray(NamedTuple):
    """What one output should be: its value in higher precision, the error allowed in each element, and its dtype."""

    value: Array
    allowed: Array
    dtype: str


@spelled_out
def expected(
    x: Any,
    **words: Unpack[Said],
) -> dict[str, ExpectedArray]:
    """Return what every output of one step should be, in higher precision, and how far each element may be off.

    x: the batch, of any shape, in float16, bfloat16, float32 or float64.
    axis: what is KEPT, one channel for each position along it; everything else is averaged over (BN-1).
    epsilon: added to the variance inside the root (BN-4).
    momentum: the fraction of the moving statistics that is kept (BN-8), which torch calls 1 - momentum; None: a mean of
        all batches, `batches` of which have entered the moving statistics already.
    gamma, beta: of the kept shape; without them y is the normalized x.
    dy: the gradient of y, of x's shape; with it dx, dgamma and dbeta are expected.
    mask: what of a training batch counts (BN-23).
    training: normalize by the batch; False: by the moving statistics.
    moving_mean, moving_variance: those before the step.
    semantics: a `Semantics`, or the name of an implementation or a family, such as "torch", whose numerics come along.
    numerics: how outputs are computed, a `Numerics` or its words, such as {"variance": "fast"}; what is allowed
        follows from it, and is derived, not tried (`conformance/judging/bounds`).

    Arrays may be those of NumPy, PyTorch, JAX, TensorFlow, CuPy, or anything with DLPack or `__array__`. Raises
    ValueError for what makes no sense.

    >>> x = np.array([[1.0, 2.0], [3.0, 6.0], [5.0, 7.0], [7.0, 9.0]], np.float32)
    >>> found = expected(x, axis=1, epsilon=0.0)
    >>> list(found), found["mean"].value.tolist(), found["y"].value[0].round(3).tolist()
    (['y', 'mean', 'variance'], [4.0, 6.0], [-1.342, -1.569])
    >>> bool((found["y"].allowed < 1e-6).all())
    True
    """
    given = asked(Words(x=x, **words))
    exact_case = given.exact_case
    with np.errstate(all="ignore"):
        (found,) = trajectory(Promise.of(exact_case, given.statement))
    assert not isinstance(found, Refusal)
    wanted = (name for name in given.statement.returns(exact_case.facts[0]) if name in found)
    return {n: ExpectedArray(np.asarray(found[n].value), np.asarray(found[n].bound), found[n].dtype) for n in wanted}


@spelled_out
def check(
    outputs: Mapping[str, Any],
    x: Any,
    **words: Unpack[Said],
) -> Report:
    """Return a report on the outputs of one step: whether each conforms, and what is wrong where one does not.

    outputs: arrays by the names of a run: y, dx, dgamma, dbeta, moving_mean, moving_variance, mean, variance.

    The other words are those of `expected`. Of several steps, check each with the state that the last one returned.

    >>> x = np.array([[1.0, 2.0], [3.0, 6.0], [5.0, 7.0], [7.0, 9.0]], np.float32)
    >>> y = ((x - x.mean(0)) / np.sqrt(x.var(0) + np.float32(1e-3))).astype(np.float32)
    >>> print(check({"y": y, "mean": x.mean(1)[:2]}, x, axis=1, epsilon=1e-3))
    mean is wrong; held to numpy.two_pass
      mean: WRONG in all of its 2 elements; nothing may be off there (A·S)
        mean[0] is 1.5, expected 4.0 ± 0.0
      y: conforms, its worst error is 0.197 of what is allowed
      No single change of what was asked explains it
      Not given, and not compared: variance
    """
    given = asked(Words(x=x, **words), outputs)
    exact_case, reply = given.exact_case, Reply(0, given.statement.id, (Outputs(given.outputs),))
    found = judge("", exact_case, given.statement, reply)
    said = {result.output: _said(exact_case, given, reply, result) for result in found}
    wrong = wrong_of(found)
    rest = tuple(name for name in asked(Words(x=x, **words)).statement.outputs if name not in given.outputs)
    step = FailedStep(exact_case, given.statement, reply, 0, wrong)
    held_to = _held_to(given, computed=words.get("numerics") is not None)
    return Report(said, held_to, cause.in_words(step) if wrong else [], rest)


@spelled_out
def assert_conforms(
    outputs: Mapping[str, Any],
    x: Any,
    **words: Unpack[Said],
) -> None:
    """Raise AssertionError with the text of `check` unless every output that is given conforms.

    The words are those of `check`.

    >>> x = np.array([[1.0], [3.0]], np.float32)
    >>> assert_conforms({"y": np.array([[-1.0], [1.0]], np.float32)}, x, axis=1, epsilon=0.0)
    >>> assert_conforms({"y": x}, x, axis=1, epsilon=0.0)
    Traceback (most recent call last):
    AssertionError: y is wrong; held to numpy.two_pass
      ...
    """
    __tracebackhide__ = True
    report = check(outputs, x, **words)
    if not report.ok:
        raise AssertionError(str(report))


def _held_to(given: GivenStep, *, computed: bool) -> str:
    """Return what outputs were held to, in words. computed: it was said how."""
    name = given.statement.id if given.statement.id != "yours" else "the semantics that were given"
    return f"{name}, computed as was said" if computed else name


def _said(exact_case: ExactCase, given: GivenStep, reply: Reply, result: Result) -> OutputReport:
    d = result.deviation
    rho: Rho = None if result.rho is msgspec.UNSET else result.rho
    worst = None if d is None else WorstElement(tuple(d.index), d.expected, d.got, d.bound)
    where = _where(exact_case, given, reply, result.output) if result.verdict == "FAIL" and d else ""
    return OutputReport(result.output, result.verdict, rho, worst, where, result.reason, result.numerics or "")


def _where(exact_case: ExactCase, given: GivenStep, reply: Reply, output: str) -> str:
    got, wrong = given.outputs[output], np.zeros(given.outputs[output].shape, bool)
    with np.errstate(all="ignore"):
        for expectations in compared(exact_case, given.statement, reply, 0).values():
            if output in expectations:
                wrong |= np.asarray(rho_of(expectations[output].streamed(got), expectations[output])) > 1
    rank = got.ndim
    return described(wrong, kept_axes(given.case.spec, rank) if output in LIKE_INPUT else tuple(range(rank)))
