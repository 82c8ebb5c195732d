"""The reference with any semantics at all, for what is to be identified; refusals and start included."""

import importlib.util
import os

import numpy as np

from reference import Clipping, Parameters, Semantics, Spec, State, validate
from reference.dtypes import stored
from reference.renorm import started
from reference.spec import kept_shape

_PATH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "reference_subject.py")
_SPEC = importlib.util.spec_from_file_location("reference_subject", _PATH)
_MODULE = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_MODULE)
_DTYPES = ["float32", "float64", "float16"]


class Synthetic(_MODULE.Subject):
    """Means what `semantics` says, and says nothing of it."""

    semantics = {}
    statement = dict(
        _MODULE.Subject.statement,
        id="synthetic.any",
        supports=dict(_MODULE.Subject.statement["supports"], dtype=_DTYPES),
        rules=[],
    )

    def run(self, case):
        """Yield the outputs of each step; raise what the semantics refuse."""
        axis = case.spec["axis"]
        fields = dict(case.spec, axis=tuple(axis) if isinstance(axis, list) else axis)
        if fields["renorm_clipping"] is not None:
            fields["renorm_clipping"] = Clipping(**fields["renorm_clipping"])
        spec, semantics = Spec(**fields), Semantics(**self.semantics)
        given = case.dtypes["x"]  # a step's own x may be handed over in whole numbers or truth values
        dtype = np.float64 if given == "float64" else np.float32
        kept, state = kept_shape(spec, case.steps[0].x.shape), None
        for step in case.steps:
            shapes = [part.shape for part in step.adjustment] if step.adjustment else None
            mask = None if step.mask is None else step.mask.shape
            self.check(spec, step, state, semantics, mask, shapes)
            state = state or self.start(case, kept, semantics, dtype)
            x = np.ascontiguousarray(step.x.imag if case.complex else step.x).astype(dtype)
            out, state = self.step(x, step, Parameters(case.gamma, case.beta), state, spec, semantics)
            out.update(moving_mean=state.mean, moving_variance=state.variance)
            if spec.renorm:
                renorm = state.renorm or started(state, spec, semantics)
                out.update(moving_stddev=renorm.moving_stddev, renorm_mean=renorm.mean, renorm_stddev=renorm.stddev)
            out["y"] = np.asarray(out["y"], stored(given, semantics).output)
            out = {name: np.asarray(array, array.dtype if name == "y" else dtype) for name, array in out.items()}
            turned = {"y", "mean", "moving_mean"} & set(out if case.complex else ())
            yield dict(out, **{name: out[name] * np.complex64(1j) for name in turned})

    def check(self, spec, step, state, semantics, mask, shapes):
        """Raise what the semantics refuse."""
        kept = None if state is None else state.mean.shape
        validate(spec, step.x.shape, kept, semantics, training=step.training, mask=mask, adjustment=shapes)

    def start(self, case, kept, semantics, dtype):
        """Return the state before the first step."""
        mean = np.full(kept, semantics.initial_mean, dtype) if case.mean is None else case.mean
        own = np.full(kept, semantics.initial_variance, dtype)
        return State(mean, own if case.variance is None else case.variance, case.batches)


IMPLEMENTATIONS = [Synthetic]
