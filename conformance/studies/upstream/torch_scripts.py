"""Scripts for PyTorch: modules, functions, and what transforms these."""

from __future__ import annotations

from typing import Any

from conformance.studies.upstream.literals import packed, targets, wrapped
from conformance.studies.upstream.program import Program
from conformance.studies.upstream.question import Question, Untold

_NAMES = {"dx": "x", "dgamma": "gamma", "dbeta": "beta"}
_STATE = {"moving_mean": "mean", "moving_variance": "var"}
_BUFFERS = {"moving_mean": "layer.running_mean", "moving_variance": "layer.running_var"}
_KEYS = {"gamma": "weight", "beta": "bias", "mean": "running_mean", "var": "running_var"}


def tensor(question: Question, name: str) -> str:
    """Return an expression for a tensor of an array, in its dtype and memory."""
    kind, half = name.rstrip("0123456789"), question.half(name)
    cast = f", dtype=torch.{half}" if half else ""
    layout = {"x": question.shown.case.layout, "dy": question.shown.case.dy_layout}.get(kind, "C")
    return _laid_out(name, cast, layout, question.arrays[name].ndim)


def _laid_out(name: str, cast: str, layout: str, rank: int) -> str:
    if layout == "F" and rank > 1:
        turned = "T" if rank == 2 else f"permute{tuple(reversed(range(rank)))}"
        return f"torch.tensor({name}.T.copy(){cast}).{turned}"
    if layout == "strided":
        return f"torch.tensor({name}{cast}).repeat_interleave(2, -1)[..., ::2]"
    if layout == "channels_last" and rank > 2:
        return f"torch.tensor({name}{cast}).movedim(1, -1).contiguous().movedim(-1, 1)"
    return f"torch.tensor({name}{cast})"


def render(question: Question) -> Program:
    """Return the part of a script that asks PyTorch."""
    program = Program(["import torch"], {"torch": "torch.__version__"})
    if set(question.variants) & {"func", "hessian"} and "_tangent" in question.output:
        return _functional_derivatives(question, program)
    if "_tangent" in question.output and question.target.second != "reverse":
        raise Untold(f"no script is written that shows {question.output} of {question.entry}")
    call = _module(question, program) if question.entry.startswith("torch.nn.") else _function(question, program)
    if question.actions.backward == "recomputed":
        program.imports.append("from torch.utils.checkpoint import checkpoint")
    _calls(question, program, call)
    return program


def _module(question: Question, program: Program) -> str:
    """Add the lines that make the layer; return a template of its call."""
    spec, entry, lazy = question.spec, question.entry, "Lazy" in question.entry
    channels = [] if lazy else [str(question.view.kept[0])]
    words = [*channels, f"eps={question.epsilon}", f"momentum={question.momentum}"]
    words += [] if spec.scale or spec.center else ["affine=False"]
    words += [] if spec.track else ["track_running_stats=False"]
    dtype = question.shown.case.dtypes.statistics
    words += [] if dtype == "float32" else [f"dtype=torch.{dtype}"]
    program.lines.append(f"layer = {entry}({', '.join(words)})")
    if lazy:
        program.lines.append(f"layer.eval()({tensor(question, question.name('x', 0))})  # makes its parameters")
    given = [f'"{_KEYS[name]}": {tensor(question, name)}' for name in _KEYS if name in question.arrays]
    if given:
        program.lines += wrapped(f"layer.load_state_dict({{{', '.join(given)}}}, strict=False)")
    if not spec.trainable:
        program.lines.append("layer.requires_grad_(False)")
    if "script" in question.variants:
        program.lines.append("layer = torch.jit.script(layer)")
    return "layer.train({training})({x})"


def _function(question: Question, program: Program) -> str:
    """Add the tensors; return a template of the function's call."""
    program.lines += _tensors(question)
    constants = "{training}, " + f"{question.momentum}, {question.epsilon})"
    if question.entry == "torch.native_batch_norm":
        return "torch.native_batch_norm({x}, gamma_, beta_, mean_, var_, " + constants
    made = "torch.nn.functional.batch_norm"
    if "vmap" in question.variants:
        program.lines += [
            "def batch_norm(x, mean, var, *rest):",
            f"    return {made}(x, mean, var, gamma_, beta_, *rest)",
        ]
        stacked = "torch.stack([{x}, -{x}]), torch.stack([mean_, mean_]), torch.stack([var_, var_])"
        return f"torch.func.vmap(lambda *a: batch_norm(*a, {constants})({stacked})"
    program.lines += _transformed(question, made)
    return "batch_norm({x}, mean_, var_, gamma_, beta_, " + constants


def _tensors(question: Question) -> list[str]:
    names = ("gamma", "beta", "mean", "var")
    made = {n: tensor(question, n) if n in question.arrays else _own(question, n) for n in names}
    leaves = [_NAMES[n] for n in question.free]
    return packed([(f"{n}_", made[n] + (".requires_grad_()" if n in leaves else "")) for n in names])


def _own(question: Question, name: str) -> str:
    if name in ("mean", "var") and question.spec.track:
        return f"torch.{'zeros' if name == 'mean' else 'ones'}({question.view.kept[0]})"
    asked = {"gamma": question.spec.scale, "beta": question.spec.center}.get(name, False)
    if not asked:
        return "None"
    return f"torch.{'ones' if name == 'gamma' else 'zeros'}({question.view.kept[0]})"


