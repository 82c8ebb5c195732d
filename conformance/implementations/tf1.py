"""`tf.layers.batch_normalization` itself, in TensorFlow 1.15 and 1.7: the function that the default semantics describe.

Each version lives in an environment of its own: `bnconf env create tf-1.15`. Everything that is not fed is static, as
in the programs of its time. There is a graph and a session per layer, kept for the next case with the same layer; in
it there is one call of the function for each kind of step, all in one scope. The update ops run with y, if the step
says so. What becomes of each of the function's 24 parameters is in `tf-1.15.md`.
https://github.com/tensorflow/docs/blob/r1.15/site/en/api_docs/python/tf/layers/batch_normalization.md
"""

import collections
import contextlib
import importlib
import re

from . import tensorflow_common as common

_SHARED = ("layout", "batches", "shape", "flag")  # what calls of one layer may differ in
_FED = ("layout", "batches", "update", "trainable", "forward", "forward_twice", "third")  # or nothing depends on it
_KEPT = 32  # layers with an open session; a graph weighs about a megabyte
_SOURCE = "https://github.com/tensorflow/tensorflow/blob/v%s/tensorflow/%s"
_LAYER = {
    "1.15": _SOURCE % ("1.15.5", "python/keras/layers/normalization.py"),
    "1.7": _SOURCE % ("1.7.0", "python/layers/normalization.py"),
}
_KERNEL = _SOURCE % ("1.15.5", "core/kernels/fused_batch_norm_op.cc")
_FUSED = {"rank": [4], "virtual": [False], "renorm": [False], "adjustment": [False]}
_COMPUTED = ["y", "dx", "dgamma", "dbeta", "dx_tangent", "dgamma_tangent"]


def _statement(version, variant, rules, refusals, accepts=()):
    """Return the statement of a variant: what every path promises, and the rules given."""
    layer = _LAYER[version]
    plain = {
        "semantics": {"stored_variance": "biased", "frozen": "batch", "fraction_dtype": "float32"},
        "numerics": {"variance": "two_pass", "affine": "folded", "sums": "serial"},
        "cite": layer + ": call; convert_to_tensor(1.0 - momentum) in _assign_moving_average is float32",
    }
    return {
        "id": "tf.layers.batch_normalization+%s%s" % (version, variant),
        "packages": ["tensorflow"],
        "keeps_inputs": True,
        "documentation": "https://github.com/tensorflow/docs/blob/r1.15/site/en/api_docs/python/tf/layers/"
        "batch_normalization.md",
        "conventions": {"momentum": "kept", "axis": "kept"},
        "supports": {
            "start": ["given", "own"],
            "scalars": common.SCALARS,
            "odd": common.ODD,
            "dtype": ["float32", "float64", "float16"],
            "parameters": ["float32", "float64"],
            "statistics": ["float32", "float64"],
            "updates": [True, False],
            "sites": [1, 2, 3],
            "unknown_sizes": [False, "reduced", "kept"],
            "flag": ["bool", "int", "numpy"] if variant in ("", "+fused_false") else ["bool"],
            "virtual": [False, True],
            "renorm": [False, True],
            "adjustment": [False, True],
            "misplaced": [False, True],
            "differentiation": ["none", "reverse", "reverse_over_reverse"],
        },
        "outputs": _COMPUTED + [name for name in common.STATE if version == "1.15" or name != "moving_stddev"],
        "rules": [plain, _half(layer)] + rules,
        "refusals": [common.unknown_axis(layer)] + refusals,  # build comes first
        "accepts": list(accepts),
        "lacks": dict(common.without("mask"), forward=common.NO_FORWARD),
        "compiled": True,
        "signatures": 12,
    }


def _half(layer):
    """Return the rule of half precision: moments are taken in float32, everything else is computed in float16."""
    when = {"dtype": ["float16"], "output": _COMPUTED}
    cite = layer + ": call casts mean, variance, offset and scale to inputs.dtype"
    return {"when": when, "numerics": {"accumulate": "input"}, "cite": cite}


