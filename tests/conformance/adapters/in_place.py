"""The example of the documentation written with updates in place, as people who count their memory write it."""

import numpy as np


def _statement(name, **more):
    return dict(
        {
            "id": "in_place.%s" % name,
            "packages": ["numpy"],
            "documentation": "https://example.org/in-place",
            "conventions": {"momentum": "kept", "axis": "kept"},
            "supports": {"dtype": ["float32"], "channel": ["second", "last", "other"], "reranked": [False]},
            "outputs": ["y", "moving_mean", "moving_variance"],
            "rules": [
                {"cite": "this file", "semantics": {"frozen": "train"}, "numerics": {"variance": "two_pass"}},
            ],
        },
        **more,
    )


class Moving:
    """Statistics that move where they are, and one array for y that every step writes to."""

    statement = _statement("moving")

    def __init__(self, device):
        self.y = {}

    def run(self, case):
        """Yield the outputs of each step."""
        moving_mean, moving_variance, kept = case.mean, case.variance, np.float32(case.native["momentum"])
        for step in case.steps:
            shape = [-1 if i in step.axis else 1 for i in range(step.rank)]
            given = ((case.gamma, 1), (case.beta, 0))
            gamma, beta = (np.float32(d) if a is None else a.reshape(shape) for a, d in given)
            if step.x.shape[step.axis[0]] != case.kept[0]:
                raise ValueError("as many channels as before, please")
            mean, variance = moving_mean, moving_variance
            if step.training:
                mean = step.x.mean(step.reduced)
                variance = ((step.x - mean.reshape(shape)) ** 2).mean(step.reduced)
                moving_mean *= kept
                moving_mean += (1 - kept) * mean
                moving_variance *= kept
                moving_variance += (1 - kept) * variance
            r = 1 / np.sqrt(variance.reshape(shape) + np.float32(case.native["epsilon"]))
            y = self.y.setdefault(step.x.shape, np.empty(step.x.shape, np.float32))
            y[...] = gamma * (step.x - mean.reshape(shape)) * r + beta
            yield {"y": y, "moving_mean": moving_mean, "moving_variance": moving_variance}


class Spoiling(Moving):
    """The same, which writes over all that it was given, and changes what it was asked, once it has answered."""

    statement = _statement("spoiling")

    def run(self, case):
        """Yield the outputs of each step."""
        for answer in super().run(case):
            yield answer
        arrays = [case.gamma, case.beta, case.mean, case.variance]
        arrays += [array for step in case.steps for array in (step.x, step.dy, step.mask, step.tangent)]
        for array in arrays:
            if array is not None and array.flags.writeable:
                array[...] = 0
        case.spec.update(epsilon=1.0, momentum=0.0)
        case.native["epsilon"] = 1.0
        case.dtypes.update(x="float64")
        case.actions["flag"] = "numpy"
        for step in case.steps:
            step.derivatives[:] = []


IMPLEMENTATIONS = [Moving, Spoiling]
