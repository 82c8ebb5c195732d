"""Gradients of a training batch in the forms of the paper, of libraries, and of automatic differentiation.

Each takes an arithmetic, a way of adding, and what the forward pass knew (`Known`), and returns dx, dgamma and dbeta.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass
class Known:
    """Rows x and dy of shape (values, channels); mean, w = variance + epsilon, its reciprocal root, and gamma.

    y: the output as it was stored, with the beta that is in it.
    """

    x: Any
    dy: Any
    mean: Any
    w: Any
    r: Any
    gamma: Any
    y: Any = None
    beta: Any = None

    @property
    def n(self) -> int:
        """The number of values of each channel."""
        return len(self.x)


Gradient = Callable[[Any, Any, Known], tuple[Any, Any, Any]]


def textbook(ar: Any, sums: Any, k: Known) -> tuple[Any, Any, Any]:
    """dx = gamma r (dy - mean(dy) - z mean(dy z))."""
    z = ar.mul(ar.sub(k.x, k.mean), k.r)
    dgamma, dbeta = sums.dot(ar, k.dy, z), sums.total(ar, k.dy)
    inner = ar.sub(ar.sub(k.dy, sums.share(ar, dbeta, k.n)), ar.mul(z, sums.share(ar, dgamma, k.n)))
    return ar.mul(ar.mul(k.gamma, k.r), inner), dgamma, dbeta


def recovered(ar: Any, sums: Any, k: Known) -> tuple[Any, Any, Any]:
    """The same with z = (y - beta) / gamma, as activated batch normalization in place has it; x is not kept."""
    z = ar.div(ar.sub(k.y, k.beta), k.gamma)
    dgamma, dbeta = sums.dot(ar, k.dy, z), sums.total(ar, k.dy)
    inner = ar.sub(ar.sub(k.dy, sums.share(ar, dbeta, k.n)), ar.mul(z, sums.share(ar, dgamma, k.n)))
    return ar.mul(ar.mul(k.gamma, k.r), inner), dgamma, dbeta


def cudnn(ar: Any, sums: Any, k: Known) -> tuple[Any, Any, Any]:
    """dx = (gamma r / n) (n dy - sum(dy) - z sum(dy z)), as cuDNN's documentation has it."""
    z = ar.mul(ar.sub(k.x, k.mean), k.r)
    dgamma, dbeta = sums.dot(ar, k.dy, z), sums.total(ar, k.dy)
    inner = ar.sub(ar.sub(ar.mul(ar.take(k.n), k.dy), dbeta), ar.mul(z, dgamma))
    return ar.mul(sums.share(ar, ar.mul(k.gamma, k.r), k.n), inner), dgamma, dbeta


def torch(ar: Any, sums: Any, k: Known) -> tuple[Any, Any, Any]:
    """dx = (dy - mean(dy) - (x - m) (dot r r / n)) r gamma, dot = sum((x - m) dy): `batch_norm_cpu_backward`."""
    apart = ar.sub(k.x, k.mean)
    dot, dbeta = sums.dot(ar, apart, k.dy), sums.total(ar, k.dy)
    projected = ar.mul(apart, sums.share(ar, ar.mul(dot, k.r, k.r), k.n))
    inner = ar.sub(ar.sub(k.dy, sums.share(ar, dbeta, k.n)), projected)
    return ar.mul(inner, k.r, k.gamma), ar.mul(dot, k.r), dbeta


def torch_cuda(ar: Any, sums: Any, k: Known) -> tuple[Any, Any, Any]:
    """dx = (dy - (x - m) (dot / n r r) - mean(dy)) (r gamma): `batch_norm_backward_kernel` of Normalization.cuh."""
    apart = ar.sub(k.x, k.mean)
    dot, dbeta = sums.dot(ar, apart, k.dy), sums.total(ar, k.dy)
    share = ar.div(ar.take(1), ar.take(k.n))
    projected = ar.mul(apart, ar.mul(dot, share, ar.mul(k.r, k.r)))
    inner = ar.sub(ar.sub(k.dy, projected), ar.mul(dbeta, share))
    return ar.mul(inner, ar.mul(k.r, k.gamma)), ar.mul(dot, k.r), dbeta


