"""What TensorFlow 1.15.5 really computed: the reference reproduces it, or predicts that it refused."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest

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
