"""PyTorch: `torch.nn.functional.batch_norm`, the function below it, and the transformations of `torch.func`.

Derivatives are PyTorch's own: gradients by autograd, second derivatives by autograd over autograd or by dual numbers
through autograd, forward derivatives by dual numbers.
https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.batch_norm.html
"""

import functools
import importlib

import numpy as np

from . import ensembles, later

DOCS = "https://docs.pytorch.org/docs/stable/"
_FUNCTIONAL = DOCS + "generated/torch.nn.functional.batch_norm.html"
_NATIVE = "https://github.com/pytorch/pytorch/blob/main/aten/src/ATen/native/native_functions.yaml"
_VMAP = "generated/torch.func.vmap.html; https://github.com/pytorch/pytorch/blob/main/aten/src/ATen/functorch/"
_ONE_VALUE = "https://github.com/pytorch/pytorch/issues/4534: Expected more than 1 value per channel when training"
# torch/nn/functional.py, batch_norm: "eps must be positive during training"; the empty batch as measured
_EDGES = {"zero_epsilon": "refused", "empty_batch": "keep"}
_CUDA = {
    "when": {"device": ["cuda"]},
    "numerics": {"variance": "fast", "affine": "folded", "sums": "serial"},
    "cite": "not measured yet. aten/src/ATen/native/cuda/Normalization.cuh: Welford per thread, merged in a tree, and "
    "direct; where cuDNN is taken nothing is documented but accuracy losses (native/cudnn/BatchNorm.cpp), so that the "
    "least is promised. No epsilon floor: a smaller one than CUDNN_BN_MIN_EPSILON, 0.0 since cuDNN 8, goes elsewhere",
}
_LAYOUTS = ["C", "F", "strided", "channels_last", "offset", "reversed", "read_only"]
_WIDE_ON_CUDA = {
    "when": {"device": ["cuda"], "dtype": ["float16", "bfloat16"], "output": ["mean", "inverse_deviation"]},
    "numerics": {"stored": "float32", "saved": "unrounded"},
    "cite": "aten/src/ATen/native/cuda/Normalization.cu, batch_norm_cuda: save_mean has the type that the input "
    "accumulates in",
}
_PLAIN = {
    "device": ["cpu"],
    "layout": ["C", "offset", "reversed", "read_only"],  # those that the adapter passes on as contiguous
    "spatial": [True],  # one pixel alone counts as channels last
}
_CONTIGUOUS = {
    "when": dict(
        _PLAIN, dtype=["float32"], output=["y", "mean", "inverse_deviation", "moving_mean", "moving_variance"]
    ),
    "numerics": {"variance": "two_pass", "widened": "statistics", "wider": "float64"},
    "cite": "aten/src/ATen/native/cpu/batch_norm_kernel.cpp, batch_norm_cpu_collect_stats_contiguous_impl: in double",
}
_DEVIATIONS = {
    "when": {"device": ["cpu"], "output": ["dx", "dgamma"]},
    "numerics": {"products": "deviations"},
    "cite": "aten/src/ATen/native/cpu/batch_norm_kernel.cpp: dotp = sum((x - mean) dy), grad_weight = dotp * invstd",
}
_MANUAL = "torch/csrc/autograd/FunctionsManual.cpp: batch_norm_jvp and batchnorm_double_backward subtract the mean"
_NONE = dict.fromkeys(
    ("mask", "renorm", "virtual batch", "adjustment"), "torch's batch normalization has no such argument"
)
_ROUNDED = (
    "aten/src/ATen/native/Normalization.cpp, batch_norm_cpu_update_stats_template: mean and invstd are stored in the "
    "dtype of the parameters; the sums are of float32, which is less than a tree's depth of half precision"
)
_CONTIGUOUS_HALF = {
    "when": dict(
        _PLAIN,
        parameters=["float16", "bfloat16"],
        output=["y", "dx", "dgamma", "dbeta", "mean", "inverse_deviation"],
    ),
    "numerics": {"accumulate": "wide", "sums": "serial", "saved": "parameters"},
    "cite": _ROUNDED + "; of contiguous input nothing else is rounded, but for the moving averages",
}
_MIXED = {
    "cpu": "aten/src/ATen/native/cpu/mixed_data_type.h: mixed dtype (CPU), expect parameter to have scalar type Float",
    "cuda": "not measured yet. aten/src/ATen/native/cuda/Normalization.cuh, packed_accessor_or_dummy: parameters are "
    "read in the type that the input accumulates in, and no other",
}
NO_ARRAY = {
    "when": {"scalars": ["array"]},
    "error": ["TypeError"],
    "cite": DOCS + "generated/torch.nn.BatchNorm1d.html: eps (float), momentum (float | None)",
}
_NOT_FLOATS = ["int32", "uint8", "bool", "complex64", "float8_e4m3fn", "float8_e5m2"]
_BOUNDARY = 16  # bytes, at which NumPy begins an array
_BITS = {"bfloat16": np.int16, "float8_e4m3fn": np.uint8, "float8_e5m2": np.uint8}
_NO_INTEGERS = {
    "when": {"input": _NOT_FLOATS},
    "error": ["NotImplementedError", "RuntimeError"],
    "cite": "aten/src/ATen/native/Normalization.cpp, batch_norm_cpu: AT_DISPATCH_FLOATING_TYPES_AND2 has no others",
}
_NO_STATE = {
    "when": {"along": ["all"], "mode": ["infer"]},
    "error": ["RuntimeError"],
    "cite": "torch/csrc/autograd/FunctionsManual.cpp, batch_norm_jvp: not differentiable wrt running_mean",
}
_UNDEFINED = {
    "when": {"tracked": [False], "mode": ["infer"]},
    "error": ["RuntimeError", "ValueError"],
    "cite": "aten/src/ATen/native/Normalization.cpp, _batch_norm_impl_index: must be defined in evaluation mode; "
    "torch.native_batch_norm says so by a ValueError from torch 2.15 on",
}
ALL = ["float32", "float64", "float16", "bfloat16"]
GRADIENTS = ["y", "dx", "dgamma", "dbeta", "moving_mean", "moving_variance"]
STATE = ["moving_mean", "moving_variance"]
MOVED = ["moving_mean_tangent", "moving_variance_tangent"]
TANGENTS = ["y_tangent", "dx_tangent", "dgamma_tangent"]
_TWICE = ["y_tangent2", "dx_tangent2", "dgamma_tangent2"]
ONCE = ["none", "reverse"]
EVERY_MODE = ONCE + ["forward", "reverse_over_reverse", "forward_over_reverse"]


