"""Scripts for PyTorch: modules, functions, and what transforms these."""

from __future__ import annotations

from typing import Any

from conformance.studies.upstream.draft import Draft, Untold
from conformance.studies.upstream.literals import packed, targets, wrapped
from conformance.studies.upstream.program import Program

_NAMES = {"dx": "x", "dgamma": "gamma", "dbeta": "beta"}
_STATE = {"moving_mean": "mean", "moving_variance": "var"}
_BUFFERS = {"moving_mean": "layer.running_mean", "moving_variance": "layer.running_var"}
_KEYS = {"gamma": "weight", "beta": "bias", "mean": "running_mean", "var": "running_var"}


def tensor(draft: Draft, name: str) -> str:
    """Return an expression for a tensor of an array, in its dtype and memory."""
    kind, half = name.rstrip("0123456789"), draft.half(name)
    cast = f", dtype=torch.{half}" if half else ""
    layout = {"x": draft.shown.case.layout, "dy": draft.shown.case.dy_layout}.get(kind, "C")
    return _laid_out(name, cast, layout, draft.arrays[name].ndim)


def _laid_out(name: str, cast: str, layout: str, rank: int) -> str:
    if layout == "F" and rank > 1:
        turned = "T" if rank == 2 else f"permute{tuple(reversed(range(rank)))}"
        return f"torch.tensor({name}.T.copy(){cast}).{turned}"
    if layout == "strided":
        return f"torch.tensor({name}{cast}).repeat_interleave(2, -1)[..., ::2]"
    if layout == "channels_last" and rank > 2:
        return f"torch.tensor({name}{cast}).movedim(1, -1).contiguous().movedim(-1, 1)"
    return f"torch.tensor({name}{cast})"


def render(draft: Draft) -> Program:
    """Return the part of a script that asks PyTorch."""
    program = Program(["import torch"], {"torch": "torch.__version__"})
    if set(draft.variants) & {"func", "hessian"} and "_tangent" in draft.output:
        return _functional_derivatives(draft, program)
    if "_tangent" in draft.output and draft.target.second != "reverse":
        raise Untold(f"no script is written that shows {draft.output} of {draft.entry}")
    call = _module(draft, program) if draft.entry.startswith("torch.nn.") else _function(draft, program)
    if draft.actions.backward == "recomputed":
        program.imports.append("from torch.utils.checkpoint import checkpoint")
    _calls(draft, program, call)
    return program


def _module(draft: Draft, program: Program) -> str:
    """Add the lines that make the layer; return a template of its call."""
    spec, entry, lazy = draft.spec, draft.entry, "Lazy" in draft.entry
    channels = [] if lazy else [str(draft.view.kept[0])]
    words = [*channels, f"eps={draft.epsilon}", f"momentum={draft.momentum}"]
    words += [] if spec.scale or spec.center else ["affine=False"]
    words += [] if spec.track else ["track_running_stats=False"]
    dtype = draft.shown.case.dtypes.statistics
    words += [] if dtype == "float32" else [f"dtype=torch.{dtype}"]
    program.lines.append(f"layer = {entry}({', '.join(words)})")
    if lazy:
        program.lines.append(f"layer.eval()({tensor(draft, draft.name('x', 0))})  # makes its parameters")
    given = [f'"{_KEYS[name]}": {tensor(draft, name)}' for name in _KEYS if name in draft.arrays]
    if given:
        program.lines += wrapped(f"layer.load_state_dict({{{', '.join(given)}}}, strict=False)")
    if not spec.trainable:
        program.lines.append("layer.requires_grad_(False)")
    if "script" in draft.variants:
        program.lines.append("layer = torch.jit.script(layer)")
    return "layer.train({training})({x})"


def _function(draft: Draft, program: Program) -> str:
    """Add the tensors; return a template of the function's call."""
    program.lines += _tensors(draft)
    constants = "{training}, " + f"{draft.momentum}, {draft.epsilon})"
    if draft.entry == "torch.native_batch_norm":
        return "torch.native_batch_norm({x}, gamma_, beta_, mean_, var_, " + constants
    made = "torch.nn.functional.batch_norm"
    if "vmap" in draft.variants:
        program.lines += [
            "def batch_norm(x, mean, var, *rest):",
            f"    return {made}(x, mean, var, gamma_, beta_, *rest)",
        ]
        stacked = "torch.stack([{x}, -{x}]), torch.stack([mean_, mean_]), torch.stack([var_, var_])"
        return f"torch.func.vmap(lambda *a: batch_norm(*a, {constants})({stacked})"
    program.lines += _transformed(draft, made)
    return "batch_norm({x}, mean_, var_, gamma_, beta_, " + constants


def _tensors(draft: Draft) -> list[str]:
    names = ("gamma", "beta", "mean", "var")
    made = {n: tensor(draft, n) if n in draft.arrays else _own(draft, n) for n in names}
    leaves = [_NAMES[n] for n in draft.free]
    return packed([(f"{n}_", made[n] + (".requires_grad_()" if n in leaves else "")) for n in names])


def _own(draft: Draft, name: str) -> str:
    if name in ("mean", "var") and draft.spec.track:
        return f"torch.{'zeros' if name == 'mean' else 'ones'}({draft.view.kept[0]})"
    asked = {"gamma": draft.spec.scale, "beta": draft.spec.center}.get(name, False)
    if not asked:
        return "None"
    return f"torch.{'ones' if name == 'gamma' else 'zeros'}({draft.view.kept[0]})"


