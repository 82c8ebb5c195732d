"""The cases of a run as files of its folder: as many as there is room for, and in gzip each that somebody fails.

Beyond the room a case that is drawn is no file: its recipe is in the run file, and what is drawn of it again is held to
its id. Whatever has no recipe is a file, and whatever is so large that it is read from there while it is asked.
"""

from __future__ import annotations

import threading
from pathlib import Path

import msgspec

from conformance.cases import building
from conformance.cases.recipe import Recipe
from conformance.model import buffers
from conformance.model.case import Case, case_id
from conformance.model.codec import case_in_parts, read_case
from conformance.model.errors import InvalidInput
from conformance.model.results import CaseRecord, Run
from conformance.model.stopwatch import part
from conformance.runs.run_case import RunCase

ROOM = 48 << 20
"""Bytes of the files of cases; a default run has 40 million."""


class CaseFiles:
    """The files of the cases of a run that is made. Several threads may write."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._room, self._lock = folder, ROOM, threading.Lock()

    @part("write")
    def put(self, item: RunCase) -> None:
        """Write a case, if there is room, or if it could not be drawn again."""
        large = item.case.nbytes >= buffers.MAPPED
        if self._room < item.case.nbytes and isinstance(item.origin, Recipe) and not large:
            return
        self._write(item)
        self._room -= 0 if large else item.case.nbytes
        if large:
            item.reread(self._folder / item.file)

    @part("write")
    def keep(self, item: RunCase) -> None:
        """Write a case that somebody fails, in gzip, unless it is there."""
        with self._lock:
            if not buffers.there(self._folder / item.file).exists():
                self._write(item, packed=True)

    def _write(self, item: RunCase, *, packed: bool = False) -> None:
        buffers.write(self._folder / item.file, case_in_parts(item.case, sealed=True), packed=packed)


def read(folder: Path, run: Run, record: CaseRecord) -> Case:
    """Return a case of a run, from its file or drawn again; raise `InvalidInput` where neither gives it."""
    path = folder / record.file
    if buffers.there(path).exists() or not record.recipe:
        return read_case(path)[0]
    try:
        case = building.build(msgspec.convert(record.recipe, Recipe), run.header.seed)
    except (msgspec.ValidationError, KeyError, ValueError) as error:
        raise InvalidInput(f"{path}: is not there, and its recipe cannot be read ({error}); run again") from error
    if case_id(case) != record.case:
        raise InvalidInput(
            f"{path}: is not there, and what is drawn of its recipe here is another case; give a folder that has "
            f"it, or draw it with bnconf {run.header.version} and the NumPy of then"
        )
    return case
