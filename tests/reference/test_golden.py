"""What TensorFlow 1.15.5 really computed: the reference reproduces it, or predicts that it refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from conformance.hosts import roster
from conformance.judging.exact_case import ExactCase
from conformance.judging.judgment import judge
from reference import Refusal


@pytest.fixture
def recordings(helper: Any) -> ModuleType:
    """Return the helper that reads recordings."""
    return helper("recordings")


def test_recording_is_reproduced_or_its_refusal_predicted(recording: Any, recordings: ModuleType) -> None:
    """Every array of every recording is within its tolerance, or TensorFlow refused and so does the reference."""
    if not recording.entry["ok"]:
        with pytest.raises(Refusal):
            recordings.reproduce(recording)
        return
    made = recordings.reproduce(recording)
    for name in recordings.judged(recording):
        dtype, kind = recording.entry["dtype"], recordings.kind(name)
        allowed = recording.tolerances.get(f"{dtype}/*", recording.tolerances.get(f"{dtype}/{kind}"))
        assert recordings.distance(made[name], recording.outputs[name]) <= allowed, name


STATEMENTS = {entry.id: entry.statement for entry in roster.built_in() if entry.environment == "tf-1.15"}


def test_every_recorded_array_is_within_the_suites_own_bounds(recording: Any, recordings: ModuleType) -> None:
    """Judged as if a worker had answered it, every array passes, and each bound says something."""
    if not recording.entry["ok"]:
        return
    reply = recordings.as_reply(recording)
    found = judge("", ExactCase(recordings.as_case(recording)), STATEMENTS[reply.implementation], reply)
    assert {(r.verdict, r.vacuous) for r in found} == {("PASS", 0)}, [r for r in found if r.verdict != "PASS"]
    assert len(found) >= len([name for name in recordings.judged(recording) if not name.startswith("s0/")])


def test_the_repositorys_recordings_are_all_there(recordings: ModuleType) -> None:
    """171 recordings come with the project: 169 reproduced, and the 2 that TensorFlow refused."""
    found = recordings.read(Path(__file__).parent / "golden" / "tf-1.15")
    assert (len(found), sum(r.entry["ok"] for r in found)) == (171, 169)


def judged_by(directory: Path) -> subprocess.CompletedProcess[str]:
    """Run `pytest --golden DIR` on the recordings in a directory."""
    test = f"{__file__}::{test_recording_is_reproduced_or_its_refusal_predicted.__name__}"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test, "--golden"]
    return subprocess.run([*command, str(directory)], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("error", "said"), [(0, "2 passed"), (1e-9, "1 failed, 1 passed")], ids=["as recorded", "one value off"]
)
def test_golden_takes_another_directory(tmp_path: Path, error: float, said: str) -> None:
    """`--golden DIR` judges by the recordings there, and fails where one value of them is off by 1e-9."""
    home = Path(__file__).parent / "golden" / "tf-1.15"
    index = json.loads((home / "index.json").read_text())
    index["cases"] = [entry for entry in index["cases"] if entry["dtype"] == "float64" and entry["ok"]][:2]
    chosen = tuple(f"{entry['id']}/" for entry in index["cases"])
    (tmp_path / "index.json").write_text(json.dumps(index))
    for name in ("inputs.npz", "outputs.npz"):
        with np.load(home / name) as file:
            arrays = {key: file[key] for key in file.files if key.startswith(chosen)}
        if name == "outputs.npz":
            arrays[f"{chosen[0]}y0"] = arrays[f"{chosen[0]}y0"] + error
        np.savez(tmp_path / name, **arrays)
    assert said in judged_by(tmp_path).stdout


def test_golden_names_what_a_directory_lacks(tmp_path: Path) -> None:
    """A directory without recordings is refused in one sentence, before any test runs."""
    done = judged_by(tmp_path)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert f"--golden {tmp_path} has no index.json, inputs.npz, outputs.npz; name a directory" in done.stderr
