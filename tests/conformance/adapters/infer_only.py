"""Exact inference in NumPy, declared by nothing but its modes and what it returns; training is not its business."""

import numpy as np


def refuse(x, arrays, axis):
    """Raise where the channels are others than those of the statistics: one must not stand for several."""
    channels = int(np.prod([x.shape[a] for a in axis]))
    if any(a is not None and a.size != channels for a in arrays):
        raise ValueError("statistics of other channels than the %d of the batch" % channels)


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
            refuse(step.x, arrays, step.axis)
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


class Alone(Inferring):
    """Says nothing but that it infers: what it returns is for whoever asks to see, and y alone is there."""

    statement = {
        "id": "infer_only.alone",
        "packages": ["numpy"],
        "documentation": "this file",
        "conventions": {"momentum": "kept", "axis": "kept"},
        "modes": ["infer"],
    }

    def run(self, case):
        """Yield y, in whatever dtype the input has."""
        for step in case.steps:
            if step.training:
                raise NotImplementedError("inference only")
            shape = [size if i in step.axis else 1 for i, size in enumerate(step.x.shape)]
            arrays = (case.gamma, case.beta, case.mean, case.variance)
            refuse(step.x, arrays, step.axis)
            given = [None if a is None else np.asarray(a, np.float64).reshape(shape) for a in arrays]
            gamma, beta, mean, variance = (d if a is None else a for a, d in zip(given, (1, 0, 0, 1)))
            y = (step.x.astype(np.float64) - mean) / np.sqrt(variance + case.native["epsilon"])
            yield {"y": (gamma * y + beta).astype(step.x.dtype)}


IMPLEMENTATIONS = [Unmoved, Silent, Inferring, Refusing, Alone]