def _transformed(draft: Draft, made: str) -> list[str]:
    if "script" in draft.variants:
        return [f"batch_norm = torch.jit.script({made})"]
    if "compile" in draft.variants:
        return [f"batch_norm = torch.compile({made}, fullgraph=True, dynamic=False)"]
    if "export" in draft.variants:
        again = ".run_decompositions()" if "decomposed" in draft.variants else ""
        return [
            "class Layer(torch.nn.Module):",
            "    def forward(self, x, mean, var, gamma, beta, training, momentum, eps):",
            f"        return {made}(x, mean, var, gamma, beta, training, momentum, eps)",
            "def batch_norm(*arguments):",
            f"    return torch.export.export(Layer(), arguments){again}.module()(*arguments)",
        ]
    return [f"batch_norm = {made}"]


def _calls(draft: Draft, program: Program, call: str) -> None:
    """Add the steps, with their gradients where these are asked for, and say what is got."""
    free = draft.free
    for step in draft.steps:
        x = draft.name("x", step.index)
        wanted = draft.derived(step)
        leaf = ".requires_grad_()" if wanted and "dx" in free else ""
        program.lines.append(f"{x}_ = {tensor(draft, x)}{leaf}")
        program.lines.append(f"{_y(draft, step.index)} = {_called(draft, call, step, x)}")
        if wanted and draft.actions.backward not in ("after_all", "together"):
            _gradient(draft, program, [step])
    if draft.actions.backward in ("after_all", "together") and draft.differentiated:
        asked = draft.view.differentiated if draft.actions.backward == "together" else [draft.target]
        _gradient(draft, program, asked)
    program.got = _got(draft)


def _called(draft: Draft, call: str, step: Any, x: str) -> str:
    made = call.format(training=step.training, x=f"{x}_")
    if draft.actions.backward != "recomputed":
        return made
    return f"checkpoint(lambda x: {call.format(training=step.training, x='x')}, {x}_, use_reentrant=False)"


def _y(draft: Draft, t: int) -> str:
    y = draft.name("y", t)
    if draft.entry == "torch.native_batch_norm":
        return f"{y}, saved_mean, inverse_deviation"
    return y


def _leaf(draft: Draft, name: str) -> str:
    if draft.entry.startswith("torch.nn."):
        return {"dgamma": "layer.weight", "dbeta": "layer.bias"}[name]
    return f"{_NAMES[name]}_"


def _gradient(draft: Draft, program: Program, steps: list[Any]) -> None:
    free, second = draft.free, "_tangent" in draft.output
    xs = [f"{draft.name('x', s.index)}_" for s in steps] if "dx" in free else []
    sources = xs + [_leaf(draft, name) for name in free if name != "dx"]
    names = [(f"{draft.name('dx', s.index)}" if len(steps) > 1 else "dx") for s in steps] if "dx" in free else []
    names += [name for name in free if name != "dx"]
    ys = [draft.name("y", s.index) for s in steps]
    dys = [tensor(draft, draft.name("dy", s.index)) for s in steps]
    y, dy = (ys[0], dys[0]) if len(steps) == 1 else (f"[{', '.join(ys)}]", f"[{', '.join(dys)}]")
    graph = ", create_graph=True" if second else ""
    made = f"torch.autograd.grad({y}, [{', '.join(sources)}], {dy}{graph})"
    program.lines += wrapped(f"{targets(names)} = {made}")
    if second:
        of = xs[0] if draft.output == "dx_tangent" else _leaf(draft, "dgamma")
        along = tensor(draft, draft.name("tangent", draft.step))
        program.lines.append(f"{draft.output}, = torch.autograd.grad(dx, [{of}], {along})")


def _got(draft: Draft) -> str:
    output, many = draft.output, draft.actions.backward == "together"
    found = {"y": draft.name("y", draft.step), "mean": "saved_mean", "inverse_deviation": "inverse_deviation"}
    if output in _STATE:
        of = _BUFFERS[output] if draft.entry.startswith("torch.nn.") else f"{_STATE[output]}_"
        return f"{of}.double().numpy()"
    dx = draft.name("dx", draft.step) if many and len(draft.view.differentiated) > 1 else "dx"
    name = {"dx": dx}.get(output, found.get(output, output))
    first = "[0]" if output == "y" and "vmap" in draft.variants else ""
    if draft.shown.kind == "dtype":
        return name
    return f"{name}{first}.detach().double().numpy()"


def _functional_derivatives(draft: Draft, program: Program) -> Program:
    """Return derivatives of derivatives by `torch.func`."""
    step, t = draft.target, draft.step
    program.lines += _tensors(draft)
    x, dy, along = (tensor(draft, draft.name(kind, t)) for kind in ("x", "dy", "tangent"))
    program.lines.append(f"x_, dy_, along = {x}, {dy}, {along}")
    rest = f"gamma_, beta_, {step.training}, {draft.momentum}, {draft.epsilon})"
    program.lines += ["def y(x):", "    return torch.nn.functional.batch_norm(x, mean_.clone(), var_.clone(), " + rest]
    if draft.output.startswith("y_tangent"):
        program.lines += ["def forward(f):", "    return lambda x: torch.func.jvp(f, (x,), (along,))[1]"]
        made = "forward(y)" if draft.output == "y_tangent" else "forward(forward(y))"
    elif draft.output.startswith("dx_tangent"):
        program.lines += [
            "def dx(x):",
            "    return torch.func.vjp(y, x)[1](dy_)[0]",
            "def again(f):  # the gradient of <f, along>",
            "    return torch.func.grad(lambda x: (f(x) * along).sum())",
        ]
        made = "again(dx)" if draft.output == "dx_tangent" else "again(again(dx))"
    else:
        raise Untold(f"no script is written that shows {draft.output} of {draft.entry}")
    program.got = f"{made}(x_).detach().numpy()"
    return program
