"""Recordings: a case with what implementations answered and how that was judged, readable without any framework.

A recording is a case file with more in it: tensors `reply.<n>.<t>.<output>`, and as metadata `recorded`, with the n-th
implementation's record, outcomes and results, and the environment. A checksum covers everything. Metadata that this
version does not know is kept.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from conformance.cases import corpus
from conformance.model import buffers
from conformance.model.case import Case, case_id
from conformance.model.codec import REPLY, case_in_parts, read_recorded
from conformance.model.errors import InvalidInput
from conformance.model.outcome import Reply, decode_reply, join_reply, split_reply
from conformance.model.results import ImplementationRecord, Result
from conformance.runs import case_files, run_file

SCHEMA = 1
_KEY = "recorded"


class RecordedAnswer(msgspec.Struct, frozen=True):
    """What one implementation answered, and how it was judged; reply: None if only the judgment was kept."""

    record: ImplementationRecord
    results: tuple[Result, ...]
    reply: Reply | None = None


class Recording(msgspec.Struct, frozen=True):
    """A case, the answers to it, where they were given, and other metadata.

    name: that of the file, or the case's id.
    """

    name: str
    case: Case
    answers: tuple[RecordedAnswer, ...] = ()
    environment: dict[str, Any] = {}
    extra: dict[str, str] = {}

    @property
    def id(self) -> str:
        """The id of the case."""
        return case_id(self.case)


class _Recorded(msgspec.Struct):
    schema: int
    environment: dict[str, Any]
    answers: list[RecordedAnswer]


def write(recording: Recording, path: Path) -> Path:
    """Write a recording and return its path. The same recording gives the same bytes."""
    tensors: dict[str, Any] = {}
    bare: list[RecordedAnswer] = []
    for n, answer in enumerate(recording.answers):
        reply, arrays = split_reply(answer.reply) if answer.reply else (None, {})
        tensors |= {f"{REPLY}{n}.{name}": array for name, array in arrays.items()}
        bare.append(msgspec.structs.replace(answer, reply=reply))
    text = msgspec.json.encode(_Recorded(SCHEMA, recording.environment, bare)).decode()
    path.parent.mkdir(parents=True, exist_ok=True)
    buffers.write(path, case_in_parts(recording.case, recording.extra | {_KEY: text}, tensors, sealed=True))
    return path


def read(path: Path) -> Iterator[Recording]:
    """Yield what a path holds: a case file, a recording, the failures of a run's folder, or a folder of such files.

    A name of the corpus is the case of that name, where no such file is there.
    """
    named = corpus.FOLDER / f"{path}.json"
    if run_file.is_run(path):
        yield from of_run(path)
    elif path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.suffix in (".safetensors", ".json"))
        if not files:
            raise InvalidInput(f"{path}: holds no case file; give a run's folder, or one of case files")
        yield from map(_read, files)
    elif path.parent.name == "cases" and not buffers.there(path).exists() and run_file.is_run(path.parent.parent):
        yield _not_kept(path)
    else:
        yield _read(path if buffers.there(path).exists() or not named.exists() else named)


def _not_kept(path: Path) -> Recording:
    """Return a case of a run that has no file of it."""
    run = run_file.read(path.parent.parent)
    if path.stem not in run.cases:
        return _read(path)
    return Recording(path.stem, case_files.read(path.parent.parent, run, run.cases[path.stem]))


def _read(path: Path) -> Recording:
    case, extra, tensors = read_recorded(path)
    text = extra.pop(_KEY, None)
    if text is None:
        return Recording(path.stem, case, extra=extra)
    try:
        found = _recorded(text)
        answers = [_with_arrays(answer, n, tensors) for n, answer in enumerate(found.answers)]
    except (ValueError, KeyError) as error:
        raise InvalidInput(f"{path}: what it recorded cannot be read ({error}); record it again") from error
    return Recording(path.stem, case, tuple(answers), found.environment, extra)


def _recorded(text: str) -> _Recorded:
    schema = json.loads(text)["schema"]
    if schema > SCHEMA:
        raise ValueError(f"its schema is {schema}, this version reads up to {SCHEMA}; update bnconf")
    return msgspec.json.decode(text, type=_Recorded)


def _with_arrays(answer: RecordedAnswer, n: int, tensors: dict[str, Any]) -> RecordedAnswer:
    if answer.reply is None:
        return answer
    own = f"{n}."
    arrays = {name.removeprefix(own): array for name, array in tensors.items() if name.startswith(own)}
    return msgspec.structs.replace(answer, reply=join_reply(answer.reply, arrays))


def of_run(folder: Path, wanted: str = "") -> Iterator[Recording]:
    """Yield each case of a run that some implementation fails, with the answers that fail; of a wanted one, all."""
    run = run_file.read(folder)
    if wanted and wanted not in run.cases:
        raise InvalidInput(f"{folder}: has no case {wanted}; give one of its {len(run.cases)}, or a case file")
    records = {record.id: record for record in run.implementations}
    judged: dict[str, dict[str, list[Result]]] = {}
    for result in run.results:
        judged.setdefault(result.case, {}).setdefault(result.implementation, []).append(result)
    for case in [wanted] if wanted else judged:
        of_case = judged.get(case, {})
        kept = {name: found for name, found in of_case.items() if wanted or any(result.failed for result in found)}
        if kept:
            answers = [_of_run(folder, records[name], found) for name, found in kept.items() if name in records]
            read_back = case_files.read(folder, run, run.cases[case])
            yield Recording(run.cases[case].name or case, read_back, tuple(answers), run.header.environment)


def _of_run(folder: Path, record: ImplementationRecord, found: list[Result]) -> RecordedAnswer:
    path = folder / run_file.answer_file(found[0].case, record.id)
    if not any(result.failed for result in found):
        return RecordedAnswer(record, tuple(found))
    try:
        return RecordedAnswer(record, tuple(found), decode_reply(buffers.read(path)))
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path}: the answer that failed cannot be read ({error}); run again") from error
