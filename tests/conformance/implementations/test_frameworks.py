"""Real frameworks, each in its worker: what a reduced run must say of them."""

from __future__ import annotations

import os
import signal

import msgspec
import pytest

from conformance.gate import divergences
from conformance.gate.explanation import explain
from conformance.hosts import roster
from conformance.runs import run_file, summary

pytestmark = [
    pytest.mark.framework("torch", "tensorflow", "tf_keras", "keras", "jax", "flax", "haiku", "equinox"),
    pytest.mark.xdist_group("frameworks"),  # one run serves them all
]

CONFORMING = ("tf.raw_ops.FusedBatchNormV3@cpu", "flax.linen.BatchNorm+two_pass+jit@cpu", "torch.nn.BatchNorm2d@cpu")
ROSTER = (
    "numpy.*",
    "torch.F.batch_norm",
    "torch.nn.BatchNorm?d",
    "tf.raw_ops.FusedBatchNormV3",
    "tf.nn.batch_normalization",
    "tf_keras.BatchNormalization",
    "keras.BatchNormalization+tensorflow",
    "flax.linen.BatchNorm+jit",
    "flax.linen.BatchNorm+two_pass+jit",
    "haiku.*+jit",
    "equinox.*+jit",
)
CASES = 80  # of every plain cell, and of some features
HALF = ("bfloat16", "float16")


@pytest.fixture(scope="module")
def everything(of_everything):
    """Return a run of what most people call, and of the corpus."""
    return of_everything(*ROSTER, cases=CASES)[0]


@pytest.fixture(scope="module")
def explained(of_everything):
    """Return every failure of that run with what known divergences say of it."""
    found, folder = of_everything(*ROSTER, cases=CASES)
    return explain(folder, found, divergences.read())


def failures(run, identity):
    """Return the failures of one implementation."""
    return [r for r in run.results if r.implementation == identity and r.verdict in ("FAIL", "ERROR")]


def test_ten_implementations_of_three_frameworks_are_judged(everything):
    """The run is complete and every implementation has a ρ for y, in training or in inference."""
    rows = [row for row in summary.rows(everything) if row.framework != "numpy"]
    assert everything.complete, everything.reasons
    assert len(rows) >= 10
    assert {"torch", "tf", "flax"} <= {row.framework for row in rows}
    judged = {row.id: [w.rho for c, w in row.outputs.items() if c in ("y train", "y infer")] for row in rows}
    assert [i for i, found in judged.items() if all(rho is None for rho in found)] == []


@pytest.mark.parametrize("identity", CONFORMING)
def test_two_pass_kernels_conform_everywhere(everything, identity):
    """torch, TensorFlow's fused kernel and flax's two-pass variance keep their promise on every case in float32."""
    words = ("no rows", "no-rows", "gradients of statistics", "gradient-of-the-returned-mean")  # as divergences say
    known = {name for name, c in everything.cases.items() if any(word in (c.cell + c.name) for word in words)}
    failed = {r.case for r in failures(everything, identity)} - (known if "raw_ops" in identity else set())
    assert {name for name, record in everything.cases.items() if record.dtype == "float32"} & failed == set()


def test_every_failure_is_explained(explained):
    """What fails in the run is known, and behaves as known divergences predict."""
    assert [e for e in explained if e.kind != "explained"] == []
    assert {"torch-half-not-contiguous", "moments-stop-the-mean"} <= {name for e in explained for name in e.divergences}


def test_torch_departs_only_for_half_inputs_that_are_not_contiguous(everything):
    """Where nothing odd is asked, its one departure: gradients of half input whose memory is not contiguous."""
    apart = {
        "later gradients",
        "two places",
        "recomputed",
        "misfit parameters",
        "no channels",
    }  # which have divergences of their own
    for failure in failures(everything, "torch.F.batch_norm@cpu"):
        recipe = everything.cases[failure.case].recipe
        if (
            not recipe or recipe["signature"].get("feature") in apart
        ):  # or of the corpus, where the case that shows it is
            continue
        assert recipe["signature"]["dtypes"]["x"] in HALF
        assert recipe["layout"] != "C"
        assert failure.output in ("dx", "dbeta", "dgamma")


def test_flax_default_is_outside_class_a_and_inside_class_b(everything):
    """The fast variance shows: judged as two-pass it is off by orders of magnitude, as what it promises it conforms."""
    row = next(r for r in summary.rows(everything) if r.id == "flax.linen.BatchNorm+jit@cpu")
    assert summary.as_number(row.class_a) > 100
    assert 0.1 < summary.as_number(row.outputs["y train"].rho) <= 1
    found = [everything.cases[r.case] for r in failures(everything, row.id)]  # where it starts in float32
    assert {c.recipe["signature"].get("feature") for c in found if c.recipe} <= {"own start", "mixed dtypes"}
    assert all("own-start" in c.name or "statistics-in-float32" in c.name for c in found if c.name)


def test_each_framework_is_loaded_by_its_own_worker_only(everything):
    """An implementation's versions name its own packages and no other framework's."""
    for record in everything.implementations:
        names = set(record.versions) - {"python", "numpy"}
        assert names <= set(next(e for e in roster.built_in() if e.id == record.id).statement.packages)
        assert names or record.framework == "numpy"


def test_a_killed_tensorflow_worker_costs_one_case(tmp_path, bnconf, wait_for_results):
    """kill -9 on TensorFlow's worker in mid-run: one case is Crashed, the run completes with exit 0."""
    process = bnconf("run", "-i", "tf.*BatchNormV3", "-i", "numpy.two_pass", "--cases", "120", "--out", "r")
    path = tmp_path / "r" / "run.jsonl"
    wait_for_results(path, 5, of='"implementation":"tf.')
    workers = [msgspec.json.decode(line) for line in path.read_bytes().splitlines() if b'"type":"worker"' in line]
    os.kill(next(w["pid"] for w in workers if w["environment"] == "tensorflow"), signal.SIGKILL)
    _, errors = process.communicate(timeout=300)
    found = run_file.read(tmp_path / "r")
    crashed = [r for r in found.results if r.outcome == "Crashed"]
    assert process.returncode == 0, errors
    assert found.complete
    assert [(r.implementation, "Killed" in r.reason) for r in crashed] == [("tf.raw_ops.FusedBatchNormV3@cpu", True)]
    assert len({r.case for r in found.results if r.implementation.startswith("tf.")}) == len(found.cases)
