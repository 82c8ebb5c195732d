"""What a run left of its failures: the cases, and the answers that fail."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

from conformance.judging.exact_case import ExactCase
from conformance.model import buffers
from conformance.model.case import Case
from conformance.model.errors import InvalidInput
from conformance.model.outcome import Reply, decode_reply
from conformance.model.results import CaseRecord, Run
from conformance.runs import case_files
from conformance.runs.run_file import answer_file


class Evidence(Protocol):
    """Cases by their id, and answers that fail; None where one was not kept."""

    def cases(self) -> Iterator[tuple[str, Case]]:
        """Yield every case of the run."""
        ...

    @property
    def features(self) -> Mapping[str, str]:
        """What each case asks beyond the plain layer."""
        ...

    def exact_case(self, case: str) -> ExactCase | None:
        """Return a case as it is judged."""
        ...

    def reply(self, case: str, implementation: str) -> Reply | None:
        """Return an answer."""
        ...


class InFolder:
    """What the folder of a run holds; a file that is gone tells nothing."""

    def __init__(self, run: Run, folder: Path) -> None:
        self.features = {name: _feature(record) for name, record in run.cases.items()}
        self._run, self._folder = run, folder
        self._exact_case = functools.lru_cache(maxsize=32)(self._read)

    def cases(self) -> Iterator[tuple[str, Case]]:
        """Yield every case that is there."""
        for name in self._run.cases:
            if (case := self._case(name)) is not None:
                yield name, case

    def exact_case(self, case: str) -> ExactCase | None:
        """Return a case as it is judged."""
        return self._exact_case(case)

    def _read(self, case: str) -> ExactCase | None:
        found = self._case(case)
        return None if found is None else ExactCase(found)

    def _case(self, name: str) -> Case | None:
        try:
            return case_files.read(self._folder, self._run, self._run.cases[name])
        except InvalidInput:
            return None

    def reply(self, case: str, implementation: str) -> Reply | None:
        """Return an answer that fails."""
        try:
            return decode_reply(buffers.read(self._folder / answer_file(case, implementation)))
        except (OSError, ValueError):
            return None


class InMemory:
    """Cases and answers that are at hand."""

    def __init__(self, cases: Mapping[str, ExactCase], replies: Mapping[tuple[str, str], Reply]) -> None:
        self._cases, self._replies, self.features = cases, replies, dict[str, str]()

    def cases(self) -> Iterator[tuple[str, Case]]:
        """Yield every case."""
        yield from ((name, one.case) for name, one in self._cases.items())

    def exact_case(self, case: str) -> ExactCase | None:
        """Return a case as it is judged."""
        return self._cases.get(case)

    def reply(self, case: str, implementation: str) -> Reply | None:
        """Return an answer."""
        return self._replies.get((case, implementation))


def _feature(record: CaseRecord) -> str:
    """Return what a case asks beyond the plain layer; `corpus` of one with a name."""
    return record.recipe.get("signature", {}).get("feature", "") if record.recipe else "corpus"
