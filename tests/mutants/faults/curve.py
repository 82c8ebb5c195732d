"""How small a relative change of each output the bounds still see: the fault-size curve."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from trial import Answer, Trial, leaning, moderate_trials

from reference.precision import widened

OUTPUTS = ("y", "mean", "variance", "moving_mean", "moving_variance", "dx", "dgamma", "dbeta")
DELTAS = (1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2)


MARKS = {"y": 1e-6, **dict.fromkeys(("moving_mean", "moving_variance", "dx", "dgamma", "dbeta"), 1e-4)}
"""What should be detected in every case in float32."""


class Point(NamedTuple):
    """In how many cases a change of this size is detected, by this output alone.

    rho: the smallest, over cases, of its largest ρ. dy: the gradients `drawn` by the suite, whose sums nearly cancel,
    or `leaning` to one side.
    """

    output: str
    dtype: str
    delta: float
    detected: int
    of: int
    rho: float
    dy: str = "drawn"


def curve(seed: int, dtype: str, draws: int) -> list[Point]:
    """Return the points of one dtype."""
    trials = list(moderate_trials(seed, dtype, draws))
    return [point(seed, trials, output, delta) for output in OUTPUTS for delta in DELTAS]


def marks(seed: int, draws: int) -> list[Point]:
    """Return the points that should be detected, and the same with leaning gradients."""
    trials = list(moderate_trials(seed, "float32", draws))
    lean = [leaning(trial) for trial in trials]
    found = [point(seed, trials, output, delta) for output, delta in MARKS.items()]
    return found + [point(seed, lean, output, MARKS[output])._replace(dy="leaning") for output in ("dgamma", "dbeta")]


def point(seed: int, trials: Sequence[Trial], output: str, delta: float) -> Point:
    """Return the point of one output and one size."""
    rng = np.random.default_rng([seed, 3])
    some = [trial for trial in trials if any(output in step for step in trial.right)]
    found = [trial.rho(moved(trial, output, delta, rng), output) for trial in some]
    detected = sum(rho > 1 for rho in found)
    return Point(output, trials[0].dtype, delta, detected, len(found), min(found, default=0.0))


def moved(trial: Trial, output: str, delta: float, rng: np.random.Generator) -> Answer:
    """Return the right answer with one output multiplied by 1 + delta or 1 - delta, element by element.

    A state is changed where a batch has moved it, and stays as it then is in inference.
    """
    steps, modes = [dict(step) for step in trial.right], [step.mode for step in trial.item.case.steps]
    for t, step in enumerate(steps):
        if output.startswith("moving") and modes[t] == "infer":
            step[output] = steps[t - 1][output] if t else step[output]
        elif output in step:
            step[output] = _moved(step[output], delta, rng)
    return steps


def _moved(array: Any, delta: float, rng: np.random.Generator) -> Any:
    signs = rng.choice([-1.0, 1.0], array.shape)
    return (widened(array, np.longdouble) * (1 + delta * signs.astype(np.longdouble))).astype(array.dtype)
