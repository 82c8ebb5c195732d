"""Answers that lie beside vectors, judged."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from conformance.judging.exact_case import ExactCase
from conformance.judging.judgment import judge
from conformance.model.codec import read_case
from conformance.model.errors import InvalidInput
from conformance.model.outcome import Outcome, Outputs, Refused, Reply
from conformance.model.results import Result
from conformance.workbench.vectors import lines
from conformance.workbench.vectors.writing import CASE, INDEX, Index, IndexedCase


class JudgedVector(msgspec.Struct, frozen=True):
    """What became of one case: its results, and the outputs that no answer was given for."""

    case: str
    results: list[Result]
    missing: list[str]


def judged(folder: Path) -> tuple[list[JudgedVector], list[str]]:
    """Return the cases that have an answer, and the names of the others; raise `InvalidInput` for no vectors."""
    if not (folder / INDEX).is_file():
        raise InvalidInput(f"{folder}: has no {INDEX}; name a folder that bnconf export --vectors wrote")
    try:
        index = msgspec.json.decode((folder / INDEX).read_bytes(), type=Index)
    except msgspec.DecodeError as error:
        raise InvalidInput(f"{folder / INDEX}: is no index of vectors ({error}); export them again") from error
    answered = [one for one in index.cases if (folder / one.folder / "answer.txt").is_file()]
    found = [_one(folder / one.folder, one, index) for one in answered]
    return found, [one.folder for one in index.cases if one not in answered]


def _one(folder: Path, one: IndexedCase, index: Index) -> JudgedVector:
    case, _ = read_case(folder / CASE)
    outcomes = _outcomes(folder, one)
    given = {f"{t}.{name}" for t, of in enumerate(outcomes) if isinstance(of, Outputs) for name in of.tensors}
    names = sorted({name.partition(".")[2] for name in given})
    wanted = tuple(name for name in index.statement.outputs if name in names) or index.statement.outputs
    statement = msgspec.structs.replace(index.statement, outputs=wanted)
    with np.errstate(all="ignore"):
        results = judge(one.folder, ExactCase(case), statement, Reply(0, statement.id, tuple(outcomes)))
    expected = [f"{t}.{name}" for t, step in enumerate(one.steps) for name in step.outputs]
    missing = [name for name in expected if name.partition(".")[2] not in names]
    return JudgedVector(one.folder, [r for r in results if r.output in names or r.outcome], missing)


def _outcomes(folder: Path, one: IndexedCase) -> list[Outcome]:
    """Return what an answer says of each step."""
    path = folder / "answer"
    text = path.with_suffix(".txt").read_text().splitlines()
    refused = {line.split()[-1] for line in text if line.split()[:1] == [lines.REFUSED]}
    if strange := refused - set(map(str, range(len(one.steps)))):
        raise InvalidInput(f"{path}.txt: refused {min(strange)} names none of {len(one.steps)} steps; write refused 0")
    steps: list[dict[str, lines.Array]] = [{} for _ in one.steps]
    for role, name, array in lines.read(path):
        t, _, output = name.partition(".")
        if role != "answer" or not t.isdigit() or int(t) >= len(steps):
            raise InvalidInput(
                f"{path}.txt: {role} {name} is no answer to one of {len(steps)} steps; write answer 0.y, and the like"
            )
        steps[int(t)][output] = array
    return [Refused("", "refused") if str(t) in refused else Outputs(step) for t, step in enumerate(steps)]
