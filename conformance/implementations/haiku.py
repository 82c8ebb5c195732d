"""dm-haiku: `haiku.BatchNorm`, jitted and not.

https://dm-haiku.readthedocs.io/en/latest/api.html#batchnorm
"""

import numpy as np

from . import jax as common

PAGE = "https://dm-haiku.readthedocs.io/en/latest/api.html#batchnorm"


_NO_INIT = {
    "when": {"init_mode": ["infer"], "start": ["own"]},
    "error": ["ValueError"],
    "cite": "https://github.com/google-deepmind/dm-haiku/issues/361: init must be called in training",
}


_RERANKED = {
    "when": {"reranked": [True]},
    "error": ["ValueError", "IndexError"],
    "cite": "haiku/_src/batch_norm.py: statistics keep the reduced axes of the first input with size 1, and jnp.mean "
    "over axes that are beyond those of x is an IndexError",
}
_PROMOTION = "https://docs.jax.dev/en/latest/type_promotion.html: the result is of the wider dtype"
_AVERAGES = ("moving_mean", "moving_variance")
_PROMOTED = [({"parameters": ["float64"], "affine": ["both", "scale", "center"]}, "y", "float64")]
_PROMOTED += [({"dtype": ["float32"], "statistics": common.HALF}, output, "float32") for output in _AVERAGES]
_PROMOTED += [
    ({"dtype": ["float64"], "statistics": ["float32"] + common.HALF}, output, "float64") for output in _AVERAGES
]


def _statement():
    made = common.stated(
        "haiku.BatchNorm+jit",
        PAGE,
        "reduced",
        "haiku/_src/batch_norm.py, BatchNorm; haiku/_src/moving_averages.py, ExponentialMovingAverage",
        dict(
            common.TRANSFORMED,
            init_mode=["train", "infer"],
            begun=[False, True],
            mixed=[False, True],
            updates=[True, False],
        ),
        {"average": "zero_debiased", "initial_variance": 0.0},
        variance="fast",
    )
    made["rules"] += common.halves(
        "haiku/_src/batch_norm.py: jnp.mean of x in its own dtype, which averages are cast to too; only scale and "
        "offset widen y; " + common.WIDENED,
        widened="statistics",
    )[:-1]
    made["rules"] += [
        {"when": dict(when, output=[output]), "numerics": {"stored": stored}, "cite": _PROMOTION}
        for when, output, stored in _PROMOTED
    ]
    return dict(made, refusals=[_NO_INIT, _RERANKED], accepts=[{"rank": [0]}])  # of no axes it averages over none


class Haiku(common.Jitted):
    """`haiku.BatchNorm`; its moving statistics are the `hidden` of its two ExponentialMovingAverage."""

    package = "haiku"
    traced = tuple(name for name in common.Jitted.traced if name != "update")
    statement = _statement()

    def shape(self, case):
        """Return the shape in which the library keeps parameters and statistics."""
        return common.full(case)

    def transformed(self, case, training, update=True):
        """Return the layer as a pair of pure functions of x and epsilon."""

        def call(x, epsilon):
            return self.module(case, epsilon)(x, training and update, test_local_stats=training)

        return self.library.transform_with_state(call)

    def module(self, case, epsilon):
        """Return a module."""
        return self.made(case, epsilon)

    def made(self, case, epsilon, **more):
        """Return a module with more arguments than the case has."""
        axis, decay = case.native["axis"], case.native["momentum"]
        scale, offset = case.spec["scale"], case.spec["center"]
        return self.library.BatchNorm(scale, offset, decay, epsilon, axis=axis, name="layer", **more)

    def layer(self, case, training):
        """Return the function to jit."""
        return self.applied(self.transformed(case, training, case.update))

    def places(self, fixed):
        """Return the function that makes all calls of one module."""

        def called(calls, epsilon):
            module = self.module(fixed[0], epsilon)
            modes = [(static.training and static.update, static.training) for static in fixed]
            return [module(x, trains, test_local_stats=local) for (trains, local), (x, _) in zip(modes, calls)]

        return self.applied(self.library.transform_with_state(called))

    def applied(self, transformed):
        """Return a pair of pure functions as one function of parameters, state, input and epsilon."""

        def call(parameters, state, x, epsilon):
            named = common.present(scale=parameters.get("dgamma"), offset=parameters.get("dbeta"))
            return transformed.apply({"layer": named}, state, None, x, epsilon)

        return call

    def initial(self, case):
        """Return what init gives; the case's statistics become `hidden`, with an average and counter to match."""
        own, state, given = {}, {}, common.present(mean=case.mean, var=case.variance)
        if common.begins(case):
            training = case.actions["init_mode"] == "train"
            own, state = self.transformed(case, training).init(None, case.steps[0].x, case.native["epsilon"])
            own, state = own.get("layer", {}), dict(state)
        for name, array in given.items():
            hidden = array.reshape(common.full(case))
            weight = hidden.dtype.type(1 - case.native["momentum"] ** case.batches if case.batches else 1)
            counter = np.array(case.batches, np.int32)
            state["layer/~/%s_ema" % name] = {"hidden": hidden, "average": hidden / weight, "counter": counter}
        return common.present(dgamma=own.get("scale"), dbeta=own.get("offset")), state

    def moving(self, state):
        """Return the moving mean and variance."""
        return [state["layer/~/%s_ema" % name]["hidden"] for name in ("mean", "var")]

    def put(self, case, state, *statistics):
        """Return the state with these for `hidden`, and the averages that they make."""
        changed, decay = dict(state), case.native["momentum"]
        for name, hidden in zip(("layer/~/mean_ema", "layer/~/var_ema"), statistics):
            counter = state[name]["counter"]
            weight = self.jax.numpy.where(counter > 0, 1 - decay**counter, 1).astype(hidden.dtype)
            changed[name] = dict(state[name], hidden=hidden, average=hidden / weight)
        return changed


IMPLEMENTATIONS = [Haiku, common.eager(Haiku)]