def stated(entry, page, cite="", ranks=(2, 3, 4, 5, 6), supports=(), differentiation=EVERY_MODE, **fields):
    """Return a statement: unbiased, never frozen, folded, sums in any order, and whatever else is given.

    decomposed: it is put together of other operators than eager execution's kernel.
    first: what it refuses before anything else, beside integers: an array of rank 0 for a number, if nothing is said.
    """
    cite = cite or page + ": the running variance is unbiased; numerics measured on CPU"
    semantics = dict({"stored_variance": "unbiased", "frozen": "train"}, **_EDGES)
    semantics = dict(semantics, **fields.pop("semantics", {}))
    moved = {"variance": "stable", "merge": "moved", "affine": "folded", "sums": "serial"}
    numerics = dict(moved, **fields.pop("numerics", {}))
    tangents = {"when": {"output": TANGENTS + _TWICE}, "numerics": {"affine": "direct"}, "cite": _MANUAL}
    halves = {
        "when": {"parameters": ALL[2:]},
        "numerics": {"accumulate": "input", "sums": "tree"},
        "cite": _ROUNDED,
    }
    rules = [{"semantics": semantics, "numerics": numerics, "cite": cite}, tangents, halves]
    rules += [] if fields.pop("decomposed", False) else [_CONTIGUOUS, _CONTIGUOUS_HALF, _DEVIATIONS]
    supported = {"rank": list(ranks), "dtype": ALL, "channel": ["second"], "differentiation": differentiation}
    supported.update(start=["given", "own"], backward=["each", "after_all", "twice", "together", "recomputed"])
    supported["odd"] = [False, "momentum", "epsilon", "nan_epsilon", "channels", "statistics", "parameters", "shape"]
    supported.update(input=["stored"] + _NOT_FLOATS)
    supported.update(scalars=["number", "float64", "float32", "array"])
    supported.update(dy_layout=_LAYOUTS, layer_layout=_LAYOUTS)
    statement = {
        "id": "torch.%s" % entry,
        "packages": ["torch"],
        "documentation": page,
        "conventions": {"momentum": "updated", "axis": "fixed"},
        "supports": dict(supported, **dict(supports)),
        "outputs": GRADIENTS
        + (TANGENTS if differentiation != ONCE else [])
        + (_TWICE if "third" in differentiation else []),
        "rules": rules + [_CUDA] + fields.pop("rules", []),
        "refusals": refusals("ValueError"),
        "lacks": dict(_NONE, **fields.pop("lacks", {})),
        "keeps_inputs": True,
    }
    first = [_NO_INTEGERS] + fields.pop("first", [NO_ARRAY])
    statement.update(fields)
    return dict(statement, refusals=first + statement["refusals"])