def tensorflow(ar: Any, sums: Any, k: Known) -> tuple[Any, Any, Any]:
    """dx = gamma r (dy - mean(dy) - (x - m) (mean(dy (x - m)) / w)): `FusedBatchNormGrad`."""
    apart = ar.sub(k.x, k.mean)
    dot, dbeta = sums.dot(ar, k.dy, apart), sums.total(ar, k.dy)
    coefficient = ar.div(sums.share(ar, dot, k.n), k.w)
    inner = ar.sub(ar.sub(k.dy, sums.share(ar, dbeta, k.n)), ar.mul(apart, coefficient))
    return ar.mul(ar.mul(k.gamma, k.r), inner), ar.mul(dot, k.r), dbeta


def paper(ar: Any, sums: Any, k: Known) -> tuple[Any, Any, Any]:
    """The six lines of Ioffe & Szegedy (2015), section 3: by way of the gradients of variance and mean."""
    apart, dz = ar.sub(k.x, k.mean), ar.mul(k.dy, k.gamma)
    cubed = ar.mul(k.r, k.r, k.r)
    dvariance = ar.mul(ar.mul(sums.dot(ar, dz, apart), ar.take(-0.5)), cubed)
    through = ar.mul(dvariance, sums.share(ar, sums.total(ar, ar.mul(ar.take(-2), apart)), k.n))
    dmean = ar.add(sums.total(ar, ar.mul(dz, -k.r)), through)
    of_variance = sums.share(ar, ar.mul(dvariance, ar.mul(ar.take(2), apart)), k.n)
    dx = ar.add(ar.add(ar.mul(dz, k.r), of_variance), sums.share(ar, dmean, k.n))
    return dx, sums.dot(ar, k.dy, ar.mul(apart, k.r)), sums.total(ar, k.dy)


def cubed(ar: Any, k: Known, dr: Any) -> Any:
    """Return the gradient of the variance from that of r: -r³/2, as torch has it."""
    return ar.mul(ar.take(-0.5), dr, ar.mul(k.r, k.r, k.r))


def divided(ar: Any, k: Known, dr: Any) -> Any:
    """Return the gradient of the variance from that of r: -r/2 / w, as JAX has it."""
    return ar.mul(dr, ar.div(ar.mul(ar.take(-0.5), k.r), k.w))


def squared(ar: Any, k: Known, dr: Any) -> Any:
    """Return the gradient of the variance from that of r: (-dr/2 r) r², as TensorFlow has it."""
    return ar.mul(ar.mul(ar.mul(dr, ar.take(-0.5)), k.r), ar.mul(k.r, k.r))


def through_direct(of_root: Callable[[Any, Known, Any], Any]) -> Gradient:
    """Return reverse mode through gamma ((x - m) r) + beta and a mean of squared distances."""

    def gradient(ar: Any, sums: Any, k: Known) -> tuple[Any, Any, Any]:
        apart, dz = ar.sub(k.x, k.mean), ar.mul(k.gamma, k.dy)
        dvariance = of_root(ar, k, sums.dot(ar, dz, apart))
        reaching = ar.mul(ar.mul(ar.take(2), apart), sums.share(ar, dvariance, k.n))
        dapart = ar.add(ar.mul(dz, k.r), reaching)
        dx = ar.sub(dapart, sums.mean(ar, dapart))
        return dx, sums.dot(ar, k.dy, ar.mul(apart, k.r)), sums.total(ar, k.dy)

    return gradient


