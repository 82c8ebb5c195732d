"""MLX: `mlx.nn.BatchNorm` on its CPU backend. The last axis is kept.

https://ml-explore.github.io/mlx/build/html/python/nn/_autosummary/mlx.nn.BatchNorm.html
"""

import importlib

import numpy as np

from . import said

_DOCS = "https://ml-explore.github.io/mlx/build/html/python/nn/_autosummary/mlx.nn.BatchNorm.html"
_SOURCE = "https://github.com/ml-explore/mlx/blob/v0.32.4/python/mlx/nn/layers/normalization.py, BatchNorm"


class BatchNorm(object):
    """The layer."""

    statement = said.stated(
        "mlx.nn.BatchNorm",
        ["mlx"],
        _DOCS,
        "updated",
        [
            {
                "cite": _SOURCE + ": running_var is that of ddof=1; (x - mean) * rsqrt(var + eps)",
                "semantics": {"stored_variance": "unbiased", "frozen": "train", "zero_epsilon": "refused"},
                "numerics": {"variance": "two_pass", "affine": "direct", "sums": "serial"},
            }
        ],
        {
            "dtype": ["float32", "float64"],
            "rank": [2, 3, 4],
            "axis": [-1],
            "affine": ["both", "none"],
            "start": ["given", "own"],
            "n": ["1", "many"],  # gradients of an empty batch never come: conformance/others.md
            "differentiation": ["none", "reverse", "forward", "reverse_over_reverse"],
        },
        said.GRADIENTS + ["y_tangent"] + said.TANGENTS,
        refusals=[
            {
                "when": {"n": ["1"], "mode": ["train"]},
                "error": ["ValueError"],
                "cite": _SOURCE + ": BatchNorm training requires more than one value per channel",
            }
        ],
    )

    def __init__(self, device):
        said.check(device)
        self.core = importlib.import_module("mlx.core")
        self.layers = importlib.import_module("mlx.nn")
        self.core.set_default_device(self.core.cpu)

    def tensor(self, array):
        """Return an MLX array, float64 included."""
        return self.core.array(np.ascontiguousarray(array), dtype=getattr(self.core, array.dtype.name))

    def run(self, case):
        """Yield the outputs of each step."""
        layer = self.layer(case)
        for step in case.steps:
            layer.train(step.training)
            given = {"dx": self.tensor(step.x), "dgamma": layer.get("weight"), "dbeta": layer.get("bias")}
            given = {name: array for name, array in given.items() if array is not None}
            before = layer.running_mean, layer.running_var

            def forward(values, before=before, given=given):
                values = dict(given, **values)
                layer.running_mean, layer.running_var = before
                if "dgamma" in values:
                    layer.weight, layer.bias = values["dgamma"], values["dbeta"]
                return layer(values["dx"])

            out = self.derivatives(forward, given, step)
            out["y"] = forward({})
            out.update(moving_mean=layer.running_mean, moving_variance=layer.running_var)
            yield {name: np.array(array) for name, array in out.items()}

    def layer(self, case):
        """Return the layer of a case, with what is given loaded into it."""
        spec, own = case.native, bool(case.spec["scale"])
        layer = self.layers.BatchNorm(case.kept[0], spec["epsilon"], spec["momentum"], own)
        loaded = {"weight": case.neutral("gamma"), "bias": case.neutral("beta")}
        loaded.update(running_mean=case.mean, running_var=case.variance)
        for name, array in loaded.items():
            if array is not None:
                setattr(layer, name, self.tensor(array))
        return layer

    def derivatives(self, forward, given, step):
        """Return what a step asks for, of a function of x and the parameters by the names of their gradients."""
        found = {}
        if step.forward:
            tangent = [self.tensor(step.tangent)]
            found["y_tangent"] = self.core.jvp(lambda x: forward({"dx": x}), [given["dx"]], tangent)[1][0]
        if step.dy is None:
            return found
        dy = self.tensor(step.dy)

        def gradients(names, values):
            def of(*arrays):
                return forward(dict(values, **dict(zip(names, arrays))))

            return dict(zip(names, self.core.vjp(of, [dict(given, **values)[n] for n in names], [dy])[1]))

        found.update(gradients([name for name in given if name in step.gradients], {}))
        if step.second:
            tangent, free = self.tensor(step.tangent), [name for name in ("dx", "dgamma") if name in given]

            def slope(*arrays):
                return (gradients(["dx"], dict(zip(free, arrays)))["dx"] * tangent).sum()

            again = self.core.grad(slope, list(range(len(free))))(*[given[name] for name in free])
            found.update((name + "_tangent", array) for name, array in zip(free, again))
        return found


IMPLEMENTATIONS = [BatchNorm]
