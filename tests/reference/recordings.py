"""Read recorded outputs of `tf.layers.batch_normalization`; the format is in `golden/tf-1.15/README.md`."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from conformance.model.case import Case, Derivative, Dtypes, Step
from conformance.model.outcome import Outputs, Reply
from reference import Adjustment, Gradients, Parameters, Spec, State, infer, infer_gradients, train, train_gradients
from reference.paths import TF_1_15
from reference.renorm import started
from reference.spec import Array, Semantics, kept_shape
from reference.validation import clipping, validate

STATISTICS = {"moving_mean": "mean", "moving_variance": "variance"}
RENORM = {"renorm_mean": "mean", "renorm_stddev": "stddev", "moving_stddev": "moving_stddev"}


@dataclass(frozen=True)
class Recording:
    """One configuration: its entry in the index, its inputs, and what TensorFlow made of them."""

    entry: dict[str, Any]
    inputs: dict[str, Array]
    outputs: dict[str, Array]
    tolerances: dict[str, float]

    @property
    def name(self) -> str:
        """The identifier in the index, and what it is about."""
        return f"{self.entry['id']}-{self.entry['tag']}"

    @property
    def spec(self) -> Spec:
        """What the caller asked for."""
        entry = self.entry
        axis = entry["axis"]
        return Spec(
            axis=tuple(axis) if isinstance(axis, list) else axis,
            epsilon=entry["epsilon"],
            momentum=entry["momentum"],
            center=entry["center"],
            scale=entry["scale"],
            virtual_batch_size=entry["virtual_batch_size"],
            renorm=entry["renorm"],
            renorm_clipping=None if entry["renorm_clipping"] is None else clipping(entry["renorm_clipping"]),
            renorm_momentum=entry["renorm_momentum"],
        )

    @property
    def semantics(self) -> Semantics:
        """What TensorFlow 1.15 promises for it, by path; or a Refusal."""
        entry, adjusted = self.entry, self.entry["adjustment"] is not None
        validate(self.spec, tuple(entry["shape"]))
        return TF_1_15.taken(self.spec, len(entry["shape"]), entry["dtype"], asked=entry["fused"], adjusted=adjusted)

    @property
    def adjustment(self) -> Adjustment | None:
        """What the adjustment returned, where there was one."""
        if self.entry["adjustment"] is None:
            return None
        return Adjustment(self.at("adj_scale"), self.at("adj_bias"))

    def at(self, name: str) -> Array:
        """Return an input at the precision that the reference computes in."""
        return self.inputs[name].astype(np.float64)

    @property
    def parameters(self) -> Parameters:
        """Gamma and beta, where there are any."""
        kept = kept_shape(self.spec, tuple(self.entry["shape"]))
        gamma = self.outputs["s0/gamma"].astype(np.float64).reshape(kept) if self.entry["scale"] else None
        beta = self.outputs["s0/beta"].astype(np.float64).reshape(kept) if self.entry["center"] else None
        return Parameters(gamma, beta)

    @property
    def initial(self) -> State:
        """The moving statistics before the first step; renorm begins from them."""
        mean, variance = (self.outputs[f"s0/{name}"].astype(np.float64) for name in STATISTICS)
        return State(mean, variance)


def read(directory: Path) -> list[Recording]:
    """Return every recording in a directory."""
    index = json.loads((directory / "index.json").read_text())
    inputs, outputs = _by_case(directory / "inputs.npz"), _by_case(directory / "outputs.npz")
    return [Recording(e, inputs.get(e["id"], {}), outputs.get(e["id"], {}), index["tol"]) for e in index["cases"]]


def _by_case(path: Path) -> dict[str, dict[str, Array]]:
    cases: dict[str, dict[str, Array]] = {}
    with np.load(path) as file:
        for name in file.files:
            case, tensor = name.split("/", 1)
            cases.setdefault(case, {})[tensor] = file[name]
    return cases


def reproduce(recording: Recording) -> dict[str, Array]:
    """Return what the reference says of every recorded array, in float64."""
    spec, semantics, adjustment = recording.spec, recording.semantics, recording.adjustment
    state, made = recording.initial, {}
    if spec.renorm:
        state = replace(state, renorm=started(state, spec, semantics))
    made |= _statistics(state, 0)
    for t in range(recording.entry["steps"] + 1):
        x, dy = recording.at(f"x{t}"), recording.at(f"cot{t}")
        if t < recording.entry["steps"]:
            step = train(x, recording.parameters, state, spec, semantics, adjustment=adjustment)
            y = step.y
            gradients = train_gradients(x, dy, recording.parameters, state, spec, semantics, adjustment=adjustment)
            state = step.state
            made.update(_statistics(state, t + 1))
        else:
            y = infer(x, recording.parameters, state, spec, semantics)
            gradients = infer_gradients(x, dy, recording.parameters, state, spec, semantics)
        made |= {f"y{t}": y, **_gradients(gradients, t)}
    return made


def _statistics(state: State, t: int) -> dict[str, Array]:
    made = {f"s{t}/{name}": getattr(state, field) for name, field in STATISTICS.items()}
    if state.renorm is not None:
        made |= {f"s{t}/{name}": getattr(state.renorm, field) for name, field in RENORM.items()}
    return made


def _gradients(gradients: Gradients, t: int) -> dict[str, Array]:
    return {f"dx{t}": gradients.dx, f"dgamma{t}": gradients.dgamma, f"dbeta{t}": gradients.dbeta}


def judged(recording: Recording) -> list[str]:
    """Return the names of the recorded arrays that batch normalization computes: all but gamma and beta."""
    return [name for name in recording.outputs if not name.endswith(("/gamma", "/beta"))]


def as_case(recording: Recording) -> Case:
    """Return the question that was recorded; where the layer began as it does by default, it is left to."""
    entry, tensors = recording.entry, dict[str, Any]()
    wide: Any = "float64" if entry["dtype"] == "float64" else "float32"
    if entry["init"] != "default":
        started = {name[3:]: array for name, array in recording.outputs.items() if name.startswith("s0/")}
        kept = ("gamma", "beta", "moving_mean", "moving_variance")
        tensors.update((name, started[name]) for name in kept if name in started)
    for t in range(entry["steps"] + 1):
        tensors |= {f"{t}.x": recording.inputs[f"x{t}"], f"{t}.dy": recording.inputs[f"cot{t}"]}
        if entry["adjustment"] is not None:
            tensors[f"{t}.adjustment_scale"] = recording.inputs["adj_scale"]
            tensors[f"{t}.adjustment_bias"] = recording.inputs["adj_bias"]
    modes: list[Any] = ["train"] * entry["steps"] + ["infer"]
    steps = tuple(Step(mode=mode, derivatives=(Derivative(),)) for mode in modes)
    return Case(spec=recording.spec, steps=steps, dtypes=Dtypes(entry["dtype"], wide, wide), tensors=tensors)


def implementation(recording: Recording) -> str:
    """Return the implementation that a recording is of; fused=True is what None means."""
    fused = "+fused_false" if recording.entry["fused"] is False else ""
    placeholder = "+placeholder" if recording.entry["training_mode"] == "placeholder" else ""
    return f"tf.layers.batch_normalization+1.15{fused}{placeholder}@cpu"


def as_reply(recording: Recording) -> Reply:
    """Return the recorded arrays as an answer to `as_case`; inference, whose state was not recorded, leaves it."""
    outcomes, got = list[Outputs](), recording.outputs
    for t in range(recording.entry["steps"] + 1):
        state = min(t + 1, recording.entry["steps"])
        found = {name: got[f"{name}{t}"] for name in ("y", "dx", "dgamma", "dbeta") if f"{name}{t}" in got}
        found |= {name: got[f"s{state}/{name}"] for name in (*STATISTICS, *RENORM) if f"s{state}/{name}" in got}
        outcomes.append(Outputs(found))
    return Reply(0, implementation(recording), tuple(outcomes))


def kind(name: str) -> str:
    """Return which tolerance an array has: `stats`, `y` or `grad`."""
    return "stats" if name.startswith("s") else "y" if name.startswith("y") else "grad"


def distance(got: Array, expected: Array) -> float:
    """Return max|a - b| / max(1, max|b|), the recordings' metric."""
    expected = expected.astype(np.float64)
    return float(np.max(np.abs(got.reshape(expected.shape) - expected), initial=0)) / max(
        1.0, float(np.max(np.abs(expected), initial=0))
    )
