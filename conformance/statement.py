"""Implementation conformance statements: what an implementation promises, as data that needs no framework to read.

A statement is a function of `facts` about a case (see `facts`): rules whose `when` holds override the defaults, later
ones win. A `when` maps a fact to the values it may have: `{"rank": [4], "mode": ["train"]}`.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import msgspec
import numpy as np

from conformance.case import Case, Dtypes, Step
from conformance.numerics import Numerics
from reference import Semantics
from reference.spec import kept_axes, reduced_axes

When = dict[str, list[Any]]


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where `when` holds, these semantics and numerics hold instead. cite: where that is documented or was measured.

    absent: outputs that it does not return there, such as gradients of a frozen layer's parameters.
    """

    cite: str
    when: When = {}
    semantics: dict[str, Any] = {}
    numerics: dict[str, Any] = {}
    absent: tuple[str, ...] = ()


class Refusal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where `when` holds, the implementation raises one of these exception types, as documented."""

    cite: str
    when: When
    error: list[str]


class Statement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one implementation promises.

    id: `framework.entry(+variant)*`, of letters, digits and `._+-`. packages: the modules whose versions identify it.
    conventions: how its native arguments differ from the neutral `Spec`. supports: facts a case must have to be asked
    at all. modes: the modes it has; a step of another mode leaves it as it is, and nothing is judged. outputs: what
    it returns. compiled: it pays for each new static signature, so it gets the pooled ones only, and of those no more
    than `signatures`. accepts: where it answers what makes no sense, such as statistics of another size. lacks: why
    it offers none of a column of the matrix (see `offers`). calibration: it is there to test the suite. returned:
    batch statistics are returned `as_used` in the output, or may be `rounded` on the way out. device: where it runs,
    which the host fills in; a `when` may name it beside the facts of the case.
    """

    id: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._+-]+$")]
    packages: list[str]
    documentation: str
    conventions: dict[str, str]
    supports: When = {}
    modes: tuple[Literal["train", "infer"], ...] = ("train", "infer")
    outputs: tuple[str, ...] = ("y", "dx", "dgamma", "dbeta", "moving_mean", "moving_variance")
    rules: list[Rule] = []
    refusals: list[Refusal] = []
    accepts: list[When] = []
    lacks: dict[str, str] = {}
    compiled: bool = False
    signatures: int = 16
    calibration: bool = False
    returned: Literal["rounded", "as_used"] = "rounded"
    device: str = "cpu"

    def on(self, device: str) -> Statement:
        """Return what is promised on a device."""
        return msgspec.structs.replace(self, device=device)

    def holds(self, when: When, facts: dict[str, Any]) -> bool:
        """Return whether a rule or a refusal applies here."""
        return matches(when, facts | {"device": self.device})

    @property
    def framework(self) -> str:
        """The first part of the id."""
        return self.id.split(".")[0]

    def semantics(self, facts: dict[str, Any]) -> Semantics:
        """Return the semantics promised for a case."""
        fields = [rule.semantics for rule in self.rules if self.holds(rule.when, facts)]
        return msgspec.convert({k: v for f in fields for k, v in f.items()}, Semantics)

    def numerics(self, facts: dict[str, Any], mode: str, output: str) -> Numerics:
        """Return the numerical class promised for one output of a step in this mode."""
        asked = facts | {"mode": mode, "output": output}
        fields: dict[str, Any] = {"stored": _STORED.get(output, "input")}
        for rule in self.rules:
            if self.holds(rule.when, asked):
                fields |= rule.numerics
        return msgspec.convert(fields, Numerics)

    def returns(self, facts: dict[str, Any]) -> list[str]:
        """Return the outputs promised for a case."""
        facts = facts | {"device": self.device}
        absent = {name for rule in self.rules if matches(rule.when, facts) for name in rule.absent}
        return [output for output in self.outputs if output not in absent]

    def offers(self, column: str) -> bool:
        """Return whether it can be asked for what a column of the matrix counts, one of `COLUMNS`."""
        fact, wanted = COLUMNS[column]
        if fact == "modes":
            return column in self.modes
        if fact == "outputs":
            return bool(set(wanted) & set(self.outputs))
        allowed = (_ORDINARY | self.supports).get(fact)
        return allowed is None or bool(set(wanted) & set(allowed))

    def unsupported(self, facts: dict[str, Any]) -> str:
        """Return why a case cannot be asked, empty where it can."""
        facts = facts | {"device": self.device}
        for fact, allowed in (_ORDINARY | self.supports).items():
            if facts.get(fact) not in allowed:
                return f"{fact} is {facts.get(fact)}; supported: {', '.join(str(value) for value in allowed)}"
        return ""

    def takes(self, fact: str, value: Any) -> bool:
        """Return whether a case with this value of a fact may be asked, as far as that fact goes."""
        return value in (_ORDINARY | self.supports).get(fact, [value])

    def answers(self, facts: dict[str, Any]) -> bool:
        """Return whether a step that makes no sense may be answered: in a mode that it lacks, or where it says so."""
        return facts["mode"] not in self.modes or any(matches(when, facts) for when in self.accepts)

    def refusal(self, facts: dict[str, Any]) -> Refusal | None:
        """Return the documented refusal that a step runs into."""
        return next((r for r in self.refusals if self.holds(r.when, facts)), None)


