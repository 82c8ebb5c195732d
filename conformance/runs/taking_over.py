"""What an earlier run judged: taken over where nothing that decides a verdict has changed since."""

from __future__ import annotations

import shutil
from collections import defaultdict
from pathlib import Path

import msgspec

from conformance.hosts.machine import describe_host
from conformance.model import buffers
from conformance.model.results import ImplementationRecord, Result
from conformance.runs import run_file
from conformance.runs.run_file import answer_file


class Earlier:
    """The results of an earlier run, for whoever runs on the same versions, sources and machine as then.

    folder: that of the run; InvalidInput if it holds none.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, run = folder, run_file.read(folder)
        here = run.header.environment == msgspec.to_builtins(describe_host())
        self._records = {record.id: _bare(record) for record in run.implementations if here and record.sources}
        self._results = defaultdict[tuple[str, str], list[Result]](list)
        for result in run.results:
            self._results[result.case, result.implementation].append(result)
        for pair in run.cut:
            del self._results[pair]

    def unchanged(self, record: ImplementationRecord) -> bool:
        """Return whether an implementation is what it was."""
        return self._records.get(record.id) == _bare(record)

    def take(self, case: str, implementation: str, out: Path) -> list[Result]:
        """Return what was judged of a case, with its answer copied where it failed; nothing where it has to be asked.

        Whoever crashed or did not end may do better now, and is asked again.
        """
        found = self._results[case, implementation]
        if any(result.outcome in ("Crashed", "TimedOut") for result in found):
            return []
        if any(result.failed for result in found):
            kept = buffers.there(self.folder / answer_file(case, implementation))
            if not kept.is_file():
                return []
            shutil.copyfile(kept, out / kept.relative_to(self.folder))
        return found


def _bare(record: ImplementationRecord) -> bytes:
    """Return a record as a run file has it, without what it was named by, and where."""
    return msgspec.json.encode(msgspec.structs.replace(record, named="", options=[], directory=""))