def refusals(error):
    """Return the refusal to train on one value per channel, as this type of exception."""
    return [{"when": {"n": ["1"], "mode": ["train"]}, "error": [error], "cite": _ONE_VALUE}]


def of_mixed_dtypes(statement):
    """Return the statement of an entry that refuses mixed dtypes, except half precision with float32 for the rest."""
    given = {"affine": ["both", "scale", "center"], "statistics": ["float32"], "dtype": ALL[2:]}
    whens = [{"dtype": ALL[:2]}, {"dtype": ALL[2:], "statistics": ["float64"]}, given]
    refused = [
        {"when": dict(w, mixed=[True], device=[device]), "error": ["RuntimeError"], "cite": cite}
        for device, cite in _MIXED.items()
        for w in whens
    ]
    supports = dict(statement["supports"], mixed=[False, True])
    return dict(statement, supports=supports, refusals=refused + statement["refusals"])


def mapped(statement, how=ensembles.MAPPED):
    """Return the statement of an entry that answers ensembles, of these ways to map."""
    return dict(statement, supports=dict(statement["supports"], mapped=list(how)))


def untracked(statement):
    """Return the statement of an entry that may be given no statistics, in some steps or all, or keep none."""
    return dict(statement, supports=dict(statement["supports"], tracked=[True, False], updates=[True, False]))