# What a case may ask beyond this, a statement must say that it supports.
_ORDINARY: When = {
    "start": ["given"],
    "begun": [False],
    "differentiation": ["none", "reverse"],
    "sites": [1],
    "init_mode": ["train"],
    "round_trip": ["none"],
    "flag": ["bool"],
    "toggled": [False],
    "unknown_sizes": [False],
    "updates": [True],
    "cumulative": [False],
    "virtual": [False],
    "renorm": [False],
    "mask": [False],
    "weights": [False],
    "misplaced": [False],
    "mixed": [False],
    "adjustment": [False],
}

# What the matrix counts: the fact of a case that asks for it, and its values.
COLUMNS: dict[str, tuple[str, tuple[Any, ...]]] = {
    "train": ("modes", ()),
    "infer": ("modes", ()),
    "gradient": ("outputs", ("dx",)),
    "forward": ("differentiation", ("forward",)),
    "second order": ("differentiation", ("reverse_over_reverse", "forward_over_reverse", "forward_over_forward")),
    "mask": ("mask", ("full", "spread", "without_last")),
    "renorm": ("renorm", (True,)),
    "virtual batch": ("virtual", (True,)),
    "adjustment": ("adjustment", (True,)),
}

_STORED = {
    "dgamma": "parameters",
    "dbeta": "parameters",
    "dgamma_tangent": "parameters",
    "dgamma_tangent2": "parameters",
    "moving_mean": "statistics",
    "moving_variance": "statistics",
    "moving_stddev": "statistics",
    "renorm_mean": "statistics",
    "renorm_stddev": "statistics",
    "mean": "statistics",
    "variance": "statistics",
}


def matches(when: When, facts: dict[str, Any]) -> bool:
    """Return whether every fact that `when` names has one of the values it allows.

    >>> matches({"rank": [4, 5]}, {"rank": 4, "channel": "last"}), matches({"rank": [4]}, {"rank": 2})
    (True, False)
    """
    return all(facts.get(fact) in allowed for fact, allowed in when.items())


_AFFINE = {(True, True): "both", (True, False): "center", (False, True): "scale", (False, False): "none"}


def facts(case: Case) -> dict[str, Any]:
    """Return the facts about a case that statements and divergences may speak of.

    channel: where the kept axis is (`second` before `last` for rank 2, where both hold), or `several`.
    start: whether parameters and statistics are `given`, or some are the implementation's `own`. begun: whether batches
    have entered those given. differentiation, mask: see the functions of that name. weights: whether a mask's values
    are numbers. mixed: whether the dtypes are several, in another way than usual for half precision. misplaced: whether
    the axis is out of range, or named twice. updates: whether the update ops run in every step. finite: whether all
    values are. no_rows: whether some batch is empty. one_channel: whether some batch has one. resized: whether a
    batch has `more` channels than the first, or else `fewer`.
    """
    rank, kept = len(case.shape), kept_axes(case.spec, len(case.shape))
    sizes = [channels(case, t) for t in range(len(case.steps))]
    return {
        "rank": rank,
        "channel": channel(kept, rank),
        "several_axes": len(kept) > 1,
        "misplaced": rank > 0 and (len(set(kept)) < len(kept) or any(not 0 <= axis < rank for axis in kept)),
        "dtype": case.dtypes.x,
        "parameters": case.dtypes.parameters,
        "statistics": case.dtypes.statistics,
        "mixed": _mixed(case.dtypes),
        "axis": list(case.spec.axis) if isinstance(case.spec.axis, tuple) else case.spec.axis,
        "layout": case.layout,
        "center": case.spec.center,
        "scale": case.spec.scale,
        "affine": _AFFINE[case.spec.center, case.spec.scale],
        "trainable": case.spec.trainable,
        "start": "given" if _is_given(case) else "own",
        "begun": case.batches > 0,
        "differentiation": differentiation(case),
        "sites": case.actions.sites,
        "init_mode": case.actions.init_mode,
        "round_trip": case.actions.round_trip,
        "flag": case.actions.flag,
        "toggled": not all(step.trainable for step in case.steps),
        "unknown_sizes": _unknown(case, kept),
        "updates": all(step.update for step in case.steps),
        "cumulative": case.spec.momentum is None,
        "virtual": case.spec.virtual_batch_size is not None,
        "renorm": case.spec.renorm,
        "mask": mask(case),
        "weights": any(a.dtype != bool for name, a in case.tensors.items() if name.endswith(".mask")),
        "adjustment": any(name.endswith(".adjustment_scale") for name in case.tensors),
        "finite": all(bool(np.isfinite(array).all()) for array in case.tensors.values()),
        "one_channel": 1 in sizes,
        "resized": _resized(sizes),
        "no_rows": any(not case.x(t).size for t in range(len(case.steps))),
    }


