"""Cases as vectors: their inputs, what is expected of each output with the error allowed, an index, a page about it."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from conformance.cases.corpus import Named
from conformance.judging.expectation import ExpectedOutputs, trajectory
from conformance.judging.expected import Expected
from conformance.judging.not_finite import NAN_TOO, NOTHING, SOME
from conformance.judging.promise import Promise
from conformance.model import codec
from conformance.model.errors import InvalidInput
from conformance.model.statement import Statement
from conformance.runs.gathering import Drawn
from conformance.runs.run_case import RunCase
from conformance.workbench.vectors import lines
from reference import Refusal
from reference.spec import Array

INDEX, PAGE, CASE = "index.json", Path(__file__).with_name("README.md"), "case.safetensors"
MOST = 1 << 22
"""Bytes of a case: vectors are for implementations that read files, and not for large arrays."""


class IndexedStep(msgspec.Struct, frozen=True, omit_defaults=True):
    """One step: its mode, the outputs expected, or why it must be refused; what is promised where others differ."""

    mode: str
    outputs: list[str]
    refused: str = ""
    semantics: dict[str, Any] = {}


class IndexedCase(msgspec.Struct, frozen=True, omit_defaults=True):
    """One case: its folder, what it is in words, what a caller asks, its steps."""

    folder: str
    summary: str
    spec: dict[str, Any]
    steps: list[IndexedStep]
    rule: str = ""


class Index(msgspec.Struct, frozen=True):
    """All cases, and whose promises their answers are held to."""

    cases: list[IndexedCase]
    skipped: int
    statement: Statement


def write(folder: Path, cases: Iterable[Drawn], statement: Statement) -> Index:
    """Write the cases that a statement supports, and return the index; raise `InvalidInput` for a used folder."""
    if folder.exists() and any(folder.iterdir()):
        raise InvalidInput(f"--vectors {folder}: is not empty; name a new folder, so that no answer there is lost")
    found, skipped = list[IndexedCase](), 0
    for one in cases:
        item = one.make() if one.size <= MOST else None
        if item is None or statement.unsupported(*item.facts):
            skipped += 1
            continue
        found.append(_case(folder, item, statement))
    index = Index(found, skipped, statement)
    (folder / INDEX).write_bytes(msgspec.json.format(msgspec.json.encode(index), indent=1))
    shutil.copyfile(PAGE, folder / "README.md")
    return index


def _case(folder: Path, item: RunCase, statement: Statement) -> IndexedCase:
    """Write one case, and return its entry."""
    case, exact_case, record = item.case, item.exact_case, item.record()
    name = record.name or record.case
    with np.errstate(all="ignore"):
        expected = trajectory(Promise.of(exact_case, statement))
    (folder / name).mkdir(parents=True)
    inputs = [lines.NamedArray("input", tensor, array) for tensor, array in case.tensors.items()]
    named = [
        [] if isinstance(step, Refusal) else [name for name in statement.returns(exact_case.facts[t]) if name in step]
        for t, step in enumerate(expected)
    ]
    outputs = [array for t, names in enumerate(named) for array in _expected(t, names, expected[t])]
    lines.write(folder / name / "case", [*inputs, *outputs])
    (folder / name / CASE).write_bytes(codec.encode_case(case))
    steps = [
        IndexedStep(
            case.steps[t].mode,
            named[t],
            str(step) if isinstance(step, Refusal) else "",
            msgspec.to_builtins(statement.semantics(exact_case.facts[t])),
        )
        for t, step in enumerate(expected)
    ]
    rule = item.origin.about.rule if isinstance(item.origin, Named) else ""
    return IndexedCase(name, record.summary, msgspec.to_builtins(case.spec), steps, rule)


def _expected(t: int, names: list[str], step: ExpectedOutputs | Refusal) -> Iterator[lines.NamedArray]:
    if isinstance(step, Refusal):
        return
    for name in names:
        value, allowed = rounded(step[name])
        yield lines.NamedArray("expected", f"{t}.{name}", value)
        yield lines.NamedArray("allowed", f"{t}.{name}", allowed)


def rounded(expected: Expected) -> tuple[Array, Array]:
    """Return value and bound in float64; what the value loses by that is allowed too.

    Where the value must be infinite or NaN, it says so. Where nothing is promised, or only that it is not finite, or
    where NaN is as right as a number, the error allowed is infinite.
    """
    exact = np.asarray(expected.value)
    kinds = np.zeros(exact.shape, np.int8) if expected.kinds is None else expected.kinds
    with np.errstate(all="ignore"):
        value = exact.astype(np.float64)
        lost = np.abs((exact - value).astype(np.float64))
        allowed = np.asarray(expected.bound).astype(np.float64) + np.where(np.isfinite(lost), lost, 0.0)
    unsaid = np.isin(kinds, (SOME, NAN_TOO)) | ((kinds == NOTHING) & ~np.isfinite(value))
    value = np.where((kinds == NOTHING) & ~np.isfinite(value), 0.0, value)
    return value, np.where(unsaid | np.isnan(allowed), np.inf, allowed)
