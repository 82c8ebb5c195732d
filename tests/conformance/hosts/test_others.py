"""The second roster: asked by name alone, from environments of their own."""

from __future__ import annotations

import shutil
import subprocess
import sys

import numpy as np
import pytest

from conformance.hosts import roster, venvs, worker
from conformance.model.errors import InvalidInput

OTHERS = [entry.id for entry in roster.others()]


@pytest.mark.parametrize("patterns", [(), ("*",), ("*@cpu",), ("torch*",), ("*.batch_norm*",)])
def test_a_run_of_everything_asks_none_of_them(patterns):
    """What names something of the first roster, names nothing of the second."""
    assert not {entry.id for entry in roster.select(patterns)} & set(OTHERS)


@pytest.mark.parametrize("identity", OTHERS)
def test_each_is_asked_by_its_id_and_by_its_name(identity):
    """An id, with or without its device, and a pattern of its library, choose it."""
    name = identity.removesuffix("@cpu")
    assert [entry.id for entry in roster.select((identity,))] == [identity]
    assert [entry.id for entry in roster.select((name,))] == [identity]
    assert identity in [entry.id for entry in roster.select((f"{name.partition('.')[0]}.*",))]


def test_they_run_on_the_cpu_alone():
    """A pattern for another device names none of them, and is told so."""
    with pytest.raises(InvalidInput, match="no such implementation"):
        roster.select((OTHERS[0].replace("@cpu", "@cuda"),))


def test_each_environment_hosts_some():
    """Every environment that can be created for the second roster has an adapter, and no other is named."""
    assert {entry.environment for entry in roster.others()} == set(venvs.OTHERS)


def test_one_that_is_not_created_says_how(monkeypatch):
    """The worker's command is missing, and the reason names the command that makes it."""
    monkeypatch.setattr(venvs, "python", lambda _name: "")
    (host,) = roster.environments(roster.select(("mlx.*",)), {})
    assert (host.name, host.python) == ("mlx", "")


def test_an_error_of_their_adapters_is_no_refusal():
    """What an adapter of the second roster raises itself is a fault of the adapter."""
    (adapter,) = [module for module in roster.others() if module.id.startswith("mlx.")]
    (cls,) = worker.by_path(adapter.target).IMPLEMENTATIONS
    outcomes, _ = worker.run(cls.__new__(cls), None)
    assert [outcome.get("by_adapter") for outcome in outcomes] == [True]


def test_reading_their_statements_imports_no_library():
    """A list of what there is costs no import of any of the libraries."""
    names = (
        "ai_edge_litert",
        "mlx",
        "numba",
        "openvino",
        "paddle",
        "tensorflow",
        "timm",
        "tinygrad",
        "torch",
        "triton",
    )
    program = (
        f"import sys; from conformance.hosts import roster; roster.others(); print({{*{names}}} & {{*sys.modules}})"
    )
    asked = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert asked.stdout == "set()\n"


_WRITES = """
const { model } = require(process.argv[1]);
const constant = (...data) => ({ shape: [data.length], data: Float32Array.from(data) });
const constants = { gamma: constant(2, 1), beta: constant(1, 0), m: constant(0, 0), v: constant(1, 1) };
const attributes = { epsilon: 1, momentum: 0.75, training_mode: 1 };
const outputs = { y: [300, 2], mean: [2], variance: [2] };
process.stdout.write(model("BatchNormalization", 15, { x: [300, 2] }, constants, outputs, attributes));
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="no Node.js on PATH; install nodejs to write the model")
def test_the_onnx_model_that_javascript_writes_means_what_was_asked():
    """onnx checks the model, and evaluates it: constants, attributes and sizes of more than a byte are as given."""
    onnx, reference = pytest.importorskip("onnx"), pytest.importorskip("onnx.reference")
    beside = roster.ADAPTERS / "others" / "javascript" / "onnx.js"
    written = subprocess.run(["node", "-e", _WRITES, str(beside)], capture_output=True, check=True).stdout
    made = onnx.load_from_string(written)
    onnx.checker.check_model(made, full_check=True)
    x = np.array([[1, 5], [-1, 5]] * 150, np.float32)  # means 0 and 5, variances 1 and 0
    y, mean, variance = reference.ReferenceEvaluator(made).run(None, {"x": x})
    assert y == pytest.approx(np.stack([1 + 2 * x[:, 0] / np.sqrt(2), 0 * x[:, 1]], 1))
    assert mean == pytest.approx([0, 1.25])
    assert variance == pytest.approx([1, 0.75])
