"""`bnconf run --ray`: a run over a cluster is the run of one machine, whatever arrives when, and whatever is lost."""

from __future__ import annotations

import functools
import importlib.util
import io
import json
import subprocess
import sys
import time
import types
import zipfile
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from conformance.cli import spreading
from conformance.cli.main import main
from conformance.hosts.environment import Limits
from conformance.hosts.participants import Participants
from conformance.hosts.roster import select
from conformance.model.errors import Incomplete, InvalidInput
from conformance.runs import run_file
from conformance.runs.campaign import Options
from conformance.runs.cluster import tasks
from conformance.runs.cluster.arrivals import Arrivals
from conformance.runs.cluster.blocks import answer, cut

TIMES = {"command", "started", "seconds", "cpu", "timetable"}
ROOT = Path(__file__).parents[3]
HAS_RAY = importlib.util.find_spec("ray") is not None
CLUSTER = """
import sys, time
from pathlib import Path
from ray.cluster_utils import Cluster

small = {"object_store_memory": 100 << 20}
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **small})
nodes = [cluster.add_node(num_cpus=1, **small) for _ in range(2)]
print(cluster.address, flush=True)
sys.stdin.readline()
cluster.remove_node(nodes[0], allow_graceful=False)
print("killed", flush=True)
sys.stdin.readline()
cluster.shutdown()
"""


@pytest.fixture
def options(adapter, tmp_path):
    """Return the options of a small run of two environments, one of which has failures."""
    names = ("numpy.two_pass", "numpy.fast", adapter("wrong:BiasedForUnbiased"))
    who = Participants(select(names), requested=True, limits=Limits(case=60, memory=4))

    def make(**changes):
        return Options(who, tmp_path / "spread", cases=8, corpus=False, **changes)

    return make


@pytest.fixture
def whole(run, adapter, tmp_path):
    """Return the folder of the same run on one machine."""
    run("numpy.two_pass", "numpy.fast", adapter("wrong:BiasedForUnbiased"), cases=8, out="whole")
    return tmp_path / "whole"


def lines(folder):
    """Return the lines of a run without times and processes."""
    found = [json.loads(line) for line in (folder / "run.jsonl").read_text().splitlines()]
    return [json.dumps({k: v for k, v in r.items() if k not in TIMES}) for r in found if r["type"] != "worker"]


def files(folder):
    """Return the bytes of every case, and the names of the answers that failed."""
    cases = {path.name: path.read_bytes() for path in (folder / "cases").iterdir()}
    return cases, {path.name for path in (folder / "answers").iterdir()}


