"""The comparison of outcomes with expectations. It never raises, and knows no exceptions to the rule."""

from __future__ import annotations

import traceback
from collections.abc import Collection
from typing import Any

import msgspec
import numpy as np

from conformance.judging import expectation, not_finite, observed, unbounded
from conformance.judging.bounds import bounds
from conformance.judging.exact_case import ExactCase
from conformance.judging.expectation import Expected, ExpectedOutputs
from conformance.judging.expected import digits, figure
from conformance.judging.large.streamed import find_largest
from conformance.judging.promise import Promise
from conformance.model import outputs
from conformance.model.case import initial_state, without
from conformance.model.outcome import Crashed, Outcome, Outputs, Refused, Reply, TimedOut
from conformance.model.results import CANNOT, Deviation, Result, Rho
from conformance.model.spelling import nearest
from conformance.model.statement import Statement
from reference import Refusal, Renorm, State
from reference.precision import widened
from reference.spec import Array, kept_shape

MISSING = "the output is missing"


def judge(case_id: str, exact_case: ExactCase, statement: Statement, reply: Reply) -> list[Result]:
    """Return a result for each output of each step."""
    try:
        with exact_case.lock, np.errstate(all="ignore"):  # overflow and 0/0 are values here: they make a bound vacuous
            return list(_Judge(case_id, exact_case, statement, reply).results())
    except Exception as error:  # the judge must never take a run down with it
        where = traceback.extract_tb(error.__traceback__)[-1]
        reason = f"the judge failed: {type(error).__name__}: {error} ({where.name}, line {where.lineno})"
        return [Result(case_id, reply.implementation, "ERROR", reason=reason)]


