"""Deliberately wrong implementations: each departs from its statement in one way, and must fail."""

import importlib.util
import os

import numpy as np

_HERE = os.path.dirname(os.path.abspath(__file__))
_PATH = os.path.join(_HERE, "..", "..", "..", "conformance", "implementations", "numpy.py")
_SPEC = importlib.util.spec_from_file_location("calibration", os.path.normpath(_PATH))
calibration = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(calibration)


def _statement(name):
    return dict(calibration.TwoPass.statement, id="wrong.%s" % name)


class EpsilonOutside(calibration.TwoPass):
    """Adds epsilon to the root instead of to the variance."""

    statement = _statement("epsilon_outside")

    def run(self, case):
        """Yield steps whose epsilon is outside the root."""
        self.epsilon = case.native["epsilon"]
        case.native["epsilon"] = 0.0
        for step, out in zip(case.steps, super(EpsilonOutside, self).run(case)):
            shape = [-1 if i in case.axis else 1 for i in range(case.rank)] if len(case.axis) == 1 else case.rank * [1]
            variance = out["variance"] if step.training else out["moving_variance"]
            if len(case.axis) == 1:
                variance = variance.reshape(shape)
            root = np.sqrt(variance)
            beta = 0 if case.beta is None else self.spread(case.beta, case)
            out["y"] = (out["y"] - beta) * (root / (root + step.x.dtype.type(self.epsilon))) + beta
            yield out


class MomentumSwapped(calibration.TwoPass):
    """Takes momentum for the fraction that is updated."""

    statement = _statement("momentum_swapped")

    def run(self, case):
        """Yield steps with the other momentum."""
        case.native["momentum"] = 1.0 - case.native["momentum"]
        return super(MomentumSwapped, self).run(case)


class BiasedForUnbiased(calibration.TwoPass):
    """Promises the unbiased variance and stores the biased one."""

    statement = dict(
        _statement("biased_for_unbiased"),
        rules=calibration.TwoPass.statement["rules"]
        + [{"semantics": {"stored_variance": "unbiased"}, "cite": "a promise that is not kept"}],
    )


IMPLEMENTATIONS = [EpsilonOutside, MomentumSwapped, BiasedForUnbiased]