class Functional(object):
    """`torch.nn.functional.batch_norm`, with running statistics passed in and updated in place."""

    statement = mapped(untracked(of_mixed_dtypes(stated("F.batch_norm", _FUNCTIONAL))), ["none", "dy"])
    statement["refusals"] = [_UNDEFINED] + statement["refusals"]

    def __init__(self, device):
        self.torch = importlib.import_module("torch")
        self.torch.set_num_threads(1)
        if device == "cuda" and not self.torch.cuda.is_available():
            error = RuntimeError if self.torch.version.cuda else later.NoDevice
            raise error("torch %s finds no CUDA device" % self.torch.__version__)
        self.device = device
        self.checkpoint = importlib.import_module("torch.utils.checkpoint").checkpoint
        self.batch_norm = self.prepared(self.torch.nn.functional.batch_norm)

    def about(self):
        """Return the GPU, and the versions and flags that decide what it computes."""
        if self.device == "cpu":
            return {}
        cudnn, name = self.torch.backends.cudnn, self.torch.cuda.get_device_name(0)
        found = {"gpu": name, "cuda": self.torch.version.cuda, "cudnn": cudnn.version(), "tf32": cudnn.allow_tf32}
        found.update(benchmark=cudnn.benchmark, deterministic=self.torch.are_deterministic_algorithms_enabled())
        return {key: str(value) for key, value in found.items()}

    def narrower(self):
        """Return what CUDA is not asked: cuDNN takes two to five dimensions, and is called with six all the same.

        aten/src/ATen/native/Normalization.cpp, _select_batch_norm_backend: input.dim() >= 3
        """
        ranks = self.statement["supports"]["rank"]
        return {} if self.device == "cpu" else {"rank": [rank for rank in ranks if rank < 6]}

    def prepared(self, function):
        """Return the function that is called."""
        return function

    def tensor(self, array):
        """Return a torch tensor that shares the array's memory and strides; of a dtype that NumPy has not, by its bits.

        An array with negative strides, or of read-only memory, is copied: torch has neither.
        """
        if not array.flags.writeable or any(stride < 0 for stride in array.strides):
            array = np.array(array, order="C")
        if array.dtype.name in _BITS:
            bits = self.torch.from_numpy(array.view(_BITS[array.dtype.name]))
            return self.moved(bits.view(getattr(self.torch, array.dtype.name)))
        return self.moved(self.torch.from_numpy(array))

    def moved(self, tensor):
        """Return a tensor on the device as it lies in memory: with its strides, and as far from a boundary.

        `to` keeps the strides of what has no gaps alone, and begins what it allocates at a boundary.
        """
        if self.device == "cpu" or not tensor.numel():
            return tensor.to(self.device)
        size, lead = tensor.element_size(), tensor.data_ptr() % _BOUNDARY
        lead = lead // size if lead % size == 0 else 0
        reach = 1 + sum((n - 1) * stride for n, stride in zip(tensor.shape, tensor.stride()))
        there = self.torch.empty(lead + reach, dtype=tensor.dtype, device=self.device)
        there[lead:] = tensor.as_strided((reach,), (1,)).to(self.device)
        return there.as_strided(tensor.shape, tensor.stride(), lead)

    def arrays(self, tensors):
        """Return NumPy copies of named tensors."""
        return {name: self.array(tensor) for name, tensor in tensors.items()}

    def array(self, tensor):
        """Return a NumPy copy of a tensor."""
        if tensor is None:
            return None
        tensor = tensor.detach().cpu()
        if tensor.dtype == self.torch.bfloat16:
            return tensor.contiguous().view(self.torch.int16).numpy().copy().view(_bfloat16())
        return tensor.numpy().copy()

    def variables(self, case):
        """Return (gamma, beta, mean, variance); the last two are updated in place."""
        parameters = [case.neutral(name) for name in ("gamma", "beta")]
        learns = case.input == "stored"  # there are no gradients of whole numbers
        gamma, beta = [None if a is None else self.tensor(a).requires_grad_(learns) for a in parameters]
        if not case.spec.get("track", True):
            return gamma, beta, None, None
        like = self.torch.ones(case.kept, dtype=getattr(self.torch, case.dtypes["statistics"]), device=self.device)
        mean = like * 0 if case.mean is None else self.tensor(case.mean)
        return gamma, beta, mean, like if case.variance is None else self.tensor(case.variance)

    def build(self, case):
        """Return (call, gamma, beta, mean, variance); call gives the named outputs of a step for its input.

        A training step that is not to move the statistics is given none.
        """
        gamma, beta, mean, variance = self.variables(case)
        momentum, epsilon = case.native["momentum"], case.native["epsilon"]

        def call(x, step):
            state = (mean, variance) if step.update or not step.training else (None, None)
            return {"y": self.batch_norm(x, *(state + (gamma, beta, step.training, momentum, epsilon)))}

        return call, gamma, beta, mean, variance

    def run(self, case):
        """Return the outputs of each step."""
        if case.members > 1:
            return self.ensemble(case)
        return self.together(case) if case.together else later.answers(case, self.steps(case))

    def together(self, case):
        """Return the outputs of each step, with one gradient of all calls."""
        call, gamma, beta, mean, variance = self.build(case)
        state, made, outs = present(moving_mean=mean, moving_variance=variance), [], []
        learned = present(dgamma=gamma, dbeta=beta)
        for step in case.steps:
            x = self.tensor(step.x)
            out = call(x.requires_grad_("dx" in step.gradients), step)
            made.append((step, x, out["y"]))
            outs.append(self.arrays(dict(out, **state)))
        asked = [one for one in made if one[0] in case.differentiated]
        return later.together(case, outs, *self.in_one(asked, {n: t for n, t in learned.items() if t.requires_grad}))

    def in_one(self, asked, learned):
        """Return dx of each call that is asked for it, and the layer's gradients by name, taken of all calls at once.

        asked: the calls, (step, x, y) of each.
        """
        names = asked[0][0].gradients if asked else []
        xs = [x for _, x, _ in asked] if "dx" in names else []
        free = {name: tensor for name, tensor in learned.items() if name in names}
        if not (xs or free):
            return [], {}
        cotangents = [self.tensor(step.dy) for step, _, _ in asked]
        sources = xs + list(free.values())
        found = [self.array(tensor) for tensor in self.grad([y for _, _, y in asked], sources, cotangents)]
        return found[: len(xs)], dict(zip(free, found[len(xs) :]))

    def ensemble(self, case):
        """Yield the outputs of each member in each call: its gradients are a row of what one backward pass gives."""
        call, gamma, beta, mean, variance = self.build(case)
        for steps in case.calls():
            x = self.tensor(steps[0].x)
            free, out = self.free(steps[0], present(dgamma=gamma, dbeta=beta, dx=x)), call(x, steps[0])
            dy = self.tensor(ensembles.batches(case, steps)["dy"])
            rows = self.arrays(self.gradients(out["y"], free, dy, is_grads_batched=True))
            shared = self.arrays(dict(out, moving_mean=mean, moving_variance=variance))
            for arrays in ensembles.members(case, rows):
                yield dict(shared, **arrays)

    def steps(self, case):
        """Yield what each call gives, and a function that takes its gradients."""
        call, gamma, beta, mean, variance = self.build(case)
        learned = {n: tensor for n, tensor in present(dgamma=gamma, dbeta=beta).items() if tensor.requires_grad}
        for step in case.steps:
            x = self.tensor(step.x)
            out, take = self.called(call, step, x, dict(learned, dx=x))
            state = present(moving_mean=mean, moving_variance=variance)
            yield self.arrays(dict(out, **state)), take

    def called(self, call, step, x, named):
        """Return the named outputs of a call, and a function that takes the gradients that are asked for later."""
        free = self.free(step, named)
        call = functools.partial(self.checkpoint, call, use_reentrant=False) if step.recomputed else call
        if not step.later or step.dy is None:
            return self.step(call, step, x, free), dict
        out = call(x, step)
        return out, functools.partial(self.taken, step, out["y"], named)

    def taken(self, step, y, named):
        """Return the gradients of an earlier call, as arrays."""
        return self.arrays(self.gradients(y, self.free(step, named), self.tensor(step.dy), retain_graph=True))

    def free(self, step, named):
        """Return what the step asks for gradients of; nothing else among the named tensors requires one meanwhile."""
        if step.dy is None:
            return {}
        for name, tensor in named.items():
            tensor.requires_grad_(name in step.gradients)
        return {name: tensor for name, tensor in named.items() if name in step.gradients}

    def step(self, call, step, x, free):
        """Return the named outputs of one step, with the derivatives that it asks for; free: what has a gradient."""
        if not step.forward and step.second != "forward_over_reverse":
            return self.differentiated(call, step, x, free)
        numbers = self.torch.autograd.forward_ad
        with numbers.dual_level():
            out = self.differentiated(call, step, numbers.make_dual(x, self.tensor(step.tangent)), free)
            return self.parted({name: numbers.unpack_dual(tensor) for name, tensor in out.items()})

    def differentiated(self, call, step, x, free):
        """Return the named outputs of one step with their gradients, and those of dx where the step asks for them."""
        out, again = call(x, step), step.second == "reverse"
        if step.dy is not None:
            out.update(self.gradients(out["y"], free, self.tensor(step.dy), create_graph=again))
        if again:
            second = self.gradients(out["dx"], free, self.tensor(step.tangent))
            out.update((name + "_tangent", tensor) for name, tensor in second.items())
        return out

    def gradients(self, output, free, cotangent, **options):
        """Return the named gradients of sum(output * cotangent); 0 for a tensor that it does not depend on."""
        if not free:
            return {}
        if not output.requires_grad:  # dx of inference without gamma is a constant
            return {name: tensor * 0 for name, tensor in free.items()}
        return dict(zip(free, self.grad(output, list(free.values()), cotangent, **options)))

    def grad(self, outputs, sources, cotangents, **options):
        """Return the gradient of each source; 0 where there is none, which torch can do by itself since 2.0."""
        found = self.torch.autograd.grad(outputs, sources, cotangents, allow_unused=True, **options)
        return [self.torch.zeros_like(s) if tensor is None else tensor for s, tensor in zip(sources, found)]

    def parted(self, pairs):
        """Return the outputs' values, and apart their tangents: 0 for an output that does not depend on x."""
        tangents = {n + "_tangent": p.primal * 0 if p.tangent is None else p.tangent for n, p in pairs.items()}
        return dict({name: pair.primal for name, pair in pairs.items()}, **tangents)