class _Judge:
    def __init__(self, case_id: str, exact_case: ExactCase, statement: Statement, reply: Reply) -> None:
        self.case_id, self.exact_case, self.statement, self.reply = case_id, exact_case, statement, reply
        self.case, self.promise = exact_case.case, Promise.of(exact_case, statement)

    def results(self) -> Any:
        """Yield the results of every step.

        What comes after an answer to a training step that made no sense cannot be judged.
        """
        lost = False
        if len(self.reply.outcomes) > len(self.case.steps):
            said = f"it gave {len(self.reply.outcomes)} outcomes for {len(self.case.steps)} steps; give one for each"
            yield self._result(len(self.case.steps) - 1, "FAIL", said)
            return
        for t, expected in enumerate(expectation.trajectory(self.promise, self.reply.refused)):
            outcome = self.reply.outcomes[t] if t < len(self.reply.outcomes) else None
            if t in self.promise.lacked and not isinstance(outcome, Crashed | TimedOut):
                continue  # it has no such mode, and whatever it says there is judged by nothing
            if outcome is None and all(isinstance(o, Outputs) for o in self.reply.outcomes):
                yield self._result(t, "FAIL", "it stopped answering, and said nothing")
                continue
            facts = self.exact_case.seen(t, self.reply.refused)
            documented = self.statement.refusal(facts)
            keeps = expectation.keeps(self.promise, t)
            unseen = bool(self.promise.lacked) and not self._answered(t)  # it has seen no size to hold to
            built = unseen and expectation.resized(self.promise, t)  # for the first batch, and may hold to its size
            free = self.statement.answers(facts) or not keeps or unseen
            stated = documented.cite if documented and self.statement.answers(facts) else ""
            senseless = expected if isinstance(expected, Refusal) else stated
            if lost and isinstance(outcome, Outputs):
                yield self._result(t, "INCONCLUSIVE", "an earlier step was answered that made no sense")
            elif senseless and isinstance(outcome, Outputs) and free:
                lost = keeps and self.promise.mode(t) == "train"
                yield self._result(t, "INCONCLUSIVE", f"answered, and nothing says what is right: {senseless}")
            elif isinstance(expected, Refusal):
                yield self._step(t, outcome, str(expected))
            elif documented or not isinstance(outcome, Outputs):
                promised = f"{' or '.join(documented.error)}, {documented.cite}" if documented else ""
                errors = documented.error if documented else None if facts.odd or built else ()
                yield self._step(t, outcome, promised, errors)
            else:
                yield from self._arrays(t, expected, outcome)

    def _step(self, t: int, outcome: Outcome | None, promised: str, errors: Collection[str] | None = None) -> Result:
        """Judge a step that gave no arrays, or should have given none.

        errors: the exceptions to refuse with; None: any.
        """
        match outcome:
            case None:
                return self._result(t, "INCONCLUSIVE", "the step was not reached")
            case Crashed(reason):
                return self._result(t, "FAIL", reason, outcome="Crashed")
            case TimedOut(seconds):
                return self._result(t, "FAIL", f"no answer within {seconds:g} s", outcome="TimedOut")
            case Refused(error, message, by_adapter=True) as refused if refused.not_there:
                return self._result(t, "UNSUPPORTED", f"{CANNOT}{error}: {message}")
            case Refused(error, message, by_adapter=True):
                return self._result(t, "ERROR", f"the adapter failed, not what it calls: {error}: {message}")
            case Refused(error, message):
                right = errors is None or error in errors
                reason = f"{error}: {message}" + (f"; promised {promised}" if promised and not right else "")
                return self._result(t, "PASS" if right else "FAIL", reason, outcome="Refused")
            case Outputs():
                return self._result(t, "FAIL", f"accepted what must be refused: {promised}", outcome="Outputs")

    def _arrays(self, t: int, trajectory: ExpectedOutputs, outcome: Outputs) -> Any:
        if self.promise.unjudged:
            yield self._result(t, "INCONCLUSIVE", self.promise.unjudged, outcome="Outputs")
            return
        checks = self.checks(t, trajectory, outcome)
        for output in (o for o in self.statement.returns(self.exact_case.facts[t]) if o in trajectory):
            if output in outcome.tensors or not self.statement.may_leave_out(output):
                yield self._array(t, output, outcome.tensors.get(output), checks)

    def _missing(self, t: int, output: str) -> str:
        """Return what to say of a missing output; an array with an unknown name may have been meant for it."""
        outcome = self.reply.outcomes[t]
        given = outcome.tensors if isinstance(outcome, Outputs) else {}
        strays = [name for name in given if name not in outputs.NAMES]
        meant = [name for name in strays if nearest(name, outputs.NAMES) == output]
        return f'the output is missing; "{meant[0]}" is no output; did you mean {output}?' if meant else MISSING

    def checks(self, t: int, trajectory: ExpectedOutputs, outcome: Outputs) -> dict[str, ExpectedOutputs]:
        """Return what a step's arrays are compared with, by check."""
        return {"trajectory": trajectory, "step": self._after(t), "residual": self._residual(t, outcome)}

    def _after(self, t: int) -> ExpectedOutputs:
        """Return the outputs expected from the state that the implementation itself returned before this step."""
        before = self.before(t) if self._answered(t) else None
        return {} if before is None else expectation.after(self.promise, t, before)

    def before(self, t: int) -> State | None:
        """Return the state before a step: as returned by the implementation, or at first as given; None: unknown."""
        answered = self._answered(t)
        if not answered:
            begins = without(self.case, self.reply.refused | self.promise.lacked)
            return initial_state(begins, self.promise.at(t).semantics, self.exact_case.dtype)
        before = self.reply.outcomes[answered[-1]]
        if self.promise.spec.renorm and self.promise.semantics.renorm == "tf_1_7":
            return None  # its weights are returned by nobody
        names = ("moving_mean", "moving_variance", *(outputs.RENORM if self.promise.spec.renorm else ()))
        returned = self._statistics(before, *names) if isinstance(before, Outputs) else None
        if returned is None:
            return None
        updates = self.case.batches + sum(self.promise.updates(s) for s in answered)
        arrays = dict(zip(names, (widened(array, self.exact_case.dtype) for array in returned), strict=True))
        one = np.ones_like(arrays["moving_mean"])
        renorm = None
        if self.promise.spec.renorm:
            fields = {field: arrays[name] for name, field in outputs.RENORM.items()}
            renorm = Renorm(**fields, mean_weight=one, stddev_weight=one)
        return State(arrays["moving_mean"], arrays["moving_variance"], updates, renorm)

    def _answered(self, t: int) -> list[int]:
        """Return the steps before t that may have moved the layer: its own, not refused, and of modes that it has."""
        own = range(t % self.case.actions.members, t, self.case.actions.members)
        return [s for s in own if s not in self.reply.refused | self.promise.lacked]

    def _residual(self, t: int, outcome: Outputs) -> ExpectedOutputs:
        """Return the outputs expected from the batch statistics that were returned, if it normalizes by these."""
        normalize = self.promise.mode(t) == "train" and self.promise.at(t).semantics.training_statistics == "batch"
        averaged = self.promise.spec.virtual_batch_size is not None or not self.case.x(t).size  # those of no one batch
        returned = self._statistics(outcome, "mean", "variance") if normalize and not averaged else None
        if returned is None or (returned[1] < 0).any():
            return {}
        before = self.before(t)
        if self.promise.spec.renorm and before is None:
            return {}
        (mean, variance), rounded = returned, self.statement.returned == "rounded"
        return expectation.residual(self.promise, t, mean, variance, before, rounded=rounded)

    def _statistics(self, outcome: Outputs, *names: str) -> list[Array] | None:
        """Return arrays that an implementation returned; None if one is missing, not finite or of a wrong shape."""
        kept, found = kept_shape(self.case.spec, self.case.shape), [outcome.tensors.get(name) for name in names]
        right = (array for array in found if array is not None and array.shape == kept)
        arrays = [array for array in right if np.isfinite(array.astype(np.float64)).all()]
        return arrays if len(arrays) == len(names) else None

    def _array(self, t: int, output: str, got: Array | None, checks: dict[str, ExpectedOutputs]) -> Result:
        wanted = checks["trajectory"][output]
        numerics = self.promise.label(t, output)
        if got is None:
            return self._result(t, "FAIL", self._missing(t, output), output, rho="inf", numerics=numerics)
        problem = _shape_or_dtype(got, wanted)
        if problem:
            return self._result(t, "FAIL", problem, output, rho="inf", numerics=numerics, dtype=got.dtype.name)
        dtype, got = got.dtype.name, wanted.streamed(got)
        ratios = {name: rho_of(got, c[output]) for name, c in checks.items() if output in c}
        find_largest([*ratios.values(), *(observed.strictest(self.promise, t, got) if output == "y" else [])])
        compared = {name: _compare(name, got, checks[name][output], ratio) for name, ratio in ratios.items()}
        worst = max(compared.values(), key=lambda c: -1.0 if c[0] is None else float(c[0]))
        verdict, reason = "PASS", ""
        if worst[0] is None:
            verdict = "INCONCLUSIVE"
            reason = f"every bound is infinite: {unbounded.reason(self.promise, t, output, self.reply.refused)}"
        elif float(worst[0]) > 1:
            verdict, reason = "FAIL", (worst[1] and _promise(checks[worst[1].check][output], worst[1])) or ""
        return self._result(
            t,
            verdict,
            reason,
            output,
            rho=worst[0],
            checks={name: c[0] for name, c in compared.items()},
            deviation=worst[1] and _with_ulps(worst[1], got, checks[worst[1].check][output]),
            numerics=numerics,
            dtype=dtype,
            elements=int(got.size),
            vacuous=wanted.vacuous,
            not_finite=wanted.strange(got),
            depth=figure(wanted.depth(got)),
            resolution=figure(wanted.resolution),
            **self._class(t, output, got),
        )

    def _class(self, t: int, output: str, got: Array) -> dict[str, Any]:
        """Return which classes a training step's y is outside of, and its ρ under class A if less is promised."""
        found = observed.outside(self.promise, t, got) if output == "y" else None
        if found is None:
            return {}
        promised = self.promise.at(t).numerics("train", "y")
        less = (promised.variance, promised.affine) != ("two_pass", "direct")
        ratio = _rho(found.get(f"A·{promised.grade}", 0.0))
        return {"outside": list(found), "class_a": ratio if less else msgspec.UNSET}

    def _result(self, t: int, verdict: Any, reason: str, output: str = "outcome", **fields: Any) -> Result:
        mode = self.case.steps[t].mode
        return Result(
            self.case_id, self.reply.implementation, verdict, step=t, mode=mode, output=output, reason=reason, **fields
        )


