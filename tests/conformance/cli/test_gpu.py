"""`bnconf gpu`: one archive of what a machine's GPU and its CPU answer; what is not there is left out by name."""

from __future__ import annotations

import os
import re
import sys
import tarfile
import time
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from conformance.cases import building, corpus, strategies
from conformance.cases.cells import SMOKE
from conformance.cli import gpu
from conformance.cli.main import main
from conformance.gate.baseline import read as read_baseline
from conformance.hosts import doctor, roster
from conformance.hosts.participants import Participants
from conformance.model.case_facts import every_step
from conformance.runs import run_file
from conformance.runs.campaign import Campaign, Options
from conformance.runs.progress import Progress
from conformance.runs.run_case import RunCase
from conformance.studies import deadlines, devices

ADAPTERS = Path(__file__).parents[1] / "adapters"
NO_SIZES = ("--no-sizes", "--out")


def test_without_a_gpu_it_says_so_and_asks_nothing(tmp_path, monkeypatch):
    """Exit 3, with the reason of each framework that is left out, and no folder."""
    monkeypatch.setattr(doctor, "gpu", lambda: "")
    found = CliRunner().invoke(main, ["gpu", "-i", "onnx.*", "--out", str(tmp_path / "gpu")])
    assert found.exit_code == 3
    assert "left out: " in found.output
    assert "onnx's reference evaluator has no device cuda" in found.output
    assert "nothing here finds a GPU (nvidia-smi finds none); --rehearse does without" in found.output
    assert not (tmp_path / "gpu").exists()


def test_a_folder_of_others_is_not_replaced(tmp_path):
    """Exit 2, and what was there stays."""
    (tmp_path / "mine.txt").write_text("mine")
    found = CliRunner().invoke(main, ["gpu", "-i", "numpy.two_pass", "--rehearse", "--out", str(tmp_path)])
    assert (found.exit_code, (tmp_path / "mine.txt").read_text()) == (2, "mine")
    assert "holds what bnconf gpu did not write" in found.output


def test_both_devices_in_one_archive(tmp_path):
    """What runs on both is judged on both, in shards; one archive holds all that was found."""
    target, out = f"{ADAPTERS / 'devices.py'}:Both", tmp_path / "gpu"
    found = CliRunner().invoke(main, ["gpu", "-i", target, "--cases", "8", "--shards", "2", *NO_SIZES, str(out)])
    assert (found.exit_code, "green (0)" in found.output) == (0, True), found.output
    with tarfile.open(f"{out}.tar.gz") as archive:
        names = {name.removeprefix("gpu/") for name in archive.getnames()}
    assert names >= {"run/run.jsonl", "report.html", "gate.txt", "baseline.jsonl", "devices.md", "environment.json"}
    ids = {"devices.both@cpu", "devices.both@cuda"}
    assert {r.id for r in run_file.read(out / "run").implementations} == ids
    assert {line.implementation for line in read_baseline(out / "baseline.jsonl").lines} == ids
    assert "made of paper" in (out / "environment.json").read_text()
    assert "| `devices.both` | y |" in (said := (out / "devices.md").read_text())
    assert re.search(
        "side by side: [1-9][0-9]* arrays were judged on both devices; of [0-9]+ arrays that fail", found.output
    )
    assert re.search("asked again: [1-9][0-9]* answers of 1 on cuda: 4 cases, at most 10 times each", found.output)
    assert "# Asked again\n\n40 answers of 1 on cuda" in said


def test_a_rehearsal_does_it_on_the_cpu_alone(tmp_path, monkeypatch):
    """Where there is no GPU, --rehearse runs all of it; what is not done in time is cut short, and said."""
    out = tmp_path / "gpu"
    monkeypatch.setattr(gpu, "_ASKED", 0.07)
    monkeypatch.setattr(doctor, "gpu", lambda: "")
    words = [
        "gpu",
        "--rehearse",
        "-i",
        "numpy.two_pass",
        "--cases",
        "645",
        "--shards",
        "1",
        "--minutes",
        "1",
        *NO_SIZES,
        str(out),
    ]
    found = CliRunner().invoke(main, words)
    assert "shard-1 is not done in time, and is cut short" in found.output
    assert found.exit_code == 3
    assert "left out on cuda: everything, since nvidia-smi finds no GPU" in found.output


