"""What is compiled is kept for the next run, for each processor apart, unless somebody says otherwise."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import time

import msgspec
import pytest
from click.testing import CliRunner

from conformance.cases import strategies
from conformance.cases.building import build
from conformance.cli.main import main
from conformance.hosts import compiled, keeping, machine, roster
from conformance.hosts.participants import Participants
from conformance.runs import replaying, run_file

_JITTED = [
    "flax.linen.BatchNorm+jit@cpu",
    "flax.nnx.BatchNorm+jit@cpu",
    "haiku.BatchNorm+jit@cpu",
    "equinox.BatchNorm+ema+jit@cpu",
]
JAX = "JAX_COMPILATION_CACHE_DIR"


@pytest.fixture(autouse=True)
def of_its_own(monkeypatch, tmp_path):
    """Keep it in a folder of the test's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(JAX, raising=False)


def where(**options):
    """Return where the worker of an implementation is told to keep it."""
    (environment,) = Participants(roster.select(("flax.linen.BatchNorm+jit",)), **options).environments()
    return environment.variables.get(JAX)


def test_each_processor_has_a_folder(monkeypatch):
    """A program of one with other instructions is never taken."""
    here = where()
    assert here == str(compiled.folder())
    monkeypatch.setattr(machine, "processor", lambda: "another")
    assert where() not in (here, None)


def test_the_user_decides(monkeypatch):
    """--no-cache leaves it alone, and a folder that the user has set is his."""
    assert where(cache=False) is None
    monkeypatch.setenv(JAX, "/his")
    assert where() is None


def test_it_is_shown_and_cleared():
    """`bnconf cache` counts programs and bytes; --clear removes them."""
    compiled.folder().mkdir(parents=True)
    for name, size in (("jit_f-1-cache", 2000), ("jit_f-1-atime", 8)):
        (compiled.folder() / name).write_bytes(bytes(size))
    said = CliRunner().invoke(main, ["cache", "--json"])
    assert json.loads(said.output) == [{"folder": str(compiled.folder()), "programs": 1, "size": 2008}]
    assert CliRunner().invoke(main, ["cache", "--clear"]).output.endswith("1 program, 0.0 MiB; removed\n")
    assert CliRunner().invoke(main, ["cache"]).output == "nothing is kept\n"


@pytest.mark.parametrize("when", [compiled.variables, compiled.make_room], ids=["begins", "between"])
def test_of_jaxs_programs_the_last_used_are_kept(monkeypatch, when):
    """Each build has a folder, and JAX keeps whatever it is given: every seed compiles other programs."""
    monkeypatch.setattr(compiled, "_MOST", 250)
    compiled._in_use.cache_clear()
    build = compiled.folder() / "jax-1"
    build.mkdir(parents=True)
    names = ["old-cache", "jax-1/read-cache", "jax-1/written-cache"]
    for name, read, written in zip(names, (1, 9, 1), (2, 1, 8), strict=True):
        (compiled.folder() / name).write_bytes(bytes(100))
        os.utime(compiled.folder() / name, (read, written))
    when()
    compiled._in_use.cache_clear()
    assert sorted(path.name for path in compiled.folder().rglob("*-cache")) == ["read-cache", "written-cache"]


def test_between_two_runs_the_others_are_limited_too(monkeypatch):
    """Those of TensorFlow and inductor, in the folder that they are told."""
    told = []
    monkeypatch.setattr(compiled.undamaged, "make_room", lambda *a: told.append(a))
    compiled.make_room()
    assert told == [(compiled.folder() / "others", compiled._MOST)]


@pytest.mark.framework("jax", "flax")
@pytest.mark.xdist_group("jax")
def test_a_run_keeps_what_it_compiles(run):
    """After a run of a compiled implementation there are programs, and a second run has the same results."""
    first = run("flax.linen.BatchNorm+jit", cases=3, out="first", afresh=True)
    ((_, programs, size),) = compiled.kept()
    assert programs > 0 < size
    second = run("flax.linen.BatchNorm+jit", cases=3, out="second", afresh=True)
    assert second.results == first.results
    assert [one.programs for one in compiled.kept()] == [programs]


@pytest.mark.proof
@pytest.mark.framework("jax", "flax", "haiku", "equinox")
@pytest.mark.xdist_group("jax")
@pytest.mark.parametrize("identity", _JITTED)
def test_another_epsilon_and_other_values_compile_nothing(identity):
    """What an argument can trace is one: of a signature that was asked, other numbers need no program more."""
    cell = f"rank 4, axis {1 if 'equinox' in identity else -1}; easy; float32"
    recipe = next(one for one in strategies.chosen(0, 60) if one.cell == cell)
    other = msgspec.structs.replace(recipe, epsilon=0.01, ratio=1.0, spread=10.0, number=7)
    who = Participants(roster.select((identity,)))
    counts: list[int] = []
    for one in (recipe, other):
        ((answer,),) = [found.answers for found in replaying.ask([build(one, 0)], who)]
        assert {result.verdict for result in answer.results} <= {"PASS"}
        counts.append(sum(programs for _, programs, _ in compiled.kept()))
    assert counts[0] > 0
    assert counts == counts[:1] * 2


def imported(folder, device):
    """Let programs be kept, and look for each framework as an import does."""
    keeping.keep(folder, device)
    before = dict(os.environ)
    assert [importlib.util.find_spec(name) for name in ("numpy", "pytest")]
    assert os.environ == before
    for name in ("jax", "torch", "tensorflow"):
        assert sys.meta_path[0].find_spec(name) is None
    del sys.meta_path[0]


