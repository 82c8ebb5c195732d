"""What an implementation that nobody described means: every `Semantics` that its answers are consistent with.

A candidate gives values to the fields that were asked about so far. Each case adds the fields that its answer depends
on, in every combination with what is left of the earlier ones, and drops what the answer is not explained by; the next
case is the one under which the reference answers the candidates in the most different ways. Implementations choose
their path by where the kept axis is and by dtype: those with the same plain answers are taken together.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable
from typing import Any, get_args

import msgspec
import numpy as np

from conformance.audit import fields
from conformance.audit.asking import Ask
from conformance.audit.fits import Answered
from conformance.audit.making import PLACES, Place
from conformance.audit.probes import PROBES, Probe
from conformance.audit.simulation import Values, simulate
from conformance.case import Case
from conformance.facts import OUTPUTS
from conformance.numerics import Stored
from conformance.outcome import Outputs, Reply
from conformance.question import Question
from conformance.statement import Rule, Statement
from reference import Refusal, Semantics
from reference.dtypes import stored
from reference.spec import Array

Candidate = dict[str, Any]

_TOGETHER = ("mask", "mask_rank", "mask_offset", "all_masked")
_BY_PATH = ("stored_variance",)
"""What another path, of virtual batches or of a mask, may do differently."""
_LOOSEST = Rule("supposed", numerics={"variance": "fast", "affine": "folded", "sums": "serial"})
_CLOSE, _HALF = 1e-3, 2  # of the largest value; bytes of a half
_WIDE = ("float32", "float64")
PLAIN = PROBES[0]


class Found(msgspec.Struct, frozen=True):
    """What was found in some places.

    semantics: all that explain every answer. open: the values that are left, of the fields with several. unexplained:
    the probes whose answer no semantics explain. asked: the cases, by probe. paths: fields that differ in a probe.
    taken: the dtypes of inputs that were answered.
    """

    places: tuple[Place, ...]
    semantics: tuple[Semantics, ...]
    open: dict[str, tuple[Any, ...]]
    unexplained: tuple[str, ...]
    asked: dict[str, Case]
    paths: dict[str, Candidate]
    taken: tuple[str, ...]


def unknown(statement: Statement) -> Statement:
    """Return a statement without a word on semantics, and with the loosest numerical class."""
    rules = [msgspec.structs.replace(rule, semantics={}) for rule in statement.rules]
    return msgspec.structs.replace(statement, rules=[*rules, _LOOSEST], refusals=[], accepts=[])


def identify(statement: Statement, ask: Ask) -> list[Found]:
    """Return what an implementation means, a finding for each group of places that answer plain cases alike."""
    begin = set(_WIDE) & set(statement.supports.get("dtype", _WIDE)) or set(statement.supports["dtype"])
    searches = [_Search(unknown(statement), ask, place) for place in PLACES if place.dtype in begin]
    groups: dict[Any, list[_Search]] = {}
    for search in (s for s in searches if s.begin()):
        groups.setdefault(search.alike(), []).append(search)
    return [_finish(group) for group in groups.values()]


def _finish(group: list[_Search]) -> Found:
    """Search in the first place of a group, and in other dtypes there for what shows only in them."""
    first = group[0]
    first.go_on(PROBES)
    alike = {search.place.dtype for search in group}
    for dtype in first.statement.supports.get("dtype", list(_WIDE)):
        if dtype != first.place.dtype and (dtype in alike or dtype not in _WIDE):
            first.go_on_in(
                first.place._replace(dtype=dtype), [p for p in PROBES if dtype in p.dtypes and p is not PLAIN]
            )
    return first.found(tuple(search.place for search in group))


class _Search:
    """The search in one place."""

    def __init__(self, statement: Statement, ask: Ask, place: Place) -> None:
        self.statement, self.ask, self.place, self.taken = statement, ask, place, [place.dtype]
        seen = "infer" in statement.modes or "moving_mean" in statement.outputs
        self.candidates: list[Candidate] = [{} if "train" in statement.modes and seen else {"average": "none"}]
        self.asked: dict[str, Case] = {}
        self.unexplained: list[str] = []
        self.answered = False
        self.paths: dict[str, Candidate] = {}
        self._questions: dict[int, Question] = {}
        self._answers: dict[tuple[str, str], list[Values | Refusal]] = {}
        self._classes: dict[tuple[str, str], str] = {}

    def begin(self) -> bool:
        """Ask the plain case; return whether it was answered as some semantics would."""
        case = PLAIN.in_place(self.place, self.statement)
        if case is None:
            return False
        self._narrow(PLAIN, case)
        return self.answered and not self.unexplained

    def alike(self) -> Any:
        """Return what two places have in common that may be the same path."""
        return frozenset(map(_key, self.candidates))

    def go_on(self, probes: Iterable[Probe]) -> None:
        """Ask the case that tells the most candidates apart, until none tells any apart."""
        left = [p for p in probes if p.name not in self.asked]
        cases = {p.name: p.case(self.place, self.statement) for p in left}
        while True:
            worth = {p.name: self._worth(p, case) for p in left if (case := cases[p.name]) is not None}
            best = max((p for p in left if worth.get(p.name, 0) > 1), key=lambda p: worth[p.name], default=None)
            if best is None:
                return
            left.remove(best)
            case = cases[best.name]
            assert case is not None
            self._narrow(best, case)

    def go_on_in(self, place: Place, probes: Iterable[Probe]) -> None:
        """Go on in another place of the same path."""
        other = _Search(self.statement, self.ask, place)
        other.candidates = self.candidates
        other.go_on(probes)
        self.candidates = other.candidates
        self.taken += [place.dtype] if other.answered else []
        self.asked |= {f"{name}, {place.dtype}": case for name, case in other.asked.items()}
        self.unexplained += [f"{name}, {place.dtype}" for name in other.unexplained]

    def _fields(self, probe: Probe) -> tuple[str, ...]:
        wanted = _TOGETHER if set(probe.fields) & set(_TOGETHER) else probe.fields
        return tuple(name for name in wanted if not fields.inapplicable(self.statement, name, keeps=self.keeps))

    @property
    def keeps(self) -> bool:
        """Whether it may keep statistics, as far as is known."""
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

    def _question(self, case: Case) -> Question:
        if id(case) not in self._questions:
            self._questions[id(case)] = Question(case)
        return self._questions[id(case)]

    def _class(self, probe: Probe, case: Case, candidate: Candidate) -> str:
        key = probe.name, _key(candidate)
        if key not in self._classes:
            told = {name: candidate.get(name) for name in ("variance_mean", "output_dtype") if name in probe.fields}
            answers = self._answers[key] = simulate(self._question(case), Semantics(**candidate))
            self._classes[key] = f"{told} {[_digest(a) for a in answers]}"
        return self._classes[key]

    # --- what its answer leaves ----------------------------------------------------------------------------------

    def _narrow(self, probe: Probe, case: Case) -> None:
        """Ask, and keep the candidates that the answer is explained by; all of them where it is by none."""
        self.asked[probe.name] = case
        reply = self.ask(case)
        answered = Answered(self._question(case), _returning(self.statement, reply), reply)
        self.answered |= any(isinstance(o, Outputs) and o.tensors for o in answered.reply.outcomes)
        extended = self._extended(probe)
        classes = {self._class(probe, case, candidate): candidate for candidate in extended}
        near = {n: c for n, c in classes.items() if self._is_near(case, reply, self._answers[probe.name, _key(c)])}
        right = {name for name, candidate in near.items() if _explains(answered, probe, candidate)}
        left = [candidate for candidate in extended if self._class(probe, case, candidate) in right]
        if not left and probe is not PLAIN:
            left = self._on_another_path(answered, probe, extended)
        if left:
            self.candidates = left
        else:
            self.unexplained.append(probe.name)

    def _is_near(self, case: Case, reply: Reply, answers: list[Values | Refusal]) -> bool:
        """Return whether an answer is within a thousandth of what semantics give; bounds are far below."""
        judged = (step.mode in self.statement.modes for step in case.steps)
        for outcome, wanted, here in zip(reply.outcomes, answers, judged, strict=False):
            if here and isinstance(outcome, Outputs) and not isinstance(wanted, Refusal):
                got = outcome.tensors.get("y")
                if got is not None and not _near(got, wanted["y"]):
                    return False
        return True

    def _on_another_path(self, answered: Answered, probe: Probe, extended: list[Candidate]) -> list[Candidate]:
        """Return the candidates that explain an answer if what depends on the path has another value there."""
        for name in _BY_PATH:
            for value in fields.values(name):
                left = [c for c in extended if _explains(answered, probe, c | {name: value})]
                if left:
                    self.paths[probe.name] = {name: value}
                    return left
        return []

    def found(self, places: tuple[Place, ...]) -> Found:
        """Return what is left, fields that mean nothing here as if nothing was said of them."""
        left = tuple(dict.fromkeys(self._plain(candidate) for candidate in self.candidates))
        values = {n: tuple(dict.fromkeys(getattr(s, n) for s in left)) for n in fields.NAMES}
        several = {name: found for name, found in values.items() if len(found) > 1}
        return Found(places, left, several, tuple(self.unexplained), self.asked, self.paths, tuple(self.taken))

    def _plain(self, candidate: Candidate) -> Semantics:
        return meant(self.statement, Semantics(**candidate), self.taken)


def meant(statement: Statement, semantics: Semantics, taken: Iterable[str]) -> Semantics:
    """Return the semantics, fields that show in no answer as if nothing was said of them; taken: dtypes that answer."""
    keeps = semantics.average != "none"
    silent = {n: getattr(Semantics(), n) for n in fields.NAMES if fields.inapplicable(statement, n, keeps=keeps)}
    if "float64" not in taken:  # float32 rounds any fraction
        silent |= {name: getattr(Semantics(), name) for name in ("fraction_dtype", "fraction_rounded")}
    silent.setdefault("output_dtype", _storage(semantics, list(taken)))
    return fields.canonical(dataclasses.replace(semantics, **silent), keeps=keeps)


def _storage(semantics: Semantics, taken: list[str]) -> Any:
    """Return the first value of `output_dtype` that gives the same dtypes, of the inputs that are taken."""

    def dtypes(value: Any) -> list[str]:
        return [stored(dtype, dataclasses.replace(semantics, output_dtype=value)).output for dtype in taken]

    return next(v for v in fields.values("output_dtype") if dtypes(v) == dtypes(semantics.output_dtype))


def _returning(statement: Statement, reply: Reply) -> Statement:
    """Return the statement with the outputs that were returned, each stored in the dtype that it came in.

    That an output is missing is no matter of semantics; which dtype is right, `output_dtype` says.
    """
    arrays = {n: a for o in reply.outcomes if isinstance(o, Outputs) for n, a in o.tensors.items()}
    named = {n: a.dtype.name for n, a in arrays.items() if n in OUTPUTS and a.dtype.name in get_args(Stored)}
    stored_as = [Rule("as returned", {"output": [n]}, numerics={"stored": dtype}) for n, dtype in named.items()]
    outputs = tuple(name for name in statement.outputs if name in arrays)
    return msgspec.structs.replace(statement, outputs=outputs, rules=[*statement.rules, *stored_as])


def _near(got: Array, wanted: Array) -> bool:
    if got.shape != wanted.shape or got.dtype.itemsize <= _HALF:
        return True
    with np.errstate(invalid="ignore"):
        off = np.abs(got.astype(np.float64) - wanted.astype(np.float64))
    return not (off > _CLOSE * np.abs(wanted).max(initial=1)).any()


def _explains(answered: Answered, probe: Probe, candidate: Candidate) -> bool:
    if "output_dtype" in probe.fields:
        return answered.storage(candidate["output_dtype"]).status != "fails"
    if answered.declines(candidate.get("mask", "")):
        return True
    return answered.fit(candidate).status != "fails"


def _key(candidate: Candidate) -> str:
    return str(sorted(candidate.items()))


def _digest(answer: Any) -> str:
    """Return an answer in words, the same for what is computed the same."""
    if isinstance(answer, Refusal):
        return "refused"
    return str({name: [f"{v:.17g}" for v in np.ravel(np.asarray(a, np.float64))] for name, a in answer.items()})