def present(**tensors):
    """Return the tensors that are not None."""
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}


def _bfloat16():
    import ml_dtypes

    return np.dtype(ml_dtypes.bfloat16)


class WithoutCudnn(Functional):
    """`torch.nn.functional.batch_norm` on a GPU without `torch.backends.cudnn.enabled`: PyTorch's own kernels."""

    devices = ("cuda",)
    statement = mapped(untracked(of_mixed_dtypes(stated("F.batch_norm+no_cudnn", _FUNCTIONAL))), ["none", "dy"])
    statement["refusals"] = [_UNDEFINED] + statement["refusals"]

    def prepared(self, function):
        """Return the function, called without cuDNN; its backward pass is that of the kernel that it chose."""

        def call(*arguments):
            with self.torch.backends.cudnn.flags(enabled=False):
                return function(*arguments)

        return call

    def narrower(self):
        """Return that nothing is narrower: six dimensions go to PyTorch's kernels as all others do."""
        return {}


class Native(Functional):
    """`torch.native_batch_norm`, which also returns the batch's mean and inverse deviation.

    It does not refuse a single value per channel.
    """

    statement = stated(
        "native_batch_norm",
        _NATIVE,
        "aten/src/ATen/native/Normalization.cpp, batch_norm_cpu: returns (y, save_mean, save_invstd)",
        semantics={"single_value": "nan", "zero_epsilon": "accepted", "empty_batch": "refused"},
        outputs=GRADIENTS + TANGENTS + ["mean", "inverse_deviation"],
        rules=[_WIDE_ON_CUDA],
        supports={"resized": [False, "fewer"]},  # with more channels than statistics it writes where others' memory is
        refusals=[],
    )
    statement = untracked(of_mixed_dtypes(statement))
    statement["refusals"] = [_UNDEFINED] + statement["refusals"]

    def build(self, case):
        """Return (call, gamma, beta, mean, variance)."""
        gamma, beta, mean, variance = self.variables(case)
        momentum, epsilon = case.native["momentum"], case.native["epsilon"]

        def call(x, step):
            state = (mean, variance) if step.update or not step.training else (None, None)
            args = (x, gamma, beta) + state + (step.training, momentum, epsilon)
            y, saved, inverse = self.torch.native_batch_norm(*args)
            return present(y=y, **({"mean": saved, "inverse_deviation": inverse} if step.training else {}))

        return call, gamma, beta, mean, variance