def test_each_version_and_its_flags_have_a_folder(monkeypatch):
    """Programs of another version, or of other flags where these are not told apart, are never taken."""
    monkeypatch.setattr(keeping, "build", {"torch": "2.13.0-a", "tensorflow": "2.21.0-b", "jaxlib": "0.10-c"}.get)
    names = (JAX, "TORCHINDUCTOR_CACHE_DIR", "TF_XLA_FLAGS", "XLA_FLAGS")
    for name in names:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv(JAX, "/kept")
    imported("/kept/others", "cpu")
    assert os.environ[JAX] == "/kept/jax-0.10-c"
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == "/kept/others/inductor-2.13.0-a"
    told = os.environ["TF_XLA_FLAGS"]
    assert told.startswith("--tf_xla_persistent_cache_directory=/kept/others/xla-2.21.0-b-")
    imported("/elsewhere/others", "cpu")
    assert "/elsewhere" not in "".join(os.environ.get(name, "") for name in names)
    monkeypatch.setenv("TF_XLA_FLAGS", "")
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=true")
    imported("/kept/others", "cpu")
    assert os.environ["TF_XLA_FLAGS"] not in (told, "")


def test_a_build_is_told_from_another_of_the_same_version(tmp_path, monkeypatch):
    """Another wheel, and a library that was built again since; what has no libraries, or no record, is nothing."""

    def told(**files):
        about = tmp_path / "mine-1.0.dist-info"
        about.mkdir(exist_ok=True)
        (about / "METADATA").write_text("Name: mine\nVersion: 1.0\n")
        for name in files:
            (tmp_path / name.replace("_", ".")).write_bytes(b"")
        lines = [f"{name.replace('_', '.')},{sha256},0" for name, sha256 in files.items()]
        (about / "RECORD").write_text("\n".join([*lines, "mine-1.0.dist-info/RECORD,,", ""]))
        return keeping.build("mine")

    monkeypatch.syspath_prepend(tmp_path)
    first = told(mine_so="sha256=a", mine_py="sha256=b")
    assert first.startswith("1.0-")
    assert told(mine_so="sha256=c", mine_py="sha256=b") != first
    assert told(mine_so="sha256=a", mine_py="sha256=b") == first
    later = time.time_ns() + 10**12
    os.utime(tmp_path / "mine.so", ns=(later, later))
    assert keeping.build("mine") not in (first, "")
    assert told(mine_py="sha256=b") == ""
    assert keeping.build("nobody") == ""


@pytest.mark.parametrize(
    ("version", "device", "folder"),
    [("2.17.1", "cpu", "/kept"), ("2.21.0", "cuda", "/kept"), ("2.21.0", "cpu", "/a b"), ("", "cpu", "/kept")],
)
def test_xla_keeps_nothing_where_it_cannot(monkeypatch, version, device, folder):
    """An older TensorFlow crashed, a GPU is not told from another one, and its flags are parted by spaces."""
    monkeypatch.setattr(keeping, "build", lambda name: version if name == "tensorflow" else "")
    monkeypatch.setenv("TF_XLA_FLAGS", "--his")
    monkeypatch.setenv(JAX, "/")
    imported(folder, device)
    assert os.environ["TF_XLA_FLAGS"] == "--his"
    assert JAX not in os.environ  # of which nothing tells which build it is


def results(out, identity, *options):
    """Run an implementation in a process of its own; return the results, without addresses of objects."""
    command = [sys.executable, "-m", "conformance", "run", "-i", identity, "--cases", "16", "--no-corpus", "--out", out]
    subprocess.run([*command, *options], capture_output=True, check=True)
    return [re.sub(r"0x\w+", "", str(result)) for result in run_file.read(out).results]


@pytest.mark.framework("tensorflow")
@pytest.mark.xdist_group("tensorflow")
@pytest.mark.proof
def test_a_damaged_program_of_xla_is_compiled_again(tmp_path):
    """A run after half of what was kept was damaged has the same results, and the programs are there again."""
    identity = "tf.compat.v1.nn.fused_batch_norm+xla@cpu"
    first = results(tmp_path / "first", identity)
    programs = sorted(compiled.folder().glob("others/xla-*/*.pb"))
    assert programs
    written = programs[1].stat().st_mtime_ns
    for number, program in enumerate(programs[::2]):
        program.write_bytes(program.read_bytes()[: 1000 * (number % 2)] or bytes(program.stat().st_size))
    assert results(tmp_path / "damaged", identity) == first
    assert sorted(compiled.folder().glob("others/xla-*/*.pb")) == programs
    assert programs[1].stat().st_mtime_ns == written


@pytest.mark.proof
@pytest.mark.framework("torch")
@pytest.mark.xdist_group("torch")
def test_a_damaged_library_of_inductor_is_compiled_again(tmp_path):
    """The same of what PyTorch's compiler keeps, of which each kind of file is damaged."""
    identity = "torch.F.batch_norm+compile@cpu"
    first = results(tmp_path / "first", identity)
    kept = sorted(path for path in compiled.folder().glob("others/inductor-*/**/*") if path.is_file())
    assert {path.suffix for path in kept} >= {"", ".so", ".cpp", ".py"}
    assert results(tmp_path / "again", identity) == first
    for path in kept[::2]:
        path.write_bytes(path.read_bytes()[:-100] + bytes(min(path.stat().st_size, 100)))
    assert results(tmp_path / "damaged", identity) == first
    assert results(tmp_path / "none", identity, "--no-cache") == first
