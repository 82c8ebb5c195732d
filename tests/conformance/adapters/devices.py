"""An implementation on two devices: on `cuda` its epsilon has a floor, its variance is E[x²]-E[x]², and it says so."""

import importlib.util
import os

_HERE = os.path.dirname(os.path.abspath(__file__))
_PATH = os.path.join(_HERE, "..", "..", "..", "conformance", "implementations", "numpy.py")
_SPEC = importlib.util.spec_from_file_location("calibration", os.path.normpath(_PATH))
calibration = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(calibration)

FLOOR = 1e-4
_FLOATS = dict(
    calibration.TwoPass.statement["supports"], input=["stored"]
)  # a fast variance squares i x to less than 0
_PLAIN = dict(calibration.TwoPass.statement, supports=_FLOATS)
_ELSEWHERE = {
    "when": {"device": ["cuda"]},
    "semantics": {"epsilon_floor": FLOOR},
    "numerics": {"variance": "fast", "clamped": True},
    "cite": "this file",
}


class Both(object):
    """Two passes on the CPU, one elsewhere."""

    statement = dict(_PLAIN, id="devices.both", rules=_PLAIN["rules"] + [_ELSEWHERE])

    def __init__(self, device):
        self.device = device
        self.inner = calibration.TwoPass("cpu") if device == "cpu" else calibration.Fast("cpu")

    def about(self):
        """Return what it runs on."""
        return {"gpu": "made of paper", "tf32": "off"} if self.device == "cuda" else {}

    def run(self, case):
        """Yield what the device computes."""
        if self.device == "cuda":
            case.native["epsilon"] = max(FLOOR, case.native["epsilon"])
        return self.inner.run(case)


class Silent(Both):
    """The same, without a word about the other device."""

    statement = dict(_PLAIN, id="devices.silent")


class Lost(Both):
    """The same, in whose third case the GPU is lost, as every later call of the process then says, too."""

    statement = dict(Both.statement, id="devices.lost")
    asked = 0

    def run(self, case):
        """Return what the device computes, while there is one."""
        Lost.asked += 1
        if self.device == "cuda" and Lost.asked >= 3:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        return super(Lost, self).run(case)


class NoDevice(RuntimeError):
    """What is installed has no such device."""


class BuiltForCpu(Both):
    """The same, of a library that is built for the CPU alone."""

    statement = dict(Both.statement, id="devices.built_for_cpu")

    def __init__(self, device):
        if device != "cpu":
            raise NoDevice("it is built for the CPU alone")
        super(BuiltForCpu, self).__init__(device)


IMPLEMENTATIONS = [Both, Silent, Lost, BuiltForCpu]
