"""Implementations that promise less than everything, and keep it."""

import importlib.util
import os

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
    """Pays so much for a new signature that it gets two."""

    statement = dict(calibration.TwoPass.statement, id="limited.expensive", compiled=True, signatures=2)


IMPLEMENTATIONS = [InferenceOnly, Expensive]