def rho_of(got: Array, expected: Expected) -> Array:
    """Return ρ; infinite where an element must not be finite and is, or is not what it must be."""
    ratio = bounds.rho(got, expected.value, expected.bound)
    if expected.kinds is not None:
        found = widened(got, np.float64)
        ratio = np.where(not_finite.contradicts(expected.kinds, found), np.inf, ratio)
        ratio = np.where(expected.lost(found), 0.0, ratio)
    return ratio


def _compare(check: str, got: Array, expected: Expected, ratio: Array) -> tuple[Rho, Deviation | None]:
    """Return the largest ρ of one check, and where it is; None if every bound is infinite.

    An empty array is right, as its shape and dtype have been checked.
    """
    if not got.size:
        return 0.0, None
    if expected.vacuous == got.size and not np.isposinf(ratio).any():
        return None, None
    index = np.unravel_index(int(np.argmax(ratio)), ratio.shape)
    value, found, bound = (_number(a[index]) for a in (expected.value, got, expected.bound))
    bound = bound if expected.kind(index) in (not_finite.NOTHING, not_finite.NAN_TOO) else 0.0
    return _rho(ratio[index]), Deviation(check, [int(i) for i in index], value, found, bound)


def _promise(expected: Expected, worst: Deviation) -> str:
    kind = expected.kind(tuple(worst.index))
    return f"it must {not_finite.WORDS[kind]}" if kind else ""


