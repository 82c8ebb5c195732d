"""OpenVINO: the operator BatchNormInference-5 on its CPU plugin. It infers only.

https://docs.openvino.ai/2026/documentation/openvino-ir-format/operation-sets/operation-specs/normalization/batch-norm-inference-5.html
"""

import importlib

import numpy as np

from . import said

_DOCS = (
    "https://docs.openvino.ai/2026/documentation/openvino-ir-format/operation-sets/operation-specs/normalization/"
    "batch-norm-inference-5.html"
)
_PLUGIN = (
    "https://docs.openvino.ai/2026/openvino-workflow/running-inference/inference-devices-and-modes/cpu-device.html"
)
_DECOMPOSED = (
    "https://github.com/openvinotoolkit/openvino/blob/2026.4.1/src/common/transformations/src/transformations/"
    "op_conversions/batch_norm_decomposition.cpp"
)


class BatchNormInference(object):
    """The operator, with parameters and statistics as constants, compiled for each step, at full precision."""

    statement = said.stated(
        "openvino.BatchNormInference+opset5",
        ["openvino"],
        _DOCS,
        "kept",
        [
            {
                "cite": _DECOMPOSED + ": data * (gamma / sqrt(variance + eps)) + (beta - mean * that)",
                "semantics": {"frozen": "train", "average": "none"},
                "numerics": {"affine": "folded", "sums": "serial"},
            },
            {
                "when": {"dtype": ["float64"]},
                "numerics": {"accumulate": "float32"},
                "cite": _PLUGIN + ": f64 is converted to f32",
            },
        ],
        {
            "dtype": ["float32", "float64"],
            "rank": [2, 3, 4, 5],
            "channel": ["second"],
            "start": ["given", "own"],
        },
        ["y"],
        modes=["infer"],
    )

    def __init__(self, device):
        said.check(device)
        self.openvino = importlib.import_module("openvino")
        self.operators = importlib.import_module("openvino.opset5")
        self.core = self.openvino.Core()
        self.core.set_property("CPU", {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1})

    def run(self, case):
        """Yield y of each inference step."""
        one = np.ones(case.kept, case.dtypes["statistics"])
        wide = np.ones(case.kept, case.dtypes["parameters"])
        gamma, beta = (wide if case.gamma is None else case.gamma), (0 * wide if case.beta is None else case.beta)
        mean, variance = (
            (0 * one if case.mean is None else case.mean),
            (one if case.variance is None else case.variance),
        )
        for step in case.steps:
            yield {} if step.training else {"y": self.infer(step.x, gamma, beta, mean, variance, case)}

    def infer(self, x, gamma, beta, mean, variance, case):
        """Return what the compiled model makes of x."""
        data = self.operators.parameter(x.shape, x.dtype.type)
        constants = [self.operators.constant(np.ascontiguousarray(a)) for a in (gamma, beta, mean, variance)]
        node = self.operators.batch_norm_inference(data, *(constants + [case.native["epsilon"]]))
        compiled = self.core.compile_model(self.openvino.Model([node], [data]), "CPU")
        return np.array(compiled([np.ascontiguousarray(x)])[0])


IMPLEMENTATIONS = [BatchNormInference]
