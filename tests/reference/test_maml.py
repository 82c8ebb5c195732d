"""MAML's step, composed of derivatives that a case asks for one by one (BN-29).

An inner step of gradient descent moves gamma and beta by a batch, an outer loss is taken of another one, and
differentiated with respect to all (https://arxiv.org/abs/1703.03400). By the chain rule that is the outer gradients,
and for the inner batch the derivative of its gradients along them, which a case asks for as `along: parameters`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from reference import Parameters, Semantics, Spec, State, train_gradients, train_second_order
from reference.second_order import Tangent
from reference.spec import Array

RATE = 0.25  # of the inner step
SPEC = Spec(epsilon=1e-3)


@dataclass(frozen=True)
class Task:
    """Two batches of shape (6, 3), each with its cotangent, and the parameters both start from."""

    inner: Array
    inner_dy: Array
    outer: Array
    outer_dy: Array
    gamma: Array
    beta: Array


@pytest.fixture(scope="module")
def task() -> Task:
    """A task of ordinary numbers, always the same."""
    draw = np.random.default_rng(20).standard_normal
    return Task(*(draw((6, 3)) for _ in range(4)), *(draw(3) for _ in range(2)))


def composed(task: Task) -> tuple[Array, Array, Array]:
    """Return the gradients with respect to the inner batch, gamma and beta, from the reference's derivatives."""
    state, start = State(np.zeros(3), np.ones(3)), Parameters(task.gamma, task.beta)
    inner = train_gradients(task.inner, task.inner_dy, start, state, SPEC, Semantics())
    adapted = Parameters(task.gamma - RATE * inner.dgamma, task.beta - RATE * inner.dbeta)
    outer = train_gradients(task.outer, task.outer_dy, adapted, state, SPEC, Semantics())
    along = Tangent(np.zeros_like(task.inner), outer.dgamma, outer.dbeta)
    moved = train_second_order(task.inner, task.inner_dy, along, start, state, SPEC, Semantics())
    return -RATE * moved.dx, outer.dgamma - RATE * moved.dgamma, outer.dbeta - RATE * moved.dbeta


def by_torch(task: Task) -> tuple[Array, ...]:
    """Return the same from PyTorch, which differentiates through its own backward pass."""
    torch = pytest.importorskip("torch")
    inner, inner_dy, outer, outer_dy, gamma, beta = (torch.tensor(a, requires_grad=True) for a in vars(task).values())

    def loss(x: Any, dy: Any, gamma: Any, beta: Any) -> Any:
        y = torch.nn.functional.batch_norm(x, None, None, gamma, beta, training=True, eps=SPEC.epsilon)
        return (y * dy.detach()).sum()

    steps = torch.autograd.grad(loss(inner, inner_dy, gamma, beta), (gamma, beta), create_graph=True)
    adapted = [p - RATE * step for p, step in zip((gamma, beta), steps, strict=True)]
    found = torch.autograd.grad(loss(outer, outer_dy, *adapted), (inner, gamma, beta))
    return tuple(gradient.numpy() for gradient in found)


def by_flax(task: Task) -> tuple[Array, ...]:
    """Return the same from flax.linen under JAX, in float64."""
    jax, linen = pytest.importorskip("jax"), pytest.importorskip("flax.linen")
    layer = linen.BatchNorm(use_running_average=False, epsilon=SPEC.epsilon, dtype="float64", param_dtype="float64")
    state = {"mean": np.zeros(3), "var": np.ones(3)}

    def loss(x: Any, dy: Any, gamma: Any, beta: Any) -> Any:
        variables = {"params": {"scale": gamma, "bias": beta}, "batch_stats": state}
        return (layer.apply(variables, x, mutable=["batch_stats"])[0] * dy).sum()

    def adapted_loss(inner: Any, gamma: Any, beta: Any) -> Any:
        steps = jax.grad(loss, (2, 3))(inner, task.inner_dy, gamma, beta)
        return loss(task.outer, task.outer_dy, gamma - RATE * steps[0], beta - RATE * steps[1])

    with jax.enable_x64(True):
        found = jax.grad(adapted_loss, (0, 1, 2))(task.inner, task.gamma, task.beta)
        return tuple(np.asarray(gradient) for gradient in found)


@pytest.mark.proof
@pytest.mark.parametrize("framework", [by_torch, by_flax])
def test_mamls_step_is_composed_of_what_a_case_asks_for(task: Task, framework: Any) -> None:
    """The gradients through an inner step that a framework takes whole are those of the chain rule, to 1e-11."""
    for whole, parts in zip(framework(task), composed(task), strict=True):
        assert abs(parts).max() > 1e-2
        np.testing.assert_allclose(whole, parts, rtol=1e-11, atol=1e-12)
