"""The second roster: asked by name alone, from environments of their own."""

from __future__ import annotations

import subprocess
import sys

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
    names = ("mlx", "numba", "openvino", "paddle", "timm", "tinygrad", "torch", "triton")
    program = (
        f"import sys; from conformance.hosts import roster; roster.others(); print({{*{names}}} & {{*sys.modules}})"
    )
    asked = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert asked.stdout == "set()\n"