def _fused(version, **semantics):
    """Return the rule of the fused path, which NHWC takes."""
    return {
        "when": dict(_FUSED, channel=["last"], dtype=["float32", "float16"]),
        "semantics": dict({"stored_variance": "unbiased", "epsilon_floor": 1.001e-5}, **semantics),
        "numerics": {"affine": "direct", "accumulate": "wide"},
        "cite": "%s: build and _fused_batch_norm; rest_size_adjust in %s; epsilon is at least 1.001e-5 in %s"
        % (_LAYER[version], _KERNEL, _SOURCE % (version, "python/ops/nn_impl.py: fused_batch_norm")),
    }


_NO_NCHW = {
    "when": dict(_FUSED, channel=["second"], dtype=["float32", "float16"]),
    "error": ["InternalError"],
    "cite": _KERNEL + ": The CPU implementation of FusedBatchNorm only supports NHWC tensor format for now",
}
_NO_FLOAT64 = {
    "when": dict(_FUSED, channel=["second", "last"], dtype=["float64"]),
    "error": ["TypeError"],
    "cite": _LAYER["1.15"] + ": fused=None fuses rank 4 whatever the dtype; the op's T is in half, float",
}


def _not_in_half(**when):
    cite = _LAYER["1.7"] + ": call casts nothing, so that float16 x meets float32 gamma"
    return {"when": dict(when, dtype=["float16"]), "error": ["TypeError", "ValueError"], "cite": cite}


def _no_array(version):
    return common.no_array(_SOURCE % (version, "ops/nn_impl.py: fused_batch_norm"), **_FUSED)


_RULES = [_fused("1.15", fraction_rounded="momentum")]
_REFUSALS = [_NO_NCHW, _NO_FLOAT64, _no_array("1.15")]


class Function(object):
    """TensorFlow 1.15, with `training` as a Python bool."""

    version, fused, flag = "1.15", None, "bool"
    statement = _statement("1.15", "", _RULES, _REFUSALS)

    def __init__(self, device):
        self.tf = _tensorflow(device, self.version)
        self.layers = collections.OrderedDict()

    def run(self, case):
        """Yield the outputs of each step."""
        layer, loaded = self.layer(case), False
        if case.together:
            graph = layer.chain(case)
            layer.load(self.initial(case))
            yield from layer.run_chain(graph, case)
            return
        for step in case.steps:
            call = layer.call(case, step)  # the first one makes the variables
            if not loaded:
                layer.load(self.initial(case))
                loaded = True
            yield layer.run(call, case, step)

    def layer(self, case):
        """Return the layer of a case's static configuration, new or as an earlier case left it."""
        static = case.static(traced=_SHARED)
        if static.key not in self.layers:
            self.layers[static.key] = Layer(self.tf, self.arguments(static), self.flag)
        self.layers.move_to_end(static.key)
        if len(self.layers) > _KEPT:
            self.layers.popitem(last=False)[1].session.close()
        return self.layers[static.key]

    def arguments(self, case):
        """Return the function's arguments, without the input, `training` and `adjustment`."""
        return dict(common.arguments(case), fused=self.fused)

    def initial(self, case):
        """Return the variables' first values by name."""
        return common.initial(case)


@contextlib.contextmanager
def _unnumbered():
    """Remove from a refusal the number of the call in the graph, which depends on the cases before."""
    try:
        yield
    except (TypeError, ValueError) as error:
        error.args = tuple(
            re.sub(r"\blayer_\d+/", "layer/", arg) if isinstance(arg, str) else arg for arg in error.args
        )
        raise


