"""A correct implementation of batch normalization, put together from parts, that speaks the adapter interface."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import arithmetic
import gradients
import maps
import moments
import numpy as np
import sums

OUTPUTS = ["y", "dx", "dgamma", "dbeta", "moving_mean", "moving_variance", "mean", "variance"]
GRADIENTS = ["dx", "dgamma", "dbeta"]
STAGES = ("moments", "root", "map", "gradient", "average")
DTYPES = ("float32", "float64", "float16", "bfloat16")


class Way:
    """Parts that subclasses change, as `way` says."""

    add: Any = sums.Serial()
    moments = staticmethod(moments.two_pass)
    root = staticmethod(maps.inverse)
    affine = staticmethod(maps.direct)
    gradient = staticmethod(gradients.textbook)
    inferred = staticmethod(gradients.of_inference)
    average = staticmethod(maps.weighted)
    kinds: Any = arithmetic.Nearest
    unbiased = False
    accumulate = "wide"
    stored = ""
    saved = ""

    def __init__(self, device: str) -> None:
        if device != "cpu":
            raise ValueError(f"NumPy has no device {device}")

    def run(self, case: Any) -> Any:
        """Yield the outputs of each step."""
        self.case, self.arithmetic = case, self.stages(case.dtypes["x"])
        size = math.prod(case.kept)
        gamma = self.taken("map", case.gamma, size, 1)
        beta = self.taken("map", case.beta, size, 0)
        mean, variance = (self.state(a, size, start) for a, start in ((case.mean, 0), (case.variance, 1)))
        for step in case.steps:
            self.axis = step.axis  # a layer may be called with other ranks
            if tuple(step.x.shape[axis] for axis in self.axis) != case.kept:
                raise ValueError(f"the batch has shape {step.x.shape}, and {case.kept} values were kept")
            x, out = self.rows(step.x), dict[str, Any]()
            used = mean, variance
            if step.training:
                used = self.measured(x)
                out |= {"mean": self.statistic(used[0]), "variance": self.statistic(used[1])}
            if step.training and step.update:
                mean, variance = self.moved((mean, variance), used, len(x))
            out |= {"moving_mean": self.statistic(mean), "moving_variance": self.statistic(variance)}
            mean, variance = (out[name].reshape(size) for name in ("moving_mean", "moving_variance"))
            yield out | self.outputs(step, x, used, gamma, beta)

    def stages(self, x: str) -> dict[str, Any]:
        """Return the arithmetic of each stage for an input of this dtype."""
        wide = {"wide": "float64" if x == "float64" else "float32", "input": x}.get(self.accumulate, self.accumulate)
        kinds = self.kinds if isinstance(self.kinds, dict) else dict.fromkeys(STAGES, self.kinds)
        return {stage: kind(wide) for stage, kind in kinds.items()}

    def measured(self, x: Any) -> tuple[Any, Any]:
        """Return the mean and the variance of a batch; of nothing there are none."""
        ar = self.arithmetic["moments"]
        if not len(x):
            nothing = np.full(x.shape[1:], np.nan)
            return ar.take(nothing), ar.take(nothing)
        return self.moments(ar, self.add, ar.take(x))

    def moved(self, old: tuple[Any, Any], new: tuple[Any, Any], n: int) -> list[Any]:
        """Return the moving statistics after a batch of n values."""
        ar = self.arithmetic["average"]
        kept, (mean, variance) = ar.take(self.case.native["momentum"]), map(ar.take, new)
        if self.unbiased:
            variance = ar.mul(variance, ar.div(ar.take(n), ar.take(max(n - 1, 1))))
        return [self.average(ar, ar.take(a), b, kept) for a, b in zip(old, (mean, variance), strict=True)]

    def outputs(self, step: Any, x: Any, used: tuple[Any, Any], gamma: Any, beta: Any) -> dict[str, Any]:
        """Return y, and the gradients that are asked for."""
        root, map_, back = (self.arithmetic[stage] for stage in ("root", "map", "gradient"))
        w = root.add(root.take(used[1]), root.take(self.case.native["epsilon"]))
        r = self.root(root, w)
        if self.saved and step.training:
            used, r = (self.kept(used[0]), used[1]), self.kept(r)
        divisor = root.sqrt(w) if self.affine in maps.divides else r
        y = self.affine(map_, map_.take(x), map_.take(used[0]), map_.take(divisor), gamma, beta)
        out = {"y": self.laid_out(y, step.x)}
        if step.dy is None:
            return out
        of = self.gradient if step.training else self.inferred
        stored = self.rows(out["y"])
        known = gradients.Known(*map(back.take, (x, self.rows(step.dy), used[0], w, r, gamma, stored, beta)))
        dx, dgamma, dbeta = of(back, self.add, known) if len(x) else (x, 0 * gamma, 0 * gamma)
        out["dx"] = self.laid_out(dx, step.x)
        found = (("dgamma", self.case.gamma, dgamma), ("dbeta", self.case.beta, dbeta))
        return out | {name: self.parameter(value) for name, wanted, value in found if wanted is not None}

    def kept(self, row: Any) -> Any:
        """Return a statistic as it is saved for what follows."""
        return row.astype(arithmetic.dtype_of(self.saved)).astype(row.dtype)

    # --- shapes and dtypes ---------------------------------------------------------------------------------------

    def rows(self, array: Any) -> Any:
        """Return an array of the input's shape as rows, one value of each channel in each."""
        reduced = [axis for axis in range(array.ndim) if axis not in self.axis]
        moved = np.moveaxis(array, reduced, range(len(reduced)))
        n = math.prod(array.shape[axis] for axis in reduced)
        return np.ascontiguousarray(moved).reshape(n, math.prod(self.case.kept))

    def laid_out(self, rows: Any, x: Any) -> Any:
        """Return rows in the shape of x."""
        reduced = [axis for axis in range(x.ndim) if axis not in self.axis]
        moved = rows.reshape([x.shape[axis] for axis in reduced] + [x.shape[axis] for axis in self.axis])
        return np.moveaxis(moved, range(len(reduced)), reduced).astype(self.stored or x.dtype)

    def taken(self, stage: str, array: Any, size: int, default: int) -> Any:
        """Return a parameter as a row of the stage's arithmetic."""
        given = np.full(size, default) if array is None else array.reshape(size)
        return self.arithmetic[stage].take(given)

    def state(self, array: Any, size: int, start: int) -> Any:
        """Return a moving statistic as it is given, or as it begins; it stays so until a batch enters it."""
        return np.full(size, np.float32(start)) if array is None else array.reshape(size)

    def statistic(self, row: Any) -> Any:
        """Return a row of statistics in the shape and the dtype that they are kept in."""
        return self._shaped(row, self.case.dtypes["statistics"])

    def parameter(self, row: Any) -> Any:
        """Return a row of gradients in the shape and the dtype of the parameters."""
        return self._shaped(row, self.case.dtypes["parameters"])

    def _shaped(self, row: Any, dtype: str) -> Any:
        case = self.case
        full = [case.steps[0].x.shape[a] if a in case.axis else 1 for a in range(case.rank)]
        shape = case.kept if len(case.kept) == 1 else full
        return np.array(row).reshape(shape).astype(self.stored or arithmetic.dtype_of(dtype))


