"""A user's own adapter in a Python of its own: how that is found out, and which versions are known there."""

from __future__ import annotations

import shlex
import sys
import types
from datetime import date
from pathlib import Path

import pytest
from click.testing import CliRunner

from conformance.cli.main import main
from conformance.gate import divergences
from conformance.hosts import worker
from conformance.model.results import ImplementationRecord
from conformance.runs import run_file

ROOT = Path(__file__).parents[3]
MINE = """
import numpy as np
{top}


class Mine:
    statement = {{
        "id": "mine.bn",
        "packages": ["tells_nothing", "tells_all"],
        "documentation": "",
        "conventions": {{}},
        "supports": {{"dtype": ["float32"]}},
        "outputs": ["y"],
    }}

    def __init__(self, device):
        {inside}

    def run(self, case):
        for step in case.steps:
            yield {{"y": np.zeros_like(step.x) + 7}}


IMPLEMENTATIONS = [Mine]
"""
IMPORTS = "import tells_nothing, tells_all"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Return a folder with a Python that alone has two modules, one of which only its distribution tells of."""
    site = tmp_path / "site"
    (site / "Silent_Package-1.2.3.dist-info").mkdir(parents=True)
    (site / "Silent_Package-1.2.3.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: Silent-Package\nVersion: 1.2.3\n"
    )
    (site / "Silent_Package-1.2.3.dist-info" / "RECORD").write_text("tells_nothing.py,,\n")
    (site / "tells_nothing.py").write_text("")
    (site / "tells_all.py").write_text("__version__ = '4.5'\n")
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{site}" exec {shlex.quote(sys.executable)} "$@"\n')
    python.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def invoke(*arguments):
    """Run a command and return its result."""
    return CliRunner().invoke(main, [str(a) for a in arguments])


RUN = ("run", "-i", "mine.py:Mine", "--cases", 14, "--no-corpus", "--out", "run")


@pytest.mark.parametrize(("top", "inside"), [(IMPORTS, "pass"), ("", IMPORTS)], ids=["at once", "when it is made"])
def test_an_adapter_whose_module_is_elsewhere_is_told_of_env_user(place, top, inside):
    """What is missing names the option, the kind of value and what that Python needs; and with it the adapter runs."""
    Path("mine.py").write_text(MINE.format(top=top, inside=inside))
    done = invoke(*RUN)
    assert done.exit_code in (2, 3)
    assert "No module named 'tells_nothing'" in done.output
    assert (
        "; where another Python has it, add --env user=/path/to/python: one with numpy and tells_nothing" in done.output
    )
    assert invoke(*RUN, "--env", f"user={place / 'python'}").exit_code == 0


def test_a_version_that_a_module_does_not_tell_is_that_of_its_distribution(place):
    """The run's record has the version of both modules, and the proposed entry asks about both."""
    Path("mine.py").write_text(MINE.format(top=IMPORTS, inside="pass"))
    invoke(*RUN, "--env", f"user={place / 'python'}")
    (record,) = run_file.read(Path("run")).implementations
    assert {name: record.versions[name] for name in ("tells_nothing", "tells_all")} == {
        "tells_nothing": "1.2.3",
        "tells_all": "4.5",
    }
    assert (
        'versions = { "tells_nothing" = "==1.2.3", "tells_all" = "==4.5" }' in invoke("gate", "run", "--update").output
    )


def test_where_a_version_is_unknown_none_is_proposed(place):
    """An entry proposed where nobody knows the version has no `versions`, rather than one that never holds."""
    for record in Path("site").glob("*.dist-info/*"):
        record.unlink()
    (place / "site" / "tells_all.py").write_text("__version__ = 'nightly build'\n")
    Path("mine.py").write_text(MINE.format(top=IMPORTS, inside="pass"))
    invoke(*RUN, "--env", f"user={place / 'python'}")
    proposed = invoke("gate", "run", "--update").output
    assert "[[divergence]]" in proposed
    assert "+versions" not in proposed


def test_an_old_python_finds_versions_too(monkeypatch):
    """Where importlib.metadata is not there, setuptools tells; where neither is, the version is unknown."""
    found = types.SimpleNamespace(
        project_name="Silent", version="7.1", has_metadata=lambda _: True, get_metadata=lambda _: "quiet\n"
    )
    monkeypatch.setitem(sys.modules, "importlib.metadata", None)
    monkeypatch.setitem(sys.modules, "pkg_resources", types.SimpleNamespace(working_set=[found]))
    monkeypatch.setitem(sys.modules, "quiet", types.ModuleType("quiet"))
    assert worker.version("quiet") == "7.1"
    monkeypatch.setitem(sys.modules, "pkg_resources", None)
    assert worker.version("quiet") == "unknown"


@pytest.mark.parametrize("versions", [{}, {"lib": "unknown"}, {"lib": "nightly build"}])
def test_a_range_of_an_unknown_version_is_said_aloud(run, adapter, manifest, tmp_path, versions):
    """An entry with `versions` explains nothing where the version is unknown, and the gate names entry and package."""
    run(adapter("wrong:BiasedForUnbiased"))
    folder = manifest(versions='{ "lib" = ">=1" }')
    record = ImplementationRecord("wrong.biased_for_unbiased@cpu", "x", "cpu", True, versions=versions)
    (entry,) = divergences.read(folder)
    assert (entry.concerns(record), entry.untold(record)) == (False, ["lib"])
    done = invoke("gate", tmp_path / "run", "--divergences", folder, "--today", date(2026, 1, 1))
    assert done.exit_code == 1
    assert (
        "VERSION UNKNOWN biased: is about lib >=1, and its version in wrong.biased_for_unbiased@cpu is not told"
        in done.output
    )


def test_env_user_is_documented():
    """The page for authors, the first page and the help of a run say what `--env user=PYTHON` is for."""
    for page in ("README.md", "conformance/README.md"):
        assert "--env user=/" in (ROOT / page).read_text()
    assert "user=/path/to/python" in " ".join(invoke("run", "--help").output.split())
