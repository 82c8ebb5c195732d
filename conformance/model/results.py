"""The records of a run: what was asked, of whom, and each judgment. `runs/run_file` writes and reads them.

`type` says which record it is. A result with a `rho` is an array: it is judged (`counts`) if `rho` is a number or
"inf", and not if it is null, since every bound is then infinite.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable
from typing import Annotated, Any, Literal

import msgspec

from conformance.model import excluded

SCHEMA = 1
NOTHING = "nothing was compared"
"""Why a run without a PASS or a FAIL is incomplete. The facts that exclude its cases follow."""

CANNOT = "cannot run here: "
"""How the reason begins where an adapter calls what the version that is installed does not have."""

Verdict = Literal["PASS", "FAIL", "INCONCLUSIVE", "UNSUPPORTED", "ERROR"]
Rho = float | Literal["inf"] | None


class RunRecord(msgspec.Struct, frozen=True, tag="run"):
    """What was asked for, and where it ran.

    selected: implementations were named, so that not all were asked.
    profile: smoke, or one of cases of its own; empty: every other, and a number of cases that was asked for.
    """

    schema: int
    version: str
    seed: int
    cases: int
    command: list[str]
    started: str
    environment: dict[str, Any]
    shard: str = "1/1"
    selected: bool = False
    profile: str = ""


class ImplementationRecord(msgspec.Struct, frozen=True, tag="implementation"):
    """One implementation: what it promises, what it runs on, and why it could not be judged, if it could not.

    about: what it runs on besides versions, such as the GPU.
    named: what `-i` names it by, its id or a target.
    options: what else it was asked with, such as `--env user=PYTHON`.
    directory: where a target was named.
    sources: a hash of its adapter and of the suite (`hosts.sources`); empty where they are not known.
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
    sources: str = ""


Label = Annotated[str, msgspec.Meta(pattern="^([ABC]′?·[ST])?$")]
"""A numerical class and its grade, such as `A′·S`; empty where no array was judged."""


class WorkerRecord(msgspec.Struct, frozen=True, tag="worker"):
    """A worker process that was started: its environment and process id."""

    environment: str
    pid: int


class CaseRecord(msgspec.Struct, frozen=True, tag="case"):
    """One case: generated, with its recipe, or of the corpus, with its name.

    conditioning: the largest |mean| / standard deviation of a channel; null if one is constant.
    values: the most values that one of its batches has per channel.
    elements: the most that one has in all.
    dtype, layout: those of its input; empty in a run file of before there were these fields.
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
    values: int = 0
    elements: int = 0
    dtype: str = ""
    layout: str = ""


class SkippedRecord(msgspec.Struct, frozen=True, tag="skipped"):
    """A case that was not asked, nor drawn, since memory does not hold it.

    cell: that of its recipe, or its name in the corpus.
    needed, allowed: bytes of memory.
    """

    index: int
    cell: str
    needed: int
    allowed: int


class Deviation(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The element with the largest ρ, in the check that is the hardest on it.

    ulps: its error in condition-scaled units of the last place (`Expected.ulps`).
    """

    check: str
    index: list[int]
    expected: float | str
    got: float | str
    bound: float | str
    ulps: float = 0.0


class Result(msgspec.Struct, frozen=True, tag="result", omit_defaults=True, gc=False):
    """A verdict on one output of one step; where there is no array to judge, on the step or the case.

    vacuous: how many elements have an infinite bound.
    not_finite: how many answers are not finite although the exact value is, and fits the dtype, whatever their bounds.
    depth: the effective depth of the sums behind a mean (`Expected.depth`).
    resolution: the median of y's bound / |gamma|.
    outside: the classes and grades that a training step's y is outside of, where that was measured.
    class_a: its ρ under class A, where less is promised; 0 if it is inside grade T.
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
        """Whether it counts against the implementation, or a fault of ours prevented a judgment."""
        return self.verdict in ("FAIL", "ERROR")

    @property
    def size(self) -> float:
        """ρ to sort by: infinite for an outcome without a number, -1 where nothing was compared."""
        if self.rho is msgspec.UNSET:
            return math.inf if self.failed else -1.0
        return -1.0 if self.rho is None else float(self.rho)


def unjudged(judged: Iterable[Result]) -> str:
    """Return which outputs no check judged, step by step, and why; empty if something was judged of each.

    >>> unjudged([Result("c", "i", "INCONCLUSIVE", step=0, output=o, reason="why") for o in ("y", "dx")])
    'step 0 y, dx: why'
    """
    found: dict[tuple[int, str], list[str]] = {}
    for result in judged:
        if result.verdict == "INCONCLUSIVE":
            found.setdefault((result.step, result.reason), []).append(result.output)
    return "; ".join(f"step {step} {', '.join(outputs)}: {reason}" for (step, reason), outputs in found.items())


def why_nothing(excluding: Iterable[tuple[str, str]]) -> str:
    """Return which facts excluded the cases of a run, to follow `NOTHING`; empty if none did.

    excluding: the implementation and the reason of each result that is UNSUPPORTED.
    """
    why = excluded.brief(excluding)
    return f": {why}; ask other or more cases" if why else ""


class EndRecord(msgspec.Struct, frozen=True, tag="end"):
    """How the run ended.

    whose: the implementation that a reason is about, by the reason.
    nothing: the one reason is that nothing was compared.
    taken: how many results are those of an earlier run, by implementation (`--changed-since`).
    timetable: seconds of CPU by environment and part (`conformance/runs/timetable.py`).
    """

    complete: bool
    reasons: list[str]
    seconds: float
    cpu: dict[str, float]
    verdicts: dict[str, int]
    whose: dict[str, str] | msgspec.UnsetType = msgspec.UNSET
    nothing: bool | msgspec.UnsetType = msgspec.UNSET
    taken: dict[str, int] | msgspec.UnsetType = msgspec.UNSET
    timetable: dict[str, dict[str, float]] | msgspec.UnsetType = msgspec.UNSET


Record = RunRecord | ImplementationRecord | WorkerRecord | CaseRecord | SkippedRecord | Result | EndRecord


class Run(msgspec.Struct):
    """A run read back."""

    header: RunRecord
    implementations: list[ImplementationRecord]
    cases: dict[str, CaseRecord]
    results: list[Result]
    end: EndRecord | None
    torn: bool
    skipped: list[SkippedRecord] = []

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

    @property
    def cut(self) -> set[tuple[str, str]]:
        """The case and the implementation of which results may be missing, since the run was killed; empty if none."""
        return {(last.case, last.implementation) for last in self.results[-1:] if self.end is None}

    @property
    def whose(self) -> dict[str, str]:
        """The implementation that a reason is about, by the reason."""
        return (self.end and self.end.whose) or {}


def schema() -> dict[str, Any]:
    """Return the JSON Schema of one line of a run file; `run.schema.json` holds it for readers without Python."""
    made = msgspec.json.schema(Record)
    for about in made["$defs"].values():
        about["description"] = inspect.cleandoc(about["description"])  # Python 3.13 has taken the indent off already
    return made