def through_scaled(of_root: Callable[[Any, Known, Any], Any]) -> Gradient:
    """Return reverse mode through (x - m) (gamma r) + beta, the mean inside the variance one of its own, as flax's."""

    def gradient(ar: Any, sums: Any, k: Known) -> tuple[Any, Any, Any]:
        apart, scale = ar.sub(k.x, k.mean), ar.mul(k.gamma, k.r)
        dscale = sums.dot(ar, k.dy, apart)
        direct = ar.mul(k.dy, scale)
        dvariance = of_root(ar, k, ar.mul(dscale, k.gamma))
        reaching = ar.mul(ar.mul(ar.take(2), apart), sums.share(ar, dvariance, k.n))
        dmean = ar.add(sums.total(ar, direct), sums.total(ar, reaching))
        dx = ar.sub(ar.add(direct, reaching), sums.share(ar, dmean, k.n))
        return dx, ar.mul(dscale, k.r), sums.total(ar, k.dy)

    return gradient


def through_folded(of_root: Callable[[Any, Known, Any], Any]) -> Gradient:
    """Return reverse mode through x s + (beta - m s), s = gamma r, and a mean of squared distances."""

    def gradient(ar: Any, sums: Any, k: Known) -> tuple[Any, Any, Any]:
        apart, scale = ar.sub(k.x, k.mean), ar.mul(k.gamma, k.r)
        dshift = sums.total(ar, k.dy)
        dscale = ar.sub(sums.dot(ar, k.dy, k.x), ar.mul(k.mean, dshift))
        dvariance = of_root(ar, k, ar.mul(dscale, k.gamma))
        reaching = ar.mul(ar.mul(ar.take(2), apart), sums.share(ar, dvariance, k.n))
        dmean = ar.add(ar.mul(scale, dshift), sums.total(ar, reaching))
        dx = ar.sub(ar.add(ar.mul(k.dy, scale), reaching), sums.share(ar, dmean, k.n))
        return dx, ar.mul(dscale, k.r), dshift

    return gradient


def through_fast(of_root: Callable[[Any, Known, Any], Any]) -> Gradient:
    """Return reverse mode through (x - m) (gamma r) + beta and E[x²] - E[x]²."""

    def gradient(ar: Any, sums: Any, k: Known) -> tuple[Any, Any, Any]:
        apart, scale = ar.sub(k.x, k.mean), ar.mul(k.gamma, k.r)
        dscale, dbeta = sums.dot(ar, k.dy, apart), sums.total(ar, k.dy)
        direct = ar.mul(k.dy, scale)
        dvariance = of_root(ar, k, ar.mul(dscale, k.gamma))
        dmean = ar.sub(-sums.total(ar, direct), ar.mul(ar.mul(ar.take(2), k.mean), dvariance))
        reaching = ar.mul(ar.mul(ar.take(2), k.x), sums.share(ar, dvariance, k.n))
        dx = ar.add(ar.add(direct, reaching), sums.share(ar, dmean, k.n))
        return dx, ar.mul(dscale, k.r), dbeta

    return gradient


def of_inference(ar: Any, sums: Any, k: Known) -> tuple[Any, Any, Any]:
    """Return the gradients where mean and variance are constants."""
    z = ar.mul(ar.sub(k.x, k.mean), k.r)
    return ar.mul(ar.mul(k.gamma, k.r), k.dy), sums.dot(ar, k.dy, z), sums.total(ar, k.dy)


def of_inference_late(ar: Any, sums: Any, k: Known) -> tuple[Any, Any, Any]:
    """Return the same with r last: (dy gamma) r, and r times the sum of dy (x - m)."""
    dot = sums.dot(ar, k.dy, ar.sub(k.x, k.mean))
    return ar.mul(k.dy, k.gamma, k.r), ar.mul(dot, k.r), sums.total(ar, k.dy)


direct_cubed, direct_divided, direct_squared = map(through_direct, (cubed, divided, squared))
scaled_cubed, scaled_divided, scaled_squared = map(through_scaled, (cubed, divided, squared))
folded_cubed, folded_divided, folded_squared = map(through_folded, (cubed, divided, squared))
fast_cubed, fast_divided, fast_squared = map(through_fast, (cubed, divided, squared))

FOLDED = (folded_cubed, folded_divided, folded_squared)
WORDS: dict[Any, dict[str, Any]] = {gradient: {"affine": "folded"} for gradient in FOLDED}
WORDS[recovered] = {"recovered": True}
"""What a statement says of these; of all others, nothing: the variance has its own word."""
