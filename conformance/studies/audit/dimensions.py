"""What an audit asks beyond the fields of `Semantics`: each dimension is a column, with what is done there.

A dimension is asked by a feature of the generator. What is done is said in a word: `as defined` by the reference,
`refused`, `answered` although that makes no sense, `written to`, `crashed`, or `otherwise`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec
import numpy as np

from conformance.cases.features import FEATURES
from conformance.gate.divergences import Divergence
from conformance.gate.explanation import FailedAnswer
from conformance.judging import expectation
from conformance.judging.exact_case import ExactCase
from conformance.judging.judgment import judge
from conformance.judging.promise import Promise
from conformance.model.case import Case
from conformance.model.case_facts import every_step
from conformance.model.outcome import Crashed, Outputs, Reply
from conformance.model.results import ImplementationRecord, Result, Rho
from conformance.model.statement import Statement
from conformance.studies.audit import making
from conformance.studies.audit.cells import FieldFinding, Inapplicable, witness
from conformance.studies.audit.making import PLACES, InputLayout
from conformance.studies.audit.probes import Probe
from conformance.studies.audit.subject import Subject, Try
from reference import Refusal

AS_DEFINED = "as defined"
INPUTS = "inputs kept"
"""The dimension of plain cases: whether what was given is bit for bit as it was."""


class Dimension(NamedTuple):
    """One thing that a case may ask beyond the plain layer.

    feature, variant: what asks it; none: a plain case does.
    modes: of its steps.
    gradients: whether it is about gradients; others are asked without any.
    there: it is asked in the feature's own placements alone.
    """

    name: str
    feature: str = ""
    variant: str = ""
    modes: str = "train infer"
    gradients: bool = False
    there: bool = False

    def make(self, place: InputLayout) -> Case:
        """Return its case for a layout of the input."""
        fields = dict(FEATURES[self.feature].spec.get(self.variant, {}) if self.feature else {})
        case = making.first(making.plain(place, self.modes, **fields))
        if self.feature:
            case = FEATURES[self.feature].add(case, self.variant, np.random.default_rng(0))
        return case if self.gradients else making.without_gradients(case)

    def probe(self) -> Probe:
        """Return it as a probe of an audit."""
        return Probe(self.name, (self.name,), self.make)

    def places(self, subject: Subject) -> list[InputLayout]:
        """Return where it is asked: in a layout of each rank, of one dtype; a compiled program is made for one."""
        own = FEATURES[self.feature].placements if self.feature else ()
        asked = subject.places or PLACES  # who answers nothing plain is asked what it supports
        near = [place for place in asked if place.name in own]
        found = near or ([] if self.there else subject.places[:1])
        ranks = {len(place.shape): place for place in reversed(found) if place.dtype == found[0].dtype}
        return sorted(ranks.values(), key=lambda place: len(place.shape))[: 1 if subject.stated.compiled else 2]


DIMENSIONS = (
    Dimension(INPUTS),
    Dimension("no statistics kept", "untracked", "given"),
    Dimension("statistics switched off", "switched statistics", "off later", "train train infer"),
    Dimension("statistics switched on", "switched statistics", "on later", "train train infer"),
    Dimension("momentum 1.5", "odd numbers", "momentum 1.5"),
    Dimension("momentum -0.2", "odd numbers", "momentum -0.2"),
    Dimension("epsilon -1", "odd numbers", "epsilon -1"),
    Dimension("epsilon NaN", "odd numbers", "nan epsilon"),
    Dimension("negative variance given", "odd statistics", "negative variance", "infer train"),
    Dimension("infinite mean given", "odd statistics", "infinite mean", "infer train"),
    Dimension("no channels", "no channels", "at first"),
    Dimension("no channels later", "no channels", "later"),
    Dimension("gamma in rows", "misfit parameters", "gamma in two rows"),
    Dimension("gamma too long", "misfit parameters", "longer gamma"),
    Dimension("whole numbers for x", "integer input", "int32", "infer train"),
    Dimension("truth values for x", "bool input", "bool", "infer train"),
    Dimension("complex numbers for x", "complex input", "complex64", "infer train"),
    Dimension("eight bits for x", "float8 input", "float8_e4m3fn", "infer train"),
    Dimension("scalars of float64", "float64 scalars", "single"),
    Dimension("scalars of float32", "float32 scalars", "single"),
    Dimension("arrays for scalars", "array scalars", "single"),
    Dimension("other ranks", "other ranks", "two of them", "train train infer", there=True),
    Dimension("other sizes", "other sizes", "rows", "train train infer"),
    Dimension("some gradients", "some gradients", "gamma", gradients=True),
    Dimension("later gradients", "later gradients", "after_all", "infer train infer", gradients=True),
    Dimension("gradients twice", "later gradients", "twice", gradients=True),
    Dimension("two places", "two places", "train train", "train train", gradients=True),
    Dimension("inference before training", "two places", "infer train", "train train", gradients=True),
    Dimension("recomputed", "recomputed", "recomputed", "train infer", gradients=True),
    Dimension("gradients of statistics", "gradients of statistics", "mean variance", "train", gradients=True),
    Dimension("gradients along parameters", "along parameters", "reverse", gradients=True),
    Dimension("tangents of all inputs", "along all", gradients=True),
    Dimension("gradients of the new state", "gradients of the new state", gradients=True),
    Dimension("ensembles", "ensemble", "both", gradients=True),
    Dimension("rows of a Jacobian", "jacobian", gradients=True),
    Dimension("replicas", "replicas", "two", "train", gradients=True, there=True),
    Dimension("uneven replicas", "uneven replicas", "three", "train", gradients=True, there=True),
    Dimension("a replica without rows", "uneven replicas", "empty", "train", gradients=True, there=True),
    Dimension("masked replicas", "masked replicas", "full", "train", gradients=True, there=True),
    Dimension("replicas with masked rows", "masked replicas", "without_last", "train", gradients=True, there=True),
    Dimension("groups of replicas", "replica groups", "", "train", gradients=True, there=True),
)
"""Every dimension, in the order of the columns."""
NAMES = tuple(dimension.name for dimension in DIMENSIONS)


_DOUBTED = "its answers to plain cases are not as promised either"


class Beyond:
    """What one implementation is asked beyond `Semantics`: its cases, and what its answers say."""

    def __init__(self, record: ImplementationRecord, subject: Subject, known: list[Divergence]) -> None:
        self._record, self._subject, self._known = record, subject, known
        self.asked: dict[str, list[Try]] = {}
        self.inapplicable: list[Inapplicable] = []
        for dimension in DIMENSIONS:
            tries, why = self._tries(dimension)
            if tries:
                self.asked[dimension.name] = tries
            else:
                self.inapplicable.append(Inapplicable(subject.id, dimension.name, why))

    def _tries(self, dimension: Dimension) -> tuple[list[Try], str]:
        """Return the cases to ask, or why there are none."""
        statement, probe = self._subject.stated, dimension.probe()
        if not dimension.feature and not statement.keeps_inputs:
            return [], "it does not promise to leave what it is given"
        tries = [Try(place, probe, probe.make(place)) for place in dimension.places(self._subject)]
        whys = {t.id: statement.unsupported(*every_step(t.case)) for t in tries}
        return [t for t in tries if not whys[t.id]], next(iter(whys.values()), "it takes no such layout")

    def tries(self) -> list[Try]:
        """Return every case to ask."""
        return [t for tries in self.asked.values() for t in tries]

    def cells(
        self, replies: dict[str, Reply], exact_cases: dict[str, ExactCase], observed: Statement | None
    ) -> Iterable[FieldFinding]:
        """Yield a finding for each thing that is done in a dimension, with the layouts where that is so.

        observed: what explains its plain answers, where these contradict its statement: what holds there too is no
            fault of a dimension, and what does not may be none.
        """
        for name, tries in self.asked.items():
            found: dict[str, list[FieldFinding]] = {}
            for t in (t for t in tries if t.id in replies):
                finding = self._finding(name, t, replies[t.id], exact_cases[t.id], self._subject.stated)
                if observed is not None and finding.status == "refuted" and t.probe.name != INPUTS:
                    finding = self._finding(name, t, replies[t.id], exact_cases[t.id], observed)
                    doubt = {"status": "undetermined", "why": _DOUBTED} if finding.status == "refuted" else {}
                    finding = msgspec.structs.replace(finding, **doubt)
                found.setdefault(str(finding.value), []).append(finding)
            for alike in found.values():
                where = tuple(one.witness.place for one in alike if one.witness) if len(found) > 1 else ()
                worst = next((one for one in alike if one.status != "proven"), alike[0])
                yield msgspec.structs.replace(worst, where=where)

    def _finding(self, name: str, t: Try, reply: Reply, exact_case: ExactCase, stated: Statement) -> FieldFinding:
        results = judge("", exact_case, stated, reply)
        failed = [r for r in results if r.verdict in ("FAIL", "ERROR")]
        explained = FailedAnswer(self._record, exact_case, reply).explained(failed, self._known)
        known = sorted({d for one in explained for d in one.divergences if one.kind == "explained"})
        told = all(one.kind == "explained" for one in explained)
        value, nothing = _done(results, reply, exact_case, stated), not any(r.verdict == "PASS" for r in results)
        undecided = value == AS_DEFINED and nothing
        return FieldFinding(
            self._subject.id,
            name,
            value,
            "refuted" if not told else "undetermined" if undecided else "proven",
            witness(t),
            _largest(results),
            {word: "inf" for word in (AS_DEFINED, "refused") if word != value and not undecided},
            why=_why(failed) if failed and not told else "nothing could be compared" if undecided else "",
            promised=_promised(exact_case, stated) if failed and told else None,
            divergence=known[0] if known and told else "",
            cite=_cite(stated, t.case),
        )


def _done(results: list[Result], reply: Reply, exact_case: ExactCase, stated: Statement) -> str:
    """Return what was done, in a word."""
    if reply.refused:
        return "refused"
    died = [outcome for outcome in reply.outcomes if not isinstance(outcome, Outputs)]
    if died or not reply.outcomes:
        wrote = any(isinstance(one, Crashed) and one.reason.startswith("it wrote to ") for one in died)
        return "written to" if wrote else "crashed"
    if _promised(exact_case, stated) == "refused":
        return "answered"
    return "otherwise" if any(r.verdict == "FAIL" for r in results) else AS_DEFINED


def _promised(exact_case: ExactCase, stated: Statement) -> str:
    """Return what is promised: an answer as it is defined, or that some step is refused."""
    documented = any(stated.refusing(facts) for facts in every_step(exact_case.case))
    steps = expectation.trajectory(Promise.of(exact_case, stated))
    return "refused" if documented or any(isinstance(step, Refusal) for step in steps) else AS_DEFINED


def _cite(stated: Statement, case: Case) -> str:
    cites = [refusal.cite for facts in every_step(case) for refusal in stated.refusing(facts)]
    return cites[0] if cites else stated.documentation


def _why(failed: list[Result]) -> str:
    worst = max(failed, key=lambda r: r.size)
    return f"{worst.output} of step {worst.step}" + (f": {worst.reason}" if worst.reason else "")


def _largest(results: list[Result]) -> Rho:
    found: list[Rho] = [r.rho for r in results if r.rho is not msgspec.UNSET and r.rho is not None]
    return max(found, key=lambda rho: float(rho or 0), default=None)
