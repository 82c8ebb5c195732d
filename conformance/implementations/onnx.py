"""ONNX: the operator BatchNormalization in ONNX Runtime and in onnx's reference evaluator. It has no gradients.

Parameters and statistics are constants of the model, as in an exported network. The caller keeps the state: the
statistics that one step's model returns become constants of the next. epsilon and momentum are 32-bit attributes,
which is why no float64 case can be asked. https://onnx.ai/onnx/operators/onnx__BatchNormalization.html
"""

import importlib

import numpy as np

from .later import NoDevice

_DOCS = "https://onnx.ai/onnx/operators/onnx__BatchNormalization.html"
_KERNEL = "https://github.com/microsoft/onnxruntime/blob/v1.32.0/onnxruntime/core/providers/cpu/nn/batch_norm.h"
_KERNELS = "https://github.com/microsoft/onnxruntime/blob/v1.32.0/docs/OperatorKernels.md"
_FUSION = "https://github.com/microsoft/onnxruntime/blob/v1.32.0/onnxruntime/core/optimizer/conv_bn_fusion.cc"
_EVALUATOR = "https://github.com/onnx/onnx/blob/v1.23.2/onnx/reference/ops/op_batch_normalization.py"
_BIASED = "; %s: ReduceVar refers to the population variance, momentum is kept" % _DOCS
_FOLDED = {"variance": "two_pass", "affine": "folded", "sums": "serial"}
_DIRECT = {"variance": "two_pass", "affine": "direct", "sums": "serial"}
_LACKS = {
    "gradient": "the operator has no gradients",
    "forward": "the operator has no derivatives",
    "second order": "the operator has no derivatives",
    "mask": "the operator has no such input",
    "renorm": "the operator has no such attribute",
    "virtual batch": "the operator has no such attribute",
    "adjustment": "the operator has no such attribute",
}
_NO_ARRAY = {"error": ["TypeError"], "cite": _DOCS + ": epsilon and momentum are attributes of type float"}
_NO_INTEGERS = {
    "error": ["InvalidGraph", "TypeError"],
    "cite": _DOCS + ": T is one of bfloat16, double, float and float16",
}
_OUTPUTS = ["y", "moving_mean", "moving_variance"]


def _statement(identity, cite, numerics, modes, outputs, ranks=(2, 3, 4, 5, 6), dtypes=("float32",)):
    average = "exponential" if "moving_mean" in outputs else "none"
    semantics = {"stored_variance": "biased", "frozen": "train", "average": average}
    return {
        "id": identity,
        "packages": sorted({"onnx", identity.split(".")[0]}),
        "keeps_inputs": True,
        "documentation": _DOCS,
        "conventions": {"momentum": "kept", "axis": "fixed"},
        "supports": {
            "rank": list(ranks),
            "dtype": list(dtypes),
            "channel": ["second"],
            "start": ["given", "own"],
            "input": ["stored", "int32", "bool"],
            "scalars": ["number", "float64", "float32", "array"],
            "odd": [False, "momentum", "epsilon", "nan_epsilon", "channels", "statistics", "parameters", "shape"],
        },
        "modes": modes,
        "outputs": outputs,
        "refusals": [
            dict(_NO_ARRAY, when={"scalars": ["array"], "mode": modes}),
            dict(_NO_INTEGERS, when={"input": ["int32", "bool"], "mode": modes}),
        ],
        "rules": [{"cite": cite + _BIASED, "semantics": semantics, "numerics": numerics}],
        "lacks": dict(_LACKS, **({} if "train" in modes else {"train": "it infers only"})),
    }