class Mapped(Functional):
    """What answers an ensemble by `torch.func.vmap`."""

    def ensemble(self, case):
        """Yield the outputs of each member in each call.

        Running statistics are written in place, so that members need their own where x is theirs.
        """
        named, state = self.layers(case)
        own_x = case.mapped in ("x", "both", "nested")
        sizes = (ensembles.across(case),) * 2 if ensembles.across(case) else (case.members,)
        if own_x:
            state = {name: tensor.expand(sizes + tensor.shape).clone() for name, tensor in state.items()}
        for number, steps in enumerate(case.calls()):
            named.update({n: self.tensor(a) for n, a in ensembles.batches(case, steps).items()}, state=state)
            call = functools.partial(self.member, self.applied(case, steps[0]), steps[0])
            out, state = ensembles.over(self.torch.func.vmap, call, ensembles.maps(case, own_x or number > 0))(named)
            for arrays in ensembles.members(case, self.arrays(out)):
                yield arrays

    def layers(self, case):
        """Return what there is of gamma and beta, and the state that all members begin with, by name."""
        gamma, beta, mean, variance = self.variables(case)
        named = {name: tensor.detach() for name, tensor in present(dgamma=gamma, dbeta=beta).items()}
        own = {name: self.tensor(array) for name, array in ensembles.parameters(case).items()}
        return dict(named, **own), {"running_mean": mean, "running_var": variance}

    def applied(self, case, step):
        """Return a function of (x, gamma, beta, state) that gives y, and moves the state in place."""
        constants = step.training, case.native["momentum"], case.native["epsilon"]

        def call(x, gamma, beta, state):
            args = x, state["running_mean"], state["running_var"], gamma, beta
            return self.torch.nn.functional.batch_norm(*(args + constants))

        return call

    def member(self, applied, step, named):
        """Return the outputs of one member, and its state."""
        values = {name: named[name] for name in ("dx",) + ensembles.PARAMETERS if name in named}

        def forward(free):
            state, given = {name: tensor.clone() for name, tensor in named["state"].items()}, dict(values, **free)
            return applied(given["dx"], given.get("dgamma"), given.get("dbeta"), state), state

        free = {name: tensor for name, tensor in values.items() if name in step.gradients} or values
        y, pullback, state = self.torch.func.vjp(forward, free, has_aux=True)
        out = {"y": y, "moving_mean": state["running_mean"], "moving_variance": state["running_var"]}
        return dict(out, **(pullback(named["dy"])[0] if "dy" in named else {})), state


class Vmap(Mapped):
    """`torch.nn.functional.batch_norm` under `torch.func.vmap`: over the case's batch and its mirror image."""

    statement = mapped(
        stated("F.batch_norm+vmap", DOCS + _VMAP + "BatchRulesNorm.cpp: batch_norm_batch_rule", decomposed=True)
    )

    def prepared(self, function):
        """Return a function that normalizes both batches at once and returns the output of the first."""
        torch = self.torch

        def call(x, mean, variance, gamma, beta, *constants):
            states = [torch.stack([state, state]) for state in (mean, variance)]
            both = torch.func.vmap(lambda x, m, v: function(x, m, v, gamma, beta, *constants))
            y = both(torch.stack([x, -x.detach()]), *states)
            for state, new in zip((mean, variance), states):
                state.copy_(new[0])
            return y[0]

        return call


