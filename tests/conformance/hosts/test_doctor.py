"""`bnconf doctor`: each thing that is missing, with the one command that adds it."""

from __future__ import annotations

import json
from importlib import metadata

import pytest
from click.testing import CliRunner

from conformance.cli.main import main
from conformance.hosts import doctor, venvs


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