class _Operator(object):
    """The operator of one opset. Subclasses define `evaluate(model, x)`, the list of the model's outputs."""

    def __init__(self, device):
        self.onnx, self.device = importlib.import_module("onnx"), device
        importlib.import_module("onnx.numpy_helper")  # which older versions do not import
        importlib.import_module("onnx.helper")

    def run(self, case):
        """Yield the outputs of each step, nothing for a mode that the operator does not have."""
        one = np.ones(case.kept, case.dtypes["statistics"])
        mean = 0 * one if case.mean is None else case.mean
        variance = one if case.variance is None else case.variance
        for step in case.steps:
            if step.training and "train" not in self.statement["modes"]:
                yield {}
                continue
            found = self.evaluate(self.model(case, step, mean, variance), step.x)
            out = dict({"moving_mean": mean, "moving_variance": variance}, **dict(zip(_OUTPUTS, found)))
            mean, variance = out["moving_mean"], out["moving_variance"]
            yield {name: out[name] for name in self.statement["outputs"]}

    def model(self, case, step, mean, variance):
        """Return the model of one step."""
        one = np.ones(case.kept, case.dtypes["parameters"])
        gamma, beta = (one if case.gamma is None else case.gamma), (0 * one if case.beta is None else case.beta)
        constants = {"gamma": gamma, "beta": beta, "mean": mean, "variance": variance}
        nodes = self.before(case, step, constants) + [self.node(case, step)]
        asked = self.statement["outputs"] if step.training else ["y"]
        outputs = [self.value(n, step.x if n == "y" else mean, None) for n in asked]
        tensors = [self.onnx.numpy_helper.from_array(array, name) for name, array in constants.items()]
        graph = self.onnx.helper.make_graph(nodes, "case", [self.value("x", step.x, step.x.shape)], outputs, tensors)
        opset = self.onnx.helper.make_opsetid("", self.opset)
        return self.onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8)

    def before(self, _case, _step, _constants):
        """Return the nodes before the operator."""
        return []

    def node(self, case, step):
        """Return the operator. In training it gives all three outputs, whether the model asks for them or not."""
        attributes = {"epsilon": case.native["epsilon"], "momentum": case.native["momentum"]}
        if self.opset >= 14:
            attributes["training_mode"] = int(step.training)
        inputs = ["x", "gamma", "beta", "mean", "variance"]
        return self.onnx.helper.make_node(
            "BatchNormalization", inputs, _OUTPUTS if step.training else ["y"], **attributes
        )

    def value(self, name, like, shape):
        """Return the declaration of an input or an output."""
        return self.onnx.helper.make_tensor_value_info(name, self.typed(like.dtype), shape)

    def typed(self, dtype):
        """Return ONNX's number of a dtype; before 1.13 it is looked up in a table."""
        if hasattr(self.onnx.helper, "np_dtype_to_tensor_dtype"):
            return self.onnx.helper.np_dtype_to_tensor_dtype(dtype)
        return importlib.import_module("onnx.mapping").NP_TYPE_TO_TENSOR_TYPE[dtype]


class _Runtime(_Operator):
    """ONNX Runtime with one thread."""

    level = "ENABLE_ALL"

    def __init__(self, device):
        super(_Runtime, self).__init__(device)
        self.runtime = importlib.import_module("onnxruntime")
        self.provider = "%sExecutionProvider" % self.device.upper()
        if self.provider not in self.runtime.get_available_providers():
            raise NoDevice("onnxruntime %s has no %s" % (self.runtime.__version__, self.provider))
        self.options = self.runtime.SessionOptions()
        self.options.intra_op_num_threads = self.options.inter_op_num_threads = 1
        self.options.graph_optimization_level = getattr(self.runtime.GraphOptimizationLevel, "ORT_" + self.level)

    def evaluate(self, model, x):
        """Return the model's outputs."""
        session = self.runtime.InferenceSession(model.SerializeToString(), self.options, providers=[self.provider])
        return session.run(None, {"x": x})


class _Convolved(_Runtime):
    """The operator after a 1x1 convolution of each channel, the identity, which the optimizer may fold it into."""

    def before(self, case, step, constants):
        """Return the convolution."""
        channels = case.kept[0]
        constants["identity"] = np.ones((channels,) + (1,) * (step.x.ndim - 1), step.x.dtype)
        return [self.onnx.helper.make_node("Conv", ["x", "identity"], ["convolved"], group=channels)]

    def node(self, case, step):
        """Return the operator."""
        node = super(_Convolved, self).node(case, step)
        node.input[0] = "convolved"
        return node


