"""Case files within the page, to be taken out of it: those of the worst failures, as far as there is room.

A case of the corpus needs none: whoever has bnconf has it by its name.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from pathlib import Path

from conformance.model.results import Run
from conformance.report.groups import Group

CASES = 100
"""How many are attached at most."""
ROOM = 60_000
"""How many bytes they may have together, compressed."""
_LARGE = 12_000  # a larger file would take the room of several


def attached(run: Run, folder: Path, groups: Iterable[Group]) -> dict[str, bytes]:
    """Return the files of cases by id: the worst of each group of failures, those that nothing explains first."""
    found, room = dict[str, bytes](), ROOM
    for group in groups:
        case = run.cases.get(group.worst.result.case)
        content = b"" if case is None or case.name or case.case in found else _read(folder / case.file)
        size = len(zlib.compress(content))
        if case and content and size <= room and len(found) < CASES:
            found[case.case], room = content, room - size
    return found


def _read(path: Path) -> bytes:
    """Return a file; nothing if it is large, or gone."""
    try:
        return path.read_bytes() if path.stat().st_size <= _LARGE else b""
    except OSError:
        return b""
