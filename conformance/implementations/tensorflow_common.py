"""What the adapters of TensorFlow share: its import, the arguments of its layers, derivatives.

No implementation is in here.
https://www.tensorflow.org/guide/advanced_autodiff
https://www.tensorflow.org/api_docs/python/tf/autodiff/ForwardAccumulator
"""

import functools
import importlib

import numpy as np

from . import ensembles, later

CUDA = {
    "when": {"device": ["cuda"]},
    "numerics": {"variance": "fast", "affine": "folded", "sums": "serial"},
    "absent": ["mean", "variance"],
    "cite": "not measured yet. tensorflow/core/kernels/fused_batch_norm_op.cc takes cuDNN there, whose reserve spaces "
    "are its own and whose accuracy is not documented; other kernels sum in any order: the least is promised",
}
LACKS = ("mask", "renorm", "virtual batch", "adjustment")
NO_FORWARD = "tf.gradients, all that a graph of TensorFlow 1 has, is reverse"
DIFFERENTIATION = ["none", "reverse", "forward", "reverse_over_reverse", "forward_over_reverse"]
INPUTS = ["stored", "int32", "uint8", "bool"]
FLOAT8 = ["float8_e4m3fn", "float8_e5m2"]
SCALARS = ["number", "float64", "float32", "array"]
BACKWARD = ["each", "after_all", "twice"]
TOGETHER = BACKWARD + ["together"]  # of layers
STATE = ["moving_mean", "moving_variance", "moving_stddev", "renorm_mean", "renorm_stddev"]  # the last with renorm
ODD = [
    False,
    "momentum",
    "epsilon",
    "nan_epsilon",
    "channels",
    "statistics",
    "parameters",
    "shape",
]  # the last two where nothing here reshapes them
DERIVATIVES = ["dx", "dgamma", "dbeta", "y_tangent", "dx_tangent", "dgamma_tangent"]


FUSED_OP = "https://www.tensorflow.org/api_docs/python/tf/raw_ops/FusedBatchNormV3"
# where tf_keras's layer takes it, and the legacy function with it
FUSED = {
    "rank": [4, 5],
    "channel": ["second", "last"],
    "dtype": ["float32", "float16", "bfloat16"],
    "renorm": [False],
    "virtual": [False],
    "adjustment": [False],
}


def without(*columns):
    """Return why an implementation lacks these columns of the matrix: it has no argument for them."""
    return dict.fromkeys(columns, "it has no such argument")


def no_integers(cite, inputs=tuple(INPUTS[1:]), **when):
    """Return the refusal of whole numbers and truth values for an input."""
    return {"when": dict(when, input=list(inputs)), "error": ["InvalidArgumentError", "TypeError"], "cite": cite}


def no_array(page, **when):
    """Return the refusal of a constant that is an array, by the op whose attributes are numbers."""
    cite = page + ": epsilon is an optional float"
    return {"when": dict(when, scalars=["array"]), "error": ["TypeError", "ValueError"], "cite": cite}


def tensorflow(device):
    """Return TensorFlow on one thread and on the device; a build without CUDA finds only the CPU."""
    tf = importlib.import_module("tensorflow")
    if device != "cpu" and not tf.config.list_physical_devices("GPU"):
        built, error = ("with", RuntimeError) if tf.test.is_built_with_cuda() else ("without", later.NoDevice)
        raise error("TensorFlow %s, built %s CUDA, finds no CUDA device" % (tf.__version__, built))
    try:
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        if device == "cpu":
            tf.config.set_visible_devices([], "GPU")
    except RuntimeError:
        pass  # already in use: another adapter of this process has set them
    return tf


def arguments(case):
    """Return the arguments that the layers of TensorFlow 1 and tf_keras share, without `adjustment`."""
    spec, axis = case.spec, case.native["axis"]
    names = ("center", "scale", "trainable", "renorm", "renorm_momentum", "virtual_batch_size")
    given = dict({name: spec[name] for name in names}, **case.native)
    given["axis"] = list(axis) if isinstance(axis, (list, tuple)) else axis
    if spec["renorm"]:
        limits = spec["renorm_clipping"] or {}
        given["renorm_clipping"] = {name: limit for name, limit in limits.items() if limit is not None}
        # sqrt(epsilon) of a Python float is float32, and TensorFlow refuses to compare it with float64
        given["epsilon"] = np.dtype(case.dtypes["parameters"]).type(case.native["epsilon"])
    return given


