"""The reference itself, computing in the case's own dtype: class A with every feature, to hold the bounds to."""

import numpy as np

from reference import (
    Adjustment,
    Clipping,
    Curvatures,
    Parameters,
    Semantics,
    Spec,
    State,
    Tangent,
    batch_weights,
    infer,
    infer_gradients,
    infer_second_order,
    infer_tangents,
    train,
    train_gradients,
    train_second_order,
    train_tangents,
    train_third_order,
)
from reference.renorm import started
from reference.spec import kept_shape

_ALL = [False, True]
_LAYOUTS = ["C", "F", "strided", "channels_last", "offset", "reversed", "read_only"]


class Subject(object):
    """Every feature, in float32 or float64."""

    semantics = {}
    statement = {
        "id": "reference.subject",
        "packages": ["numpy"],
        "documentation": "reference/README.md",
        "conventions": {},
        "supports": {
            "dtype": ["float32"],
            "differentiation": ["none", "reverse", "forward", "reverse_over_reverse", "forward_over_reverse"]
            + ["forward_over_forward", "third"],
            "mask": [False, "full", "spread", "without_last"],
            "weights": _ALL,
            "begun": _ALL,
            "odd": [False, "momentum", "epsilon", "nan_epsilon", "statistics"],
            "input": ["stored", "int32", "uint8", "bool", "complex64", "float8_e4m3fn", "float8_e5m2"],
            "scalars": ["number", "float64", "float32", "array"],
            "dy_layout": _LAYOUTS,
            "layer_layout": _LAYOUTS,
            "updates": _ALL,
            "of": ["y", "statistics", "state"],
            "replicas": [False, "even", "uneven", "empty"],
            "along": ["x", "parameters", "all"],
            "virtual": _ALL,
            "renorm": _ALL,
            "adjustment": _ALL,
            "cumulative": _ALL,
            "start": ["given", "own"],
        },
        "outputs": ["y", "dx", "dgamma", "dbeta", "moving_mean", "moving_variance", "mean", "variance"]
        + ["moving_stddev", "renorm_mean", "renorm_stddev", "y_tangent", "dx_tangent", "dgamma_tangent"]
        + ["y_tangent2", "dx_tangent2", "dgamma_tangent2", "moving_mean_tangent", "moving_variance_tangent"],
        # its mean is corrected by that of x - m, which rounds the distance as running means do
        "rules": [
            {
                "cite": "its lines",
                "numerics": {"sums": "tree", "variance": "stable", "merge": "moved"},
                "semantics": semantics,
            }
        ],
    }

    def __init__(self, device):
        """Nothing to import."""

    def run(self, case):
        """Yield the outputs of each step."""
        axis = case.spec["axis"]
        fields = dict(case.spec, axis=tuple(axis) if isinstance(axis, list) else axis)
        if fields["renorm_clipping"] is not None:
            fields["renorm_clipping"] = Clipping(**fields["renorm_clipping"])
        spec, semantics = Spec(**fields), Semantics(**self.semantics)
        kept = kept_shape(spec, case.steps[0].x.shape)
        mean = np.zeros(kept, np.float32) if case.mean is None else case.mean
        state = State(mean, np.ones(kept, np.float32) if case.variance is None else case.variance, case.batches)
        for step in case.steps:
            x = np.ascontiguousarray(step.x.imag if case.complex else step.x, case.dtypes["x"])
            out, state = self.step(x, step, Parameters(case.gamma, case.beta), state, spec, semantics)
            renorm = state.renorm or started(state, spec, semantics)
            out.update(moving_mean=state.mean, moving_variance=state.variance)
            if spec.renorm:
                out.update(moving_stddev=renorm.moving_stddev, renorm_mean=renorm.mean, renorm_stddev=renorm.stddev)
            turned = {name for name in out if case.complex and not name.endswith("variance")}
            yield {n: np.asarray(array, x.dtype) * (1j if n in turned else 1) for n, array in out.items()}

    def step(self, x, step, parameters, state, spec, semantics):
        """Return the outputs of one step, and the state after it."""
        more = {"mask": step.mask, "updating": step.update}
        if step.adjustment is not None:
            more["adjustment"] = Adjustment(*step.adjustment)
        common, new = (parameters, state, spec, semantics), state
        if step.training:
            trained = train(x, *common, **more)
            out, new = {"y": trained.y, "mean": trained.mean, "variance": trained.variance}, trained.state
        else:
            more, out = {}, {"y": infer(x, *common)}
        if step.dy is None:
            return out, new
        ask = (train_gradients, train_tangents, train_second_order)
        gradients, tangents, second = ask if step.training else (infer_gradients, infer_tangents, infer_second_order)
        given = self.given(x, step, common)
        found = gradients(x, step.dy, *common, **more, **given)
        out.update(dx=found.dx, dgamma=found.dgamma, dbeta=found.dbeta)
        if step.forward:
            out["y_tangent"] = tangents(x, Tangent(step.tangent), *common, **more).y
        if step.everywhere:
            out.update(self.everywhere(x, step, tangents, common))
        elif step.along:
            tangent = Tangent(0 * x, step.direction.get("dgamma"), step.direction.get("dbeta"))
            found = second(x, step.dy, tangent, *common, **more)
            out.update(dx_tangent=found.dx, y_tangent=tangents(x, tangent, *common, **more).y)
        elif step.second:
            found = second(x, step.dy, Tangent(step.tangent), *common, **more)
            out.update(dx_tangent=found.dx, dgamma_tangent=found.dgamma)
        if step.forward_twice or step.third:
            found = self.twice(x, step, common, more)
            out.update(y_tangent2=found.y, dx_tangent2=found.dx, dgamma_tangent2=found.dgamma)
        return out, new

    def given(self, x, step, common):
        """Return the cotangents of the batch's mean and variance, or what those of the new statistics are worth."""
        given = {f"d{name}": cotangent for name, cotangent in step.cotangents.items() if name != "y"}
        if "moving_mean" not in step.cotangents:
            return given
        of_mean, of_variance = batch_weights(x, *common[1:], step.update)
        return {"dmean": given["dmoving_mean"] * of_mean, "dvariance": given["dmoving_variance"] * of_variance}

    def everywhere(self, x, step, tangents, common):
        """Return the derivatives along a tangent of all inputs."""
        along = Tangent(step.tangent, *map(step.direction.get, ("dgamma", "dbeta")), *step.directions)
        rates, weights = tangents(x, along, *common), (0, 0)
        if step.training:
            weights = batch_weights(x, *common[1:], step.update)
        out = {"y_tangent": rates.y, "moving_mean_tangent": weights[0] * rates.mean}
        return dict(out, moving_variance_tangent=weights[1] * rates.variance)

    def twice(self, x, step, common, more):
        """Return the second derivatives along the tangent."""
        if step.training:
            return train_third_order(x, step.dy, step.tangent, *common, **more)
        return Curvatures(np.zeros_like(x), np.zeros_like(x), np.zeros_like(common[1].mean))


IMPLEMENTATIONS = [Subject]