def _with_ulps(worst: Deviation, got: Array, wanted: Expected) -> Deviation:
    return msgspec.structs.replace(worst, ulps=digits(wanted.ulps(got, tuple(worst.index))))


def _shape_or_dtype(got: Array, wanted: Expected) -> str:
    unlike = wanted.unlike(got)
    if unlike == "shape":
        return f"shape {got.shape}, expected {wanted.value.shape}"
    return f"dtype {got.dtype.name}, promised {wanted.dtype}" if unlike else ""


def _rho(value: Any) -> Rho:
    return float(f"{float(value):.6g}") if np.isfinite(value) else "inf"


def _number(value: Any) -> float | str:
    return float(value) if np.isfinite(value) else str(float(value))


def compared(exact_case: ExactCase, statement: Statement, reply: Reply, t: int) -> dict[str, ExpectedOutputs]:
    """Return what step t's arrays are compared with, by check, to show a judgment element by element."""
    with exact_case.lock, np.errstate(all="ignore"):
        judging, outcome = _Judge("", exact_case, statement, reply), reply.outcomes[t]
        trajectory = expectation.trajectory(judging.promise, reply.refused)[t]
        if judging.promise.unjudged or isinstance(trajectory, Refusal) or not isinstance(outcome, Outputs):
            return {}
        return judging.checks(t, trajectory, outcome)


def state_before(exact_case: ExactCase, statement: Statement, reply: Reply, t: int) -> State | None:
    """Return the state before a step: as returned by the implementation, or at first as given; None: unknown."""
    return _Judge("", exact_case, statement, reply).before(t)
