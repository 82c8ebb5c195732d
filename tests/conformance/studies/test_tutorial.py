"""The porting tutorial: a network from tf_keras to torch and on to flax differs as the reference predicts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.proof  # three frameworks, and forty passes of a network
ROOT = Path(__file__).parents[3]
SCRIPT = ROOT / "conformance" / "studies" / "translation" / "tutorial" / "port.py"
ROUNDING = 2e-5  # two networks of convolutions, which nobody bounds here: some 100 units of float32 at logits near 2


@pytest.fixture(scope="module")
def figures():
    """The figures that the tutorial prints: predicted, measured, and how far apart."""
    done = subprocess.run([sys.executable, SCRIPT, "--json"], cwd=ROOT, check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.framework("torch", "tf_keras", "flax")
@pytest.mark.parametrize("port", ["tf_keras -> torch", "torch -> flax"])
def test_a_ported_network_differs_as_predicted(figures, port):
    """Before and after 20 passes in training mode, statistics and logits differ by what the reference says."""
    assert len(figures[port]) == 7
    for name, (_, _, apart) in figures[port].items():
        assert apart < ROUNDING, name


@pytest.mark.framework("torch", "tf_keras", "flax")
def test_what_the_ports_differ_in_is_the_stored_variance(figures):
    """The fused kernel of tf_keras stores what torch does; flax stores the biased variance, and the logits show it."""
    same, other = figures["tf_keras -> torch"], figures["torch -> flax"]
    assert same["bn1 moving variance"][0] < 1e-6
    assert other["bn1 moving variance"][0] > 1e-4
    predicted, measured, _ = other["inference after"]
    assert measured == pytest.approx(predicted, rel=0.02)
    assert predicted > 20 * ROUNDING


@pytest.mark.framework("torch", "tf_keras", "flax")
def test_the_readme_shows_what_is_measured(figures):
    """The table of conformance/README.md has the figures of both ports, to the digit that is printed."""
    text = (ROOT / "conformance" / "README.md").read_text()
    for port, found in figures.items():
        row = next(line for line in text.splitlines() if line.startswith(f"| {port} |"))
        cells = [float(cell) for cell in row.split("|")[2:-1]]
        shown = [found[name][k] for name in ("bn1 moving variance", "inference after") for k in (0, 1)]
        assert cells == pytest.approx(shown, rel=0.1, abs=ROUNDING)