def test_side_by_side_counts_what_fails_on_one_alone(tmp_path):
    """Every array that both devices were judged on is counted, and those that fail on the GPU alone."""
    entries = [e for d in ("cpu", "cuda") for e in roster.select((f"{ADAPTERS / 'devices.py'}:Silent",), d)]
    Campaign(Options(Participants(entries), tmp_path, cases=20), Progress()).run()
    run = run_file.read(tmp_path)
    (y,) = [pair for pair in devices.side_by_side([run], "cuda") if pair.output == "y"]
    failed = [r for r in run.results if r.output == "y" and r.verdict == "FAIL"]
    assert y.alone == (0, len(failed)) == y.failed
    assert failed
    assert y.arrays == sum(
        r.output == "y" and r.implementation.endswith("@cpu") and r.rho is not None for r in run.results
    )


@pytest.mark.parametrize(("name", "answers"), [("Both", [(0, 1, 3), (1, 1, 3)]), ("Shifting", [(0, 3, 3), (1, 3, 3)])])
def test_what_differs_from_call_to_call_is_told(name, answers, tmp_path):
    """Who gives the same bits has one answer; who adds how often it was asked has as many as it was asked."""
    (tmp_path / "shifting.py").write_text(
        "import importlib.util\n"
        f"spec = importlib.util.spec_from_file_location('devices', {str(ADAPTERS / 'devices.py')!r})\n"
        "devices = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(devices)\n"
        "class Shifting(devices.Both):\n"
        "    asked = 0\n"
        "    def run(self, case):\n"
        "        self.asked += 1\n"
        "        return [dict(out, y=out['y'] + self.asked) for out in super().run(case)]\n"
        "class Both(devices.Both):\n"
        "    pass\n"
    )
    entries = roster.select((f"{tmp_path / 'shifting.py'}:{name}",))
    case = next(named.case for named in corpus.read() if named.name == "features-by-batch-axis-0")
    found = list(devices.again([case, case], Participants(entries), 3))
    assert [(one.case, one.answers, one.asked) for one in found] == answers


def test_where_both_fail_it_is_told_whether_they_answer_the_same(tmp_path):
    """An implementation that is wrong on both devices is of one camp where its answers agree, and of two where not."""
    (tmp_path / "wrong.py").write_text(
        "import importlib.util\n"
        f"spec = importlib.util.spec_from_file_location('devices', {str(ADAPTERS / 'devices.py')!r})\n"
        "devices = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(devices)\n"
        "class Same(devices.Both):\n"
        "    statement = dict(devices._PLAIN, id='devices.same')\n"
        "    wrong = {'cpu': 1, 'cuda': 1}\n"
        "    def run(self, case):\n"
        "        calibration = devices.calibration.TwoPass('cpu')\n"
        "        return [dict(out, y=out['y'] + self.wrong[self.device]) for out in calibration.run(case)]\n"
        "class Other(Same):\n"
        "    statement = dict(devices._PLAIN, id='devices.other')\n"
        "    wrong = {'cpu': 1, 'cuda': 2}\n"
        "IMPLEMENTATIONS = [Same, Other]\n"
    )
    found = {}
    for name in ("Same", "Other"):
        entries = [e for d in ("cpu", "cuda") for e in roster.select((f"{tmp_path / 'wrong.py'}:{name}",), d)]
        Campaign(Options(Participants(entries), tmp_path / name, cases=4, corpus=False), Progress()).run()
        runs = {tmp_path / name: run_file.read(tmp_path / name)}
        found[name] = devices.camps(runs, "cuda", 1_000_000)
        failed = sum(r.verdict == "FAIL" and r.implementation.endswith("@cpu") for r in runs[tmp_path / name].results)
        counts = (failed, 0) if name == "Same" else (0, failed)
        assert found[name] == "of {} arrays that fail on both, {} are the same on both, of one camp, and {} not".format(
            failed, *counts
        )
        assert failed > 0
    assert devices.camps(runs, "cuda", 1).endswith("4 cases were not looked at")


def test_sizes_say_who_was_not_reached(tmp_path):
    """The table has each size with how many answered it, and names those who support it and were not asked in time."""
    recipes = [r for r in strategies.of_profile("sizes", 0) if r.signature.feature == "65,534 values"]
    items = [RunCase(i, recipe, building.build(recipe, 0)) for i, recipe in enumerate(recipes)]
    entries = roster.select(("numpy.two_pass", "numpy.folded"))
    Campaign(Options(Participants(entries), tmp_path), Progress(), items=items).run()
    run = run_file.read(tmp_path)
    line = "| rank 3, axis 1; 65,534 values | float32 | 196,602 | 2 |"
    assert line in devices.of_sizes([run])
    assert "| float16 | 196,602 | 0 | 0 | 0 |  |" in devices.of_sizes([run])  # which neither supports
    cut = msgspec.structs.replace(run, results=[r for r in run.results if r.implementation == "numpy.folded@cpu"])
    assert devices.of_sizes([cut]).count("| numpy.two_pass@cpu |") == 2


