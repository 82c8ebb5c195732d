"""What every test shares: reproducible Hypothesis, and a reason where a framework is missing."""

from __future__ import annotations

import importlib.util

import pytest
from hypothesis import settings

settings.register_profile("reproducible", derandomize=True, database=None, deadline=None)
settings.load_profile("reproducible")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose framework is not installed, and say how to install it."""
    names = [name for marker in item.iter_markers("framework") for name in marker.args]
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}; `make test` installs every framework")
