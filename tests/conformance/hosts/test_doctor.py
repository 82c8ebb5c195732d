"""`bnconf doctor`: each thing that is missing, with the one command that adds it."""

from __future__ import annotations

import json
import sys
from importlib import metadata

import pytest
from click.testing import CliRunner

from conformance.cli.main import main
from conformance.hosts import doctor, venvs
from conformance.model.version import extras


@pytest.fixture
def bare(tmp_path, monkeypatch):
    """Make a machine of our own: packages as given, no environments, no interpreters, no GPU."""
    packages = {}

    def version(name):
        try:
            return packages[name]
        except KeyError:
            raise metadata.PackageNotFoundError(name) from None

    monkeypatch.setattr(doctor.metadata, "version", version)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()
    return packages


@pytest.fixture
def gpu(bare, tmp_path):
    """Put a GPU into the bare machine."""
    program = tmp_path / "bin" / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA H100 80GB HBM3, 550.54.15'\n")
    program.chmod(0o755)
    return bare


def parts(device="cpu"):
    """Return the parts by name."""
    return {part.part: part for part in doctor.examine(device)}


def test_what_is_missing_comes_with_its_command(bare):
    """A bare machine lacks every extra and environment; one command each, and what it costs to go without."""
    bare.update({"onnx": "1.23", "onnxruntime": "1.32"})
    found = parts()
    commands = {name: part.command for name, part in found.items() if not part.there and part.needed}
    assert commands == {
        "packages: jax": "pip install 'batchnorm-conformance[jax]'",
        "packages: tensorflow": "pip install 'batchnorm-conformance[tensorflow]'",
        "packages: torch": "pip install 'batchnorm-conformance[torch]'",
        "environment: tf-1.15": "pyenv install 3.7 && bnconf env create tf-1.15",
        "environment: tf-1.7": "pyenv install 3.6 && bnconf env create tf-1.7",
    }
    assert found["packages: torch"].found == "no torch"
    assert "implementations cannot run (keras, torch); the others can" in found["packages: torch"].without
    assert found["packages: onnx"].found == "onnx 1.23, onnxruntime 1.32"


def test_an_interpreter_that_is_there_needs_no_pyenv(bare, monkeypatch):
    """Where a Python 3.7 is found, making the environment is the one command."""
    monkeypatch.setattr(venvs, "interpreter", lambda recipe: f"/usr/bin/python{recipe.version}")
    part = parts()["environment: tf-1.15"]
    assert part.command == "bnconf env create tf-1.15"
    assert "/usr/bin/python3.7 can make it" in part.found


def test_exit_codes_say_whether_something_is_missing(bare):
    """3 names what is missing; --json has the same; 0 where all is there, a GPU being needed only if asked for."""
    missing = CliRunner().invoke(main, ["doctor"])
    assert missing.exit_code == 3
    assert "missing: packages: jax; packages: onnx" in missing.output
    assert "add it: pip install 'batchnorm-conformance[jax]'" in missing.output
    listed = CliRunner().invoke(main, ["doctor", "--json"])
    assert {part["part"] for part in json.loads(listed.stdout)} == set(parts())


def test_a_missing_gpu_counts_where_it_was_asked_for(bare, monkeypatch):
    """Without a GPU a machine is complete, unless --device cuda asks for one."""
    monkeypatch.setattr(doctor, "_extras", lambda: iter(()))
    monkeypatch.setattr(venvs, "python", lambda name: f"/envs/{name}/bin/python")
    assert CliRunner().invoke(main, ["doctor"]).exit_code == 0
    asked = CliRunner().invoke(main, ["doctor", "--device", "cuda"])
    assert asked.exit_code == 3
    assert "missing: GPU" in asked.output


def test_a_gpu_without_builds_that_use_it(gpu):
    """The GPU and its driver are named; builds for the CPU only are told apart, with the command that replaces them."""
    gpu.update({"torch": "2.13.0+cpu", "jax": "0.10.2"})
    found = parts("cuda")
    assert found["GPU"].found == "NVIDIA H100 80GB HBM3, 550.54.15"
    assert found["CUDA build: torch"].command == "pip install --force-reinstall torch==2.13.0"
    assert found["CUDA build: jax"].command == "pip install 'jax[cuda12]==0.10.2'"
    gpu.update({"torch": "2.13.0+cu126", "jax-cuda12-plugin": "0.10.2"})
    assert all(part.there for name, part in parts("cuda").items() if name.startswith("CUDA"))


def test_a_package_that_is_missing_takes_its_own_along(bare):
    """Without haiku, haiku's implementations cannot run, and the others of the extra can."""
    bare.update({"jax": "0.10.2", "flax": "0.12.8", "equinox": "0.13.8"})
    part = parts()["packages: jax"]
    assert part.found == "no dm-haiku"
    assert part.without.startswith("4 of ")
    assert "implementations cannot run (haiku); the others can" in part.without


def test_an_older_version_than_is_proven_is_said(bare):
    """It is named with the versions that are proven, who runs on it, and the command that installs another."""
    bare.update({"onnx": "1.23", "onnxruntime": "1.2"})
    part = parts()["packages: onnx"]
    claimed = next(one.specifier for one in extras()["onnx"] if one.name == "onnxruntime")
    assert part.found == f"onnxruntime 1.2 is older than what is proven, {claimed}"
    assert "implementations (onnxruntime) run, and may be asked less" in part.without
    assert part.command == "pip install -U 'batchnorm-conformance[onnx]'"


def another(tmp_path, **versions):
    """Return a Python that says that it has these packages."""
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\necho '{json.dumps(versions)}'\n")
    program.chmod(0o755)
    return str(program)


def test_another_python_is_held_to_what_its_environment_needs(bare, tmp_path):
    """--env says of a Python what it lacks for the implementations of that environment, and how to add it there."""
    python = another(tmp_path, numpy="2.0", jax="0.10.2", dm_haiku="0.0.17", flax="0.12.8")
    asked = CliRunner().invoke(main, ["doctor", "--env", f"jax={python}"])
    assert asked.exit_code == 3
    assert f"MISSING  --env jax={python}: no equinox" in asked.output
    assert f"add it: {python} -m pip install 'dm-haiku>=" in asked.output
    assert "4 of " in asked.output
    assert "implementations cannot run (equinox); the others can" in asked.output


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("jacks=/usr/bin/python3", "--env jacks: no such environment; use one of "),
        ("jax=/no/such/python", "/no/such/python: does not run as a Python; give the path of an interpreter"),
    ],
)
def test_an_environment_that_there_is_not_is_bad_input(given, says):
    """An unknown name, and what is no Python, exit 2 with what would be right."""
    asked = CliRunner().invoke(main, ["doctor", "--env", given])
    assert asked.exit_code == 2
    assert says in asked.output


def test_an_old_python_lists_what_it_has():
    """What lists the packages of an environment is read by any Python, this one too."""
    assert venvs.installed(sys.executable)["numpy"] == metadata.version("numpy")