def _mixed(dtypes: Dtypes) -> bool:
    """Return whether some dtype is neither the input's nor, for an input of half precision, float32."""
    single = dtypes.x if dtypes.x in ("float32", "float64") else "float32"
    return (dtypes.parameters, dtypes.statistics) not in {(dtypes.x,) * 2, (single,) * 2}


def _resized(sizes: list[int]) -> str | bool:
    if max(sizes) > sizes[0]:
        return "more"
    return "fewer" if min(sizes) < sizes[0] else False


def channels(case: Case, t: int) -> int:
    """Return how many channels the batch of a step has, or values of gamma where several axes are kept."""
    sizes = case.x(t).shape
    return math.prod(sizes[axis] for axis in kept_axes(case.spec, len(sizes)) if 0 <= axis < len(sizes))


def channel(kept: tuple[int, ...], rank: int) -> str:
    """Return where the kept axis is.

    >>> channel((1,), 2), channel((3,), 4), channel((1, 3), 4), channel((0,), 2)
    ('second', 'last', 'several', 'other')
    """
    if len(kept) > 1:
        return "several"
    if kept == (1,):
        return "second"
    return "last" if kept == (rank - 1,) else "other"


def _is_given(case: Case) -> bool:
    asked = {"gamma": case.spec.scale, "beta": case.spec.center, "moving_mean": True, "moving_variance": True}
    return all(name in case.tensors for name, wanted in asked.items() if wanted)


def differentiation(case: Case) -> str:
    """Return the hardest derivative that a case asks for.

    `none`; `reverse`, the gradients; `forward`, the derivative of y along a tangent, and `forward_over_forward`, that
    of it; `reverse_over_reverse` and `forward_over_reverse`, those of the gradients; `third`, those of these once more
    in reverse, and `third_<mode>` in another mode.
    """
    derivatives = [d for step in case.steps for d in step.derivatives]
    last = max(derivatives, key=lambda d: (d.order, d.mode != "reverse"), default=None)
    if last is None:
        return "none"
    names = {(2, "reverse"): "reverse_over_reverse", (2, "forward"): "forward_over_forward", (3, "reverse"): "third"}
    return names.get((last.order, last.mode), f"third_{last.mode}" if last.order == 3 else last.mode)


def mask(case: Case) -> str | bool:
    """Return the shape of a case's masks: that of the input (`full`), of all but its last axis (`without_last`).

    `spread` has the input's rank, and size 1 where one value stands for a whole axis; False: there is no mask.
    """
    for t in range(len(case.steps)):
        values = case.tensor(f"{t}.mask")
        if values is not None:
            shape = case.x(t).shape
            return "full" if values.shape == shape else "without_last" if values.shape == shape[:-1] else "spread"
    return False


def _unknown(case: Case, kept: tuple[int, ...]) -> str | bool:
    """Return which sizes are unknown when the layer is built: a `kept` axis's, or only `reduced` ones."""
    unknown = case.actions.unknown_sizes
    return bool(unknown) and ("kept" if set(unknown) & set(kept) else "reduced")


def step_facts(case: Case, t: int) -> dict[str, Any]:
    """Return the facts about one step: those of the case, its mode, how many values per channel (0, 1, many).

    trained: whether a training step came before.
    """
    step: Step = case.steps[t]
    n = math.prod(case.x(t).shape[a] for a in reduced_axes(case.spec, case.x(t).ndim))
    trained = any(before.mode == "train" for before in case.steps[:t])
    about = {"mode": step.mode, "update": step.update, "trained": trained, "n": "many" if n > 1 else str(n)}
    return facts(case) | about