def unknown_axis(layer):
    """Return the refusal of an input whose kept axis has no known size."""
    cite = layer + ": build, input has undefined `axis` dimension"
    return {"when": {"unknown_sizes": ["kept"]}, "error": ["ValueError"], "cite": cite}


def another_rank(cite, *errors):
    """Return the refusal of an input whose rank is not that of the first one."""
    return {"when": {"reranked": [True]}, "error": list(errors) or ["ValueError"], "cite": cite}


def initial(case):
    """Return the case's values for a layer's variables, by name; renorm starts at the moving statistics."""
    given = {"gamma": case.gamma, "beta": case.beta, "moving_mean": case.mean, "moving_variance": case.variance}
    if case.spec["renorm"]:
        stddev = None if case.variance is None else np.sqrt(case.variance)
        given.update(renorm_mean=case.mean, moving_stddev=stddev, renorm_stddev=stddev)
    return {name: array for name, array in given.items() if array is not None}


def round_trip(case, layer, make):
    """Return the layer, or one rebuilt from its configuration or made anew with its weights, as the case asks."""
    how = case.actions["round_trip"]
    if how == "none":
        return layer
    other = type(layer).from_config(layer.get_config()) if how == "config" else make()
    other.build(case.steps[0].x.shape)
    other.set_weights(layer.get_weights())
    return other


def adjusted(case):
    """Return what the adjustment gives first; None if the layer has none."""
    return next((step.adjustment for step in case.steps if step.adjustment is not None), None)


def parted(out, arrays):
    """Return the outputs as `arrays` makes them of tensors, and a function that takes the gradients then postponed."""
    take = out.pop("take", dict)
    return arrays(out), functools.partial(_taken, take, arrays)


def _taken(take, arrays):
    return arrays(take())


def asked(tf, step):
    """Return the arrays that a step's derivatives need, as tensors, and what is static about them."""
    cotangents = {name: tf.constant(a) for name, a in step.cotangents.items()}
    tangent = tf.constant(step.tangent) if (step.forward or step.second) and not step.along else None
    direction = {name: tf.constant(a) for name, a in step.direction.items()}
    static = {"gradients": tuple(step.gradients), "forward": step.forward, "second": step.second}
    return dict(static, cotangents=cotangents, tangent=tangent, postponed=step.later, direction=direction)


def members(tf, call, case, named):
    """Yield the arrays of each member in each call, by name, as `tf.vectorized_map` gives them.

    call: of (what is static about a step's derivatives, the step, the named arguments of one member), gives its outputs
    and state. named: what all calls have in common, as tensors, the `state` that all begin with among them.
    """
    named = dict(named, **{name: tf.constant(a) for name, a in ensembles.parameters(case).items()})

    def vmap(function):
        return functools.partial(tf.vectorized_map, function)

    for number, steps in enumerate(case.calls()):
        named.update({name: tf.constant(a) for name, a in ensembles.batches(case, steps).items()})
        one = functools.partial(_member, call, steps[0])
        out, named["state"] = ensembles.over(vmap, one, ensembles.maps(case, number > 0))(named)
        for arrays in ensembles.members(case, {name: np.array(tensor) for name, tensor in out.items()}):
            yield arrays


def _member(call, step, named):
    cotangents = {"y": named["dy"]} if "dy" in named else {}
    static = {"gradients": tuple(step.gradients), "forward": False, "second": "", "postponed": False}
    return call(dict(static, cotangents=cotangents, tangent=None, direction={}), step, named)


def differentiated(tf, call, sources, gradients, cotangents, tangent, forward, second, postponed, direction=()):
    """Return the outputs of `call()`, `y` among them, and the derivatives asked for, by name.

    sources: what to differentiate with respect to, by the name of its gradient: `dx`, and what there is of `dgamma` and
    `dbeta`. gradients: which of them are asked for. cotangents: of y and other outputs, by name. tangent: of x.
    forward: of y too.
    second: how to differentiate the gradients again. postponed: the gradients are not taken, but a function is returned
    that takes them, by the name `take`. direction: along which of gamma and beta, by the names of their gradients.
    """
    asked = {name: source for name, source in sources.items() if name in gradients}
    if postponed:
        return _postponed(tf, call, asked, cotangents)
    if direction:
        return _along_parameters(tf, call, asked, cotangents, direction, second)
    along = ["y"] * forward + ["dx", "dgamma"] * (second == "forward_over_reverse")
    if not along:
        return _reverse_twice(tf, call, asked, cotangents, tangent, second)
    with tf.autodiff.ForwardAccumulator(sources["dx"], tangent) as accumulator:
        out = _reverse_twice(tf, call, asked, cotangents, tangent, second)
    for name in (name for name in along if name in out):
        out[name + "_tangent"] = accumulator.jvp(out[name], tf.UnconnectedGradients.ZERO)
    return out


