"""A run as JSON lines: what was asked, of whom, and each judgment. Gate, audit and report read only this.

One object a line. `type` says which: `run` opens the file, then one `implementation` each, one `case` each, the
`result`s, and `end` closes it. A file without `end` is an interrupted run; a torn last line is tolerated and said.
A result with a `rho` is an array; it is judged (`counts`) where `rho` is a number or "inf", and not where that is null:
every bound is vacuous.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from conformance.model import excluded
from conformance.model.errors import InvalidInput

SCHEMA = 1
FILE = "run.jsonl"
NOTHING = "nothing was compared"
"""Why a run without a PASS or a FAIL is incomplete; the facts that exclude its cases follow."""

Verdict = Literal["PASS", "FAIL", "INCONCLUSIVE", "UNSUPPORTED", "ERROR"]
Rho = float | Literal["inf"] | None


class RunRecord(msgspec.Struct, frozen=True, tag="run"):
    """What was asked for, and where it ran. selected: implementations were named, so that not all were asked."""

    schema: int
    version: str
    seed: int
    cases: int
    command: list[str]
    started: str
    environment: dict[str, Any]
    shard: str = "1/1"
    selected: bool = False


class ImplementationRecord(msgspec.Struct, frozen=True, tag="implementation"):
    """One implementation, why it could not be judged if it could not, what it runs on, and what it promises.

    about: what it runs on beyond versions, such as the GPU. named: what `-i` names it by, its id or a target.
    options: what else it was asked with, such as `--env user=PYTHON`. directory: where a target was named.
    """

    id: str
    framework: str
    device: str
    available: bool
    reason: str = ""
    versions: dict[str, str] = {}
    documentation: str = ""
    calibration: bool = False
    requested: bool = True
    statement: dict[str, Any] = {}
    about: dict[str, str] = {}
    named: str = ""
    options: list[str] = []
    directory: str = ""


Label = Annotated[str, msgspec.Meta(pattern="^([ABC]′?·[ST])?$")]
"""A numerical class and its grade, such as `A′·S`; empty where no array was judged."""


class WorkerRecord(msgspec.Struct, frozen=True, tag="worker"):
    """A worker process was started: its environment and process id."""

    environment: str
    pid: int


class CaseRecord(msgspec.Struct, frozen=True, tag="case"):
    """One case: generated, with its recipe, or of the corpus, with its name.

    conditioning: the largest |mean| / standard deviation of a channel; null where one is constant.
    """

    case: str
    index: int
    cell: str
    file: str
    summary: str
    recipe: dict[str, Any]
    well_posed: bool
    conditioning: float | None
    name: str = ""


class Deviation(msgspec.Struct, frozen=True, omit_defaults=True):
    """The element with the largest ρ of the check that judged hardest.

    ulps: its error in condition-scaled units of the last place (`Expected.ulps`).
    """

    check: str
    index: list[int]
    expected: float | str
    got: float | str
    bound: float | str
    ulps: float = 0.0


class Result(msgspec.Struct, frozen=True, tag="result", omit_defaults=True):
    """A verdict on one output of one step, or, where there is no array to judge, on the step or the case.

    vacuous: how many of the elements have an infinite bound. not_finite: how many of the answers are not finite where
    the exact values are and the dtype has room for them, whether or not their bounds are infinite. depth: the effective
    depth of the sums behind a mean (`Expected.depth`). resolution: the median of y's bound / |gamma|. outside: the
    classes and grades that a training step's y is outside of, where that was measured. class_a: its ρ under class A
    where less is promised, 0 where it is inside grade T.
    """

    case: str
    implementation: str
    verdict: Verdict
    step: int = -1
    mode: str = ""
    output: str = "outcome"
    reason: str = ""
    outcome: str = ""
    rho: Rho | msgspec.UnsetType = msgspec.UNSET
    checks: dict[str, Rho] = {}
    deviation: Deviation | None = None
    numerics: Label = ""
    dtype: str = ""
    elements: int = 0
    vacuous: int = 0
    not_finite: int = 0
    class_a: Rho | msgspec.UnsetType = msgspec.UNSET
    outside: list[Label] | msgspec.UnsetType = msgspec.UNSET
    depth: float | msgspec.UnsetType = msgspec.UNSET
    resolution: float | msgspec.UnsetType = msgspec.UNSET

    @property
    def failed(self) -> bool:
        """Whether it is against the implementation, or no judgment was possible by a fault of ours."""
        return self.verdict in ("FAIL", "ERROR")

    @property
    def size(self) -> float:
        """ρ for ordering: infinite where there is an outcome and no number, -1 where nothing was compared."""
        if self.rho is msgspec.UNSET:
            return math.inf if self.failed else -1.0
        return -1.0 if self.rho is None else float(self.rho)


def unjudged(judged: Iterable[Result]) -> str:
    """Return which outputs no check judged, step by step, and why; empty where something was judged of each.

    >>> unjudged([Result("c", "i", "INCONCLUSIVE", step=0, output=o, reason="why") for o in ("y", "dx")])
    'step 0 y, dx: why'
    """
    found: dict[tuple[int, str], list[str]] = {}
    for result in judged:
        if result.verdict == "INCONCLUSIVE":
            found.setdefault((result.step, result.reason), []).append(result.output)
    return "; ".join(f"step {step} {', '.join(outputs)}: {reason}" for (step, reason), outputs in found.items())


def why_nothing(found: Iterable[Result]) -> str:
    """Return which facts excluded the cases of a run, as what follows `NOTHING`; empty where none did."""
    why = excluded.brief((r.implementation, r.reason) for r in found if r.verdict == "UNSUPPORTED")
    return f": {why}; ask other or more cases" if why else ""


class EndRecord(msgspec.Struct, frozen=True, tag="end"):
    """How the run ended."""

    complete: bool
    reasons: list[str]
    seconds: float
    cpu: dict[str, float]
    verdicts: dict[str, int]


Record = RunRecord | ImplementationRecord | WorkerRecord | CaseRecord | Result | EndRecord


def answer_file(case: str, implementation: str) -> str:
    """Return where a run folder keeps an answer that failed, so that it can be judged again.

    >>> answer_file("034287ab02e95a33", "torch.F.batch_norm@cpu")
    'answers/034287ab02e95a33.torch.F.batch_norm@cpu.safetensors'
    """
    slug = re.sub(r"[^\w.+@-]", "_", implementation)
    return f"answers/{case}.{slug}.safetensors"


def ordered(records: Iterable[Record], implementations: Sequence[str]) -> list[Record]:
    """Return the records of a run in a stable order: equal runs give equal files, whichever worker was faster."""
    records = list(records)
    kinds = [RunRecord, WorkerRecord, ImplementationRecord, CaseRecord, Result, EndRecord]
    cases = {record.case: record.index for record in records if isinstance(record, CaseRecord)}
    ids = {identity: n for n, identity in enumerate(implementations)}

    def key(record: Record) -> tuple[int, ...]:
        kind = kinds.index(type(record))
        match record:
            case Result():
                return kind, cases[record.case], ids.get(record.implementation, len(ids)), record.step
            case CaseRecord():
                return kind, record.index
            case ImplementationRecord():
                return kind, ids[record.id]
            case _:
                return (kind,)

    return sorted(records, key=key)


class Run(msgspec.Struct):
    """A run read back."""

    header: RunRecord
    implementations: list[ImplementationRecord]
    cases: dict[str, CaseRecord]
    results: list[Result]
    end: EndRecord | None
    torn: bool

    @property
    def complete(self) -> bool:
        """Whether the run ended by itself with everything asked for."""
        return self.end is not None and self.end.complete

    def named(self, identity: str) -> str:
        """Return what `-i` names an implementation by."""
        return next((r.named for r in self.implementations if r.id == identity and r.named), identity)

    @property
    def reasons(self) -> list[str]:
        """Why the run is incomplete."""
        if self.end is None:
            return ["the run was killed before it ended" + ("; its last line is torn" if self.torn else "")]
        return self.end.reasons


def read(folder: Path, *, mend: bool = False) -> Run:
    """Return the run in a folder; raise `InvalidInput` where there is none, or a line of it is damaged.

    mend: leave damaged lines out, and with each the answers beside it, of which it may have been a part.
    """
    path = folder / FILE if folder.is_dir() else folder
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise InvalidInput(f"{folder}: holds no run ({error.strerror}); give the folder of a `bnconf run`") from error
    records, torn = _parse(path, [(n, line) for n, line in enumerate(lines, 1) if line.strip()], mend=mend)
    if not records or not isinstance(records[0], RunRecord):
        raise InvalidInput(f"{path}: is no run file; its first line must be the record of a run")
    if records[0].schema > SCHEMA:
        raise InvalidInput(f"{path}: has schema {records[0].schema}, this version reads up to {SCHEMA}; update bnconf")
    return Run(
        records[0],
        [r for r in records if isinstance(r, ImplementationRecord)],
        {r.case: r for r in records if isinstance(r, CaseRecord)},
        [r for r in records if isinstance(r, Result)],
        next((r for r in records if isinstance(r, EndRecord)), None),
        torn,
    )


def _parse(path: Path, lines: list[tuple[int, bytes]], *, mend: bool) -> tuple[list[Record], bool]:
    decoder, records, damaged = msgspec.json.Decoder[Record](Record), list[Record](), list[int]()
    for number, line in lines:
        try:
            records.append(decoder.decode(line))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            if number == lines[-1][0] and number > 1:
                return _without_neighbours(records, damaged), True
            if not mend or number == 1:
                fix = "the same `bnconf run` again with --resume keeps the rest" if number > 1 else "run again"
                kept = sum(isinstance(record, Result) for record in records)
                raise InvalidInput(
                    f"{path}, line {number}: {_damage(line, error)}; {kept} results before it are whole; {fix}"
                ) from error
            damaged.append(len(records))
    return _without_neighbours(records, damaged), False


def _damage(line: bytes, error: Exception) -> str:
    if isinstance(error, msgspec.ValidationError):
        return str(error)
    try:
        line.decode()
    except UnicodeDecodeError as found:
        return f"byte {found.start} ({line[found.start]:#04x}) is no UTF-8"
    return str(error)


def _without_neighbours(records: list[Record], damaged: list[int]) -> list[Record]:
    """Return records without the answers that a damaged line, lost before one of these places, stood beside."""
    gone: set[tuple[str, str]] = set()
    for place in damaged:
        for near in (records[place - 1 : place], records[place : place + 1]):
            gone |= {(r.case, r.implementation) for r in near if isinstance(r, Result)}
    return [r for r in records if not (isinstance(r, Result) and (r.case, r.implementation) in gone)]


def schema() -> dict[str, Any]:
    """Return the JSON Schema of one line of a run file; `run.schema.json` holds it for those without Python."""
    return msgspec.json.schema(Record)
