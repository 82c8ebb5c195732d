"""Ways that answer derivatives along a tangent: their forward pass is differentiated, in the order of modes asked for.

`bnconf run -i tests/calibration/along.py`, or `…/along.py:NAME` for one.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parent)]

import calculus  # noqa: E402 - found by the path above, as what follows
import gradients as g  # noqa: E402
import maps  # noqa: E402
import moments as mo  # noqa: E402
import numpy as np  # noqa: E402
from arithmetic import Flushed, Whole  # noqa: E402
from calculus import Calculus, Value  # noqa: E402
from sums import Lanes, Pairwise, Serial  # noqa: E402
from way import GRADIENTS, OUTPUTS, Way, way  # noqa: E402

TANGENTS = ["y_tangent", "dx_tangent", "dgamma_tangent", "y_tangent2", "dx_tangent2", "dgamma_tangent2"]
MODES = ["none", "reverse", "forward", "reverse_over_reverse", "forward_over_reverse", "forward_over_forward", "third"]


class Program:
    """A forward pass, and its gradients: in reverse, or as they are written out."""

    def __init__(self, parts: Any, c: Calculus, given: dict[str, Any], used: tuple[Any, Any] | None) -> None:
        """Run it. given: x, dy, tangent, gamma, beta, epsilon; used: the statistics of inference."""
        self.c = c
        self.x, self.dy, self.tangent, self.gamma, beta, epsilon = (c.take(values) for values in given.values())
        mean, variance = parts.moments(c, c, self.x) if used is None else map(c.take, used)
        w = c.add(variance, epsilon)
        r = c.root(w)
        self.y = parts.affine(c, self.x, mean, r, self.gamma, beta)
        self.dx, self.dgamma = self._gradients(
            parts.written if used is None else None, g.Known(self.x, self.dy, mean, w, r, self.gamma)
        )

    def _gradients(self, written: Any, known: Any) -> tuple[Value, Value]:
        if written is not None:
            return written(self.c, self.c, known)[:2]
        return self.back(self.y, self.dy)

    def back(self, of: Value, cotangent: Value) -> tuple[Value, Value]:
        """Return the cotangents of x and gamma; 0 where they take no part."""
        found = self.c.reverse(of, cotangent)
        nothing = self.c.spread(self.c.take(np.zeros(self.gamma.data.shape)))
        return found.get(self.x, nothing), found.get(self.gamma, self.c.take(np.zeros(self.gamma.data.shape)))

    def along(self, of: Value) -> Value:
        """Return the rate along the tangent, in forward mode."""
        rate = self.c.forward(of, self.x, self.tangent)
        return self.c.take(np.zeros(of.data.shape)) if rate is None else rate

    def slope(self, of: Value) -> tuple[Value, Value]:
        """Return the gradient of <of, tangent>: of dx it is how fast the gradients change along it."""
        product = self.c.total(None, self.c.mul(of, self.tangent))
        return self.back(product, self.c.take(np.ones(self.gamma.data.shape)))

    def second(self, mode: str) -> tuple[Value, Value]:
        """Return how fast dx and dgamma change along the tangent."""
        return self.slope(self.dx) if mode == "reverse" else (self.along(self.dx), self.along(self.dgamma))

    def third(self, order: str) -> tuple[Value, Value]:
        """Return how fast these change; order: of the two modes beyond the gradient, such as `reverse forward`."""
        last, mode = order.split()
        dx, dgamma = self.second(mode)
        return self.slope(dx) if last == "reverse" else (self.along(dx), self.along(dgamma))


class Along(Way):
    """A way that is differentiated. written: gradients that are written out, and differentiated once less."""

    slope = staticmethod(calculus.divided)
    written: Any = None
    order = "reverse reverse"

    def outputs(self, step: Any, x: Any, used: tuple[Any, Any], gamma: Any, beta: Any) -> dict[str, Any]:
        """Return y and the gradients, and the derivatives along the tangent."""
        out = super().outputs(step, x, used, gamma, beta)
        return out if step.tangent is None else out | self.tangents(step, x, used, gamma, beta)

    def tangents(self, step: Any, x: Any, used: tuple[Any, Any], gamma: Any, beta: Any) -> dict[str, Any]:
        """Return what is asked for along the tangent."""
        ar = self.arithmetic["gradient"]
        c = Calculus(ar, self.add, self.root, len(x), self.slope)
        given = {"x": x, "dy": self.rows(step.dy), "tangent": self.rows(step.tangent), "gamma": gamma, "beta": beta}
        given = {name: ar.take(a) for name, a in (given | {"epsilon": self.case.native["epsilon"]}).items()}
        program = Program(self, c, given, None if step.training else (ar.take(used[0]), ar.take(used[1])))
        if step.forward:
            return {"y_tangent": self.laid_out(program.along(program.y).data, step.x)}
        if step.forward_twice:
            return {"y_tangent2": self.laid_out(program.along(program.along(program.y)).data, step.x)}
        found = program.second(step.second) if step.second else program.third(self.order)
        dx, dgamma = ("dx_tangent", "dgamma_tangent") if step.second else ("dx_tangent2", "dgamma_tangent2")
        out = {dx: self.laid_out(found[0].data, step.x)}
        return out if self.case.gamma is None else out | {dgamma: self.parameter(found[1].data)}


def along(name: str, **parts: Any) -> type[Along]:
    """Return a way of these parts (`way`), which is differentiated.

    slope: how r is differentiated. written: the gradients, where they are not those of reverse mode. order: of modes.
    """
    numerics = {"affine": "folded"} if parts.get("affine") in maps.WORDS else {}
    own = {n: staticmethod(p) if callable(p) else p for n in ("slope", "written", "order") if (p := parts.pop(n, None))}
    plain = way(f"along_{name}", **parts)
    made = type(plain.__name__, (plain, Along), {**own, "outputs": Along.outputs})
    rule = {"when": {"output": [*TANGENTS, *GRADIENTS]}, "numerics": numerics, "cite": "tests/calibration/along.py"}
    stated = plain.statement
    made.statement = stated | {
        "supports": stated["supports"] | {"differentiation": MODES},
        "outputs": OUTPUTS + TANGENTS,
        "rules": [*stated["rules"], rule],
    }
    return made


def two_means(ar: Any, sums: Any, x: Any) -> tuple[Any, Any]:
    """Two passes, the mean inside the variance one of its own, as flax has it."""
    apart = ar.sub(x, sums.mean(ar, x))
    return sums.mean(ar, x), sums.mean(ar, ar.mul(apart, apart))


def fast_squares(ar: Any, sums: Any, x: Any) -> tuple[Any, Any]:
    """E[x²] - E[x]², the squares a product of their own."""
    mean = sums.mean(ar, x)
    return mean, ar.sub(sums.mean(ar, ar.mul(x, x)), ar.mul(mean, mean))


def shifted_squares(ar: Any, sums: Any, x: Any) -> tuple[Any, Any]:
    """One pass over x - k, k being the first value, a constant."""
    k = ar.take((x.data if isinstance(x, Value) else x)[0])
    apart = ar.sub(x, k)
    mean = sums.mean(ar, apart)
    return ar.add(k, mean), ar.sub(sums.mean(ar, ar.mul(apart, apart)), ar.mul(mean, mean))


mo.WORDS |= {two_means: mo.TWO, fast_squares: {"variance": "fast"}, shifted_squares: {"variance": "shifted"}}

AFFINES = ("direct", "scaled", "scaled_first", "folded", "spread", "apart")
SLOPES = (calculus.cubed, calculus.divided, calculus.squared)
ORDERS = ("reverse reverse", "forward forward", "forward reverse", "reverse forward")
WRITTEN = (g.textbook, g.cudnn, g.torch, g.torch_cuda, g.tensorflow, g.paper)
MOMENTS = {
    "two_pass": mo.two_pass, "two_means": two_means, "corrected": mo.corrected_both, "fast": mo.fast,
    "fast_squares": fast_squares, "shifted": shifted_squares,
}  # fmt: skip
DIRECTIONS = ("up", "down", "away", "toward", "either")


def parts() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every map with every way to measure, the slope of the root and the order of modes by turns."""
    for number, (moments, affine) in enumerate((m, a) for m in MOMENTS for a in AFFINES):
        turns = {"slope": SLOPES[number % 3], "order": ORDERS[number // 2 % 4]}
        yield f"{moments}_{affine}", {"moments": MOMENTS[moments], "affine": getattr(maps, affine), **turns}
    for number, written in enumerate(WRITTEN):
        yield f"{written.__name__}", {"written": written, "slope": SLOPES[number % 3], "order": ORDERS[number % 4]}


def ways() -> Iterator[type[Along]]:
    """Yield every way that takes float32 and float64, or float32 alone."""
    plain = {"returned": "rounded", "dtypes": ("float32", "float64")}
    adds = (Serial(), Serial(reciprocal=True), Pairwise(reciprocal=True), Lanes(8))
    for number, (name, made) in enumerate(parts()):
        kind = {"kinds": Flushed} if number % 7 == 3 else {}
        yield along(name, **made, add=adds[number % 4], **kind, **plain)
    for number, (name, made) in enumerate(parts()):
        kind = {"kinds": partial(Whole, direction=DIRECTIONS[number % 5]), "stored": "float64"}
        if number % 2 == 0:
            yield along(f"whole_{name}", **made, **kind, returned="rounded", dtypes=("float32",))


def halves() -> Iterator[type[Along]]:
    """Yield ways that compute in half precision throughout."""
    half = {"accumulate": "input", "dtypes": ("float16", "bfloat16"), "returned": "rounded"}
    for number, (name, made) in enumerate(parts()):
        kind = {"kinds": partial(Whole, direction=DIRECTIONS[number % 5]), "stored": "float64"} if number % 2 else {}
        yield along(f"half_{name}", **made, **kind, **half)


IMPLEMENTATIONS = [*ways(), *halves()]


def __getattr__(name: str) -> type[Along]:
    """Return the way of a name."""
    found = next((made for made in IMPLEMENTATIONS if made.__name__ == name), None)
    if found is None:
        raise AttributeError(f"no way is called {name}")
    return found
