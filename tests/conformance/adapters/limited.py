"""Implementations that promise less than everything, and keep it."""

import importlib.util
import os

import numpy as np

_HERE = os.path.dirname(os.path.abspath(__file__))
_PATH = os.path.join(_HERE, "..", "..", "..", "conformance", "implementations", "numpy.py")
_SPEC = importlib.util.spec_from_file_location("calibration", os.path.normpath(_PATH))
calibration = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(calibration)


class InferenceOnly(calibration.TwoPass):
    """Has no training: a training step leaves it as it was."""

    statement = dict(
        calibration.TwoPass.statement,
        id="limited.inference_only",
        modes=["infer"],
        outputs=["y", "dx"],
        rules=calibration.TwoPass.statement["rules"]
        + [{"semantics": {"average": "none"}, "cite": "this file: a training step does nothing"}],
    )

    def run(self, case):
        """Yield the outputs of inference, nothing for training."""
        modes = [step.training for step in case.steps]
        case.steps = [step for step in case.steps if not step.training]
        inferred = super(InferenceOnly, self).run(case)
        for training in modes:
            yield {} if training else next(inferred)


class Expensive(calibration.TwoPass):
    """Pays so much for a new signature that it gets six, two of them in a run that is a look."""

    statement = dict(calibration.TwoPass.statement, id="limited.expensive", compiled=True, signatures=6)


class Narrow(InferenceOnly):
    """Infers in float16, to which it rounds its float32 statistics first."""

    statement = dict(
        InferenceOnly.statement,
        id="limited.narrow",
        supports={"dtype": ["float16"], "several_axes": [False]},
        outputs=["y"],
        rules=InferenceOnly.statement["rules"] + [{"numerics": {"accumulate": "input"}, "cite": "this file: astype"}],
    )

    def run(self, case):
        """Yield y of inference, nothing for training."""
        one = np.ones(case.kept, np.float32)
        gamma, beta = (one * d if a is None else a for a, d in ((case.gamma, 1), (case.beta, 0)))
        half = [self.spread(a.astype(np.float16), case) for a in (case.mean, case.variance)]
        for step in case.steps:
            z = (step.x - half[0]) * (1 / np.sqrt(half[1] + np.float16(case.native["epsilon"])))
            y = self.spread(gamma, case) * z + self.spread(beta, case)
            yield {} if step.training else {"y": y.astype(np.float16)}


class Forgetful(calibration.TwoPass):
    """Gives no gradient of gamma where it is frozen, as it says."""

    statement = dict(
        calibration.TwoPass.statement,
        id="limited.forgetful",
        rules=calibration.TwoPass.statement["rules"]
        + [{"when": {"trainable": [False]}, "absent": ["dgamma"], "cite": "this file: it is taken out"}],
    )

    def run(self, case):
        """Yield the outputs, without dgamma where the layer is frozen."""
        for out in super(Forgetful, self).run(case):
            yield out if case.spec["trainable"] else {name: a for name, a in out.items() if name != "dgamma"}


IMPLEMENTATIONS = [InferenceOnly, Expensive, Narrow, Forgetful]