class Func(Functional):
    """`torch.nn.functional.batch_norm` under `vjp` and `jvp`; running statistics are passed and returned as values."""

    statement = stated(
        "F.batch_norm+func",
        DOCS + "generated/torch.func.vjp.html",
        supports={
            "backward": ["each", "after_all", "twice", "together"],
            "along": ["x", "parameters", "all"],
            "of": ["y", "state"],
        },
        differentiation=EVERY_MODE + ["forward_over_forward", "third"],
        semantics={"new_state": "stopped"},
    )
    statement["outputs"] = statement["outputs"] + MOVED
    statement["refusals"] = [_NO_STATE] + statement["refusals"]
    statement = of_mixed_dtypes(statement)

    def steps(self, case):
        """Yield what each call gives, and a function that takes its gradients."""
        gamma, beta, mean, variance = self.variables(case)
        constants = case.native["momentum"], case.native["epsilon"]
        for step in case.steps:
            named = present(dx=self.tensor(step.x), dgamma=gamma, dbeta=beta)
            values = {name: tensor.detach() for name, tensor in named.items()}

            def forward(free, values=values, state=(mean, variance), training=step.training):
                values = dict(values, **free)
                m, v = [values.get(name, tensor).clone() for name, tensor in zip(STATE, state)]
                args = (values.get("dgamma"), values.get("dbeta"), training)
                return self.batch_norm(values["dx"], m, v, *(args + constants)), (m, v)

            free = {name: tensor for name, tensor in values.items() if name in step.gradients} or values
            before = mean, variance

            def all_of(free, forward=forward, step=step):
                y, state = forward(free)
                return (y,) + state * ("moving_mean" in step.cotangents), (y, state)

            _, pullback, (y, (mean, variance)) = self.torch.func.vjp(all_of, free, has_aux=True)
            out = {"y": y, "moving_mean": mean, "moving_variance": variance}
            out.update(self.tangents(lambda values, forward=forward: forward(values)[0], values, step))
            if step.everywhere:
                out.update(self.everywhere(forward, values, dict(zip(STATE, before)), step))
            yield self.arrays(out), functools.partial(self.pulled, pullback, step)

    def together(self, case):
        """Return the outputs of each step, with one gradient of all calls, between which the statistics are values."""
        gamma, beta, mean, variance = self.variables(case)
        learned = {name: tensor.detach() for name, tensor in present(dgamma=gamma, dbeta=beta).items()}
        xs, asked = [self.tensor(step.x) for step in case.steps], [step.index for step in case.differentiated]
        constants = case.native["momentum"], case.native["epsilon"]

        def forward(free):
            values, state, ys = dict(learned, **free), (mean, variance), []
            given = dict(list(enumerate(xs)) + list(zip(asked, free.get("dx", []))))
            for step in case.steps:
                state = tuple(tensor.clone() for tensor in state)
                args = (values.get("dgamma"), values.get("dbeta"), step.training)
                ys.append(self.batch_norm(given[step.index], *(state + args + constants)))
            return [ys[t] for t in asked], (ys, state)

        names = case.steps[asked[0]].gradients if asked else []
        free = {name: tensor for name, tensor in dict(learned, dx=[xs[t] for t in asked]).items() if name in names}
        _, pullback, (ys, state) = self.torch.func.vjp(forward, free or learned, has_aux=True)
        outs = [{"y": self.array(y)} for y in ys]
        outs[-1].update(moving_mean=self.array(state[0]), moving_variance=self.array(state[1]))
        found = pullback([self.tensor(case.steps[t].dy) for t in asked])[0] if free else {}
        dxs = [self.array(tensor) for tensor in found.pop("dx", [])]
        return later.together(case, outs, dxs, self.arrays(found))

    def pulled(self, pullback, step):
        """Return the gradients of a call, as arrays."""
        cotangents = tuple(self.tensor(array) for array in step.cotangents.values())
        return {} if step.dy is None else self.arrays(pullback(cotangents)[0])

    def tangents(self, forward, values, step):
        """Return what a step asks for along the tangent of x."""
        func, named = self.torch.func, {}
        if not (step.forward or step.forward_twice or step.second or step.third):
            return named
        if step.along and not step.everywhere:
            return self.along(forward, values, step)
        dy, along = self.tensor(step.dy), self.tensor(step.tangent)

        def sped(function):
            return lambda x: func.jvp(function, (x,), (along,))[1]

        def y(x):
            return forward(dict(values, dx=x))

        def gradients(values):
            return func.vjp(forward, values)[1](dy)[0]

        if step.forward:
            named["y_tangent"] = sped(y)(values["dx"])
        if step.forward_twice:
            named["y_tangent2"] = sped(sped(y))(values["dx"])
        if step.second:
            found = self.second(gradients, values, along, step.second)
            named.update((name + "_tangent", tensor) for name, tensor in found.items())
        if step.third:
            found = self.third(gradients, values, along)
            named.update((name + "_tangent2", tensor) for name, tensor in found.items())
        return named

    def everywhere(self, forward, values, given, step):
        """Return the derivatives of y and of the new statistics along a tangent of all inputs at once."""
        directions = dict(step.direction, dx=step.tangent, **dict(zip(STATE, step.directions)))
        rates = {name: self.tensor(array) for name, array in directions.items()}
        values = {name: dict(given, **values)[name] for name in rates}

        def of(values):
            y, state = forward(values)
            return (y,) + state

        found = self.torch.func.jvp(of, (values,), (rates,))[1]
        return dict(zip(["y_tangent"] + MOVED if step.moves else ["y_tangent"], found))

    def along(self, forward, values, step):
        """Return the derivatives of dx and y along the direction of gamma and beta."""
        func, dy = self.torch.func, self.tensor(step.dy)
        direction = {name: self.tensor(array) for name, array in step.direction.items()}

        def gradients(values, dy):
            y, pullback = func.vjp(forward, values)
            return pullback(dy)[0], y

        def slope(x, dy):
            found = gradients(dict(values, dx=x), dy)[0]
            return sum((found[name] * tangent).sum() for name, tangent in direction.items())

        def of(parameters):
            found, y = gradients(dict(values, **parameters), dy)
            return found["dx"], y

        if step.second == "reverse":
            found = func.grad(slope, (0, 1))(values["dx"], dy)
        else:
            found = func.jvp(of, ({name: values[name] for name in direction},), (direction,))[1]
        return dict(zip(("dx_tangent", "y_tangent"), found))

    def second(self, gradients, values, along, mode):
        """Return the derivatives of `gradients`, a function of `values`, along a tangent of x."""
        if mode == "reverse":
            return self.torch.func.grad(lambda values: (gradients(values)["dx"] * along).sum())(values)
        return self.torch.func.jvp(lambda x: gradients(dict(values, dx=x)), (values["dx"],), (along,))[1]

    def third(self, gradients, values, along):
        """Return the second derivatives of `gradients` along a tangent of x, in reverse."""

        def bend(values):
            return (self.second(gradients, values, along, "reverse")["dx"] * along).sum()

        return self.torch.func.grad(bend)(values)