def way(
    name: str,
    *,
    returned: str = "as_used",
    dtypes: Iterable[str] = DTYPES,
    words: dict[str, Any] = {},  # noqa: B006 - read only
    **parts: Any,
) -> type[Way]:
    """Return the way of these parts, with the statement that follows from them.

    add: see `sums`. moments, root, affine, gradient, inferred, average: functions of `moments`, `maps`, `gradients`.
    kinds: the arithmetic of each stage, or of all of them. unbiased: N/(N-1) times the variance is stored. accumulate,
    stored, saved, returned, dtypes: as the statement says. words: of the statement, beside what the parts say.
    """
    fields = {n: staticmethod(part) if callable(part) else part for n, part in parts.items()}
    made = type(name, (Way,), fields)
    made.statement = _statement(made, returned, dtypes, words)
    return made


def _statement(made: type[Way], returned: str, dtypes: Iterable[str], words: dict[str, Any]) -> dict[str, Any]:
    numerics: dict[str, Any] = {"sums": made.add.word, "accumulate": made.accumulate}
    numerics |= {"saved": made.saved} if made.saved else {}
    numerics |= (
        moments.word(made.moments) | maps.ROOTS.get(made.root, {}) | ({"stored": made.stored} if made.stored else {})
    )
    semantics = {"stored_variance": "unbiased" if made.unbiased else "biased", "frozen": "train"}
    cite = "tests/calibration: the parts are written out there"
    rules = [{"semantics": semantics, "numerics": numerics | words, "cite": cite}]
    rules.append({"when": {"output": ["y"]}, "numerics": maps.WORDS.get(made.affine, {}), "cite": cite})
    rules.append({"when": {"output": GRADIENTS}, "numerics": gradients.WORDS.get(made.gradient, {}), "cite": cite})
    supports = {
        "dtype": list(dtypes),
        "start": ["given", "own"],
        "rank": [1, 2, 3, 4, 5, 6],
        "toggled": [False, True],
        "updates": [True, False],
    }
    if returned == "as_used":  # in half precision statistics are rounded on the way out
        supports["statistics"] = ["float32", "float64"]
    return {
        "id": f"way.{made.__name__}",
        "packages": ["numpy"],
        "documentation": "https://github.com/numpy/numpy (tests/calibration)",
        "conventions": {"momentum": "kept", "axis": "kept"},
        "supports": supports,
        "outputs": OUTPUTS,
        "calibration": True,
        "returned": returned,
        "rules": rules,
    }
