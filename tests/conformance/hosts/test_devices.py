"""Devices: a dimension of every implementation, chosen by option or by id, declared by rules, recorded in the run."""

from __future__ import annotations

import functools
import importlib
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from conformance.cli.main import main
from conformance.hosts import doctor, roster, seen, worker
from conformance.hosts.environment import Environment, Limits
from conformance.hosts.participants import Participants
from conformance.model.case_facts import step_facts
from conformance.runs import run_file, summary
from conformance.runs.campaign import Campaign, Options
from conformance.runs.progress import Progress
from conformance.studies.audit import making

ADAPTER = Path(__file__).parents[1] / "adapters" / "devices.py"
GPU = any(part.there for part in doctor._gpu(needed=False) if part.part == "GPU")


@pytest.fixture(scope="module")
def run_on(tmp_path_factory):
    """Run an implementation of the tests on devices, all in one run, and return it; the same one is run once."""

    @functools.cache
    def go(name, *devices):
        entries = [e for d in devices for e in roster.select((f"{ADAPTER}:{name}",), d)]
        who, folder = (
            Participants(entries, requested=True, limits=Limits(case=60, memory=4)),
            tmp_path_factory.mktemp("run"),
        )
        Campaign(Options(who, folder, cases=60), Progress()).run()
        return run_file.read(folder)

    return go


def test_each_device_is_held_to_its_own_promise(run_on):
    """Rules that name a device decide class and epsilon floor there and only there; both conform in one run."""
    found = run_on("Both", "cpu", "cuda")
    rows = {row.id: row for row in summary.rows(found)}
    assert list(rows) == ["devices.both@cpu", "devices.both@cuda"]
    assert all(row.conforms for row in rows.values())
    assert (rows["devices.both@cpu"].classes, rows["devices.both@cuda"].classes) == (["A·S"], ["B·S"])


def test_what_a_device_does_unsaid_is_a_failure(run_on):
    """The same implementation without the rule passes on the CPU and fails on the other device."""
    found = run_on("Silent", "cpu", "cuda")
    assert {row.id: row.conforms for row in summary.rows(found)} == {
        "devices.silent@cpu": True,
        "devices.silent@cuda": False,
    }


def test_what_it_runs_on_is_recorded(run_on):
    """The implementation's record has the device and what it says of it."""
    cpu, cuda = run_on("Both", "cpu", "cuda").implementations
    assert (cpu.device, cpu.about) == ("cpu", {})
    assert cuda.device == "cuda"
    assert cuda.about.items() >= {"gpu": "made of paper", "tf32": "off"}.items()


def test_a_lost_gpu_is_the_fault_of_whom_it_was_lost_in(run_on):
    """What every call says after it costs a new process and no verdict: one case in three crashes, the rest conform."""
    found = run_on("Lost", "cuda")
    outcomes = [r for r in found.results if r.outcome == "Crashed"]
    cases = {r.case for r in found.results if r.verdict != "UNSUPPORTED"}
    assert 3 < len(cases) // 3 <= len(outcomes) <= -(-len(cases) // 3)
    assert all("the GPU was lost: RuntimeError: CUDA error" in r.reason for r in outcomes)
    assert {r.verdict for r in found.results if r.case not in {o.case for o in outcomes}} <= {
        "PASS",
        "UNSUPPORTED",
        "INCONCLUSIVE",
    }


def test_a_build_without_the_device_is_missed_only_by_whom_it_was_asked_of_by_name(tmp_path):
    """Beside another that has the device a run is complete without it, and notes it; by name it is incomplete."""
    both, built = (roster.select((f"{ADAPTER}:{name}",), "cuda")[0] for name in ("Both", "BuiltForCpu"))
    for requested in (False, True):
        folder = tmp_path / str(requested)
        Campaign(Options(Participants([both, built], requested=requested), folder, cases=3), Progress()).run()
        found = run_file.read(folder)
        reasons = {record.id: record.reason for record in found.implementations}
        assert reasons == {both.id: "", built.id: "NoDevice: it is built for the CPU alone"}
        assert found.complete is not requested


def test_the_environment_of_a_worker_keeps_what_the_user_says(monkeypatch):
    """The user's XLA flags come last, JAX sees the CPU alone on a CPU, and CUDA reserves what memory it likes."""
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=/tmp/x")
    cpu, cuda = (Environment("any", device=device) for device in ("cpu", "cuda"))
    for host in (cpu, cuda):
        assert host.settings()["XLA_FLAGS"].split()[-1] == "--xla_dump_to=/tmp/x"
        assert "--xla_cpu_multi_thread_eigen=false" in host.settings()["XLA_FLAGS"]
    assert (cpu.settings()["JAX_PLATFORMS"], "JAX_PLATFORMS" in cuda.settings()) == ("cpu", False)
    assert [host.command(Limits())[-1] for host in (cpu, cuda)] == ["8.0", "0.0"]
    assert [host.command(Limits(memory=2))[-1] for host in (cpu, cuda)] == ["2", "0.0"]