class Hessian(Func):
    """Higher derivatives as whole matrices times the tangent: `jacfwd` or `jacrev` of the gradients, by `vmap`."""

    statement = stated(
        "F.batch_norm+hessian",
        DOCS + "generated/torch.func.hessian.html",
        differentiation=["reverse_over_reverse", "forward_over_reverse"],
        lacks={"forward": "it makes matrices of derivatives"},
        rules=[
            {
                "when": {"output": TANGENTS},
                "numerics": {"tangent": "each"},
                "cite": "torch.func.jacfwd, jacrev: one derivative for each element, stacked",
            }
        ],
    )

    def second(self, gradients, values, along, mode):
        """Return the derivatives of `gradients` along a tangent of x: the matrices, summed along their rows."""
        over = self.torch.func.jacrev if mode == "reverse" else self.torch.func.jacfwd
        return self.summed(over(self.of_x(gradients, values))(values["dx"]), along)

    def of_x(self, gradients, values):
        """Return the gradients as a function of x; without gamma, jacrev of dbeta is an error in torch 2.13."""
        wanted = [name for name in values if name != "dbeta"]
        return lambda x: {n: t for n, t in gradients(dict(values, dx=x)).items() if n in wanted}

    def summed(self, matrices, along):
        """Return matrices times a tangent."""
        return {name: self.torch.tensordot(m, along, along.dim()) for name, m in matrices.items()}


IMPLEMENTATIONS = [Functional, WithoutCudnn, Native, Vmap, Func, Hessian]
