"""Kernels that work block by block are judged rightly at sizes that every run asks; `make prove-blocks` asks all."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import blocks
import numpy as np
import pytest
from panel import Panel

from conformance.cases import cells, strategies
from conformance.cases.building import build
from conformance.runs.run_case import RunCase

SEED = 1
KERNELS = [(kind, size) for kind in blocks.KINDS for size in (64, 1024)]
NAMES = [blocks.kernel(*kernel, bug).__name__ for kernel in KERNELS for bug in ("", *blocks.BUGS)]


@pytest.fixture(scope="module")
def failing():
    """Return the outputs that fail of each kernel with blocks of up to 1,024, by its name, in cases of two sizes."""
    panel = Panel(str(Path(blocks.__file__)), NAMES)
    found = defaultdict(set)
    for cell in cells.CELLS:
        if cell.feature not in ("1,025 values", "4,099 values"):
            continue
        for index, recipe in enumerate(strategies.recipes(cell, SEED, 3)):
            with np.errstate(all="ignore"):
                for result in panel.results(RunCase(index, recipe, build(recipe, SEED))):
                    if result.failed:
                        found[result.implementation[len("way.") : -len("@cpu")]].add(result.output)
    return found


@pytest.mark.parametrize(("kind", "size"), KERNELS)
def test_a_correct_kernel_is_no_alarm(failing, kind, size):
    """Nothing of it fails, in float32 and in halves."""
    assert not failing[f"{kind}_{size}"]


@pytest.mark.parametrize("bug", blocks.BUGS)
@pytest.mark.parametrize(("kind", "size"), KERNELS)
def test_a_bug_at_the_last_block_is_seen(failing, kind, size, bug):
    """One wrong step at the end of a thousand values fails an output that it is in."""
    forward, backward = {"y", "mean", "variance"}, {"dx", "dgamma", "dbeta"}
    assert failing[f"{kind}_{size}_{bug}"] & (backward if bug.startswith("backward") else forward)
