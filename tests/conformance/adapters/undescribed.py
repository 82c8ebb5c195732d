"""Ordinary implementations that promise next to nothing, each with one peculiarity that identify must say in words."""

import importlib.util
import os

import numpy as np

_HERE = os.path.dirname(os.path.abspath(__file__))
_PATH = os.path.join(_HERE, "..", "..", "..", "conformance", "implementations", "numpy.py")
_SPEC = importlib.util.spec_from_file_location("calibration", os.path.normpath(_PATH))
calibration = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(calibration)


def _statement(name, **more):
    common = {"packages": ["numpy"], "documentation": "https://example.org/mine", "calibration": True}
    conventions = {"momentum": "kept", "axis": "kept"}
    return dict(common, id="undescribed.%s" % name, conventions=conventions, **more)


def _supports(*dtypes):
    ordinary = {"channel": ["second", "last", "other"], "several_axes": [False], "reranked": [False]}
    return dict(ordinary, dtype=list(dtypes or ["float32"]))


class Folded(calibration.Folded):
    """Computes x * scale + shift, and does not say so."""

    statement = _statement("folded", supports=_supports(), rules=[{"cite": "here", "semantics": {"frozen": "train"}}])


class FoldedFast(calibration.Fast):
    """Computes E[x^2] - E[x]^2, and x * scale + shift, and says neither."""

    statement = dict(Folded.statement, id="undescribed.folded_fast")
    folded = True


class InferenceOnly(calibration.TwoPass):
    """Has no training, and says nothing but that."""

    statement = _statement("inference_only", supports=_supports(), modes=["infer"], outputs=["y"])

    def run(self, case):
        """Yield y by the statistics that are given, whatever the mode: an engine knows no other."""
        for step in case.steps:
            step.training = False
        for out in super(InferenceOnly, self).run(case):
            yield {"y": out["y"]}


class Unasked(InferenceOnly):
    """The same, which yields nothing for a training step."""

    statement = dict(InferenceOnly.statement, id="undescribed.unasked")

    def run(self, case):
        """Yield y of inference, nothing for training."""
        modes = [step.training for step in case.steps]
        for training, out in zip(modes, super(Unasked, self).run(case)):
            yield {} if training else out


class Exact(calibration.TwoPass):
    """Infers exactly, returns all that inference has, and is declared by nothing but that: see `modes`."""

    statement = _statement("exact", supports={"dtype": ["float32", "float64"]}, modes=["infer"])

    def run(self, case):
        """Yield every output of inference, whatever the mode: nothing moves."""
        for step in case.steps:
            step.training = False
        return super(Exact, self).run(case)


class HalfToSingle(calibration.TwoPass):
    """Takes float16, and computes and returns float32."""

    statement = _statement("half_to_single", supports=_supports("float16"))

    def run(self, case):
        """Yield what float32 gives."""
        case.dtypes = dict(case.dtypes, x="float32")
        for step in case.steps:
            step.x = step.x.astype(np.float32)
            step.dy = None if step.dy is None else step.dy.astype(np.float32)
        return super(HalfToSingle, self).run(case)


class StoresUnbiased(calibration.TwoPass):
    """Stores N/(N-1) times the variance that it normalizes with."""

    statement = _statement("stores_unbiased", supports=_supports())

    def run(self, case):
        """Yield the steps, their moving variance corrected."""
        share = 1 - case.native["momentum"]
        variance = np.ones(case.kept, np.float32) if case.variance is None else case.variance
        for step in case.steps:
            case.variance = variance
            kept, case.steps = case.steps, [step]
            out = next(super(StoresUnbiased, self).run(case))
            case.steps = kept
            if step.training:
                n = step.x.size // len(case.gamma) if case.gamma is not None else step.x.size // out["variance"].size
                out["moving_variance"] = out["moving_variance"] + share * out["variance"] / max(n - 1, 1)
            case.mean, variance = out["moving_mean"], np.asarray(out["moving_variance"], np.float32)
            out["moving_variance"] = variance
            yield out


class SaysUnbiasedOfTraining(StoresUnbiased):
    """The same, which says so of training steps alone."""

    _rules = [
        {"cite": "here", "when": {"mode": ["train"]}, "semantics": {"stored_variance": "unbiased", "frozen": "train"}}
    ]
    statement = _statement("says_unbiased_of_training", supports=_supports(), rules=_rules)


class TrainsUnbiased(calibration.TwoPass):
    """Normalizes a training batch by N/(N-1) times its variance, and stores that too."""

    statement = _statement("trains_unbiased", supports=_supports())

    def moments(self, x):
        """Return mean and variance."""
        mean = self.mean(x)
        total = self.total(np.square(x - mean))
        return mean, total / x.dtype.type(max(x.size / total.size - 1, 1))


class NoRankThree(calibration.TwoPass):
    """Raises where the input has rank 3."""

    statement = _statement("no_rank_three", supports=_supports())

    def run(self, case):
        """Yield the steps of any other rank."""
        if case.rank == 3:
            raise NotImplementedError("rank 3 is not there yet")
        return super(NoRankThree, self).run(case)


class MovesInBackward(calibration.TwoPass):
    """Moves its statistics where a gradient is taken, and at no other time."""

    statement = _statement("moves_in_backward", supports=_supports())

    def run(self, case):
        """Yield the steps; one without a cotangent leaves the statistics as they were."""
        for step in case.steps:
            steps, case.steps = case.steps, [step]
            out = next(super(MovesInBackward, self).run(case))
            case.steps = steps
            if step.training and step.dy is None:
                mean, variance = self.start(case)
                out.update(moving_mean=mean.reshape(case.kept), moving_variance=variance.reshape(case.kept))
            case.mean, case.variance = out["moving_mean"], out["moving_variance"]
            yield out


class Blocks(calibration.TwoPass):
    """Takes the statistics of the first `block` values per channel alone, as a kernel does that forgets the rest."""

    statement = _statement("blocks", supports=_supports())
    block = 64

    def moments(self, x):
        """Return mean and variance of the first block."""
        rows = np.moveaxis(x, self.axes, range(len(self.axes)))
        rows = rows.reshape((-1,) + rows.shape[len(self.axes) :])[: self.block]
        shape = [1 if i in self.axes else size for i, size in enumerate(x.shape)]
        return rows.mean(0).reshape(shape), rows.var(0).reshape(shape)


class Blocks1024(Blocks):
    """The same of 1024."""

    statement = dict(Blocks.statement, id="undescribed.blocks1024")
    block = 1024


class MomentumSwapped(calibration.TwoPass):
    """Takes momentum for the fraction that is updated."""

    statement = _statement("momentum_swapped", supports=_supports())

    def run(self, case):
        """Yield steps with the other momentum."""
        case.native["momentum"] = 1.0 - case.native["momentum"]
        return super(MomentumSwapped, self).run(case)


IMPLEMENTATIONS = [
    Folded,
    FoldedFast,
    InferenceOnly,
    Unasked,
    Exact,
    HalfToSingle,
    StoresUnbiased,
    SaysUnbiasedOfTraining,
    TrainsUnbiased,
    NoRankThree,
]
IMPLEMENTATIONS += [MovesInBackward, Blocks, Blocks1024, MomentumSwapped]
