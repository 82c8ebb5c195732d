"""JAX's own functions, without state: `jax.nn.standardize`, times gamma, plus beta, and stax's BatchNorm.

https://docs.jax.dev/en/latest/_autosummary/jax.nn.standardize.html
https://docs.jax.dev/en/latest/jax.example_libraries.stax.html
"""

import inspect

import numpy as np

from . import jax as common

_DOCS = "https://docs.jax.dev/en/latest/"
_STANDARDIZE = _DOCS + "_autosummary/jax.nn.standardize.html"
_STAX = _DOCS + "jax.example_libraries.stax.html"
_SOURCE = "https://github.com/jax-ml/jax/blob/jax-v0.10.2/jax/"


_NO_CLIP = {
    "when": {"input": ["complex64"], "mode": ["train"]},
    "error": ["ValueError"],
    "cite": _SOURCE + "_src/nn/functions.py: the variance is clipped; jnp.clip refuses complex numbers",
}


def _statement(identity, page, cite, modes, supports=(), **numerics):
    semantics = {"average": "none", "mask": "boolean", "mask_rank": "full", "all_masked": "nan"}
    made = common.stated(identity, page, "reduced", cite, dict(supports, reranked=[False]), semantics, **numerics)
    made["rules"] += common.halves(_SOURCE + "_src/nn/functions.py: jnp.mean of x in its own dtype")
    wide = {"dtype": common.HALF, "scalars": common.SCALARS[1:], "output": ["y"]}
    made["rules"].append({"when": wide, "numerics": {"stored": "float32"}, "cite": common.WEAK})
    if numerics.get("clamped"):
        made["refusals"] = [_NO_CLIP]
    if "infer" not in modes:
        made["lacks"]["infer"] = "it has no inference: it always normalizes by the batch"
    return dict(made, packages=["jax", "jaxlib"], outputs=common.GRADIENTS + common.TANGENTS, modes=modes)


class Standardize(common.Jitted):
    """`jax.nn.standardize` with its default algorithm; inference by the case's own statistics."""

    package = "jax.nn"
    statement = _statement(
        "jax.nn.standardize+jit",
        _STANDARDIZE,
        _STANDARDIZE + ': algorithm="fast"; clipped to 0 in ' + _SOURCE + "_src/nn/functions.py",
        ["train", "infer"],
        dict(common.MASKS, **common.TRANSFORMED),
        variance="fast",
        clamped=True,
    )
    chosen = ()

    def shape(self, case):
        """Return the shape that broadcasts against x."""
        return common.full(case)

    def layer(self, case, training):
        """Return the function to jit."""
        axes = tuple(case.native["axis"])

        def call(parameters, state, x, epsilon, mask=None):
            used = {"where": mask} if training else {"mean": state[0], "variance": state[1]}
            z = self.library.standardize(x, axes, epsilon=epsilon, **dict(self.chosen, **used))
            return z * parameters.get("dgamma", 1) + parameters.get("dbeta", 0), state

        return call

    def initial(self, case):
        """Return neutral parameters, and the statistics for inference."""
        one = np.ones(common.full(case), case.dtypes["statistics"])
        mean, variance = 0 * one if case.mean is None else case.mean, one if case.variance is None else case.variance
        named = common.present(dgamma=case.neutral("gamma"), dbeta=case.neutral("beta"))
        parameters = {name: array.reshape(self.shape(case)) for name, array in named.items()}
        return parameters, (mean.reshape(one.shape), variance.reshape(one.shape))

    def moving(self, _state):
        """Return nothing: the function keeps no statistics."""
        return ()

    def used(self, state):
        """Return the mean and variance that inference is given."""
        return list(state)

    def put(self, _case, _state, *statistics):
        """Return other statistics as the state."""
        return statistics


class StandardizeTwoPass(Standardize):
    """`jax.nn.standardize` with algorithm="stable"."""

    statement = _statement(
        "jax.nn.standardize+two_pass+jit",
        _STANDARDIZE,
        _STANDARDIZE + ': algorithm="stable"',
        ["train", "infer"],
        common.MASKS,
        variance="two_pass",
    )
    chosen = (("algorithm", "stable"),)

    def __init__(self, device):
        Standardize.__init__(self, device)
        if "algorithm" not in inspect.signature(self.library.standardize).parameters:
            raise RuntimeError("jax %s has no other algorithm than E[x^2] - E[x]^2" % self.jax.__version__)


class Stax(Standardize):
    """`jax.example_libraries.stax.BatchNorm`, which has no inference: it always normalizes by the batch."""

    package = "jax.example_libraries.stax"
    statement = _statement(
        "jax.example_libraries.stax.BatchNorm+jit",
        _STAX,
        _SOURCE + "example_libraries/stax.py: BatchNorm calls standardize",
        ["train"],
        {"backward": ["each"]},  # inference would add to the gradient of all calls
        variance="fast",
        clamped=True,
    )

    def shape(self, case):
        """Return the shape in which the library keeps parameters."""
        return case.kept

    def layer(self, case, _training):
        """Return the function to jit."""
        center, scale = case.spec["center"], case.spec["scale"]

        def call(parameters, state, x, epsilon):
            _, apply = self.library.BatchNorm(tuple(case.native["axis"]), epsilon, center, scale)
            return apply((parameters.get("dbeta", ()), parameters.get("dgamma", ())), x), state

        return call


IMPLEMENTATIONS = [Standardize, StandardizeTwoPass, Stax]
IMPLEMENTATIONS += [common.eager(cls) for cls in (Standardize, Stax)]
