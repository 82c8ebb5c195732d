"""Scripts for ONNX Runtime and onnx's reference evaluator."""

from __future__ import annotations

from typing import Any

from conformance.studies.upstream.literals import packed, wrapped
from conformance.studies.upstream.program import Program
from conformance.studies.upstream.question import Question

_LEVELS = {"disabled": "ORT_DISABLE_ALL", "basic": "ORT_ENABLE_BASIC", "extended": "ORT_ENABLE_EXTENDED"}
_OUTPUTS = ("y", "moving_mean", "moving_variance")


def render(question: Question) -> Program:
    """Return the part of a script that asks an ONNX runtime: a model for each step."""
    runtime, opset = question.entry.startswith("onnxruntime"), _opset(question)
    program = Program(["import onnx", "from onnx import helper, numpy_helper"], {"onnx": "onnx.__version__"})
    program.imports.append("import onnxruntime" if runtime else "from onnx.reference import ReferenceEvaluator")
    program.versions |= {"onnxruntime": "onnxruntime.__version__"} if runtime else {}
    if question.dtype == "bfloat16":
        program.imports.append("import ml_dtypes")
    program.lines += _constants(question)
    program.lines += _function(question, opset, runtime=runtime)
    steps = question.steps if _carries(question) else [question.target]
    for step in steps:
        last = step.index == question.step
        x, moves = _x(question, step), not last and step.training and _carries(question)
        mode = f", {int(step.training)}" if opset >= 14 else ""
        program.lines.append(f"{'_, mean_, var_' if moves else 'out'} = ask({x}, mean_, var_{mode})")
    program.got = f"np.asarray(out[{_OUTPUTS.index(question.output)}])"
    return program


def _opset(question: Question) -> int:
    return int(next(v for v in question.variants if v.startswith("opset")).removeprefix("opset"))


def _carries(question: Question) -> bool:
    """Return whether statistics that a step returns go into the next."""
    return "y_only" not in question.variants and _opset(question) >= 14


def _x(question: Question, step: Any) -> str:
    name = question.name("x", step.index)
    return f"{name}.astype({_half(question.half(name))})" if question.half(name) else name


def _half(name: str) -> str:
    return "ml_dtypes.bfloat16" if name == "bfloat16" else f'"{name}"'


def _constants(question: Question) -> list[str]:
    kept, dtypes = tuple(question.view.kept), question.shown.case.dtypes
    pairs: list[tuple[str, str]] = []
    for name in ("gamma", "beta", "mean", "var"):
        dtype = dtypes.parameters if name in ("gamma", "beta") else dtypes.statistics
        made = name if question.has(name) else f'np.full({kept}, {int(name in ("gamma", "var"))}, "{dtype}")'
        cast = f".astype({_half(question.half(name))})" if question.half(name) and question.has(name) else ""
        pairs.append((f"{name}_", made + cast))
    return packed(pairs)


def _function(question: Question, opset: int, *, runtime: bool) -> list[str]:
    """Return the lines of a function that makes a model of one node, and runs it."""
    trains = any(step.training for step in question.steps) and opset >= 14
    names = '["y", "m", "v"][: 1 + 2 * training]' if trains else '["y"]'
    asked = '["y"]' if "y_only" in question.variants else names
    attributes = f"epsilon={question.epsilon}, momentum={question.momentum}"
    attributes += ", training_mode=training" if opset >= 14 else ""
    fold = "conv_fold" in question.variants
    inputs = f'["{"convolved" if fold else "x"}", "gamma", "beta", "mean", "var"]'
    lines = [f"def ask(x, mean, var{', training' if opset >= 14 else ''}):"]
    lines += wrapped(f'    node = helper.make_node("BatchNormalization", {inputs}, {names}, {attributes})')
    lines.append('    arrays = [(gamma_, "gamma"), (beta_, "beta"), (mean, "mean"), (var, "var")]')
    lines += _convolution(question) if fold else []
    nodes = "[conv, node]" if fold else "[node]"
    lines += [
        "    info, of = helper.make_tensor_value_info, helper.np_dtype_to_tensor_dtype",
        f'    outs = [info(n, of(x.dtype if n == "y" else mean.dtype), None) for n in {asked}]',
        f'    graph = helper.make_graph({nodes}, "g", [info("x", of(x.dtype), x.shape)],',
        "        outs, [numpy_helper.from_array(*pair) for pair in arrays])",
    ]
    made = f'graph, opset_imports=[helper.make_opsetid("", {opset})], ir_version=8'
    return [*lines, f"    model = helper.make_model({made})", *_ran(question, runtime=runtime)]


def _convolution(question: Question) -> list[str]:
    """Return the lines of a convolution before the node: of each channel by itself, the identity."""
    ones = ", ".join(["x.shape[1]", *["1"] * (question.view.rank - 1)])
    return [
        f'    arrays.append((np.ones(({ones}), x.dtype), "one"))',
        '    conv = helper.make_node("Conv", ["x", "one"], ["convolved"], group=x.shape[1])',
    ]


def _ran(question: Question, *, runtime: bool) -> list[str]:
    if not runtime:
        return ['    return ReferenceEvaluator(model).run(None, {"x": x})']
    level = next((_LEVELS[v] for v in question.variants if v in _LEVELS), "")
    lines = ["    options = onnxruntime.SessionOptions()"] if level else []
    lines += [f"    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.{level}"] if level else []
    options = ", options" if level else ""
    made = f'onnxruntime.InferenceSession(model.SerializeToString(){options}, providers=["CPUExecutionProvider"])'
    return [*lines, f"    session = {made}", '    return session.run(None, {"x": x})']
