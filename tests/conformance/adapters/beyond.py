"""Plain NumPy that departs where something is asked beyond the plain layer: what an audit's dimensions tell."""

import importlib.util
import os

import numpy as np

_HERE = os.path.dirname(os.path.abspath(__file__))
_PATH = os.path.join(_HERE, "..", "..", "..", "conformance", "implementations", "numpy.py")
_SPEC = importlib.util.spec_from_file_location("calibration", os.path.normpath(_PATH))
calibration = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(calibration)


class Clips(calibration.TwoPass):
    """Takes a momentum of more than 1 for 1, refuses one of less than 0, and is asked no gradients of statistics."""

    statement = dict(calibration.TwoPass.statement, id="beyond.clips")
    statement["supports"] = dict(statement["supports"], of=["y"])

    def steps(self, case):
        """Return what each call gives, and a function that takes its gradients."""
        if case.native["momentum"] < 0:
            raise ValueError("momentum must not be negative")
        case.native["momentum"] = min(case.native["momentum"], 1.0)
        return calibration.TwoPass.steps(self, case)


class Broadcasts(calibration.TwoPass):
    """Takes parameters of any shape, and the channels that it has."""

    statement = dict(calibration.TwoPass.statement, id="beyond.broadcasts")

    @staticmethod
    def spread(array, case):
        """Return as many values as there are channels, whatever the shape."""
        flat = array.reshape(-1)[: case.kept[0]]
        return calibration.TwoPass.spread(flat, case)

    @staticmethod
    def fitting(case, x):
        """Return an empty answer, whatever the channels."""
        return {}


class Writes(calibration.TwoPass):
    """Writes into its input, by the last bit of one value, after all is computed from it."""

    statement = dict(calibration.TwoPass.statement, id="beyond.writes")

    def affine(self, x, mean, r, gamma, beta):
        """Return the normalized, scaled and shifted input."""
        y = calibration.TwoPass.affine(self, x, mean, r, gamma, beta)
        if x.size and x.flags.writeable:
            x.flat[0] = np.nextafter(x.flat[0], x.dtype.type(9))
        return y


IMPLEMENTATIONS = [Clips, Broadcasts, Writes]
