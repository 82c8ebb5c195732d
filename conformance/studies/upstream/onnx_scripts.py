"""Scripts for ONNX Runtime and onnx's reference evaluator."""

from __future__ import annotations

from typing import Any

from conformance.studies.upstream.draft import Draft
from conformance.studies.upstream.literals import packed, wrapped
from conformance.studies.upstream.program import Program

_LEVELS = {"disabled": "ORT_DISABLE_ALL", "basic": "ORT_ENABLE_BASIC", "extended": "ORT_ENABLE_EXTENDED"}
_OUTPUTS = ("y", "moving_mean", "moving_variance")


def render(draft: Draft) -> Program:
    """Return the part of a script that asks an ONNX runtime: a model for each step."""
    runtime, opset = draft.entry.startswith("onnxruntime"), _opset(draft)
    program = Program(["import onnx", "from onnx import helper, numpy_helper"], {"onnx": "onnx.__version__"})
    program.imports.append("import onnxruntime" if runtime else "from onnx.reference import ReferenceEvaluator")
    program.versions |= {"onnxruntime": "onnxruntime.__version__"} if runtime else {}
    if draft.dtype == "bfloat16":
        program.imports.append("import ml_dtypes")
    program.lines += _constants(draft)
    program.lines += _function(draft, opset, runtime=runtime)
    steps = draft.steps if _carries(draft) else [draft.target]
    for step in steps:
        last = step.index == draft.step
        x, moves = _x(draft, step), not last and step.training and _carries(draft)
        mode = f", {int(step.training)}" if opset >= 14 else ""
        program.lines.append(f"{'_, mean_, var_' if moves else 'out'} = ask({x}, mean_, var_{mode})")
    program.got = f"np.asarray(out[{_OUTPUTS.index(draft.output)}])"
    return program


def _opset(draft: Draft) -> int:
    return int(next(v for v in draft.variants if v.startswith("opset")).removeprefix("opset"))


def _carries(draft: Draft) -> bool:
    """Return whether statistics that a step returns go into the next."""
    return "y_only" not in draft.variants and _opset(draft) >= 14


def _x(draft: Draft, step: Any) -> str:
    name = draft.name("x", step.index)
    return f"{name}.astype({_half(draft.half(name))})" if draft.half(name) else name


def _half(name: str) -> str:
    return "ml_dtypes.bfloat16" if name == "bfloat16" else f'"{name}"'


def _constants(draft: Draft) -> list[str]:
    kept, dtypes = tuple(draft.view.kept), draft.shown.case.dtypes
    pairs: list[tuple[str, str]] = []
    for name in ("gamma", "beta", "mean", "var"):
        dtype = dtypes.parameters if name in ("gamma", "beta") else dtypes.statistics
        made = name if draft.has(name) else f'np.full({kept}, {int(name in ("gamma", "var"))}, "{dtype}")'
        cast = f".astype({_half(draft.half(name))})" if draft.half(name) and draft.has(name) else ""
        pairs.append((f"{name}_", made + cast))
    return packed(pairs)


def _function(draft: Draft, opset: int, *, runtime: bool) -> list[str]:
    """Return the lines of a function that makes a model of one node, and runs it."""
    trains = any(step.training for step in draft.steps) and opset >= 14
    names = '["y", "m", "v"][: 1 + 2 * training]' if trains else '["y"]'
    asked = '["y"]' if "y_only" in draft.variants else names
    attributes = f"epsilon={draft.epsilon}, momentum={draft.momentum}"
    attributes += ", training_mode=training" if opset >= 14 else ""
    fold = "conv_fold" in draft.variants
    inputs = f'["{"convolved" if fold else "x"}", "gamma", "beta", "mean", "var"]'
    lines = [f"def ask(x, mean, var{', training' if opset >= 14 else ''}):"]
    lines += wrapped(f'    node = helper.make_node("BatchNormalization", {inputs}, {names}, {attributes})')
    lines.append('    arrays = [(gamma_, "gamma"), (beta_, "beta"), (mean, "mean"), (var, "var")]')
    lines += _convolution(draft) if fold else []
    nodes = "[conv, node]" if fold else "[node]"
    lines += [
        "    info, of = helper.make_tensor_value_info, helper.np_dtype_to_tensor_dtype",
        f'    outs = [info(n, of(x.dtype if n == "y" else mean.dtype), None) for n in {asked}]',
        f'    graph = helper.make_graph({nodes}, "g", [info("x", of(x.dtype), x.shape)],',
        "        outs, [numpy_helper.from_array(*pair) for pair in arrays])",
    ]
    made = f'graph, opset_imports=[helper.make_opsetid("", {opset})], ir_version=8'
    return [*lines, f"    model = helper.make_model({made})", *_ran(draft, runtime=runtime)]


def _convolution(draft: Draft) -> list[str]:
    """Return the lines of a convolution before the node: of each channel by itself, the identity."""
    ones = ", ".join(["x.shape[1]", *["1"] * (draft.view.rank - 1)])
    return [
        f'    arrays.append((np.ones(({ones}), x.dtype), "one"))',
        '    conv = helper.make_node("Conv", ["x", "one"], ["convolved"], group=x.shape[1])',
    ]


def _ran(draft: Draft, *, runtime: bool) -> list[str]:
    if not runtime:
        return ['    return ReferenceEvaluator(model).run(None, {"x": x})']
    level = next((_LEVELS[v] for v in draft.variants if v in _LEVELS), "")
    lines = ["    options = onnxruntime.SessionOptions()"] if level else []
    lines += [f"    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.{level}"] if level else []
    options = ", options" if level else ""
    made = f'onnxruntime.InferenceSession(model.SerializeToString(){options}, providers=["CPUExecutionProvider"])'
    return [*lines, f"    session = {made}", '    return session.run(None, {"x": x})']
