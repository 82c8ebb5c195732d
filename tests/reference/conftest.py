"""Options and helpers of the reference's tests; helpers are loaded by path, because tests are not a package."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

HERE = Path(__file__).parent
RECORDINGS = HERE / "golden" / "tf-1.15"
collect_ignore = [] if importlib.util.find_spec("jax") else ["autodiff.py"]  # where doctests are looked for


def load(name: str) -> ModuleType:
    """Load a helper beside this file, once."""
    qualified = f"reference_tests_{name}"
    if qualified not in sys.modules:
        spec = importlib.util.spec_from_file_location(qualified, HERE / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[qualified] = module
        spec.loader.exec_module(module)
    return sys.modules[qualified]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--golden DIR`: judge the reference against the recordings in DIR instead of those in this repository.

    Pytest reads options from this file only where this folder is named on the command line.
    """
    parser.addoption("--golden", metavar="DIR", default=None, help="a directory of recordings to judge by")


def golden_directory(config: pytest.Config) -> Path:
    """Return the directory of recordings that was asked for, or the one in this repository."""
    chosen = config.getoption("--golden", default=None)
    return RECORDINGS if chosen is None else Path(str(chosen))


def pytest_configure(config: pytest.Config) -> None:
    """Refuse a directory that holds no recordings."""
    directory = golden_directory(config)
    missing = [name for name in ("index.json", "inputs.npz", "outputs.npz") if not (directory / name).is_file()]
    if missing:
        described = RECORDINGS.relative_to(HERE.parent.parent) / "README.md"
        raise pytest.UsageError(
            f"--golden {directory} has no {', '.join(missing)}; name a directory of recordings as {described} has it"
        )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give each test that takes a `recording` or a `scenario` all of them; `differentiated` is a part of those."""
    if "differentiated" in metafunc.fixturenames:
        chosen = [s for s in load("scenarios").SCENARIOS if s.name not in load("scenarios").STATE_ONLY]
        metafunc.parametrize("differentiated", chosen, ids=[s.name for s in chosen])
    if "scenario" in metafunc.fixturenames:
        scenarios = load("scenarios").SCENARIOS
        metafunc.parametrize("scenario", scenarios, ids=[s.name for s in scenarios])
    if "recording" in metafunc.fixturenames:
        recordings = load("recordings").read(golden_directory(metafunc.config))
        metafunc.parametrize("recording", recordings, ids=[r.name for r in recordings])


@pytest.fixture(scope="session")
def helper() -> object:
    """Return the loader of helper modules."""
    return load


@pytest.fixture(scope="session")
def scenario_named() -> object:
    """Return the function that finds a scenario by its name."""
    return {scenario.name: scenario for scenario in load("scenarios").SCENARIOS}.__getitem__
