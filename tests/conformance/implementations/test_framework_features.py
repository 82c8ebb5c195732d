"""Real frameworks on what they offer beyond the plain layer: they agree with the reference wherever they are asked."""

from __future__ import annotations

import pytest

from conformance.cases import strategies
from conformance.cases.cells import SMOKE
from conformance.hosts import roster
from conformance.hosts.participants import Participants
from conformance.runs import run_file
from conformance.runs.campaign import Campaign, Options
from conformance.runs.progress import Progress
from conformance.runs.run_case import RunCase

pytestmark = [
    pytest.mark.framework("torch", "jax", "flax", "equinox", "onnx"),
    pytest.mark.xdist_group("framework features"),  # one run serves them all
]

SEED = 20  # whose pooled mask hides single values of a large batch: a wrong one shows

OFFERED = [
    ("torch.F.batch_norm", "forward", "y_tangent"),
    ("torch.F.batch_norm", "second order", "dx_tangent"),
    ("torch.F.batch_norm", "second order", "dgamma_tangent"),
    ("torch.F.batch_norm", "half parameters", "dx"),
    ("torch.F.batch_norm+func", "forward", "y_tangent"),
    ("torch.F.batch_norm+func", "second order", "dx_tangent"),
    ("torch.F.batch_norm+hessian", "second order", "dx_tangent"),
    ("torch.F.batch_norm+hessian", "second order", "dgamma_tangent"),
    ("torch.F.batch_norm+vmap", "second order", "dx_tangent"),
    ("torch.nn.BatchNorm1d", "cumulative", "moving_variance"),
    ("torch.nn.BatchNorm1d", "frozen", "moving_mean"),
    ("torch.nn.BatchNorm2d+script", "half parameters", "y"),
    ("flax.linen.BatchNorm+two_pass+jit", "mask", "y"),
    ("flax.linen.BatchNorm+two_pass+jit", "mask", "dx"),
    ("flax.linen.BatchNorm+two_pass+jit", "mask", "moving_variance"),
    ("flax.linen.BatchNorm+two_pass+jit", "forward", "y_tangent"),
    ("flax.linen.BatchNorm+two_pass+jit", "second order", "dx_tangent"),
    ("flax.linen.BatchNorm+two_pass+jit", "half parameters", "moving_mean"),
    ("flax.linen.BatchNorm+native_half+jit", "half parameters", "moving_mean"),
    ("equinox.BatchNorm+ema+jit", "second order", "dx_tangent"),
    ("onnx.reference.BatchNormalization+opset15", "half parameters", "y"),
]


@pytest.fixture(scope="module")
def featured(tmp_path_factory):
    """Return a run of one case per cell, of the features that are offered alone."""
    folder, names = tmp_path_factory.mktemp("featured"), tuple(dict.fromkeys(name for name, _, _ in OFFERED))
    offered = {feature for _, feature, _ in OFFERED}
    drawn = [one for one in strategies.cases(SEED, SMOKE) if one[0].signature.feature in offered]
    items = [RunCase(index, recipe, case) for index, (recipe, case) in enumerate(drawn)]
    who = Participants(roster.select(names), requested=True)
    Campaign(Options(who, folder, seed=SEED, cases=len(items), corpus=False), Progress(), items=items).run()
    return run_file.read(folder)


def judged(run, name, feature):
    """Return the judged arrays of an implementation in the cells of a feature."""
    asked = {case for case, c in run.cases.items() if c.recipe.get("signature", {}).get("feature") == feature}
    found = [r for r in run.results if r.implementation == f"{name}@cpu" and r.case in asked]
    return [r for r in found if r.verdict in ("PASS", "FAIL", "ERROR")]


@pytest.mark.proof
@pytest.mark.parametrize(("name", "feature", "output"), OFFERED)
def test_framework_agrees_with_the_reference(featured, name, feature, output):
    """The output is judged where the feature is asked for, and is within its bound."""
    verdicts = [r.verdict for r in judged(featured, name, feature) if r.output in (output, "outcome")]
    assert set(verdicts) == {"PASS"}


def test_a_frozen_module_of_torch_gives_no_gradient_of_its_parameters(featured):
    """requires_grad=False: x has its gradient and the statistics move, but gamma and beta have none."""
    outputs = {r.output for r in judged(featured, "torch.nn.BatchNorm1d", "frozen")}
    assert outputs == {"y", "dx", "moving_mean", "moving_variance"}
