"""Measure what judging a large training step costs: `python tests/benchmarks/judging_size.py [MOST [THREADS]]`.

For float32 batches of 10^4, 10^5 and so on to MOST elements (10^7), of four channels that are second and that are last,
with gradients: the CPU time and the memory of judging y, dx and all statistics, beside those of NumPy's assert_allclose
and of PyTorch's assert_close on the same y and dx, as ratios. Each in a process of its own; memory is the most that was
resident beyond the arrays themselves. THREADS is of judging (1).
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from conformance.hosts import roster
from conformance.judging import exact_case
from conformance.judging.exact_case import ExactCase
from conformance.judging.judgment import judge
from conformance.judging.large import pieces
from conformance.model.case import Case, Derivative, Step
from conformance.model.outcome import Outputs, Reply
from conformance.model.statement import Statement
from reference import Spec

CHANNELS, ROW = 4, 64
WHAT = ("judge", "numpy", "torch")


def case_of(elements: int, layout: str) -> Case:
    """Return a training step with a gradient."""
    rng, rows = np.random.default_rng(0), max(elements // (CHANNELS * ROW), 1)
    shape = (rows, CHANNELS, ROW) if layout == "second" else (rows, ROW, CHANNELS)
    tensors = {name: np.ones(CHANNELS, np.float32) for name in ("gamma", "beta", "moving_mean", "moving_variance")}
    tensors |= {f"0.{name}": rng.standard_normal(shape, dtype=np.float32) for name in ("x", "dy")}
    axis = 1 if layout == "second" else 2
    return Case(Spec(axis=axis, epsilon=1e-3), (Step("train", derivatives=(Derivative(),)),), tensors=tensors)


def answer(case: Case) -> dict[str, np.ndarray]:
    """Return what a correct layer in float32 gives, computed with few copies; its sums in float64."""
    x, dy, axis = case.x(0), case.tensors["0.dy"], case.spec.axis
    over, shape = tuple(a for a in range(3) if a != axis), [-1 if a == axis else 1 for a in range(3)]
    n, one = np.float32(x.size // CHANNELS), np.float32(1)
    mean = x.mean(over, dtype=np.float64).astype(np.float32)
    z = x - mean.reshape(shape)
    variance = np.stack([np.square(z.take(c, axis)).mean(dtype=np.float64) for c in range(CHANNELS)]).astype(np.float32)
    r = (one / np.sqrt(variance + np.float32(1e-3))).reshape(shape)
    z *= r
    dbeta = dy.sum(over, dtype=np.float64).astype(np.float32)
    sums = [np.multiply(dy.take(c, axis), z.take(c, axis)).sum(dtype=np.float64) for c in range(CHANNELS)]
    dgamma = np.stack(sums).astype(np.float32)
    dx = z * (-dgamma / n).reshape(shape)
    dx += dy
    dx -= (dbeta / n).reshape(shape)
    dx *= r
    z += one
    statistics = {"mean": mean, "variance": variance, "dgamma": dgamma, "dbeta": dbeta}
    part = np.float32(0.01)
    moving = {"moving_mean": one - part + part * mean, "moving_variance": one - part + part * variance}
    return {"y": z, "dx": dx, **statistics, **moving}


def resident(field: str) -> int:
    """Return VmRSS or VmHWM of this process, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


@functools.cache
def statement() -> Statement:
    """Return what the answer is held to."""
    return roster.select(("numpy.two_pass",))[0].statement


def judged(case: Case, outputs: dict[str, np.ndarray]) -> None:
    """Judge the answer; every array passes."""
    results = judge("", ExactCase(case), statement(), Reply(0, "two_pass", (Outputs(outputs),)))
    assert {r.verdict for r in results} == {"PASS"}, results


def compared(what: str) -> Callable[[Case, dict[str, np.ndarray]], None]:
    """Return a comparison of y and dx with themselves by a library."""
    if what == "numpy":
        return lambda _, o: [np.testing.assert_allclose(o[n], o[n].copy(), 1e-5, 1e-6) for n in ("y", "dx")][:0]
    import torch

    torch.set_num_threads(1)
    tensors = torch.from_numpy
    return lambda _, o: [torch.testing.assert_close(tensors(o[n]), tensors(o[n]).clone()) for n in ("y", "dx")][:0]


def measured(what: str, elements: int, layout: str) -> dict[str, float]:
    """Return nanoseconds of CPU and of the clock, and bytes beyond the arrays, for each element of x."""
    run = judged if what == "judge" else compared(what)
    small = case_of(2 * exact_case.LARGE, layout)
    run(small, answer(small))  # what is imported is no part of it
    case = case_of(elements, layout)
    outputs = answer(case)
    Path("/proc/self/clear_refs").write_text("5")  # the most so far is what is now
    before, cpu, clock = resident("VmRSS"), time.process_time(), time.perf_counter()
    run(case, outputs)
    n = case.x(0).size
    times = {"cpu": 1e9 * (time.process_time() - cpu) / n, "clock": 1e9 * (time.perf_counter() - clock) / n}
    return times | {"bytes": max(resident("VmHWM") - before, 0) / n}


def asked(what: str, elements: int, layout: str, threads: int) -> dict[str, float]:
    """Return the same, measured in a process of its own."""
    command = [sys.executable, __file__, "--one", what, str(elements), layout, str(threads)]
    held = {f"{of}_NUM_THREADS": "1" for of in ("OMP", "MKL", "OPENBLAS")}
    found = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | held)
    return json.loads(found.stdout)


def main() -> None:
    """Print a line for each size and layout."""
    if sys.argv[1:2] == ["--one"]:
        what, elements, layout, threads = sys.argv[2:]
        pieces.threads = int(threads)
        print(json.dumps(measured(what, int(elements), layout)))
        return
    most = int(float(sys.argv[1])) if len(sys.argv) > 1 else 10**7
    threads = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    print("elements, channels: ns CPU (clock), bytes each; times assert_allclose, assert_close")
    for power in range(4, len(str(most))):
        for layout in ("second", "last"):
            found = {what: asked(what, 10**power, layout, threads) for what in WHAT}
            ours = found["judge"]
            ratios = [ours["cpu"] / found[what]["cpu"] for what in WHAT[1:]]
            room = [(found[what]["bytes"]) for what in WHAT]
            said = f"{ours['cpu']:.0f} ns ({ours['clock']:.0f}), {ratios[0]:.1f}, {ratios[1]:.1f} times"
            print(
                f"10^{power} {layout}: {said}; {room[0]:.1f} bytes beside {room[1]:.1f} and {room[2]:.1f}", flush=True
            )


if __name__ == "__main__":
    main()
