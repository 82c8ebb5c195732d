"""What proves the gate on fresh seeds: it draws them anew, says which they were, and green or red of each."""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path

import pytest

PATH = Path(__file__).parents[2] / "benchmarks" / "prove_gate.py"


@pytest.fixture
def prove():
    """Return the script as a module, whose commands answer without running anything: seed 5 is red."""
    spec = importlib.util.spec_from_file_location("prove_gate", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def bnconf(*arguments):
        module.asked.append(arguments)
        red = arguments[0] == "gate" and arguments[1].endswith("seed-5")
        verdict = "red (1): 7 judged arrays, 1 explained" if red else "green (0): 7 judged arrays, 0 explained"
        lines = ["UNEXPLAINED a y", "explained: b (1 failures)"] if red else []
        return subprocess.CompletedProcess(arguments, int(red), "\n".join([*lines, verdict]), "")

    module.asked, module.bnconf = [], bnconf
    return module


def test_seeds_are_drawn_afresh_and_printed_to_be_repeated(prove, tmp_path, capsys):
    """Two proofs have other seeds, ten each; the first line is what repeats them, and they are what is run."""
    lines = []
    for _ in range(2):
        prove.asked.clear()
        assert prove.main(["--shards", "0", "--out", str(tmp_path)]) == 0
        first, *rest, last = capsys.readouterr().out.splitlines()
        seeds = first.partition("--seeds ")[2].split()
        assert len(set(seeds)) == 10
        assert [a[2] for a in prove.asked if a[0] == "run"] == seeds
        assert [line.split(":")[0] for line in rest] == [f"seed {seed}" for seed in seeds]
        assert last == "10 green, 0 red"
        lines.append(first)
    assert lines[0] != lines[1]


def test_green_or_red_is_said_of_each_seed_with_its_counts(prove, tmp_path, capsys):
    """A seed that is red shows what nothing explains, the others their counts; the proof exits 1 and names it."""
    assert prove.main(["--seeds", "4", "5", "--shards", "0", "--out", str(tmp_path)]) == 1
    assert capsys.readouterr().out.splitlines()[1:] == [
        "seed 4: run exited 0: green (0): 7 judged arrays, 0 explained",
        "seed 5: run exited 0: red (1): 7 judged arrays, 1 explained",
        "    UNEXPLAINED a y",
        "1 green, 1 red: seed 5",
    ]
