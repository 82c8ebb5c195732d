"""A case in the words that a script puts it in: names of arrays, arguments, and the steps up to what is shown."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import msgspec

from conformance.hosts import seen
from conformance.model.case import content
from conformance.model.errors import InvalidInput
from conformance.studies.upstream import literals
from conformance.studies.upstream.shown import Shown
from reference.spec import Array

_OF_STEP = ("x", "dy", "mask", "tangent", "dmean", "dvariance")
_OF_LAYER = {"gamma": "gamma", "beta": "beta", "mean": "moving_mean", "var": "moving_variance"}


_LAYERS = ("torch.nn.", "keras.B", "tf_keras.", "sonnet.", "tf.layers.", "tf.compat.v1.layers")
"""Who begins with statistics of its own where none are given."""
_WHOLE = ("flax.linen.", "haiku.", "equinox.", "sonnet.")
"""Who is given all arrays of a kind or none."""


class Untold(InvalidInput):
    """A case that no script of thirty lines tells."""


class TooLong(Untold):
    """A script of more lines than are read."""


class Draft:
    """What is asked, for a renderer.

    shown: what is to be shown; view: the case as the implementation's adapter sees it.
    entry, variants: the implementation's id without its device, parted at `+`.
    formulas: expressions for tensors that are written so, by the tensor's name.
    """

    def __init__(self, shown: Shown, formulas: Mapping[str, str] | None = None) -> None:
        statement: dict[str, Any] = {"conventions": shown.about.statement.conventions}
        tensors = {name: array.copy() for name, array in shown.case.tensors.items()}
        self.shown, self.spec, self._formulas = shown, shown.case.spec, dict(formulas or {})
        self.view: Any = seen.Case(_json(content(shown.case)), tensors, msgspec.to_builtins(statement))
        self.entry, *self.variants = shown.record.id.partition("@")[0].split("+")
        self.step, self.output = shown.step, shown.output
        self.dtype, self.actions = shown.case.dtypes.x, shown.case.actions
        if self.actions.members > 1 or self.spec.momentum is None or shown.case.batches:
            raise Untold("no script is written for ensembles or counted batches")
        if self.actions.replicas and not {"pmap", "mirrored"} & set(self.variants):
            raise Untold(f"no script is written for replicas of {shown.record.id}")
        if any(step.adjustment is not None or step.direction for step in self.view.steps):
            raise Untold("no script is written for an adjustment, nor for a tangent of gamma and beta")

    @cached_property
    def steps(self) -> list[Any]:
        """The steps that the script makes: up to the one that is shown, or all where gradients come after them.

        Those that were refused changed nothing, and would end the script.
        """
        later = self.actions.backward in ("after_all", "together")
        made = self.view.steps if later else self.view.steps[: self.step + 1]
        return [step for step in made if step.index not in self.shown.refused]

    @property
    def target(self) -> Any:
        """The step that is shown."""
        return self.view.steps[self.step]

    @property
    def x(self) -> str:
        """The first batch that the layer sees."""
        return self.name("x", self.steps[0].index)

    def name(self, kind: str, t: int) -> str:
        """Return what an array of a step is called: numbered where there are several steps."""
        return f"{kind}{t}" if len(self.steps) > 1 else kind

    @cached_property
    def arrays(self) -> dict[str, Array]:
        """All arrays of the case by the names that they have in the script, x as it is handed over."""
        found: dict[str, Array] = {}
        for name, tensor in _OF_LAYER.items():
            if tensor in self.shown.case.tensors and self._told(name):
                found[name] = self.shown.case.tensors[tensor]
        for step in self.steps:
            for kind in _OF_STEP:
                array = self.view.tensors.get(f"{step.index}.{kind}")
                if array is not None:
                    found[self.name(kind, step.index)] = array
        return found

    def _told(self, name: str) -> bool:
        """Return whether an array of the layer is written: not if it is the default, or makes no difference."""
        asked = {"gamma": self.spec.scale, "beta": self.spec.center}.get(name, True)
        return asked and not (self._by_default(name) or (name in ("mean", "var") and self._only_trains()))

    def _by_default(self, name: str) -> bool:
        """Return whether a layer begins with this array by itself, in float32."""
        array, semantics = self.shown.case.tensors[_OF_LAYER[name]], self.shown.promise.semantics
        begins = {"gamma": 1.0, "beta": 0.0, "mean": semantics.initial_mean, "var": semantics.initial_variance}[name]
        fits = array.shape == tuple(self.view.kept) and array.dtype.name == "float32"
        return fits and not self.entry.startswith(_WHOLE) and bool((array == begins).all())

    def _only_trains(self) -> bool:
        """Return whether nothing that is shown depends on moving statistics."""
        promise = self.shown.promise
        modes = {promise.mode(step.index) for step in self.steps}
        plain = promise.semantics.training_statistics == "batch" and not self.spec.renorm
        layer = self.entry.startswith(
            ("torch.nn.", "keras.B", "tf_keras.", "sonnet.", "tf.layers.", "tf.compat.v1.layers")
        )
        return layer and plain and modes == {"train"} and not self.output.startswith("moving_")

    @property
    def own(self) -> bool:
        """Whether the layer starts with its own statistics."""
        return "mean" not in self.arrays

    def has(self, *names: str) -> bool:
        """Return whether the case gives all of these arrays."""
        return all(name in self.arrays for name in names)

    @property
    def epsilon(self) -> str:
        """The epsilon, in the type that it is handed over in."""
        return self._scalar(self.spec.epsilon)

    @property
    def momentum(self) -> str:
        """The momentum as the implementation counts it, in the type that it is handed over in."""
        return self._scalar(float(f"{float(self.view.native['momentum']):.12g}"))

    def _scalar(self, value: float) -> str:
        text = repr(value)
        return {
            "number": text,
            "float64": f"np.float64({text})",
            "float32": f"np.float32({text})",
            "array": f'np.array({text}, "float32")',
        }[self.actions.scalars]

    def half(self, name: str) -> str:
        """Return the dtype that an array is handed over in, where NumPy has it not, or not as it is written."""
        kind, dtypes = name.rstrip("0123456789"), self.shown.case.dtypes
        parameters, statistics = dtypes.parameters, dtypes.statistics
        of = {"gamma": parameters, "beta": parameters, "mean": statistics, "var": statistics, "mask": ""}
        dtype = self.actions.input if kind == "x" and self.actions.input != "stored" else of.get(kind, dtypes.x)
        return dtype if dtype in literals.NARROW else ""

    @cached_property
    def differentiated(self) -> bool:
        """Whether the script takes gradients: where one is shown, or where something is raised by taking them."""
        asked = self.target.dy is not None and bool(self.target.derivatives)
        follows = self.actions.backward == "recomputed" and any(step.dy is not None for step in self.steps)
        shows = self.output.startswith("d") or "_tangent" in self.output
        return shows or follows or (self.shown.kind in ("refused", "crashed") and asked)

    def derived(self, step: Any) -> bool:
        """Return whether the script takes gradients of a step."""
        if not self.differentiated or step.dy is None:
            return False
        return self.actions.backward in ("recomputed", "together") or step.index == self.step

    @cached_property
    def free(self) -> list[str]:
        """The gradients to take, by name."""
        step = next((s for s in self.steps if self.derived(s)), None)
        there = {"dx": True, "dgamma": self.spec.scale, "dbeta": self.spec.center}
        return [name for name in there if step is not None and name in step.gradients and there[name]]

    @property
    def learned(self) -> list[str]:
        """The gradients of the parameters that there are, by name."""
        return [name for name, there in (("dgamma", self.spec.scale), ("dbeta", self.spec.center)) if there]

    @property
    def special(self) -> list[str]:
        """Keyword arguments for virtual batches and renorm, which Keras and TensorFlow call alike."""
        spec, limits = self.spec, self.spec.renorm_clipping
        words = [f"virtual_batch_size={spec.virtual_batch_size}"] if spec.virtual_batch_size else []
        words += ["renorm=True", f"renorm_momentum={spec.renorm_momentum}"] if spec.renorm else []
        given = {name: limit for name, limit in vars(limits).items() if limit is not None} if limits else {}
        return words + ([f"renorm_clipping={given}"] if spec.renorm and given else [])

    def given(self, **named: str) -> list[str]:
        """Return keyword arguments for the fields of the spec that are not as usual, by the caller's names."""
        usual = {"center": self.spec.center, "scale": self.spec.scale, "trainable": self.spec.trainable}
        return [f"{word}=False" for name, word in named.items() if not usual[name]]

    def literal(self, name: str) -> str:
        """Return the expression that makes an array."""
        tensors = {self.name(k, s.index): f"{s.index}.{k}" for s in self.steps for k in _OF_STEP}
        return self._formulas.get(tensors.get(name, name)) or literals.literal(self.arrays[name])


def _json(fields: dict[str, Any]) -> dict[str, Any]:
    return msgspec.json.decode(msgspec.json.encode(fields))
