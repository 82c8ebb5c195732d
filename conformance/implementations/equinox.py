"""equinox: `equinox.nn.BatchNorm` in its two modes, jitted and not.

https://docs.kidger.site/equinox/api/nn/normalisation/#equinox.nn.BatchNorm
"""

import functools
import inspect
import warnings

from . import jax as common

PAGE = "https://docs.kidger.site/equinox/api/nn/normalisation/#equinox.nn.BatchNorm"


_ONE_DTYPE = {
    "when": {"dtype": common.HALF, "statistics": ["float32"], "mode": ["train"]},
    "error": ["TypeError"],
    "cite": "https://docs.jax.dev/en/latest/_autosummary/jax.lax.select.html: the cases, which are the batch's "
    "statistics and the running ones, must have the same dtype",
}


def _equinox(kind, cite, **semantics):
    identity, cite = "equinox.BatchNorm+%s+jit" % kind, "equinox/nn/_batch_norm.py, BatchNorm.__call__: " + cite
    backward = ["each", "together"] if kind == "batch" else ["each"]  # its state has a gradient
    supports = dict(
        common.TRANSFORMED, channel=["second"], backward=backward, affine=["both", "none"], begun=[False, True]
    )
    supports["input"] = common.INPUTS + common.FLOAT8
    numerics = {"variance": "two_pass", "means": "in_turn"}  # of each example, and `pmean` of these
    made = common.stated(identity, PAGE, "fixed", cite, supports, semantics, **numerics)
    made["rules"] += common.halves("equinox/nn/_batch_norm.py: jnp.mean of x in its own dtype")
    return dict(made, refusals=[common.NO_FLOAT8] + [_ONE_DTYPE] * (kind == "ema"))


class EquinoxEma(common.Jitted):
    """`equinox.nn.BatchNorm(mode="ema")`, the examples under `jax.vmap`."""

    package, kind, counting = "equinox", "ema", "ema_first_time_index"
    names = "batch"
    statement = _equinox(
        "ema",
        "training uses the running statistics too; the first batch is copied; initial values are uninitialized zeros",
        average="first_batch",
        training_statistics="moving",
        initial_variance=0.0,
    )

    def __init__(self, device):
        super(EquinoxEma, self).__init__(device)
        warnings.filterwarnings("ignore", "A JAX array is being set as static")  # epsilon, and it stays inside a trace
        arguments = inspect.signature(self.library.nn.BatchNorm.__init__).parameters
        self.chosen = {"mode": self.kind} if "mode" in arguments else {}
        if not self.chosen and self.kind != "ema":  # which older versions have alone
            raise RuntimeError("equinox %s has no modes" % self.library.__version__)

    def made(self, case, training):
        """Return a function of epsilon that makes (layer, state)."""
        return functools.partial(
            self.library.nn.make_with_state(self.library.nn.BatchNorm),
            case.kept[0],
            self.names,
            channelwise_affine=case.spec["scale"],
            momentum=case.native["momentum"],
            inference=not training,
            dtype="complex64" if case.complex else case.dtypes["statistics"],
            **self.chosen,
        )

    def layer(self, case, training):
        """Return the function to jit."""
        made = self.made(case, training)

        def call(parameters, state, x, epsilon):
            return self.of_a_batch(self.loaded(made(epsilon)[0], parameters))(x, state)

        return call

    def places(self, fixed):
        """Return the function that makes all calls of one layer."""
        made = self.made(fixed[0], None)

        def call(parameters, state, calls, epsilon):
            layer = self.loaded(made(epsilon)[0], parameters)

            def called(xs, state):
                ys = []
                for static, x in zip(fixed, xs):
                    y, state = layer(x, state, inference=not static.training)
                    ys.append(y)
                return ys, state

            return self.of_a_batch(called)([x for x, _ in calls], state)

        return call

    def loaded(self, layer, parameters):
        """Return the layer with its parameters."""
        if not parameters:
            return layer
        values = parameters["dgamma"], parameters["dbeta"]
        return self.library.tree_at(lambda tree: (tree.weight, tree.bias), layer, values)

    def of_a_batch(self, function):
        """Return a function of one example and the state as one of a batch of them."""
        return self.jax.vmap(function, axis_name="batch", in_axes=(0, None), out_axes=(0, None))

    def initial(self, case):
        """Return the layer's own parameters, and the State."""
        layer, state = self.made(case, True)()
        parameters = common.present(dgamma=layer.weight, dbeta=layer.bias)
        self.index = getattr(layer, self.kind + "_state_index" if self.chosen else "state_index")
        own = zip((case.mean, case.variance), state.get(self.index))
        state = state.set(self.index, tuple(b if a is None else a.astype(b.dtype) for a, b in own))
        if case.batches:
            counting = self.counting if self.chosen else "first_time_index"
            state = state.set(getattr(layer, counting), self.counted(case.batches))
        return parameters, state

    def counted(self, batches):
        """Return what the layer keeps of the number of batches: whether the next one is the first."""
        return self.jax.numpy.array(batches == 0)

    def moving(self, state):
        """Return the moving mean and variance."""
        return state.get(self.index)

    def put(self, _case, state, *statistics):
        """Return the state with this mean and variance."""
        return state.set(self.index, statistics)


class EquinoxBatch(EquinoxEma):
    """`equinox.nn.BatchNorm(mode="batch")`, the examples under `jax.vmap`."""

    kind, counting = "batch", "batch_counter"
    statement = _equinox(
        "batch", "debiased by 1 - momentum**t; biased, though documented as unbiased", average="zero_debiased"
    )

    def counted(self, batches):
        """Return the counter."""
        return self.jax.numpy.array(batches)


IMPLEMENTATIONS = [EquinoxEma, EquinoxBatch, common.eager(EquinoxEma), common.eager(EquinoxBatch)]
