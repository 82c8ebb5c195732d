"""What every test shares: reproducible Hypothesis, and a reason where a framework is missing."""

from __future__ import annotations

import contextlib
import importlib.util

import pytest
from hypothesis import Phase, settings

with contextlib.suppress(ImportError):  # before TensorFlow, or else the process dies where torch imports it later:
    import triton as triton  # https://github.com/tensorflow/tensorflow/issues/124205

PHASES = (Phase.explicit, Phase.generate, Phase.shrink)  # `find` explains too: twice the time, for nobody to read
settings.register_profile("reproducible", derandomize=True, database=None, deadline=None, phases=PHASES)
settings.load_profile("reproducible")


LONG = (
    "test_audit",
    "test_run",
    "test_order",
    "test_identify",
    "test_pytest_plugin",
    "test_tutorial",
    "test_translate",
    "test_ci",
    "test_contributing",
)
"""The files that take longest. They begin first: at the end, one process waits for the other's last file."""
LATE = (
    "test_frameworks",
    "test_tf1",
    "test_tensorflow_features",
    "test_third_order",
    "test_figures",
    "test_subjects",
)
"""Files that read the run of everything, which `.ci/run` makes meanwhile. They come last, the longest of them first."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests of the first files first and of the last ones last, whatever else there is in its order."""
    order = (*LONG, "", *LATE)
    turn = {f"{name}.py": number for number, name in enumerate(order)}
    items.sort(key=lambda item: turn.get(item.path.name, len(LONG)))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose framework is not installed, and say how to install it."""
    names = [name for marker in item.iter_markers("framework") for name in marker.args]
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}; `make test` installs every framework")
