"""Batch normalization in JAX, written for its derivatives: an independent formulation for autodiff to work on."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from reference import Parameters, Spec, State, train
from reference.averages import moves, update_fraction
from reference.batch_norm import spread
from reference.renorm import correction
from reference.spec import kept_axes

jax.config.update("jax_enable_x64", True)


def forward(scenario: Any, data: Any) -> Any:
    """Return a function of x, gamma and beta that gives y and the returned statistics of a training step."""
    spec, semantics = scenario.spec, scenario.semantics
    rank, state = len(scenario.shape), data.state

    def step(x: Any, gamma: Any, beta: Any) -> tuple[Any, Any, Any]:
        axes = tuple(a for a in range(rank) if a not in kept_axes(spec, rank))
        to_x = _shape_against_x(spec, scenario.shape)
        if semantics.frozen == "infer" and not spec.trainable:
            mean, variance = (jnp.asarray(v) for v in (state.mean, state.variance))
            y = (x - mean.reshape(to_x)) / jnp.sqrt(variance.reshape(to_x) + spec.epsilon)
            return _activated(y * gamma.reshape(to_x) + beta.reshape(to_x), semantics), mean, variance
        weights = _weights(scenario, data)
        epsilon = max(spec.epsilon, semantics.epsilon_floor)
        epsilon = float(np.float32(epsilon)) if semantics.epsilon_dtype == "float32" else epsilon
        means, variances, pieces = [], [], []
        for rows in _groups(scenario):
            w, part = jnp.tensordot(rows, weights, 1), jnp.tensordot(rows, x, 1)
            count = w.sum(axes, keepdims=True)
            divisor = jnp.where(count == 0, 1.0, count) + (semantics.mask_offset if data.mask is not None else 0)
            mean = (w * part).sum(axes, keepdims=True) / divisor
            centre = jax.lax.stop_gradient(mean) if semantics.variance_mean == "stopped" else mean
            variance = (w * (part - centre) ** 2).sum(axes, keepdims=True) / divisor
            means.append(mean)
            variances.append(variance)
            used_mean, used_variance = mean, variance
            if semantics.training_statistics == "moving":
                used_mean, used_variance = _moved(scenario, state, mean, variance, count, to_x)
            root = jnp.sqrt(used_variance)
            scale = root + epsilon if semantics.epsilon_placement == "outside" else jnp.sqrt(used_variance + epsilon)
            pieces.append((part - used_mean) / scale)
        mean, variance = sum(means) / len(means), sum(variances) / len(variances)
        z = sum(jnp.tensordot(rows.T, piece, 1) for rows, piece in zip(_groups(scenario), pieces, strict=True))
        if spec.renorm:
            r, d = _correction(scenario, data)
            z = z * r.reshape(to_x) + d.reshape(to_x)
        if data.adjustment is not None:
            z = z * data.adjustment.scale + data.adjustment.bias
        y = z * gamma.reshape(to_x) + beta.reshape(to_x)
        if semantics.single_value == "identity" and x.size == state.mean.size:
            y = x
        return _activated(y, semantics), mean.reshape(state.mean.shape), variance.reshape(state.mean.shape)

    return step


def _activated(y: Any, semantics: Any) -> Any:
    return jax.nn.relu(y) if semantics.activation == "relu" else y


def _shape_against_x(spec: Spec, shape: tuple[int, ...]) -> list[int]:
    return [size if axis in kept_axes(spec, len(shape)) else 1 for axis, size in enumerate(shape)]


def _groups(scenario: Any) -> list[Any]:
    """Return one matrix for each virtual batch, which picks its rows: matrices compile once, slices each anew."""
    rows, size = scenario.shape[0], scenario.spec.virtual_batch_size or scenario.shape[0]
    count = 1 if scenario.semantics.virtual_batches == "ignored" else rows // size
    size = rows // count
    strided = scenario.semantics.virtual_batches == "strided"
    numbers = [[i for i in range(rows) if (i % count if strided else i // size) == j] for j in range(count)]
    return [np.eye(rows)[picked] for picked in numbers]


def _weights(scenario: Any, data: Any) -> Any:
    if data.mask is None or scenario.semantics.mask == "ignored":
        return jnp.ones(scenario.shape)
    mask = data.mask if data.mask.ndim == len(scenario.shape) else data.mask[..., None]
    mask = mask.astype(bool) if scenario.semantics.mask == "boolean" else mask
    return jnp.broadcast_to(jnp.asarray(mask, jnp.float64), scenario.shape)


def _moved(scenario: Any, state: State, mean: Any, variance: Any, count: Any, to_x: list[int]) -> tuple[Any, Any]:
    spec, semantics = scenario.spec, scenario.semantics
    old_mean, old_variance = state.mean.reshape(to_x), state.variance.reshape(to_x)
    if not moves(np.ones(scenario.shape), spec, semantics, scenario.updating):
        return old_mean, old_variance
    a = float(update_fraction(1, spec, semantics))
    unbiased = count / (count - 1) if semantics.stored_variance == "unbiased" else 1
    weight = 1 - spec.momentum if semantics.average == "zero_debiased" else 1
    new = (1 - a) * old_mean + a * mean, (1 - a) * old_variance + a * unbiased * variance
    return new[0] / weight, new[1] / weight


def _correction(scenario: Any, data: Any) -> tuple[Any, Any]:
    """Constants to the gradient, so that their values may come from the reference; other tests judge those."""
    step = train(data.xs[0], Parameters(), data.state, scenario.spec, scenario.semantics, mask=data.mask)
    stddev = spread(step.variance, scenario.spec, scenario.semantics)
    r, d = correction(step.mean, stddev, data.state, scenario.spec, scenario.semantics)
    return jnp.asarray(r), jnp.asarray(d)


def objective(scenario: Any, data: Any) -> Any:
    """Return sum(y dy) + sum(mean dmean) + sum(variance dvariance) as a function of x, gamma and beta."""
    step = forward(scenario, data)

    def total(x: Any, gamma: Any, beta: Any) -> Any:
        y, mean, variance = step(x, gamma, beta)
        return (y * data.dy).sum() + (mean * data.dmean).sum() + (variance * data.dvariance).sum()

    return total


def inputs(data: Any) -> tuple[Any, Any, Any]:
    """Return x, gamma and beta as JAX takes them: 1 and 0 where the layer has none."""
    kept = data.state.mean.shape
    gamma = np.ones(kept) if data.parameters.gamma is None else data.parameters.gamma
    beta = np.zeros(kept) if data.parameters.beta is None else data.parameters.beta
    return jnp.asarray(data.xs[0]), jnp.asarray(gamma), jnp.asarray(beta)


_CACHE: dict[str, Any] = {}


def derivatives(scenario: Any, data: Any) -> Any:
    """Return the gradient, its derivative along the tangent, and the forward derivative: one compilation for all."""
    if scenario.name not in _CACHE:
        total, step = objective(scenario, data), forward(scenario, data)
        gamma, beta = data.parameters.gamma, data.parameters.beta
        zero = np.zeros_like(data.state.mean)
        along = data.tangent, zero if gamma is None else data.tangent_gamma, zero if beta is None else data.tangent_beta

        def all_three(primals: Any, tangents: Any) -> Any:
            gradient, second = jax.jvp(jax.grad(total, (0, 1, 2)), primals, tangents)
            return gradient, second, jax.jvp(step, primals, tangents)[1]

        quick = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
        compiled = jax.jit(all_three, compiler_options=quick)
        _CACHE[scenario.name] = compiled(inputs(data), along)
    return _CACHE[scenario.name]


def curvatures(scenario: Any, data: Any) -> Any:
    """Return the second derivatives along the tangent of x of y, and of the gradients of sum(y dy) by x and gamma."""
    step = forward(scenario, data)
    gamma, beta = inputs(data)[1:]

    def total(x: Any, gamma: Any) -> Any:
        return (step(x, gamma, beta)[0] * data.dy).sum()

    def differentiated(x: Any) -> Any:
        return step(x, gamma, beta)[0], *jax.grad(total, (0, 1))(x, gamma)

    def along(function: Any) -> Any:
        return lambda x: jax.jvp(function, (x,), (data.tangent,))[1]

    quick = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    return jax.jit(along(along(differentiated)), compiler_options=quick)(inputs(data)[0])
