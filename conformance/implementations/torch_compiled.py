"""PyTorch's compilers on `torch.nn.functional.batch_norm`: TorchScript, inductor, and `torch.export`.

https://docs.pytorch.org/docs/stable/generated/torch.compile.html
"""

import functools
import importlib
import importlib.util

from . import torch as common

_DOCS = common.DOCS
_AT_ONCE = {
    "backward": ["each"],
    "input": ["stored", "int32", "uint8", "bool"],
}  # programs are made for plain questions alone
_ONCE = {"differentiation": common.ONCE, "supports": dict(_AT_ONCE, trainable=[True])}  # each takes seconds to make
_NOT_TWICE = _DOCS + "torch.compiler_faq.html: AOTAutograd has no double backward"
_TRAINING = "decomposition makes a program for inference: torch.export's run_decompositions is of the forward graph"


class Script(common.Functional):
    """`torch.nn.functional.batch_norm` compiled by TorchScript."""

    statement = common.stated(
        "F.batch_norm+script", _DOCS + "generated/torch.jit.script.html", refusals=common.refusals("Error"), first=[]
    )
    statement = common.of_mixed_dtypes(statement)

    def prepared(self, function):
        """Return the scripted function."""
        return self.torch.jit.script(function)


_COMPILED = common.stated(
    "F.batch_norm+compile",
    _DOCS + "generated/torch.compile.html",
    "torch/_decomp/decompositions.py, native_batch_norm_helper: (x - mean) * rstd * weight + bias",
    numerics={"affine": "direct"},
    compiled=True,
    decomposed=True,
    signatures=3,
    lacks={"forward": _NOT_TWICE, "second order": _NOT_TWICE},
    refusals=common.refusals("TorchRuntimeError"),
    first=[dict(common.NO_ARRAY, error=["TypeError", "UserError"])],
    **_ONCE,
)
_COMPILED["supports"]["input"] = ["stored", "int32"]
_COMPILED["refusals"][0] = {
    "when": {"input": ["int32"], "mode": ["train"]},
    "error": ["TorchRuntimeError"],
    "cite": "torch/_refs/__init__.py, mean: Input dtype must be either a floating point or complex dtype",
}


class Compile(common.Functional):
    """`torch.nn.functional.batch_norm` compiled by inductor for each static signature and epsilon."""

    statement = _COMPILED

    def prepared(self, function):
        """Return the compiled function, made at the first call: dynamo takes as long to import as all of PyTorch."""
        if importlib.util.find_spec("torch._dynamo") is None:
            importlib.import_module("torch._dynamo")  # which says why not
        made = functools.lru_cache(maxsize=None)(functools.partial(self.compiled, function))

        def call(*arguments):
            return made()(*arguments)

        return call

    def compiled(self, function):
        """Return the compiled function, which may never fall back to eager execution."""
        try:
            config = importlib.import_module("torch._dynamo").config
            limits = [name for name in ("recompile_limit", "cache_size_limit") if hasattr(config, name)][:1]
            for name in limits + ["accumulated_" + limit for limit in limits]:
                setattr(config, name, 1000)  # by the name that this version has for it
            return self.torch.compile(function, fullgraph=True, dynamic=False)
        except (ImportError, RuntimeError) as error:  # as with a Python that is newer than this version
            raise ImportError("torch.compile cannot be called here: %s" % error) from error


class Export(common.Functional):
    """`torch.nn.functional.batch_norm` through `torch.export`, one program for each static signature and epsilon."""

    statement = common.stated("F.batch_norm+export", _DOCS + "export.html", supports=_AT_ONCE, compiled=True)
    statement = common.of_mixed_dtypes(statement)

    def prepared(self, function):
        """Return a function that runs the exported program of its arguments."""
        layers, programs = _layer(self.torch, function), {}

        def call(*tensors_and_constants):
            tensors, constants = tensors_and_constants[:5], tensors_and_constants[5:]
            key = repr([None if t is None else _form(self.torch, t) for t in tensors] + list(constants))
            if key not in programs:
                programs[key] = self.exported(layers(*constants), tensors)
            return programs[key](*tensors)

        return call

    def exported(self, layer, tensors):
        """Return the exported program as a module."""
        return self.torch.export.export(layer, tensors).module()


class Decomposed(Export):
    """The exported program after its decomposition into core ATen operators, made to run and not to train."""

    statement = common.stated(
        "F.batch_norm+export+decomposed",
        _DOCS + "export.html",
        compiled=True,
        decomposed=True,
        signatures=4,
        outputs=["y", "moving_mean", "moving_variance"],
        lacks=dict.fromkeys(("gradient", "forward", "second order"), _TRAINING),
        **_ONCE,
    )

    def exported(self, layer, tensors):
        """Return the decomposed program as a module."""
        return self.torch.export.export(layer, tensors).run_decompositions().module()

    def run(self, case):
        """Yield the outputs of each step, without gradients."""
        for step in case.steps:
            step.dy = None
        return super(Decomposed, self).run(case)


def _form(torch, tensor):
    """Return what a program made of a tensor may depend on, but for its values."""
    dual = torch.autograd.forward_ad.unpack_dual(tensor).tangent is not None
    return tuple(tensor.shape), tensor.stride(), tensor.dtype, tensor.device, tensor.requires_grad, dual


def _layer(torch, function):
    """Return a module class that calls the function with the constants given to it."""

    class Layer(torch.nn.Module):
        def __init__(self, *constants):
            super().__init__()
            self.constants = constants

        def forward(self, x, mean, variance, gamma, beta):
            return function(x, mean, variance, gamma, beta, *self.constants)

    return Layer


IMPLEMENTATIONS = [Script, Export, Decomposed, Compile]
