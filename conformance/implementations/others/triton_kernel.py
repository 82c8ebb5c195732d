"""The kernel of `triton.py`. Read by whoever makes that adapter's class, as Triton must be imported for it."""

import triton
import triton.language as tl


@triton.jit
def batch_norm(
    x, y, gamma, beta, mean, variance, n, pixels, channels, epsilon, training: tl.constexpr, block: tl.constexpr
):
    """Normalize a channel: mean and variance are those of the batch, and written, where it trains."""
    c = tl.program_id(0)
    i = tl.arange(0, block)
    there = i < n
    at = (i // pixels * channels + c) * pixels + i % pixels
    values = tl.load(x + at, mask=there, other=0.0)
    if training:
        m = tl.sum(values, axis=0) / n
        deviations = tl.where(there, values - m, 0.0)
        v = tl.sum(deviations * deviations, axis=0) / n
        tl.store(mean + c, m)
        tl.store(variance + c, v)
    else:
        m = tl.load(mean + c)
        v = tl.load(variance + c)
    z = (values - m) * (1 / tl.sqrt(v + epsilon))
    tl.store(y + at, z * tl.load(gamma + c) + tl.load(beta + c), mask=there)
