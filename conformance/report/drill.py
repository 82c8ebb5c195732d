"""Samples to drill into: the arrays around the worst element of chosen failures, judged again from what is on disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from conformance.judging.bounds import bounds
from conformance.judging.exact_case import ExactCase
from conformance.judging.judgment import compared
from conformance.model import buffers
from conformance.model.case import Case
from conformance.model.errors import InvalidInput
from conformance.model.outcome import Outputs, Reply, decode_reply
from conformance.model.results import CaseRecord, Result, Run
from conformance.model.statement import Statement, recorded
from conformance.report.tally import Count
from conformance.runs import case_files
from conformance.runs.run_file import answer_file
from reference.precision import widened
from reference.spec import Array, kept_axes

SAMPLES = 150
"""How many are kept at most."""
VALUES = 120_000
"""How many elements they may hold together: half a megabyte."""
SIDE = 12
"""A window has at most so many rows, and columns."""


class Sample(msgspec.Struct):
    """One output of one step: windows around its worst element, two-dimensional and all of one size.

    Columns are channels; rows are what a channel is averaged over.

    x: the input there, or that of these channels if the output is a statistic.
    start, size: where the window begins, and how large the whole is.
    worst: the place of the worst element in the window.
    """

    case: str
    implementation: str
    step: int
    output: str
    check: str
    dtype: str
    start: tuple[int, int]
    size: tuple[int, int]
    worst: tuple[int, int]
    arrays: dict[str, Array]

    def described(self) -> dict[str, Any]:
        """Return the sample without its values, which `values` has in this order, one array after the other."""
        plain = {f: getattr(self, f) for f in self.__struct_fields__ if f != "arrays"}
        return plain | {"arrays": [[name, *array.shape] for name, array in self.arrays.items()]}


def samples(run: Run, folder: Path, counts: list[Count]) -> list[Sample]:
    """Return samples of failures, the worst of each kind first, as far as there is room; none if the files are gone."""
    records = {record.id: record for record in run.implementations}
    exact_cases: dict[str, ExactCase | None] = {}
    found, room = list[Sample](), VALUES
    for result in _wanted(counts):
        record, case = records.get(result.implementation), run.cases.get(result.case)
        if record is None or case is None or not record.statement:
            continue
        if case.case not in exact_cases:
            exact_cases[case.case] = _exact_case(run, folder, case)
        exact_case, reply = exact_cases[case.case], _reply(folder / answer_file(case.case, record.id))
        sample = _sample(exact_case, recorded(record), reply, result)
        size = sum(array.size for array in sample.arrays.values()) if sample else 0
        if sample and size <= room:
            room -= size
            found.append(sample)
    return found


def _wanted(counts: list[Count]) -> list[Result]:
    """Yield failures with arrays: the worst of each kind, then the second worst of each, and so on."""
    kinds = [
        [e.result for e in count.rows if e.fails and e.result.deviation] for count in counts if count.kind.standing
    ]
    rounds = (found[n] for n in range(max(map(len, kinds), default=0)) for found in kinds if n < len(found))
    return [result for _, result in zip(range(SAMPLES), rounds, strict=False)]


def _exact_case(run: Run, folder: Path, record: CaseRecord) -> ExactCase | None:
    try:
        return ExactCase(case_files.read(folder, run, record))
    except InvalidInput:
        return None


def _reply(path: Path) -> Reply | None:
    try:
        return decode_reply(buffers.read(path))
    except (OSError, ValueError):
        return None


def _sample(exact_case: ExactCase | None, statement: Statement, reply: Reply | None, result: Result) -> Sample | None:
    outcome = reply.outcomes[result.step] if reply and 0 <= result.step < len(reply.outcomes) else None
    if exact_case is None or reply is None or result.deviation is None or not isinstance(outcome, Outputs):
        return None
    expected = compared(exact_case, statement, reply, result.step).get(result.deviation.check, {}).get(result.output)
    got = outcome.tensors.get(result.output)
    if expected is None or got is None or got.shape != expected.value.shape:
        return None
    with np.errstate(all="ignore"):
        wide = widened(got, exact_case.dtype)
        whole = {
            "expected": expected.value,
            "got": wide,
            "error": wide - expected.value,
            "bound": np.broadcast_to(expected.bound, got.shape),
            "ρ": bounds.rho(got, expected.value, expected.bound),
        }
    return _windowed(exact_case.case, result, whole, got.dtype.name)


def _windowed(case: Case, result: Result, whole: dict[str, Array], dtype: str) -> Sample:
    assert result.deviation
    index = tuple(result.deviation.index)
    x, here = case.x(result.step), np.zeros(whole["got"].shape, bool)
    here[index] = True
    like_x = here.shape == x.shape
    flat = {name: _flat(case, array) if like_x else array.reshape(1, -1) for name, array in whole.items()}
    marked = _flat(case, here) if like_x else here.reshape(1, -1)
    row, column = (int(i) for i in np.argwhere(marked)[0])
    start = tuple(_start(place, size) for place, size in zip((row, column), marked.shape, strict=True))
    rows, columns = (slice(begin, begin + SIDE) for begin in start)
    inputs = _flat(case, widened(x, np.float64))
    fits = inputs.shape[1] == marked.shape[1]
    x_window = inputs[rows if like_x else slice(0, SIDE), columns if fits else slice(0, SIDE)]
    return Sample(
        result.case,
        result.implementation,
        result.step,
        result.output,
        result.deviation.check,
        dtype,
        (start[0], start[1]),
        (marked.shape[0], marked.shape[1]),
        (row - start[0], column - start[1]),
        {"x": x_window, **{name: array[rows, columns] for name, array in flat.items()}},
    )


def _start(place: int, size: int) -> int:
    """Return where a window of `SIDE` begins that has a place in its middle, or as near as the ends allow.

    >>> _start(0, 5), _start(50, 100), _start(99, 100)
    (0, 44, 88)
    """
    return max(min(place - SIDE // 2, size - SIDE), 0)


def _flat(case: Case, array: Array) -> Array:
    """Return an array of the input's shape as rows × channels."""
    kept = kept_axes(case.spec, array.ndim)
    channels = int(np.prod([array.shape[a] for a in kept]))
    return np.moveaxis(array, kept, range(array.ndim - len(kept), array.ndim)).reshape(-1, channels)


def steps(case: Case) -> Iterator[str]:
    """Yield each step of a case in words."""
    for t, step in enumerate(case.steps):
        special = [name for name in ("mask", "adjustment_scale", "tangent") if f"{t}.{name}" in case.tensors]
        shape = "×".join(map(str, case.x(t).shape))
        words = [step.mode, shape, *(name.replace("_scale", "") for name in special)]
        words += ["no update"] if not step.update else []
        words += [f"{d.mode} derivative" + (f" {d.order}" if d.order > 1 else "") for d in step.derivatives]
        yield ", ".join(word.replace("_", " ") for word in words)