def with_versions(packed, found, told):
    """Return a block's archive with another version in its run file."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(packed)) as old, zipfile.ZipFile(made, "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name).replace(found.encode(), told.encode()))
    return made.getvalue()


class Local:
    """Stands for Ray: it answers tasks here, one after the other, the last first; `dies` names those that it loses."""

    def __init__(self, *dies, gpus=0):
        self.dies, self.asked, self.cancelled = dies, [], []
        self.exceptions = types.SimpleNamespace(RayError=RuntimeError)
        self.cluster_resources = lambda: {"CPU": 2, "GPU": gpus}
        self.nodes = lambda: [{"NodeID": "a", "Alive": True}, {"NodeID": "b", "Alive": not self.asked}]
        self.wait = lambda pending, timeout: (pending[-1:], pending[:-1])
        self.cancel = lambda one, force: self.cancelled.append(one.args[0].name)

    def remote(self, function):
        """Make a task of a function."""
        task = types.SimpleNamespace(remote=lambda block: functools.partial(function, block))
        return types.SimpleNamespace(options=lambda **needs: task)

    def get(self, one):
        """Answer a task, or lose it."""
        self.asked.append(one.args[0].name)
        if one.args[0].name in self.dies:
            raise RuntimeError("The node died\nafter 5 tries")
        return one()


@pytest.fixture
def spread(options):
    """Run over a cluster that stands for one."""

    def go(ray, **changes):
        told = options(**changes)
        arrivals = Arrivals(told)
        blocks = cut(told, arrivals.shards() or tasks.shards(ray))
        return spreading._Spread(told, arrivals, blocks, quiet=False).run(ray)

    return go


def test_blocks_are_the_run_of_one_machine(spread, whole, options, capfd):
    """Records, order, cases and answers are those of one machine; failures and lost nodes are told meanwhile."""
    end = spread(Local())
    out = options().out
    assert (end.complete, lines(out), files(out)) == (True, lines(whole), files(whole))
    assert not (out / "blocks").exists()
    told = capfd.readouterr().err
    assert "FAIL  wrong.biased_for_unbiased@cpu moving_variance in train" in told
    assert "1 of 2 nodes are lost; what they were asked is asked again" in told
    assert told.count(" blocks to come") == 4


def test_a_block_that_is_never_answered_is_asked_on_resume(spread, whole, options):
    """The run says what it lacks and why, keeps the rest, and goes on with that block alone, if it is the same run."""
    end = spread(Local("numpy-2-of-2"))
    assert end.reasons == ["numpy-2-of-2 was not answered: after 5 tries"]
    assert run_file.read(options().out).reasons == end.reasons
    with pytest.raises(InvalidInput, match="is of a run with another seed"):
        spread(Local(), resume=True, seed=7)
    again = Local()
    assert spread(again, resume=True).complete
    assert again.asked == ["numpy-2-of-2"]
    assert lines(options().out) == lines(whole)


def test_nothing_is_asked_after_the_first_failure(spread):
    """With --fail-fast the blocks that are left are cancelled, and the run says how many."""
    ray = Local()
    end = spread(ray, fail_fast=True)
    assert (ray.asked, len(ray.cancelled)) == (["user-2-of-2"], 3)
    assert "stopped at the first failure, 3 blocks are not answered; --resume asks them" in end.reasons


def test_resume_wants_blocks(spread):
    """Without blocks of an interrupted run it is refused."""
    with pytest.raises(InvalidInput, match="holds no blocks of a run with --ray"):
        spread(Local(), resume=True)


def test_a_node_with_other_versions_is_not_believed(options):
    """What it judged is not put together with what the others did."""
    told = options()
    arrivals, (first, second) = Arrivals(told), cut(told, 2)[:2]
    run = arrivals.take(first, answer(first))
    numpy = run.implementations[0].versions["numpy"]
    with pytest.raises(Incomplete, match=rf"numpy-2-of-2: .*numpy 1\.0.*numpy {numpy}.*give all nodes the same"):
        arrivals.take(second, with_versions(answer(second), f'"numpy":"{numpy}"', '"numpy":"1.0"'))
    assert not (arrivals._folder / "numpy-2-of-2.jsonl").exists()


def test_a_block_asks_for_a_gpu_and_for_packages(options):
    """It gets a GPU where it runs on one and there is one, `--env NAME=requirement` first, and time to start."""
    told = options()
    who = Participants(
        select(("torch.F.batch_norm@cuda", "torch.F.batch_norm")), interpreters={"torch": "torch==2.12.1"}
    )
    cpu, _, cuda, _ = sorted(cut(msgspec.structs.replace(told, who=who), 2), key=lambda block: block.name)
    assert [tasks._needs(Local(gpus=1), block)["num_gpus"] for block in (cpu, cuda)] == [0, 1]
    assert tasks._needs(Local(), cuda)["num_gpus"] == 0
    assert tasks._needs(Local(), cpu)["runtime_env"] == {"pip": ["torch==2.12.1"]}
    assert cpu.options.who.limits.start == 600


def test_what_a_node_gets_is_this_bnconf(tmp_path):
    """The folder that is sent to nodes says its version and holds its corpus, whatever is installed there."""
    tasks._stage(tmp_path)
    code = (
        "from conformance.model.version import version; from conformance.cases import corpus; "
        "print(version(), len(corpus.read()), corpus.__file__)"
    )
    told = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    version, number, file = told.stdout.split()
    assert (version, int(number) > 50, Path(file).is_relative_to(tmp_path)) == ("0.1.0", True, True)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--ray", "10.0.0.1"], "--ray 10.0.0.1: must be HOST:PORT"),
        (["--ray", "127.0.0.1:1"], "--ray 127.0.0.1:1: does not answer"),
        (["--ray"], "pip install 'batchnorm-conformance[ray]'"),
        (["--ray", "--in-process"], "--in-process: is of a run on one machine"),
        (["--ray", "--jobs", "2"], "--jobs 2: is of a run on one machine"),
        (["--ray", "--shard", "1/2"], "--shard 1/2: is of a run on one machine"),
        (["--ray", "--profile", "soak"], "--profile soak: is of a run on one machine"),
        (["--ray", "--changed-since", "."], "--changed-since .: is of a run on one machine"),
    ],
)
def test_bad_usage_exits_2_and_names_the_value(arguments, says, tmp_path, monkeypatch):
    """What makes no sense together, no address, and no Ray: one clear error, and nothing is written."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "ray", None)
    result = CliRunner().invoke(main, ["run", "-i", "numpy.two_pass", *arguments])
    assert (result.exit_code, says in result.output) == (2, True), result.output
    assert not (tmp_path / "reports").exists()


def test_ray_is_imported_for_the_option_alone(tmp_path):
    """A run without --ray imports neither Ray nor what is for it."""
    run = ["run", "-i", "numpy.two_pass", "--cases", "1", "--no-corpus", "--out", str(tmp_path / "run")]
    command = [sys.executable, "-X", "importtime", "-m", "conformance", *run]
    told = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stderr
    imported = {line.rpartition("|")[2].strip() for line in told.splitlines() if line.startswith("import time:")}
    assert "conformance.runs.campaign" in imported
    assert {name for name in imported if name.startswith(("ray", "conformance.runs.cluster"))} == set()


@pytest.mark.proof
@pytest.mark.skipif(not HAS_RAY, reason="ray is not installed: pip install 'batchnorm-conformance[ray]'")
def test_a_node_that_is_killed_costs_time_alone(bnconf, adapter, tmp_path):
    """Over two nodes, one of which is killed in mid-run: exit 0, and every record that one machine writes."""
    names = ("numpy.two_pass", "numpy.fast", adapter("wrong:BiasedForUnbiased"))
    words = ["run", *(word for name in names for word in ("-i", name)), "--cases", "80", "--no-corpus"]
    whole = [sys.executable, "-m", "conformance", *words, "--out", "whole"]
    subprocess.run(whole, cwd=tmp_path, check=True, capture_output=True)
    cluster = subprocess.Popen(
        [sys.executable, "-c", CLUSTER],
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        address = cluster.stdout.readline().strip()
        run = bnconf(*words, "--ray", address, "--out", "spread")
        until = time.monotonic() + 300
        while run.poll() is None and time.monotonic() < until and not list(tmp_path.glob("spread/blocks/*.jsonl")):
            time.sleep(0.05)
        print("kill", file=cluster.stdin, flush=True)
        assert cluster.stdout.readline() == "killed\n"
        told = run.communicate(timeout=300)[1]
    finally:
        cluster.communicate("\n")
    assert run.returncode == 0, told
    assert "1 of 3 nodes are lost" in told
    assert lines(tmp_path / "spread") == lines(tmp_path / "whole")
    assert files(tmp_path / "spread") == files(tmp_path / "whole")
