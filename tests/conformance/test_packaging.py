"""What is shipped: two import packages, one command, versions that agree."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from conformance.model import version
from conformance.model.version import extras
from conformance.model.version import version as own_version

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NAME, VERSION = PROJECT["name"], PROJECT["version"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory):
    """The wheel, built from the working tree."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        yield archive


@pytest.fixture(scope="module")
def pins():
    """The pinned version of each distribution."""
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    found = dict(line.split("==") for line in lines)
    return {canonicalize_name(name): version for name, version in found.items()}


def test_wheel_holds_two_packages(wheel: zipfile.ZipFile):
    """The wheel's top level is conformance, reference and the metadata, exactly."""
    top = {name.split("/")[0] for name in wheel.namelist()}
    assert top == {"conformance", "reference", f"batchnorm_conformance-{VERSION}.dist-info"}


def test_wheel_holds_every_file(wheel: zipfile.ZipFile):
    """Whatever lies in the two packages is in the wheel, data files too; caches are not."""
    files = [p for package in ("conformance", "reference") for p in (ROOT / package).rglob("*") if p.is_file()]
    wanted = {p.relative_to(ROOT).as_posix() for p in files if "__pycache__" not in p.parts}
    assert {name for name in wheel.namelist() if ".dist-info/" not in name} == wanted


def test_wheel_has_the_command_and_the_licence(wheel: zipfile.ZipFile):
    """The wheel installs `bnconf` and the pytest plugin, and carries the Apache licence."""
    info = f"batchnorm_conformance-{VERSION}.dist-info"
    points = wheel.read(f"{info}/entry_points.txt").decode()
    assert "[console_scripts]\nbnconf = conformance.cli.main:main" in points
    assert "[pytest11]\nbnconf = conformance.pytest_plugin" in points
    assert "Apache License" in wheel.read(f"{info}/licenses/LICENSE").decode()


def test_a_source_tree_knows_its_version_and_its_extras(monkeypatch):
    """On PYTHONPATH, without an installed distribution, it is what pyproject.toml says, and so are extras."""

    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    monkeypatch.setattr(metadata, "requires", missing)
    assert own_version() == VERSION
    told = PROJECT["optional-dependencies"]
    assert set(extras()) - {"all", "dev", "ray"} == {"tensorflow", "torch", "jax", "onnx"}
    assert {extra: [str(one) for one in there] for extra, there in extras().items()} == {
        extra: [str(Requirement(text)) for text in texts] for extra, texts in told.items()
    }


def test_an_installed_distribution_knows_its_extras(monkeypatch):
    """Without a source tree, extras are what the distribution says that it needs for them."""
    source = extras()
    monkeypatch.setattr(version, "_PROJECT", ROOT / "no such file")
    for extra in set(source) - {"all"}:
        assert {one.name for one in extras()[extra]} == {one.name for one in source[extra]}


def test_the_one_file_holds_all_that_is_needed():
    """What `make pyz` puts into it is every requirement of bnconf and of these in turn, but for NumPy."""
    (line,) = re.findall(r"^PYZ_HOLDS := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    found, to_come = {"numpy"}, [Requirement(text) for text in PROJECT["dependencies"]]
    while to_come:
        requirement = to_come.pop()
        name = canonicalize_name(requirement.name)
        if name not in found and (requirement.marker is None or requirement.marker.evaluate({"extra": ""})):
            found.add(name)
            to_come += [Requirement(text) for text in metadata.requires(name) or ()]
    assert set(line.split()) == found - {"numpy"}


def test_versions_agree():
    """pyproject.toml, the installed distribution, the changelog and `bnconf --version` name one version."""
    changelog = re.findall(r"^## \[(\d[^\]]*)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    command = [sys.executable, "-m", "conformance", "--version"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert metadata.version(NAME) == VERSION == changelog[0]
    assert VERSION in said


def test_constraints_are_exact_and_portable():
    """Every constraint is one name and one version: no range, no path, no local build."""
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert lines == sorted(lines)
    assert all(re.fullmatch(r"[a-z0-9.-]+==[0-9][0-9a-z.]*", line) for line in lines)


def test_constraints_pin_every_requirement(pins: dict[str, str]):
    """Each requirement of pyproject.toml is pinned, and the pin is one that it allows."""
    extras = PROJECT["optional-dependencies"].values()
    wanted = [Requirement(text) for texts in (PROJECT["dependencies"], *extras) for text in texts]
    for requirement in wanted:
        name = canonicalize_name(requirement.name)
        assert name == NAME or requirement.specifier.contains(pins[name]), requirement


def test_constraints_agree_with_what_is_installed(pins: dict[str, str]):
    """What runs these tests is what constraints.txt says, local builds of the same release included."""
    installed = {canonicalize_name(d.name): Version(d.version).public for d in metadata.distributions()}
    differing = {n: (v, installed[n]) for n, v in pins.items() if n in installed and Version(v).public != installed[n]}
    assert not differing
