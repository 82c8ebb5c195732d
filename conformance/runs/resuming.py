"""What is kept of an interrupted run that is gone on with."""

from __future__ import annotations

from pathlib import Path

from conformance.model.errors import InvalidInput
from conformance.model.results import Result, RunRecord
from conformance.runs import run_file

_SAME = ("version", "seed", "cases", "shard", "profile")


def kept(folder: Path, ids: set[str], header: RunRecord) -> list[Result]:
    """Return what an interrupted run of the same cases judged, without the pair that its end may have cut.

    ids: the implementations that are asked now.
    header: that of the run that goes on.
    """
    before = run_file.read(folder, mend=True)
    if gone := {r.implementation for r in before.results} - ids:
        raise InvalidInput(f"--resume: {folder} holds results of {min(gone)}; name it too with -i, or another --out")
    if differ := [name for name in _SAME if getattr(before.header, name) != getattr(header, name)]:
        raise InvalidInput(
            f"--resume: {folder} holds a run with another {differ[0]}; ask for the same, or name another --out"
        )
    again = before.cut | {(r.case, r.implementation) for r in before.results if r.outcome in ("Crashed", "TimedOut")}
    return [r for r in before.results if (r.case, r.implementation) not in again]