class Layer(object):
    """One scope of variables in one graph with one session, and the calls of the function that share them."""

    def __init__(self, tf, arguments, flag):
        self.tf, self.arguments, self.flag = tf, arguments, flag
        self.graph, self.calls = tf.Graph(), {}
        options = tf.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)
        self.session = tf.Session(graph=self.graph, config=options)

    def call(self, case, step):
        """Return the call that serves a step: by call site, known sizes and, unless it is fed, mode."""
        static = case.static(step, _FED + (("training", "flag") if self.flag == "placeholder" else ()))
        if static.key not in self.calls:
            with self.graph.as_default(), _unnumbered():
                self.calls[static.key] = self.build(static)
        return self.calls[static.key]

    def chain(self, case):
        """Return the calls of all steps in one graph, each after the one before and its updates, and one gradient."""
        fed = _FED + (("training", "flag") if self.flag == "placeholder" else ())
        fixed, key = [case.static(step, fed) for step in case.steps], "together"
        for static, step in zip(fixed, case.steps):
            key += repr((static.key, step.training and step.update))
        if key not in self.calls:
            with self.graph.as_default(), _unnumbered():
                self.calls[key] = self.linked(fixed, case)
        return self.calls[key]

    def linked(self, fixed, case):
        """Return for each call what is fed, y and the updates that run; and the gradients by (step, name)."""
        tf, before, made = self.tf, [], []
        for static, step in zip(fixed, case.steps):
            with tf.control_dependencies(before):
                fed, y, updates = self.place(static)
            made.append((fed, y, updates if step.training and step.update else []))
            before = [y] + made[-1][2]
        asked = [step.index for step in case.differentiated]
        if not asked:
            return made, {}
        variables, names, last = self.variables(), case.steps[asked[0]].gradients, asked[-1]
        named = [((t, "dx"), made[t][0]["x"]) for t in asked]
        named += [((last, "d" + name), variables.get(name)) for name in ("gamma", "beta")]
        sources = {key: source for key, source in named if source is not None and key[1] in names}
        for t in asked:
            made[t][0]["dy"] = tf.placeholder(*reversed(fixed[t].x))
        found = tf.gradients([made[t][1] for t in asked], list(sources.values()), [made[t][0]["dy"] for t in asked])
        return made, dict(zip(sources, found))

    def run_chain(self, chain, case):
        """Return the outputs of each step of one run of the session, the state with the last."""
        made, gradients = chain
        feed = {}
        for (fed, _, _), step in zip(made, case.steps):
            values = {"x": step.x, "dy": step.dy, "training": step.training}
            feed.update((placeholder, values[name]) for name, placeholder in fed.items())
        ys, found, _ = self.session.run([[y for _, y, _ in made], gradients, [u for _, _, u in made]], feed)
        outs = [{"y": y} for y in ys]
        for (t, name), array in found.items():
            outs[t][name] = array
        outs[-1].update(self.state())
        return outs

    def state(self):
        """Return the moving statistics by name."""
        return self.session.run({n: v for n, v in self.variables().items() if n not in ("gamma", "beta")})

    def build(self, static):
        """Call the function once more in the layer's scope; return what is fed and what is fetched, by name."""
        fed, y, updates = self.place(static)
        if static.dy is None:
            return fed, {"y": y}, updates
        for name in ["dy"] + ["tangent"] * bool(static.second):
            fed[name] = self.tf.placeholder(*reversed(static.x))
        return fed, dict(self.gradients(y, fed, static.gradients), y=y), updates

    def place(self, static):
        """Call the function once more in the layer's scope; return what is fed by name, y, and its updates."""
        tf, (shape, dtype) = self.tf, static.x
        fed = {"x": tf.placeholder(dtype, shape)}
        training = self.training(static)
        if self.flag == "placeholder":
            fed["training"] = training
        if static.adjustment is not None:
            pairs = zip(("scale", "bias"), static.adjustment)
            fed.update((name, tf.placeholder(form.dtype, form.shape)) for name, form in pairs)
        adjustment = None if static.adjustment is None else lambda _shape: (fed["scale"], fed["bias"])
        known = len(tf.get_collection(tf.GraphKeys.UPDATE_OPS))
        y = tf.layers.batch_normalization(
            fed["x"], training=training, adjustment=adjustment, name="layer", reuse=tf.AUTO_REUSE, **self.arguments
        )
        return fed, y, tf.get_collection(tf.GraphKeys.UPDATE_OPS)[known:]

    def training(self, static):
        """Return `training` in the form that the function gets."""
        if self.flag == "placeholder":
            return self.tf.placeholder(self.tf.bool, ())
        return self.tf.constant(static.training) if self.flag == "tensor" else static.flag

    def gradients(self, y, fed, asked):
        """Return the gradients asked for by name, of a layer that is frozen too."""
        variables = self.variables()
        named = (("dx", fed["x"]), ("dgamma", variables.get("gamma")), ("dbeta", variables.get("beta")))
        sources = collections.OrderedDict((n, source) for n, source in named if source is not None and n in asked)
        return common.graph_gradients(self.tf, y, sources, fed["dy"], fed.get("tangent"))

    def variables(self):
        """Return the variables by name."""
        return {v.op.name.split("/")[-1]: v for v in self.graph.get_collection(self.tf.GraphKeys.GLOBAL_VARIABLES)}

    def load(self, values):
        """Initialize every variable, to the given value if there is one, as `Variable.load` does."""
        ops = {name: variable.initializer for name, variable in self.variables().items()}
        given = {ops[name].inputs[1]: a for name, a in values.items()}
        self.session.run(list(ops.values()), given)

    def run(self, call, case, step):
        """Return the outputs of a step and the state after it; only a training step runs update ops, see tf-1.15.md."""
        fed, asked, updates = call
        values = {"x": step.x, "dy": step.dy, "tangent": step.tangent, "training": step.training}
        values.update(zip(("scale", "bias"), step.adjustment or common.adjusted(case) or ()))
        feed = {placeholder: values[name] for name, placeholder in fed.items()}
        try:
            out, _ = self.session.run([asked, updates if step.update and step.training else []], feed)
        except self.tf.errors.OpError as error:  # its text names the call's number too
            told = type(error)(None, None, re.sub(r"\blayer_\d+/", "layer/", str(error)))
            raise told.with_traceback(error.__traceback__) from None
        return dict(out, **self.state())


