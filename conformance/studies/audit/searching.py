"""The search in one layout: the `Semantics` that its answers are consistent with, one well-chosen case at a time."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any, get_args

import msgspec
import numpy as np

from conformance.judging.exact_case import ExactCase
from conformance.judging.simulation import Values, simulate
from conformance.model.case import Case
from conformance.model.case_facts import every_step
from conformance.model.numerics import Stored
from conformance.model.outcome import Outputs, Refused, Reply
from conformance.model.outputs import GRADIENTS, NAMES
from conformance.model.rules import Rule
from conformance.model.statement import Statement
from conformance.runs.asking import Ask
from conformance.studies.audit import fields, making
from conformance.studies.audit.fits import ProbeAnswer
from conformance.studies.audit.making import InputLayout
from conformance.studies.audit.probes import PROBES, Probe
from reference import Refusal, Semantics
from reference.precision import widened
from reference.spec import Array

Candidate = dict[str, Any]

_TOGETHER = ("mask", "mask_rank", "mask_offset", "all_masked")
_UNSEEN = ("variance_mean", "new_state", "output_dtype")
"""The fields that neither y nor the moving statistics of exact arithmetic show."""
_BY_PATH = ("stored_variance",)
"""What another path, of virtual batches or of a mask, may do differently."""
_CLOSE, _HALF = 1e-3, 2  # of the largest value; bytes of a half
_FEW = 10  # candidates whose bounds are computed where none explains an answer
PLAIN = PROBES[0]


class Raised(msgspec.Struct, frozen=True):
    """A case that raised, and the error in words."""

    words: str
    case: Case


class Search:
    """The search in one layout of the input.

    taking: a gradient is taken in each step, as some implementations move their state in the backward pass.
    raised: the errors, by probe.
    unexplained: the answers that no semantics explain, by probe.
    """

    def __init__(self, statement: Statement, ask: Ask, place: InputLayout, *, taking: bool = False) -> None:
        if taking:  # whether gradients are right is no matter of where the state moves
            outputs = tuple(name for name in statement.outputs if name not in GRADIENTS)
            statement = msgspec.structs.replace(statement, outputs=outputs or statement.outputs)
        self.statement, self.ask, self.place, self.taking = statement, ask, place, taking
        self.taken = [place.dtype]
        seen = "infer" in statement.modes or "moving_mean" in statement.outputs
        self.candidates: list[Candidate] = [{} if "train" in statement.modes and seen else {"average": "none"}]
        self.asked: dict[str, Case] = {}
        self.unexplained: dict[str, str] = {}
        self.raised: dict[str, Raised] = {}
        self.answered = False
        self.paths: dict[str, Candidate] = {}
        self._questions: dict[int, ExactCase] = {}
        self._answers: dict[tuple[str, str], list[Values | Refusal]] = {}
        self._classes: dict[tuple[str, str], str] = {}

    def begin(self) -> bool:
        """Ask the plain case; return whether some semantics would answer it so."""
        case = self._asked(PLAIN.in_place(self.place, self.statement))
        if case is None:
            return False
        self._narrow(PLAIN, case)
        self.plain = frozenset(map(_key, self.candidates))
        return self.answered and not self.unexplained and not self.raised

    def _asked(self, case: Case | None) -> Case | None:
        """Return a case as it can be asked here; None if it cannot be."""
        if case is None or not self.taking:
            return case
        case = making.first(case)
        asked = (msgspec.structs.replace(about, weights=False) for about in every_step(case))
        return None if self.statement.unsupported(*asked) else case

    def alike(self) -> Any:
        """Return what layouts on the same path have in common: the candidates that explain the plain case."""
        return self.plain

    def go_on(self, probes: Iterable[Probe]) -> None:
        """Ask the case that tells the most candidates apart, until none tells any apart."""
        left = [p for p in probes if p.name not in self.asked]
        cases = {p.name: self._asked(p.case(self.place, self.statement)) for p in left}
        while True:
            worth = {p.name: self._worth(p, case) for p in left if (case := cases[p.name]) is not None}
            best = max((p for p in left if worth.get(p.name, 0) > 1), key=lambda p: worth[p.name], default=None)
            if best is None:
                return
            left.remove(best)
            case = cases[best.name]
            assert case is not None
            self._narrow(best, case)

    def go_on_in(self, place: InputLayout, probes: Iterable[Probe]) -> None:
        """Go on in another layout on the same path."""
        other = Search(self.statement, self.ask, place, taking=self.taking)
        other.candidates = self.candidates
        other.go_on(probes)
        self.candidates = other.candidates
        self.taken += [place.dtype] if other.answered else []
        self.asked |= {f"{name}, {place.dtype}": case for name, case in other.asked.items()}
        self.unexplained |= {f"{name}, {place.dtype}": words for name, words in other.unexplained.items()}
        self.raised |= {f"{name}, {place.dtype}": raised for name, raised in other.raised.items()}

    def _fields(self, probe: Probe) -> tuple[str, ...]:
        wanted = _TOGETHER if set(probe.fields) & set(_TOGETHER) else probe.fields
        return tuple(name for name in wanted if not fields.hidden(self.statement, name, keeps=self.keeps))

    @property
    def keeps(self) -> bool:
        """Whether the layer may keep statistics, as far as is known."""
        return any(candidate.get("average") != "none" for candidate in self.candidates)

    def _extended(self, probe: Probe) -> list[Candidate]:
        """Return the candidates, with every combination of the values that a probe adds."""
        names, found = self._fields(probe), list[Candidate]()
        for candidate in self.candidates:
            new = [name for name in names if name not in candidate]
            combined = itertools.product(*(fields.values(name) for name in new))
            found += [candidate | dict(zip(new, values, strict=True)) for values in combined]
        return found

    # --- which case is next --------------------------------------------------------------------------------------

    def _worth(self, probe: Probe, case: Case) -> int:
        """Return into how many kinds of answer the candidates fall."""
        return len({self._class(probe, case, candidate) for candidate in self._extended(probe)})

    def _exact_case(self, case: Case) -> ExactCase:
        if id(case) not in self._questions:
            self._questions[id(case)] = ExactCase(case)
        return self._questions[id(case)]

    def _class(self, probe: Probe, case: Case, candidate: Candidate) -> str:
        key = probe.name, _key(candidate)
        if key not in self._classes:
            told = {name: candidate.get(name) for name in _UNSEEN if name in probe.fields}
            answers = self._answers[key] = simulate(self._exact_case(case), Semantics(**candidate))
            self._classes[key] = f"{told} {[_digest(a) for a in answers]}"
        return self._classes[key]

    # --- what its answer leaves ----------------------------------------------------------------------------------

    def _narrow(self, probe: Probe, case: Case) -> None:
        """Ask a case, and keep the candidates that explain the answer; all of them if none does."""
        self.asked[probe.name] = case
        reply = self.ask(case)
        answered = ProbeAnswer(self._exact_case(case), _returning(self.statement, reply), reply)
        self.answered |= any(isinstance(o, Outputs) and o.tensors for o in answered.reply.outcomes)
        extended = _possible(self._extended(probe), reply)
        classes = {self._class(probe, case, candidate): candidate for candidate in extended}
        near = {n: c for n, c in classes.items() if self._is_near(case, reply, self._answers[probe.name, _key(c)])}
        right = {name for name, candidate in near.items() if _explains(answered, probe, candidate)}
        left = [candidate for candidate in extended if self._class(probe, case, candidate) in right]
        if not left and probe is not PLAIN:
            left = self._on_another_path(answered, probe, extended)
        gave_up = next((o for o in reply.outcomes if not isinstance(o, Outputs)), None)
        if left and (self.answered or gave_up is None):
            self.candidates = left
        elif gave_up is not None:
            self.raised[probe.name] = Raised(_error(gave_up), case)
            self.candidates = self._refusing(probe, reply) or self.candidates
        else:
            apart = {n: _distance(reply, self._answers[probe.name, _key(c)]) for n, c in classes.items()}
            ordered = [classes[name] for name in sorted(apart, key=lambda name: apart[name])]
            self.unexplained[probe.name] = _nearest(answered, ordered)

    def _refusing(self, probe: Probe, reply: Reply) -> list[Candidate]:
        """Return the candidates that refuse a probe, where every step was refused: a layer may refuse when built."""
        every = all(isinstance(outcome, Refused) for outcome in reply.outcomes)
        return [c for c in self._extended(probe) if every and any(c.get(n) == "refused" for n in probe.fields)]

    def _is_near(self, case: Case, reply: Reply, answers: list[Values | Refusal]) -> bool:
        """Return whether an answer is within a thousandth of what semantics give; bounds are far below that."""
        judged = (step.mode in self.statement.modes for step in case.steps)
        for outcome, wanted, here in zip(reply.outcomes, answers, judged, strict=False):
            if here and isinstance(outcome, Outputs) and not isinstance(wanted, Refusal):
                got = outcome.tensors.get("y")
                if got is not None and not _near(got, wanted["y"]):
                    return False
        return True

    def _on_another_path(self, answered: ProbeAnswer, probe: Probe, extended: list[Candidate]) -> list[Candidate]:
        """Return the candidates that explain an answer if the fields that depend on the path have other values."""
        for name in _BY_PATH:
            for value in fields.values(name):
                left = [c for c in extended if _explains(answered, probe, c | {name: value})]
                if left:
                    self.paths[probe.name] = {name: value}
                    return left
        return []


def _returning(statement: Statement, reply: Reply) -> Statement:
    """Return the statement with the outputs that came back, each stored in the dtype that it came in.

    A missing output says nothing of semantics, and `output_dtype` says which dtype is right.
    """
    arrays = {n: a for o in reply.outcomes if isinstance(o, Outputs) for n, a in o.tensors.items()}
    named = {n: a.dtype.name for n, a in arrays.items() if n in NAMES and a.dtype.name in get_args(Stored)}
    stored_as = [Rule("as returned", {"output": [n]}, numerics={"stored": dtype}) for n, dtype in named.items()]
    outputs = tuple(name for name in statement.outputs if name in arrays) or statement.outputs  # where it raised
    return msgspec.structs.replace(statement, outputs=outputs, rules=[*statement.rules, *stored_as])


def _possible(candidates: list[Candidate], reply: Reply) -> list[Candidate]:
    """Return the candidates without those that cut off what is below 0, where an answer is: they need no simulation."""
    ys = [o.tensors["y"] for o in reply.outcomes if isinstance(o, Outputs) and "y" in o.tensors]
    if not any((np.real(y) < 0).any() for y in ys):
        return candidates
    return [candidate for candidate in candidates if candidate.get("activation", "none") == "none"]


def _near(got: Array, wanted: Array) -> bool:
    if got.shape != wanted.shape or got.dtype.itemsize <= _HALF:
        return True
    with np.errstate(invalid="ignore"):
        off = np.abs(got.astype(np.float64) - wanted.astype(np.float64))
    return not (off > _CLOSE * np.abs(wanted).max(initial=1)).any()


def _explains(answered: ProbeAnswer, probe: Probe, candidate: Candidate) -> bool:
    if "output_dtype" in probe.fields:
        return answered.storage(candidate["output_dtype"]).status != "fails"
    if answered.declines(candidate.get("mask", "")):
        return True
    return answered.fit({name: value for name, value in candidate.items() if name != "output_dtype"}).status != "fails"


def _distance(reply: Reply, answers: list[Values | Refusal]) -> float:
    """Return how far y is from what semantics give, in its own unit; infinite if the outcomes differ."""
    worst = 0.0
    for outcome, wanted in zip(reply.outcomes, answers, strict=False):
        got = outcome.tensors.get("y") if isinstance(outcome, Outputs) else None
        if got is None or isinstance(wanted, Refusal) or got.shape != wanted["y"].shape:
            return float("inf")
        off = np.abs(widened(got, np.float64) - widened(wanted["y"], np.float64)).max(initial=0)
        worst = max(worst, float(off) if np.isfinite(off) else float("inf"))
    return worst


def _nearest(answered: ProbeAnswer, ordered: list[Candidate]) -> str:
    """Return which candidate is nearest to an answer that none explains, and what is off; of the first few."""
    fits = [(answered.fit(candidate), candidate) for candidate in ordered[:_FEW]]
    fit, candidate = min(fits, key=lambda one: float(one[0].rho) if one[0].rho is not None else 0.0)
    defaults = Semantics()
    said = [f"{name} {value}" for name, value in candidate.items() if getattr(defaults, name) != value]
    off = f"{fit.why}, ρ {fit.rho if isinstance(fit.rho, str) else format(fit.rho or 0.0, '.3g')}"
    return f"nearest are {', '.join(said) or 'the defaults'}: {off}"


def _error(outcome: Any) -> str:
    """Return why there is no answer, in words."""
    if isinstance(outcome, Refused):
        return f"{outcome.error}: {outcome.message}"
    return str(getattr(outcome, "reason", "no answer in time"))


def _key(candidate: Candidate) -> str:
    return str(sorted(candidate.items()))


def _digest(answer: Any) -> str:
    """Return an answer in words, the same for the same computation."""
    if isinstance(answer, Refusal):
        return "refused"
    return str({name: [f"{v:.17g}" for v in np.ravel(np.asarray(a, np.float64))] for name, a in answer.items()})
