"""Changes of what was asked or promised under which an answer is judged once more: does it conform then?"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import msgspec

from conformance.judging.causes.failed_step import FAR, NEAR, FailedStep, number
from conformance.judging.causes.suspects import AFFINE, DX_PRODUCT, INVERSE, MEAN, UPDATE
from conformance.judging.exact_case import ExactCase
from conformance.judging.judgment import judge
from conformance.model.case import Case
from conformance.model.rules import Rule
from conformance.model.statement import Statement
from reference import Semantics

NUMERICS = "numerics"


class Supposition(NamedTuple):
    """A change: the stage that it is about, what it is in words, and the case and statement that it makes."""

    stage: str
    says: str
    make: Callable[[], tuple[Case, Statement]]


def explains(step: FailedStep, change: Supposition) -> bool:
    """Return whether every wrong output of the step conforms under a change, and no other is wrong then."""
    try:
        case, statement = change.make()
        exact_case = ExactCase(case) if case is not step.exact_case.case else step.exact_case
        found = [r for r in judge("", exact_case, statement, step.reply) if r.step == step.t]
    except Exception:  # noqa: BLE001 - what cannot be asked explains nothing
        return False
    rho = {r.output: r.rho for r in found if isinstance(r.rho, float | int)}
    if any(r.failed and r.output not in step.wrong and r.output not in step.left_out for r in found):
        return False
    return all(name in rho and number(rho[name]) <= _allowed(step, name) for name in step.wrong)


def _allowed(step: FailedStep, name: str) -> float:
    return NEAR if number(step.wrong[name]) > FAR else 1.0


def of_what_was_asked(step: FailedStep) -> Iterator[Supposition]:
    """Yield other things that might have been asked: another axis, another momentum."""
    case, statement = step.exact_case.case, step.statement
    rank, spec = len(case.shape), case.spec

    def asked(stage: str, says: str, **fields: Any) -> Supposition:
        other = msgspec.structs.replace(case, spec=dataclasses.replace(spec, **fields))
        return Supposition(stage, says, lambda: (other, statement))

    for axis in range(rank) if isinstance(spec.axis, int) else ():
        if spec.axis not in (axis, axis - rank):
            yield asked(MEAN, f"it normalizes over the wrong axis: it keeps axis {axis}", axis=axis)
    if spec.momentum is not None and spec.momentum != 0.5:
        yield asked(UPDATE, "momentum is inverted: what should be kept enters", momentum=1 - spec.momentum)
    if spec.momentum not in (None, 1.0):
        yield asked(UPDATE, "the moving statistics are not moved", momentum=1.0)


def of_the_mode(step: FailedStep) -> Supposition:
    """Return the question that asks for inference where training is asked for, and the reverse."""
    case, t, trains = step.exact_case.case, step.t, step.exact_case.case.steps[step.t].mode == "train"
    changed = msgspec.structs.replace(case.steps[t], mode="infer" if trains else "train")
    other = msgspec.structs.replace(case, steps=(*case.steps[:t], changed, *case.steps[t + 1 :]))
    says = f"the step is answered as {'inference' if trains else 'training'}"
    return Supposition(MEAN, says, lambda: (other, step.statement))


def of_semantics(step: FailedStep) -> Iterator[Supposition]:
    """Yield every other promise of one field of `Semantics`."""
    for name, value in _promises(step.semantics):
        if not _may_show(step, name):
            continue
        stage, says = _SAID.get((name, value), (_STAGES.get(name, MEAN), f"{name} is {value}, not as promised"))
        yield _ruled(step, stage, says, Rule("supposed", semantics={name: value}))


def of_numerics(step: FailedStep, *, arithmetic: bool) -> Iterator[Supposition]:
    """Yield other ways of computing, the nearest first; arithmetic: coarser ones too.

    Where one wrong statistic explains all else to the last bit, what comes after it was not computed coarsely; nor was
    anything where some output is right.
    """
    loose = {"variance": "fast", "affine": "folded", "sums": "serial"}
    fields: list[tuple[str, dict[str, Any]]] = [
        ("sums are in any order (sums: serial)", {"sums": "serial"}),
        ("the affine map is folded into x * scale + shift (affine: folded)", {"affine": "folded"}),
        ("the variance is E[x²] - E[x]² (variance: fast)", loose),
    ]
    right = {"y", "dx", "dgamma", "dbeta"} & step.got.keys() - step.wrong.keys()
    coarse = ("tf32", "float16", "bfloat16") if arithmetic and not right else ()
    fields += [(f"it is computed in {one} (accumulate: {one})", loose | {"accumulate": one}) for one in coarse]
    for says, numerics in fields:
        yield _ruled(step, NUMERICS, says, Rule("supposed", numerics=numerics))


def _ruled(step: FailedStep, stage: str, says: str, rule: Rule) -> Supposition:
    statement = msgspec.structs.replace(step.statement, rules=[*step.statement.rules, rule])
    return Supposition(stage, says, lambda: (step.exact_case.case, statement))


def _may_show(step: FailedStep, name: str) -> bool:
    """Return whether a case can show a field of `Semantics`."""
    facts = step.exact_case.facts[step.t]
    shows = {
        "mask": bool(facts.mask),
        "renorm": facts.renorm,
        "virtual batches": facts.virtual,
        "frozen": facts.toggled or not facts.trainable,
        "updates": not facts.updates,
        "adjustment": facts.adjustment,
        "single_value": facts.n == "1",
        "empty_batch": facts.n == "0",
        "zero_epsilon": step.spec.epsilon <= 0,
        "variance_mean": facts.differentiation not in ("none", "reverse", "forward"),
        "initial_mean": facts.start == "own",
        "initial_variance": facts.start == "own",
    }
    return shows.get(name, shows.get(_STAGES.get(name, ""), True))


def _promises(promised: Semantics) -> Iterator[tuple[str, Any]]:
    """Yield the values of fields that are named, other than those promised."""
    for name, hint in get_type_hints(Semantics).items():
        if get_origin(hint) is Literal and not name.endswith("_dtype"):
            yield from ((name, value) for value in get_args(hint) if value != getattr(promised, name))
    for name, value in (("initial_mean", 1.0), ("initial_variance", 0.0), ("epsilon_floor", 1.001e-5)):
        yield name, value


_STAGES = {
    **dict.fromkeys(("stored_variance", "average", "initial_mean", "initial_variance", "moving_spread"), UPDATE),
    **dict.fromkeys(("fraction_dtype", "fraction_rounded", "updates", "single_value", "empty_batch"), UPDATE),
    **dict.fromkeys(("epsilon_placement", "epsilon_floor", "epsilon_dtype", "zero_epsilon"), INVERSE),
    **dict.fromkeys(("mask", "mask_rank", "mask_offset", "all_masked"), "mask"),
    **dict.fromkeys(("renorm", "reversed_clipping"), "renorm"),
    **dict.fromkeys(("virtual_batches", "virtual_statistics", "indivisible_inference"), "virtual batches"),
    **dict.fromkeys(("adjustment", "activation"), AFFINE),
    "variance_mean": DX_PRODUCT,
}
_SAID: dict[tuple[str, Any], tuple[str, str]] = {
    ("stored_variance", "biased"): (UPDATE, "the moving variance stores the biased variance"),
    ("stored_variance", "unbiased"): (UPDATE, "the moving variance stores the unbiased variance, of N - 1"),
    ("average", "zero_debiased"): (UPDATE, "the moving average is zero-debiased"),
    ("average", "exponential"): (UPDATE, "the moving average is a plain exponential one"),
    ("average", "first_batch"): (UPDATE, "the first batch is copied into the moving statistics"),
    ("average", "none"): (UPDATE, "the moving statistics are not moved"),
    ("training_statistics", "moving"): (
        MEAN,
        "training normalizes by the moving statistics that it has just moved",
    ),
    ("training_statistics", "batch"): (MEAN, "training normalizes by the batch's own statistics"),
    ("frozen", "train"): (UPDATE, "a frozen layer trains as if it were not frozen"),
    ("frozen", "batch"): (UPDATE, "a frozen layer normalizes by the batch, and moves nothing"),
    ("frozen", "infer"): (MEAN, "a frozen layer normalizes by the moving statistics"),
    ("moving_spread", "stddev"): (UPDATE, "the moving average is one of standard deviations"),
    ("updates", "always"): (UPDATE, "the moving statistics move in steps that ask for no update"),
    ("epsilon_placement", "outside"): (INVERSE, "epsilon is added outside the root"),
    ("epsilon_placement", "inside"): (INVERSE, "epsilon is added inside the root"),
    ("epsilon_floor", 1.001e-5): (INVERSE, "epsilon is at least 1.001e-05"),
    ("activation", "relu"): (AFFINE, "what is below 0 is cut off, as by a ReLU"),
    ("activation", "none"): (AFFINE, "what is below 0 is not cut off"),
    ("single_value", "identity"): (AFFINE, "one value per channel is left as it is: y is x, and the state stays"),
    ("mask", "ignored"): ("mask", "the mask is ignored"),
    ("mask", "boolean"): ("mask", "the mask is boolean: what is not 0 counts as 1"),
    ("variance_mean", "stopped"): (DX_PRODUCT, "the mean inside the variance is stopped"),
    ("initial_mean", 1.0): (UPDATE, "the moving mean begins at 1"),
    ("initial_variance", 0.0): (UPDATE, "the moving variance begins at 0"),
}
