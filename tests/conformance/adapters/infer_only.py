"""Exact inference in NumPy, declared by nothing but its modes and what it returns; training is not its business."""

import numpy as np


class Unmoved(object):
    """Yields its state as it was for a training step."""

    statement = {
        "id": "infer_only.unmoved",
        "packages": ["numpy"],
        "documentation": "this file",
        "conventions": {"momentum": "kept", "axis": "kept"},
        "supports": {"dtype": ["float32"], "several_axes": [False]},
        "modes": ["infer"],
        "outputs": ["y", "moving_mean", "moving_variance"],
    }

    def __init__(self, device):
        """Need nothing."""

    def trained(self, state, _y):
        """Return what a training step yields."""
        return state

    def run(self, case):
        """Yield what is inferred."""
        state = {"moving_mean": case.mean, "moving_variance": case.variance}
        for step in case.steps:
            shape = [-1 if i in step.axis else 1 for i in range(step.x.ndim)]
            arrays = (case.gamma, case.beta, case.mean, case.variance)
            gamma, beta, mean, variance = (d if a is None else a.reshape(shape) for a, d in zip(arrays, (1, 0, 0, 1)))
            r = 1 / np.sqrt(variance + np.float32(case.native["epsilon"]))
            y = np.float32(gamma) * (step.x - mean) * r + np.float32(beta)
            yield self.trained(state, y) if step.training else dict(state, y=y)


class Silent(Unmoved):
    """Yields nothing for a training step."""

    statement = dict(Unmoved.statement, id="infer_only.silent")

    def trained(self, _state, _y):
        """Return nothing."""
        return {}


class Inferring(Unmoved):
    """Yields y alone, inferred, whatever is asked."""

    statement = dict(Unmoved.statement, id="infer_only.inferring", outputs=["y"])

    def trained(self, _state, y):
        """Return what inference gives."""
        return {"y": y}


class Refusing(Unmoved):
    """Raises where it should train."""

    statement = dict(Unmoved.statement, id="infer_only.refusing")

    def trained(self, _state, _y):
        """Return nothing, ever."""
        raise NotImplementedError("inference only")


IMPLEMENTATIONS = [Unmoved, Silent, Inferring, Refusing]