class _Evaluator(_Operator):
    """onnx's reference evaluator, which is NumPy."""

    def __init__(self, device):
        super(_Evaluator, self).__init__(device)
        if device != "cpu":
            raise NoDevice("onnx's reference evaluator has no device %s" % device)
        self.evaluator = importlib.import_module("onnx.reference").ReferenceEvaluator

    def narrower(self):
        """Return what older versions do not have: bfloat16 as a dtype of NumPy."""
        try:
            self.typed(np.dtype(importlib.import_module("ml_dtypes").bfloat16))
        except (ImportError, KeyError, ValueError):
            return {"dtype": ["float32", "float16"]}
        return {}

    def evaluate(self, model, x):
        """Return the model's outputs."""
        return self.evaluator(model).run(None, {"x": x})


_LEVELS = {"": "ENABLE_ALL", "+disabled": "DISABLE_ALL", "+basic": "ENABLE_BASIC", "+extended": "ENABLE_EXTENDED"}


def _runtime(opset, level, outputs, variant=""):
    """Return a class of ONNX Runtime on the operator."""
    identity = "onnxruntime.BatchNormalization+opset%d%s%s" % (opset, variant, level)
    modes = ["train", "infer"] if opset >= 14 else ["infer"]
    made = _statement(identity, _KERNEL, _FOLDED, modes, outputs, dtypes=["float32", "float16"])
    made["supports"]["mixed"] = [False, True]
    made["refusals"] += _refusals(opset, modes)
    return type("Runtime", (_Runtime,), {"statement": made, "opset": opset, "level": _LEVELS[level]})


def _refusals(opset, modes):
    """Return the refusals of dtypes: by the operator's version, and where the runtime has no kernel."""
    documented = _DOCS + ": before version 15 scale and B have the type T of X, before 14 mean and var too"
    others = {"float16": ["float32", "float64"], "float32": ["float16", "float64"]}
    whens = [{"dtype": [x], "parameters": wrong} for x, wrong in others.items()] if opset < 15 else []
    whens += [{"mixed": [True]}] if opset < 14 else []
    refused = [{"when": dict(when, mode=modes), "error": ["Fail"], "cite": documented} for when in whens]
    wide = {"statistics": ["float64"], "mode": modes}
    return refused + [{"when": wide, "error": ["NotImplemented"], "cite": _KERNELS}]


def _convolved(level):
    """Return a class of ONNX Runtime on a convolution and the operator; inference only."""
    identity = "onnxruntime.BatchNormalization+opset15+conv_fold%s" % level
    made = _statement(identity, _FUSION, _FOLDED, ["infer"], ["y"], (3, 4, 5))
    return type("Convolved", (_Convolved,), {"statement": made, "opset": 15, "level": _LEVELS[level]})


def _evaluator(opset):
    """Return a class of the reference evaluator; before opset 14 the number of outputs says that it trains."""
    modes, outputs = (["train", "infer"], _OUTPUTS) if opset >= 14 else (["infer"], ["y"])
    identity = "onnx.reference.BatchNormalization+opset%d" % opset
    dtypes = ["float32", "float16", "bfloat16"] if opset >= 15 else ["float32"]  # it lets pass what is no model before
    made = _statement(identity, _EVALUATOR, _DIRECT, modes, outputs, dtypes=dtypes)
    cite = _EVALUATOR + ": NumPy on x"
    if dtypes[1:]:
        made["rules"].append({"when": {"dtype": dtypes[1:]}, "numerics": {"accumulate": "input"}, "cite": cite})
    return type("Evaluator", (_Evaluator,), {"statement": made, "opset": opset})


IMPLEMENTATIONS = [_runtime(9, level, ["y"]) for level in _LEVELS]
IMPLEMENTATIONS += [_runtime(opset, level, _OUTPUTS) for opset in (14, 15) for level in _LEVELS]
IMPLEMENTATIONS += [_runtime(opset, level, ["y"], "+y_only") for opset in (14, 15) for level in _LEVELS]
IMPLEMENTATIONS += [_convolved(level) for level in _LEVELS]
IMPLEMENTATIONS += [_evaluator(opset) for opset in (9, 14, 15)]
