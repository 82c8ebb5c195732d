"""How far TensorFlow 1.15's float32 and float16 may be from the exact result: the suite's own bounds, per element.

TensorFlow sums in any order, in two passes, and folds y = x * scale + shift. Errors of the state are carried from
step to step. Renorm's r and d, an adjustment and the casts of float16 add to what `conformance.bounds` has for plain
layers: products and quotients of intervals, to first order in u with room to spare.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from conformance.bounds import Batch, Bounds, Numerics, Units, Used
from reference import Clipping, State, train
from reference.averages import complement, stored_factor
from reference.batch_norm import moments, spread
from reference.batches import observe, split, total
from reference.renorm import correction, started
from reference.spec import Array, broadcast, floored_epsilon, reduced_axes

Arrays = dict[str, Array]


class Trajectory:
    """The bounds of one recording, step by step; `e` holds the errors of the state's variables."""

    def __init__(self, recording: Any) -> None:
        self.recording, self.spec, self.semantics = recording, recording.spec, recording.semantics
        self.half = recording.entry["dtype"] == "float16"
        self.fused = bool(recording.entry["fused_used"])
        self.state: State = recording.initial
        if self.spec.renorm:
            self.state = replace(self.state, renorm=started(self.state, self.spec, self.semantics))
        zero = np.zeros_like(self.state.mean)
        self.e = {"mean": zero, "variance": zero, "p": zero, "q": zero, "d": zero}
        if self.spec.renorm:
            root = 2 * 2.0**-24 * np.sqrt(self.state.variance)
            self.e |= {"q": root, "d": root}

    def bounds(self, n: int, *, statistics: bool = False) -> Bounds:
        """Return the formulas for the affine part, or for the statistics, which are float32 whatever the input is."""
        numerics = Numerics(variance="two_pass", affine="folded", sums="serial")
        arithmetic = "float16" if self.half and not self.fused and not statistics else "float32"
        units = Units.of(arithmetic, "float32" if statistics else self.recording.entry["dtype"])
        return Bounds(numerics, units, n, floored_epsilon(self.spec, self.semantics))

    def state_bounds(self, t: int) -> Arrays:
        """Return the bounds on the state before step t."""
        found = {f"s{t}/moving_mean": self.e["mean"], f"s{t}/moving_variance": self.e["variance"]}
        if self.spec.renorm:
            named = {"renorm_mean": "p", "renorm_stddev": "q", "moving_stddev": "d"}
            found |= {f"s{t}/{name}": self.e[key] for name, key in named.items()}
        return found

    def train(self, t: int) -> Arrays:
        """Return the bounds on what a training step gives, and on the state after it."""
        x, dy = self.recording.at(f"x{t}"), self.recording.at(f"cot{t}")
        spec, semantics, parameters = self.spec, self.semantics, self.recording.parameters
        seen = observe(x, None, spec, semantics)
        mean, variance = moments(seen.x, seen.axes)
        batch = Batch.of(seen.x, mean, variance, seen.axes)
        b = self.bounds(batch.n, statistics=True)
        e_mean = b.e_mean(batch)
        e_variance = b.e_variance(batch, e_mean)
        groups = mean.shape[1] if seen.virtual else 1
        over = [seen.overall(v, self.state) for v in (mean, variance, e_mean, e_variance, np.abs(mean))]
        over[2] = over[2] + (groups + 2) * b.units.u * over[4] * (groups > 1)
        over[3] = over[3] + (groups + 2) * b.units.u * over[1] * (groups > 1)
        r, d, e_r, e_d = self._corrections(over, b)
        new = train(x, parameters, self.state, spec, semantics, adjustment=self.recording.adjustment).state
        self._advance(over, b, batch, new)
        if self.half and not self.fused:  # the statistics are cast before they are used
            e_mean, e_variance = e_mean + 2.0**-11 * np.abs(mean), e_variance + 2.0**-11 * variance
        used = self.bounds(batch.n).used(mean, variance, e_mean, e_variance)
        return self._outputs(t, x, split(dy, spec, semantics), batch, used, (r, d, e_r, e_d)) | self.state_bounds(t + 1)

    def infer(self, t: int) -> Arrays:
        """Return the bounds on what inference gives; its batch is not split."""
        x, dy = self.recording.at(f"x{t}"), self.recording.at(f"cot{t}")
        axes = reduced_axes(self.spec, x.ndim)
        m, v, e_m, e_v = (
            broadcast(a, self.spec, x.ndim)
            for a in (self.state.mean, self.state.variance, self.e["mean"], self.e["variance"])
        )
        if self.half and not self.fused:
            e_m, e_v = e_m + 2.0**-11 * np.abs(m), e_v + 2.0**-11 * v
        batch = Batch.of(x, m, v, axes)
        used = self.bounds(batch.n).used(m, v, e_m, e_v)
        one, zero = np.ones_like(self.state.mean), np.zeros_like(self.state.mean)
        return self._outputs(t, x, dy, batch, used, (one, zero, zero, zero), training=False)

    def _align(self, values: Array, rank: int) -> Array:
        return values if values.ndim == rank else broadcast(values, self.spec, rank)

    def _corrections(self, over: list[Array], b: Bounds) -> tuple[Array, Array, Array, Array]:
        """r = s / q and d = (m - P) / q: the errors of s, m, P and q, and the roundings; clipping never adds."""
        one, zero, u = np.ones_like(over[0]), np.zeros_like(over[0]), b.units.u
        if not self.spec.renorm:
            return one, zero, zero, zero
        stddev = spread(over[1], self.spec, self.semantics)
        e_stddev = self._e_stddev(over, b)
        r, d = correction(over[0], stddev, self.state, self.spec, self.semantics)
        bare = replace(self.spec, renorm_clipping=None)
        r0, d0 = correction(over[0], stddev, self.state, bare, self.semantics)
        q = stddev / r0
        e_q = self.e["q"] + 2 * u * q
        room = 1 / np.maximum(q - e_q, 1e-30)
        limits = self.spec.renorm_clipping or Clipping()
        largest = max(limits.rmin or 0, limits.rmax or 0)
        e_r = (e_stddev + r0 * e_q) * room + 2 * u * np.abs(r0) + 2 * u * largest
        e_d = (over[2] + self.e["p"] + np.abs(d0) * e_q) * room + 3 * u * np.abs(d0) + 2 * u * (limits.dmax or 0)
        return r, d, e_r, e_d

    def _e_stddev(self, over: list[Array], b: Bounds) -> Array:
        w, u = over[1] + b.epsilon, b.units.u
        e_w = over[3] + u * b.epsilon + u * (w + over[3])
        high, low = np.sqrt(w + e_w), np.sqrt(np.maximum(w - e_w, 0))
        return np.maximum(high - np.sqrt(w), np.sqrt(w) - low) + 2 * u * high

    def _advance(self, over: list[Array], b: Bounds, batch: Batch, new: State) -> None:
        """Carry the errors of the state through its update."""
        n = np.float64(batch.n)
        factor = float(stored_factor(n, self.spec, self.semantics))
        a = float(complement(float(self.spec.momentum or 0), self.semantics))
        old, e = self.state, dict(self.e)
        mean = replace(batch, mean=over[0], variance=over[1])
        e["mean"] = b.e_moving(old.mean, over[0], new.mean, e["mean"], over[2], a)
        if not self.spec.renorm:
            e_stored = b.e_unbiased(mean, over[3], factor) if factor != 1 else over[3]
            e["variance"] = b.e_moving(old.variance, factor * over[1], new.variance, e["variance"], e_stored, a)
        else:
            by = float(complement(self.spec.renorm_momentum, self.semantics))
            before, after = old.renorm, new.renorm
            assert before is not None
            assert after is not None
            stddev, e_stddev = spread(over[1], self.spec, self.semantics), self._e_stddev(over, b)
            e["p"] = b.e_moving(before.mean, over[0], after.mean, e["p"], over[2], by)
            e["q"] = b.e_moving(before.stddev, stddev, after.stddev, e["q"], e_stddev, by)
            e["d"] = b.e_moving(before.moving_stddev, stddev, after.moving_stddev, e["d"], e_stddev, a)
            u, d = b.units.u, after.moving_stddev
            e["variance"] = 2 * d * e["d"] + e["d"] ** 2 + 3 * u * (d + e["d"]) ** 2 + 2 * u * b.epsilon
        self.e, self.state = e, new

    def _outputs(
        self, t: int, x: Array, dy: Array, batch: Batch, used: Used, rd: Any, *, training: bool = True
    ) -> Arrays:
        """Return the bounds on y, dx, dgamma and dbeta: y = gamma' z + beta', gamma' = gamma r a, beta' of the rest."""
        rank, axes, p = batch.x.ndim, batch.axes, self.recording.parameters
        b = self.bounds(batch.n)
        u = b.units.u
        r, d, e_r, e_d = (self._align(v, rank) for v in rd)
        gamma = np.ones(()) if p.gamma is None else self._align(p.gamma, rank)
        beta = np.zeros(()) if p.beta is None else self._align(p.beta, rank)
        adjustment = self.recording.adjustment if training else None
        a, c = (np.ones(()), np.zeros(())) if adjustment is None else (adjustment.scale, adjustment.bias)
        z, effective = (batch.x - used.mean) * used.r, gamma * r * a
        e_gamma = np.abs(gamma * a) * e_r + 4 * u * np.abs(effective)
        shift = gamma * (a * d + c) + beta
        terms = np.abs(gamma * a * d) + np.abs(gamma * c) + np.abs(beta)
        e_shift = np.abs(gamma * a) * e_d + 6 * u * terms
        y = effective * z + shift
        e_y = b.e_y(batch.x, y, np.abs(effective) + e_gamma, shift, used)
        e_y = e_y + np.abs(z) * e_gamma + e_shift
        dya = dy * a
        scale, relative = gamma * r, e_r / np.where(r == 0, 1, np.abs(r)) + 4 * u
        if training:
            e_dx = b.e_dx_train(batch, dya, scale, used, 1)
            c1, c2 = np.abs(dya).mean(axes, keepdims=True), np.abs(dya * z).mean(axes, keepdims=True)
            size = np.abs(scale) * used.r * (np.abs(dya) + c1 + np.abs(z) * c2)
            e_dx = e_dx + np.where(
                r == 0, np.abs(gamma) * e_r * size / np.maximum(np.abs(scale), 1e-300), relative * size
            )
        else:
            e_dx = b.e_dx_infer(dya, scale, used) + 4 * u * np.abs(scale * used.r * dya)
        n = batch.n
        e_dyz = n * b.e_mean_dyz(batch.x, dya, axes, used)
        dyz = np.abs(total(dya * z, axes))
        rest = total(np.abs(dy * (a * d + c)), axes)
        depth = b.g(8)
        e_dgamma = (
            np.abs(r) * e_dyz * (1 + 8 * u) + e_r * (dyz + e_dyz) + 8 * u * np.abs(r) * total(np.abs(dya * z), axes)
        )
        e_dgamma = e_dgamma + depth * rest + e_d * total(np.abs(dya), axes)
        e_dgamma = e_dgamma + 4 * u * (np.abs(r) * dyz + rest)
        e_dbeta = n * b.e_mean_dy(dy, axes)
        if rank > x.ndim:  # the sum over virtual batches
            more = (e_dgamma.shape[1] + 2) * u
            e_dgamma = (e_dgamma * (1 + more) + more * (np.abs(r) * dyz + rest)).sum(1)
            e_dbeta = (e_dbeta * (1 + more) + more * np.abs(total(dy, axes))).sum(1)
        found = {f"dgamma{t}": e_dgamma, f"dbeta{t}": e_dbeta}
        if self.half and not self.fused:  # the float16 gradient is cast to float32, gamma's dtype
            found = {name: v + 6.0e-8 for name, v in found.items()}
        found = {name: v.reshape(self.state.mean.shape) for name, v in found.items()}
        return {f"y{t}": self._joined(e_y, x), f"dx{t}": self._joined(e_dx, x), **found}

    def _joined(self, values: Array, x: Array) -> Array:
        """Return per-element bounds in the order of the input; strided groups join by a reshape."""
        return values if values.ndim == x.ndim else values.reshape(x.shape)


def bounds(recording: Any) -> Arrays:
    """Return a bound for every recorded array that batch normalization computes."""
    trajectory = Trajectory(recording)
    found = trajectory.state_bounds(0)
    for t in range(recording.entry["steps"]):
        found |= trajectory.train(t)
    return found | trajectory.infer(recording.entry["steps"])