@pytest.mark.framework("torch")
@pytest.mark.parametrize("layout", ["C", "F", "strided", "channels_last", "offset", "reversed", "read_only"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_an_array_lies_on_another_device_as_it_did(layout, dtype):
    """Strides and the distance from a boundary are those of the host's array, and so are its values."""
    subject = importlib.import_module("conformance.implementations.torch").Functional("cpu")
    array = seen._laid_out(np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5).astype(dtype), layout)
    here = subject.tensor(array)
    subject.device = "cpu:0"  # which is another to the adapter, and is there
    there = subject.tensor(array)
    assert there.stride() == here.stride()
    assert there.data_ptr() % 16 == here.data_ptr() % 16
    assert there.data_ptr() != here.data_ptr()
    assert (there == here).all()


@pytest.mark.parametrize(
    ("pattern", "device", "devices"),
    [
        ("torch.F.batch_norm", "cpu", {"cpu"}),
        ("torch.F.batch_norm", "cuda", {"cuda"}),
        ("torch.F.batch_norm@cuda", "cpu", {"cuda"}),
        ("torch.F.batch_norm@cpu", "cuda", {"cpu"}),
        ("torch.F.batch_norm@*", "cpu", {"cpu", "cuda"}),
    ],
)
def test_a_pattern_chooses_the_device_and_the_option_what_it_leaves_open(pattern, device, devices):
    """`@cuda` in the id wins over --device; each device has a worker of its own."""
    entries = roster.select((pattern,), device)
    assert {entry.device for entry in entries} == devices
    assert all(entry.statement.device == entry.device for entry in entries)
    hosts = roster.environments(entries, {})
    assert {host.device for host in hosts} == devices
    assert len({host.name for host in hosts}) == len(devices)


def test_every_torch_and_jax_implementation_has_both_devices():
    """What runs on the CPU may run on a GPU, but for what is NumPy or an old TensorFlow."""
    by_device = {d: {e.statement.id for e in roster.built_in(d)} for d in roster.DEVICES}
    there = by_device["cuda"] | {"torch.nn.SyncBatchNorm"}  # which needs a process for each GPU
    without = {entry.environment for entry in roster.built_in() if entry.statement.id not in there}
    assert by_device["cuda"] - {"torch.F.batch_norm+no_cudnn"} < by_device["cpu"]
    assert without == {"numpy", "keras-numpy", "jax-replicas", "tensorflow-replicas", "jax-shards", "tf-1.15", "tf-1.7"}


@pytest.mark.framework("torch", "jax", "haiku", "tensorflow")
@pytest.mark.skipif(GPU, reason="there is a GPU; this is about machines without")
def test_a_gpu_that_was_asked_for_and_is_not_there_is_incomplete(tmp_path):
    """Exit 3, each implementation with the reason; what else was asked for is judged."""
    arguments = [
        "-i",
        "torch.F.batch_norm@cuda",
        "-i",
        "haiku.*@cuda",
        "-i",
        "tf.raw*@cuda",
        "-i",
        "numpy.two_pass",
        "--cases",
        "6",
    ]
    result = CliRunner().invoke(main, ["run", *arguments, "--out", str(tmp_path)])
    found = run_file.read(tmp_path)
    reasons = {r.id: r.reason for r in found.implementations}
    assert result.exit_code == 3
    assert "finds no CUDA device" in reasons["torch.F.batch_norm@cuda"]
    assert "finds no device cuda" in reasons["haiku.BatchNorm+jit@cuda"]
    assert "finds no CUDA device" in reasons["tf.raw_ops.FusedBatchNormV3@cuda"]
    assert {r.implementation for r in found.results} == {"numpy.two_pass@cpu"}


@pytest.mark.framework("torch")
@pytest.mark.skipif(not GPU, reason="no GPU: nvidia-smi finds none")
def test_torch_on_a_gpu_is_judged_and_says_where(tmp_path):
    """With a GPU, torch is judged on it, and the run names the GPU, its driver, CUDA, cuDNN and TF32."""
    entries = roster.select(("torch.F.batch_norm@cuda",))
    Campaign(Options(Participants(entries, requested=True), tmp_path, cases=60), Progress()).run()
    found = run_file.read(tmp_path)
    assert found.complete
    assert {"gpu", "driver", "cuda", "cudnn", "tf32"} <= set(found.implementations[0].about)
    assert summary.rows(found)[0].verdicts.get("PASS")


def test_nothing_unmeasured_is_promised_on_a_gpu():
    """What runs there promises sums of any order, and says in its statement that it is a guess."""
    unmeasured = [e for e in roster.built_in("cuda") if e.environment != "onnx"]
    assert len(unmeasured) > 40
    about = step_facts(making.plain(making.InputLayout("rank 4, axis 1", (4, 3, 2, 1), 1), "train"), 0)
    for entry in unmeasured:
        (rule,) = (r for r in entry.statement.rules if r.when == {"device": ["cuda"]})
        assert rule.cite.startswith("not measured yet")
        assert entry.statement.numerics(about, "train", "y").sums == "serial"


@pytest.mark.framework("torch")
def test_what_is_of_a_gpu_alone_is_on_no_cpu():
    """Batch normalization without cuDNN is in the roster of GPUs, and a worker on the CPU does not host it."""
    on = {device: {e.statement.id for e in roster.built_in(device)} for device in ("cpu", "cuda")}
    assert on["cuda"] - on["cpu"] == {"torch.F.batch_norm+no_cudnn"}
    ready, listing = worker.instantiate([f"{roster.ADAPTERS / 'torch.py'}:WithoutCudnn"], "cpu")
    assert (ready, listing) == ({}, [])


@pytest.mark.framework("torch")
def test_cudnn_is_off_while_it_is_called_and_no_longer():
    """The function sees `torch.backends.cudnn.enabled` False; what is called after it sees what the user has set."""
    torch = pytest.importorskip("torch")
    subject = importlib.import_module("conformance.implementations.torch").WithoutCudnn("cpu")
    seen_there = subject.prepared(lambda: torch.backends.cudnn.enabled)()
    assert (seen_there, torch.backends.cudnn.enabled) == (False, True)
