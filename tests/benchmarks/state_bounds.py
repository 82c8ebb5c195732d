"""Measure the bounds of moving statistics over eight steps: `python tests/benchmarks/state_bounds.py [ARRAYS]`.

The subject is class A in float32 (`conformance/implementations/numpy.py`), free-running. Three ways to bound its state:
from its own previous state (step), from the case with the error carried along (trajectory), and from the case as if the
old state were exact (naive), which is what one would write first.
"""

from __future__ import annotations

import json
import sys
import time

import msgspec
import numpy as np

from conformance.hosts import worker
from conformance.hosts.roster import ADAPTERS
from conformance.judging.bounds.bounds import rho
from conformance.judging.exact_case import ExactCase
from conformance.judging.expectation import ExpectedStep, StateWithError, after, trajectory
from conformance.judging.promise import Promise
from conformance.judging.statistics import moving
from conformance.model.case import Case, Step, content
from conformance.model.statement import Statement
from reference import Spec, State

STEPS = 8
MOMENTA = [0.9, 0.99, 0.999, 0.9996, 0.9999]


def case(rng: np.random.Generator, momentum: float) -> Case:
    """Return eight training steps with a drifting mean, of one to five hundred values per channel."""
    n, channels = int(rng.integers(2, 500)), 16
    ratio = float(rng.choice([0.0, 1.0, 30.0, 1e3, 1e5]))
    tensors = {
        f"{t}.x": (rng.normal(size=(n, channels)) + ratio + t * rng.normal(size=channels)).astype(np.float32)
        for t in range(STEPS)
    }
    tensors["moving_mean"] = rng.normal(size=channels).astype(np.float32)
    tensors["moving_variance"] = rng.uniform(0.5, 2, channels).astype(np.float32)
    spec = Spec(axis=1, momentum=momentum, center=False, scale=False)
    return Case(spec=spec, steps=(Step(mode="train"),) * STEPS, tensors=tensors)


def measure(subject: object, asked: Case) -> dict[str, float]:
    """Return the worst ρ of each way to bound the state."""
    statement = msgspec.convert(subject.statement, Statement)  # type: ignore[attr-defined]
    fields = json.loads(json.dumps(content(asked)))
    _, got = worker.run(subject, worker.Case(fields, asked.tensors, subject.statement))  # type: ignore[attr-defined]
    promise = Promise.of(ExactCase(asked), statement)
    expected, worst = trajectory(promise), {"step": 0.0, "trajectory": 0.0, "naive": 0.0}
    exact = StateWithError.exact(
        State(asked.tensors["moving_mean"].astype(float), asked.tensors["moving_variance"].astype(float))
    )
    for t in range(STEPS):
        own = {name: got[f"{t}.{name}"] for name in ("moving_mean", "moving_variance")}
        naive = ExpectedStep(promise, t).after(exact)
        answers = {"trajectory": expected[t], "naive": moving(ExpectedStep(promise, t), exact, naive)}
        exact = StateWithError.exact(naive.state)
        if t:
            before = State(got[f"{t - 1}.moving_mean"].astype(float), got[f"{t - 1}.moving_variance"].astype(float), t)
            answers["step"] = after(promise, t, before)
        for way, found in answers.items():
            for name, array in own.items():
                worst[way] = max(worst[way], float(rho(array, found[name].value, found[name].bound).max()))
    return worst


def main() -> None:
    """Print the table."""
    arrays = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    subject = worker.load(str(ADAPTERS / "numpy.py"))[0]("cpu")
    rng, began = np.random.default_rng(0), time.process_time()
    each = arrays // (2 * STEPS * len(MOMENTA))
    print(f"worst ρ of the moving statistics, {each * 2 * STEPS * len(MOMENTA)} arrays")
    for momentum in MOMENTA:
        found = [measure(subject, case(rng, momentum)) for _ in range(each)]
        worst = {way: max(f[way] for f in found) for way in found[0]}
        print(f"momentum {momentum}: " + ", ".join(f"{way} {value:.3f}" for way, value in worst.items()), flush=True)
    print(f"{time.process_time() - began:.0f} s of CPU")


if __name__ == "__main__":
    main()