def ended(pid):
    """Wait until a process is gone, which takes a moment once it is killed; raise ProcessLookupError then."""
    for _ in range(50):
        os.kill(int(pid), 0)
        if Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z":
            raise ProcessLookupError
        time.sleep(0.1)


def test_what_does_not_end_in_time_is_stopped_and_then_killed(tmp_path):
    """A process that heeds no Ctrl-C is ended all the same, and what it started; those that are done are left alone."""
    said, began = [], time.monotonic()
    deaf = (
        "import pathlib, signal, subprocess, sys, time\n"
        "signal.signal(2, lambda *_: None)\n"
        "child = subprocess.Popen(['sleep', sys.argv[1]], start_new_session=True)\n"
        "pathlib.Path(sys.argv[3] + '.pid').write_text(str(child.pid))\n"
        "time.sleep(float(sys.argv[1]))\n"
    )
    runs = deadlines.Deadline(began, began, said.append, (sys.executable, "-c", deaf))
    runs.start(tmp_path / "quick", ["0"])
    runs.start(tmp_path / "deaf", ["600"])
    while not (tmp_path / "deaf.pid").exists() or runs._running["quick"].poll() is None:
        time.sleep(0.1)
    runs._last = time.monotonic() + 0.5
    runs.end()
    assert said == ["deaf is not done in time, and is cut short"]
    assert time.monotonic() - began < 300
    with pytest.raises(ProcessLookupError):
        ended((tmp_path / "deaf.pid").read_text())


@pytest.mark.parametrize(
    ("memory", "of_the_gpu", "why"),
    [
        (16 << 30, 200 << 30, "it needs 84 GiB of memory beside all else, and 16 are free"),
        (100 << 30, 24 << 30, "it needs 56 GiB of the GPU, and 24 are free"),
        (100 << 30, 100 << 30, ""),
    ],
)
def test_what_is_huge_is_asked_where_there_is_room(memory, of_the_gpu, why, monkeypatch):
    """More than 2^31 elements need memory beside all that runs at that time, and of the GPU; else it is said."""
    monkeypatch.setattr(gpu.machine, "available_memory", lambda: memory)
    monkeypatch.setattr(doctor, "gpu_memory", lambda: of_the_gpu)
    assert gpu._no_room("cuda") == why


@pytest.fixture(scope="module")
def asked():
    """Return the cases that the command asks of every roster, but for the largest, with the facts of their steps."""
    recipes = [recipe for recipe in strategies.of_profile("sizes", 0) if building.size(recipe) < 1 << 22]
    cases = [case for _, case in strategies.cases(0, SMOKE)]
    return [(case, every_step(case)) for case in [*cases, *(building.build(recipe, 0) for recipe in recipes)]]


@pytest.mark.parametrize("name", ["torch.F.batch_norm", "torch.F.batch_norm+no_cudnn", "torch.nn.BatchNorm2d"])
def test_a_gpu_is_asked_what_cudnn_has_kernels_for(name, asked):
    """By cuDNN and without it: channels last in float32, both halves, and these beside parameters of float32."""
    (entry,) = roster.select((f"{name}@cuda",))
    there = {
        (case.dtypes.x, case.dtypes.parameters)
        for case, facts in asked
        if case.layout == "channels_last" and facts[0].rank == 4 and not entry.statement.unsupported(*facts)
    }
    assert there >= {("float32", "float32"), ("float16", "float32"), ("bfloat16", "float32"), ("bfloat16", "bfloat16")}


def test_a_gpu_is_asked_of_what_is_compiled_for_it(asked):
    """torch.compile, which is Triton there, JAX and Keras are on its roster and asked; SyncBatchNorm is not."""
    here = {entry.statement.id: entry for entry in roster.built_in("cuda")}
    assert "torch.nn.SyncBatchNorm" not in here  # it needs a process for each GPU
    for name in (
        "torch.F.batch_norm+compile",
        "flax.linen.BatchNorm+jit",
        "flax.nnx.BatchNorm+jit",
        "haiku.BatchNorm+jit",
        "equinox.BatchNorm+batch+jit",
        "keras.BatchNormalization+torch",
        "keras.BatchNormalization+jax+jit",
        "tf_keras.BatchNormalization",
    ):
        supported = [case for case, facts in asked if not here[name].statement.unsupported(*facts)]
        assert len(supported) > 15, name
