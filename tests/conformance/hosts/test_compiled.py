"""What JAX compiles is kept for the next run, for each processor apart, unless somebody says otherwise."""

from __future__ import annotations

import json

import msgspec
import pytest
from click.testing import CliRunner

from conformance.cases import strategies
from conformance.cases.building import build
from conformance.cli.main import main
from conformance.hosts import compiled, machine, roster
from conformance.hosts.participants import Participants
from conformance.runs import replaying

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
    assert CliRunner().invoke(main, ["cache", "--clear"]).output.endswith("1 programs, 0 MiB; removed\n")
    assert CliRunner().invoke(main, ["cache"]).output == "nothing is kept\n"


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
    recipe = next(one for one in strategies.chosen(0, 60) if one.cell == "rank 4, axis -1; easy; float32")
    other = msgspec.structs.replace(recipe, epsilon=0.01, ratio=1.0, spread=10.0, number=7)
    who = Participants(roster.select((identity,)))
    counts: list[int] = []
    for one in (recipe, other):
        ((answer,),) = [found.answers for found in replaying.ask([build(one, 0)], who)]
        assert {result.verdict for result in answer.results} <= {"PASS"}
        counts.append(sum(programs for _, programs, _ in compiled.kept()))
    assert counts[0] > 0
    assert counts == counts[:1] * 2
