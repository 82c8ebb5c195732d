"""Batch normalization: one training step, and inference. Ioffe & Szegedy 2015, https://arxiv.org/abs/1502.03167.

Every function computes in the dtype of `x` and writes to none of its arguments. Arrays named in `State` and
`Parameters` have the kept shape; `N` is the number of values averaged over for one kept position. What divides by
zero or overflows is infinite or NaN, without a warning. Nothing is refused here: see `validate`. Rules named BN-1,
BN-2, … are in `reference/README.md`. A plain layer has no virtual batches, mask, renorm or adjustment: then `batch.x`
is `x`, `batch.shares` is None, and `entering` yields the one pair of statistics.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reference.activation import activate
from reference.averages import entering, moves, passes, published, update_fraction
from reference.batches import average, join, observe, quiet
from reference.renorm import correction, renorm_update
from reference.spec import Adjustment, Array, Parameters, Semantics, Spec, State, broadcast, floored_epsilon


@dataclass(frozen=True)
class Training:
    """A training step's output, the new state, and the biased statistics of the batch (kept shape).

    With virtual batches, `mean` and `variance` are the averages of the groups' statistics (BN-21). A frozen layer that
    infers takes no statistics of the batch: then they are the moving ones that it used (BN-14).
    """

    y: Array
    state: State
    mean: Array
    variance: Array


@quiet
def train(x: Array, parameters: Parameters, state: State, spec: Spec, semantics: Semantics, *, updating: bool = True,
          mask: Array | None = None, adjustment: Adjustment | None = None) -> Training:  # fmt: skip
    """Normalize a batch by its own statistics and move the moving statistics towards them (BN-3, BN-5, BN-8).

    mask: who counts in the statistics (BN-23). adjustment: applied before gamma and beta (BN-22). updating: whether
    this step asks for the state to move (BN-14).

    >>> x = np.array([[1.0], [3.0]])
    >>> step = train(x, Parameters(), State(np.zeros(1), np.ones(1)), Spec(epsilon=0.0, momentum=0.9), Semantics())
    >>> step.y.ravel().tolist(), step.state.mean.round(12).tolist(), step.state.variance.tolist()
    ([-1.0, 1.0], [0.2], [1.0])
    """
    if semantics.frozen == "infer" and not spec.trainable and spec.track:
        used = published(state, spec, semantics)
        return Training(infer(x, parameters, state, spec, semantics), state, used.mean, used.variance)
    batch = observe(x, mask, spec, semantics)
    mean, variance = batch.offset(*moments(batch.counted, batch.axes, batch.shares))
    overall, new = (batch.overall(mean, state), batch.overall(variance, state)), state
    if moves(x, spec, semantics, updating):
        for statistics in entering(batch, mean, variance, state, spec, semantics):
            new = update(new, *statistics, spec, semantics)
    if semantics.training_statistics == "moving":
        used = published(new, spec, semantics)
        mean, variance = broadcast(used.mean, spec, x.ndim), broadcast(used.variance, spec, x.ndim)
    z = join((batch.x - mean) / spread(variance, spec, semantics), x.shape, spec, semantics)
    if spec.renorm:
        r, d = correction(overall[0], spread(overall[1], spec, semantics), state, spec, semantics)
        z = z * broadcast(r, spec, x.ndim) + broadcast(d, spec, x.ndim)
    if adjustment is not None:
        z = z * adjustment.scale + adjustment.bias
    y = activate(affine(z, parameters, spec), semantics)
    return Training(x if passes(x, spec, semantics) else y, new, *overall)


@quiet
def infer(x: Array, parameters: Parameters, state: State, spec: Spec, semantics: Semantics) -> Array:
    """Normalize by the moving statistics, which stay as they are (BN-7); by the batch where there are none (BN-33).

    >>> infer(np.array([[2.0]]), Parameters(), State(np.ones(1), 4 * np.ones(1)), Spec(epsilon=0.0), Semantics())
    array([[0.5]])
    """
    used = published(state, spec, semantics) if spec.track else train(x, parameters, state, spec, semantics)
    mean, variance = broadcast(used.mean, spec, x.ndim), broadcast(used.variance, spec, x.ndim)
    return activate(affine((x - mean) / spread(variance, spec, semantics), parameters, spec), semantics)


def moments(x: Array, axes: tuple[int, ...], shares: Array | None = None) -> tuple[Array, Array]:
    """Return mean and biased variance over `axes`, kept as axes of size 1 (BN-3).

    shares: what each value counts, adding up to 1 over the axes; None counts each 1/N. Two passes, each corrected by
    the residual it leaves (Chan, Golub & LeVeque 1983, eq. 1.7).

    >>> [m.tolist() for m in moments(np.array([1.0, 3.0, 8.0]), (0,))]
    [[4.0], [8.666666666666666]]
    """
    mean = average(x, axes, shares)
    mean = mean + average(x - mean, axes, shares)
    deviation = x - mean
    return mean, average(deviation * deviation, axes, shares) - average(deviation, axes, shares) ** 2


def spread(variance: Array, spec: Spec, semantics: Semantics) -> Array:
    """Return sqrt(variance + epsilon), what the deviation from the mean is divided by (BN-4).

    >>> spread(np.array([3.0]), Spec(epsilon=1.0), Semantics()).tolist()
    [2.0]
    """
    epsilon = variance.dtype.type(floored_epsilon(spec, semantics))
    return np.sqrt(variance) + epsilon if semantics.epsilon_placement == "outside" else np.sqrt(variance + epsilon)


def affine(z: Array, parameters: Parameters, spec: Spec) -> Array:
    """Return gamma * z + beta, each only where the layer has one (BN-6).

    >>> affine(np.ones((1, 2)), Parameters(gamma=np.array([2.0, 3.0])), Spec())
    array([[2., 3.]])
    """
    if parameters.gamma is not None:
        z = z * broadcast(parameters.gamma, spec, z.ndim)
    return z if parameters.beta is None else z + broadcast(parameters.beta, spec, z.ndim)


def update(state: State, mean: Array, variance: Array, spec: Spec, semantics: Semantics) -> State:
    """Move the moving statistics towards those of a batch: (1 - fraction) old + fraction batch (BN-8, BN-12).

    >>> update(State(np.zeros(1), np.ones(1)), np.ones(1), np.ones(1), Spec(momentum=0.75), Semantics()).mean.tolist()
    [0.25]
    """
    fraction = update_fraction(state.updates + 1, spec, semantics, mean.dtype.type)
    if spec.renorm or semantics.moving_spread == "stddev":
        return renorm_update(state, mean, spread(variance, spec, semantics), fraction, spec, semantics)
    kept = 1 - fraction
    return State(kept * state.mean + fraction * mean, kept * state.variance + fraction * variance, state.updates + 1)