def _transformed(question: Question, made: str) -> list[str]:
    if "script" in question.variants:
        return [f"batch_norm = torch.jit.script({made})"]
    if "compile" in question.variants:
        return [f"batch_norm = torch.compile({made}, fullgraph=True, dynamic=False)"]
    if "export" in question.variants:
        again = ".run_decompositions()" if "decomposed" in question.variants else ""
        return [
            "class Layer(torch.nn.Module):",
            "    def forward(self, x, mean, var, gamma, beta, training, momentum, eps):",
            f"        return {made}(x, mean, var, gamma, beta, training, momentum, eps)",
            "def batch_norm(*arguments):",
            f"    return torch.export.export(Layer(), arguments){again}.module()(*arguments)",
        ]
    return [f"batch_norm = {made}"]


def _calls(question: Question, program: Program, call: str) -> None:
    """Add the steps, with their gradients where these are asked for, and say what is got."""
    free = question.free
    for step in question.steps:
        x = question.name("x", step.index)
        wanted = question.derived(step)
        leaf = ".requires_grad_()" if wanted and "dx" in free else ""
        program.lines.append(f"{x}_ = {tensor(question, x)}{leaf}")
        program.lines.append(f"{_y(question, step.index)} = {_called(question, call, step, x)}")
        if wanted and question.actions.backward not in ("after_all", "together"):
            _gradient(question, program, [step])
    if question.actions.backward in ("after_all", "together") and question.differentiated:
        asked = question.view.differentiated if question.actions.backward == "together" else [question.target]
        _gradient(question, program, asked)
    program.got = _got(question)


def _called(question: Question, call: str, step: Any, x: str) -> str:
    made = call.format(training=step.training, x=f"{x}_")
    if question.actions.backward != "recomputed":
        return made
    return f"checkpoint(lambda x: {call.format(training=step.training, x='x')}, {x}_, use_reentrant=False)"


def _y(question: Question, t: int) -> str:
    y = question.name("y", t)
    if question.entry == "torch.native_batch_norm":
        return f"{y}, saved_mean, inverse_deviation"
    return y


def _leaf(question: Question, name: str) -> str:
    if question.entry.startswith("torch.nn."):
        return {"dgamma": "layer.weight", "dbeta": "layer.bias"}[name]
    return f"{_NAMES[name]}_"


def _gradient(question: Question, program: Program, steps: list[Any]) -> None:
    free, second = question.free, "_tangent" in question.output
    xs = [f"{question.name('x', s.index)}_" for s in steps] if "dx" in free else []
    sources = xs + [_leaf(question, name) for name in free if name != "dx"]
    names = [(f"{question.name('dx', s.index)}" if len(steps) > 1 else "dx") for s in steps] if "dx" in free else []
    names += [name for name in free if name != "dx"]
    ys = [question.name("y", s.index) for s in steps]
    dys = [tensor(question, question.name("dy", s.index)) for s in steps]
    y, dy = (ys[0], dys[0]) if len(steps) == 1 else (f"[{', '.join(ys)}]", f"[{', '.join(dys)}]")
    graph = ", create_graph=True" if second else ""
    made = f"torch.autograd.grad({y}, [{', '.join(sources)}], {dy}{graph})"
    program.lines += wrapped(f"{targets(names)} = {made}")
    if second:
        of = xs[0] if question.output == "dx_tangent" else _leaf(question, "dgamma")
        along = tensor(question, question.name("tangent", question.step))
        program.lines.append(f"{question.output}, = torch.autograd.grad(dx, [{of}], {along})")


def _got(question: Question) -> str:
    output, many = question.output, question.actions.backward == "together"
    found = {"y": question.name("y", question.step), "mean": "saved_mean", "inverse_deviation": "inverse_deviation"}
    if output in _STATE:
        of = _BUFFERS[output] if question.entry.startswith("torch.nn.") else f"{_STATE[output]}_"
        return f"{of}.double().numpy()"
    dx = question.name("dx", question.step) if many and len(question.view.differentiated) > 1 else "dx"
    name = {"dx": dx}.get(output, found.get(output, output))
    first = "[0]" if output == "y" and "vmap" in question.variants else ""
    if question.shown.kind == "dtype":
        return name
    return f"{name}{first}.detach().double().numpy()"


def _functional_derivatives(question: Question, program: Program) -> Program:
    """Return derivatives of derivatives by `torch.func`."""
    step, t = question.target, question.step
    program.lines += _tensors(question)
    x, dy, along = (tensor(question, question.name(kind, t)) for kind in ("x", "dy", "tangent"))
    program.lines.append(f"x_, dy_, along = {x}, {dy}, {along}")
    rest = f"gamma_, beta_, {step.training}, {question.momentum}, {question.epsilon})"
    program.lines += ["def y(x):", "    return torch.nn.functional.batch_norm(x, mean_.clone(), var_.clone(), " + rest]
    if question.output.startswith("y_tangent"):
        program.lines += ["def forward(f):", "    return lambda x: torch.func.jvp(f, (x,), (along,))[1]"]
        made = "forward(y)" if question.output == "y_tangent" else "forward(forward(y))"
    elif question.output.startswith("dx_tangent"):
        program.lines += [
            "def dx(x):",
            "    return torch.func.vjp(y, x)[1](dy_)[0]",
            "def again(f):  # the gradient of <f, along>",
            "    return torch.func.grad(lambda x: (f(x) * along).sum())",
        ]
        made = "again(dx)" if question.output == "dx_tangent" else "again(again(dx))"
    else:
        raise Untold(f"no script is written that shows {question.output} of {question.entry}")
    program.got = f"{made}(x_).detach().numpy()"
    return program
