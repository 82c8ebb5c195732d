"""Implementations that refuse some calls, and answer the rest."""

import importlib.util
import os

_HERE = os.path.dirname(os.path.abspath(__file__))
_PATH = os.path.join(_HERE, "..", "..", "..", "conformance", "implementations", "numpy.py")
_SPEC = importlib.util.spec_from_file_location("calibration", os.path.normpath(_PATH))
calibration = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(calibration)


class OneValue(calibration.TwoPass):
    """Refuses to train on one value, as torch's modules do."""

    statement = dict(
        calibration.TwoPass.statement,
        id="refusing.one_value",
        refusals=[{"cite": "this file", "when": {"n": ["1"], "mode": ["train"]}, "error": ["ValueError"]}],
    )

    @classmethod
    def fitting(cls, case, x):
        """Raise where a batch has one value; inference never does, as tests give it more."""
        if x[..., 0].size == 1:
            raise ValueError("one value")
        return super(OneValue, cls).fitting(case, x)


class Undocumented(calibration.TwoPass):
    """Refuses what begins with a positive value, and does not say so."""

    statement = dict(calibration.TwoPass.statement, id="refusing.undocumented")

    @classmethod
    def fitting(cls, case, x):
        """Raise where the first value is positive."""
        if x.size and x.flat[0] > 0:
            raise ValueError("a positive value")
        return super(Undocumented, cls).fitting(case, x)