def in_one(tf, call, xs, learned, asked):
    """Return the y of each call that `call(xs)` makes, and by one gradient dx of each asked for, and what is learned.

    learned: gamma and beta by the names of their gradients. asked: the steps that gradients are asked of.
    """
    names, at = asked[0].gradients if asked else [], [step.index for step in asked]
    sources = [xs[t] for t in at] if "dx" in names else []
    free = {name: source for name, source in learned.items() if name in names}
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(sources + list(free.values()))
        ys = call(xs)
    if not (sources or free):
        return ys, [], {}
    cotangents = [tf.constant(step.dy) for step in asked]
    found = tape.gradient([ys[t] for t in at], sources + list(free.values()), cotangents)
    return ys, found[: len(sources)], dict(zip(free, found[len(sources) :]))


def _along_parameters(tf, call, sources, cotangents, direction, second):
    """Return the outputs and gradients, and the derivatives of dx and y along the direction of gamma and beta."""
    along = {name: tf.reshape(tangent, tf.shape(sources[name])) for name, tangent in direction.items()}
    if second == "reverse":
        behind = [sources["dx"], cotangents["y"]]
        with tf.GradientTape() as tape:
            tape.watch(behind)
            out = _reverse(tf, call, sources, cotangents)
        found = tape.gradient([out[name] for name in along], behind, list(along.values()), tf.UnconnectedGradients.ZERO)
    else:
        with tf.autodiff.ForwardAccumulator([sources[name] for name in along], list(along.values())) as accumulator:
            out = _reverse(tf, call, sources, cotangents)
        found = [accumulator.jvp(out[name], tf.UnconnectedGradients.ZERO) for name in ("dx", "y")]
    return dict(out, dx_tangent=found[0], y_tangent=found[1])


def _postponed(tf, call, sources, cotangents):
    """Return the outputs, and a function that takes the gradients as often as it is called."""
    with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
        tape.watch(list(sources.values()))
        out = call()

    return dict(out, take=functools.partial(_gradients, tf, tape, out, sources, cotangents) if cotangents else dict)


def _gradients(tf, tape, out, sources, cotangents):
    """Return the gradients by name. What is kept may come with the averaged axes, of size 1."""
    given = [c if name == "y" else tf.reshape(c, tf.shape(out[name])) for name, c in cotangents.items()]
    return dict(zip(sources, tape.gradient([out[name] for name in cotangents], list(sources.values()), given)))


def _reverse_twice(tf, call, sources, cotangents, tangent, second):
    """Return the outputs and the gradients; with `reverse` over them, those of <dx, tangent> too."""
    if second != "reverse":
        return _reverse(tf, call, sources, cotangents)
    again = [name for name in ("dx", "dgamma") if name in sources]
    with tf.GradientTape() as tape:
        tape.watch([sources[name] for name in again])
        out = _reverse(tf, call, sources, cotangents)
    gradients = tape.gradient(out["dx"], [sources[name] for name in again], tangent, tf.UnconnectedGradients.ZERO)
    out.update(zip([name + "_tangent" for name in again], gradients))
    return out


def _reverse(tf, call, sources, cotangents):
    """Return the outputs, and the gradients where there is a cotangent."""
    if not cotangents:
        return call()
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(list(sources.values()))
        out = call()
    return dict(_gradients(tf, tape, out, sources, cotangents), **out)


def graph_gradients(tf, y, sources, dy, tangent):
    """Return the gradients of a graph's y by name; where there is a tangent of x, those of <dx, tangent> too."""
    found = dict(zip(sources, tf.gradients(y, list(sources.values()), dy))) if sources else {}
    if tangent is not None:
        again = {name: source for name, source in sources.items() if name != "dbeta"}
        for name, gradient in zip(again, tf.gradients(found["dx"], list(again.values()), tangent)):
            found[name + "_tangent"] = tf.zeros_like(again[name]) if gradient is None else gradient
    return found
