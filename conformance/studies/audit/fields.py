"""Which values each field of `Semantics` may have, and for which implementations it means something."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, get_args, get_origin, get_type_hints

from conformance.model.statement import Statement
from reference import Refusal, Semantics, Spec
from reference.validation import validate_semantics

_NUMBERS: dict[str, tuple[float, ...]] = {
    "initial_mean": (0.0, 1.0),
    "initial_variance": (1.0, 0.0),
    "epsilon_floor": (0.0, 1.001e-5),
    "mask_offset": (0.0, 1e-7),
}
"""The values to tell apart where any number is possible: those that some implementation has, and 1."""

REFUSING = ("single_value", "empty_batch", "zero_epsilon", "mask_rank")
"""The fields that a documented refusal of a statement may settle."""

_HINTS = get_type_hints(Semantics)
NAMES = tuple(field.name for field in dataclasses.fields(Semantics))

_KEEPING = {
    *("stored_variance", "moving_spread", "fraction_dtype", "fraction_rounded", "initial_mean", "initial_variance"),
    *("frozen", "updates", "new_state"),
}
_WITHOUT_TRAINING = {
    "epsilon_placement",
    "epsilon_floor",
    "epsilon_dtype",
    "activation",
    "output_dtype",
    "indivisible_inference",
}
_COLUMN = {
    **dict.fromkeys(("renorm", "reversed_clipping"), "renorm"),
    **dict.fromkeys(("virtual_batches", "virtual_statistics", "indivisible_inference"), "virtual batch"),
    **dict.fromkeys(("mask", "mask_rank", "mask_offset", "all_masked"), "mask"),
    "adjustment": "adjustment",
    "variance_mean": "second order",
}


def values(name: str) -> tuple[Any, ...]:
    """Return the values of a field that an audit tells apart.

    >>> values("virtual_batches"), values("epsilon_floor")
    (('strided', 'contiguous', 'ignored'), (0.0, 1.001e-05))
    """
    hint = _HINTS[name]
    return get_args(hint) if get_origin(hint) is Literal else _NUMBERS[name]


def canonical(semantics: Semantics, *, keeps: bool = True) -> Semantics:
    """Return the semantics with every meaningless field at its default, so that equal meanings are equal.

    keeps: whether the layer keeps statistics at all.

    >>> canonical(Semantics(single_value="nan")) == Semantics()  # N/(N-1) does not enter a biased variance
    True
    """
    s, plain = semantics, dict[str, Any]()
    if s.single_value == "nan" and (s.stored_variance == "biased" or not keeps):
        plain["single_value"] = "factor_1"
    if s.empty_batch in ("keep", "zero") and not keeps:
        plain["empty_batch"] = "nan"
    if s.frozen == "train" and not keeps:
        plain["frozen"] = "batch"  # there is nothing that would move
    if s.frozen == "batch" and s.training_statistics == "moving":
        plain["frozen"] = "infer"  # the moving statistics stay, and normalize
    plain |= {name: getattr(Semantics(), name) for name in NAMES if meaningless(name, s)}
    return dataclasses.replace(s, **plain)


def meaningless(name: str, semantics: Semantics) -> str:
    """Return why the other fields make a field meaningless; empty if it means something.

    >>> meaningless("fraction_rounded", Semantics())
    'the update fraction is not rounded'
    """
    ignored = semantics.mask == "ignored" and "the mask is ignored"
    renorm, virtual = _undefined(semantics, renorm=True), _undefined(semantics, virtual_batch_size=2)
    reasons = {
        **dict.fromkeys(("renorm", "reversed_clipping"), renorm),
        "virtual_batches": virtual,
        "indivisible_inference": virtual or (semantics.virtual_batches == "ignored" and "all rows are one batch"),
        "fraction_rounded": semantics.fraction_dtype == "float64" and "the update fraction is not rounded",
        "all_masked": ignored or (semantics.mask_offset and "with an offset the denominator is never 0"),
        "mask_offset": ignored,
        "mask_rank": ignored,
        "new_state": semantics.average == "none" and "no statistics are kept",
        "virtual_statistics": virtual
        or (semantics.virtual_batches == "ignored" and "all rows are one batch")
        or (semantics.average == "none" and "no statistics are kept"),
    }
    return str(reasons.get(name) or "")


def _undefined(semantics: Semantics, **asked: Any) -> str:
    """Return why the semantics do not define what is asked; empty if they do."""
    try:
        validate_semantics(Spec(**asked), semantics)
    except Refusal as refusal:
        return str(refusal)
    return ""


def rivals(name: str, semantics: Semantics, *, keeps: bool = True) -> tuple[Any, ...]:
    """Return the other values of a field that mean something else than its own: an audit must rule them out.

    >>> rivals("single_value", Semantics()), rivals("average", Semantics())
    (('refused', 'identity'), ('zero_debiased', 'first_batch', 'none'))
    """
    found: dict[Semantics, Any] = {}
    for value in values(name):
        found.setdefault(canonical(dataclasses.replace(semantics, **{name: value}), keeps=keeps), value)
    return tuple(value for other, value in found.items() if other != canonical(semantics, keeps=keeps))


def inapplicable(statement: Statement, name: str, *, keeps: bool) -> str:
    """Return why a field cannot be asked about, from what the implementation offers alone; empty if it can.

    keeps: whether it keeps statistics, on any of its paths.
    """
    reasons = [
        (name in ("parameter_dtype", "statistics_dtype"), "a case says what parameters and statistics are stored in"),
        (name not in _WITHOUT_TRAINING and "train" not in statement.modes, "it only infers"),
        (name in _KEEPING and not keeps, "it keeps no statistics"),
        (
            name == "average" and not keeps and "infer" not in statement.modes,
            "it returns no statistics, and has no inference that would show them",
        ),
        (name == "indivisible_inference" and "infer" not in statement.modes, "it only trains"),
    ]
    return next((why for found, why in reasons if found), "") or _unoffered(statement, name)


def hidden(statement: Statement, name: str, *, keeps: bool) -> str:
    """Return why no answer shows a field; empty if some may.

    Statistics that are never moved show all the same, since inference normalizes by them.
    """
    seen = "infer" in statement.modes and name in ("frozen", "initial_mean", "initial_variance")
    return inapplicable(statement, name, keeps=keeps or seen)


def _unoffered(statement: Statement, name: str) -> str:
    column, supports = _COLUMN.get(name, "train"), statement.supports
    if name in _COLUMN and not statement.offers(column):
        return statement.lacks.get(column, f"it takes no {column}")
    reasons = {
        "frozen": False not in supports.get("trainable", [False]) and "nothing in it can be frozen",
        "epsilon_dtype": "float64" not in supports.get("dtype", ["float64"]) and "it takes no input wider than float32",
        "new_state": "state" not in supports.get("of", []) and "its new statistics are no outputs to differentiate",
        "updates": False not in supports.get("updates", []) and "it has no update ops to leave out",
        "fraction_dtype": not _wide(statement, name) and "its statistics are float32, and so is any fraction of them",
        "output_dtype": supports.get("dtype") == ["float32"] and "float32 is all that it takes",
        **dict.fromkeys(
            ("initial_mean", "initial_variance"),
            "own" not in supports.get("start", []) and "it is always given its statistics",
        ),
    }
    return str(reasons.get(name) or "")


def _wide(statement: Statement, name: str) -> bool:
    """Return whether a rounding to float32 can show: in float64, or where the field itself is promised."""
    promised = any(name in rule.semantics for rule in statement.rules)
    return promised or "float64" in statement.supports.get("dtype", ["float64"])
