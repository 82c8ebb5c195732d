"""Which promises answers are held to: of an implementation, of a family's first one, or of one's own."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any

import msgspec

from conformance.hosts import roster
from conformance.model.numerics import Numerics
from conformance.model.rules import Rule
from conformance.model.spelling import Misspelt, converted
from conformance.model.statement import Statement
from conformance.workbench.arrays import Unusable
from reference import Semantics

FAMILIES = {
    "equinox": "equinox.BatchNorm+batch",
    "flax": "flax.linen.BatchNorm",
    "haiku": "haiku.BatchNorm",
    "jax": "jax.nn.standardize",
    "keras": "keras.BatchNormalization+tensorflow",
    "numpy": "numpy.two_pass",
    "onnx": "onnx.reference.BatchNormalization+opset15",
    "onnxruntime": "onnxruntime.BatchNormalization+opset15",
    "sonnet": "sonnet.BatchNorm",
    "tensorflow": "tf.compat.v1.nn.fused_batch_norm",
    "tf": "tf.compat.v1.nn.fused_batch_norm",
    "tf_keras": "tf_keras.BatchNormalization",
    "torch": "torch.F.batch_norm",
}
"""By family, the implementation that its name stands for."""

_YOURS = "yours"


def statement(
    semantics: Semantics | str, numerics: Numerics | Mapping[str, Any] | None, device: str, outputs: tuple[str, ...]
) -> Statement:
    """Return the statement that outputs are held to.

    numerics: those of all outputs; None: the implementation's, or those of `Numerics()` where there is none.
    outputs: what is returned, all that it is.
    """
    said = _named(semantics) if isinstance(semantics, str) else _of_semantics(semantics)
    rules = said.rules
    if numerics is not None:
        rules = [*map(_without_numerics, rules), Rule("given", numerics=_given(numerics))]
    own: dict[str, Any] = {
        "modes": ("train", "infer"),
        "refusals": [],
        "returned": "rounded",
    }  # of whoever computed the arrays
    return msgspec.structs.replace(said, rules=rules, outputs=outputs, device=device, **own)


def _named(name: str) -> Statement:
    known = {entry.id.split("@")[0]: entry.statement for entry in roster.built_in()}
    wanted = FAMILIES.get(name, name).split("@")[0]
    if wanted not in known:
        near = difflib.get_close_matches(name, [*FAMILIES, *known], n=1, cutoff=0.0)
        raise Unusable(f"semantics={name!r} is neither a family nor an implementation; did you mean {near[0]!r}?")
    return known[wanted]


def _of_semantics(semantics: Semantics) -> Statement:
    fields = {f.name: getattr(semantics, f.name) for f in dataclasses.fields(semantics)}
    changed = {name: value for name, value in fields.items() if value != getattr(Semantics(), name)}
    return Statement(_YOURS, [], "", {}, rules=[Rule("given", semantics=changed)])


def _given(numerics: Numerics | Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(numerics, Numerics):
        numerics = {name: getattr(numerics, name) for name in numerics.__struct_fields__}
        numerics = {name: value for name, value in numerics.items() if value != getattr(Numerics(), name)}
    try:
        converted(dict(numerics), Numerics)
    except Misspelt as error:
        raise Unusable(f"numerics: {error}") from error
    return dict(numerics)


def _without_numerics(rule: Rule) -> Rule:
    """Return a rule that says in which dtype an output is stored, and no more of how it is computed."""
    kept = {name: value for name, value in rule.numerics.items() if name == "stored"}
    return msgspec.structs.replace(rule, numerics=kept)