class Tensor(Function):
    """The same with `training` as a constant tensor."""

    flag = "tensor"
    statement = _statement("1.15", "+tensor", _RULES, _REFUSALS)


class Placeholder(Function):
    """The same with `training` as a placeholder: one call serves both modes."""

    flag = "placeholder"
    statement = _statement("1.15", "+placeholder", _RULES, _REFUSALS)


class NotFused(Function):
    """The same with fused=False, whatever the rank."""

    fused = False
    statement = _statement("1.15", "+fused_false", [], [])


class NotFusedPlaceholder(NotFused):
    """The same with fused=False and `training` as a placeholder."""

    flag = "placeholder"
    statement = _statement("1.15", "+fused_false+placeholder", [], [])


class Version17(Function):
    """TensorFlow 1.7, whose renorm is another algorithm: it starts at 0 and debiases."""

    version = "1.7"
    statement = _statement(
        "1.7",
        "",
        [_fused("1.7"), {"semantics": {"renorm": "tf_1_7"}, "cite": _LAYER["1.7"] + ": mixed_renorm_mean"}],
        [
            _NO_NCHW,
            _NO_FLOAT64,
            _no_array("1.7"),
            _not_in_half(rank=[1, 2, 3, 5]),
            _not_in_half(rank=[4], channel=["other", "several"]),
        ],
        # these run where one group is the whole batch, and nobody said what they mean
        accepts=[{"virtual": [True], "renorm": [True]}],
    )

    def initial(self, case):
        """Return the variables' first values by name; those of renorm are all 0."""
        return {name: array for name, array in common.initial(case).items() if name not in common.STATE[2:]}


def _tensorflow(device, version):
    """Return TensorFlow of this version, on the CPU."""
    if device != "cpu":
        raise ValueError("this adapter runs TensorFlow on cpu, not on %s" % device)
    tf = importlib.import_module("tensorflow")
    if not tf.__version__.startswith(version + "."):
        message = "No module named 'tensorflow' of version %s: this is %s; bnconf env create tf-%s"
        raise ModuleNotFoundError(message % (version, tf.__version__, version))
    tf.logging.set_verbosity(tf.logging.ERROR)
    return tf


IMPLEMENTATIONS = [Function, Tensor, Placeholder, NotFused, NotFusedPlaceholder]
