"""Known departures of implementations from their own statements, each with the behaviour that it predicts.

There is a file for each framework, `divergences/<framework>.toml`, with a table `[[divergence]]` for each departure;
its fields are those of `Divergence`. A prediction is a change to the statement. It explains a failure if the same
answer passes under the changed statement, by the same bounds.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import tomllib
from datetime import date
from pathlib import Path
from typing import Any, Literal

import msgspec
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from conformance.cases import corpus
from conformance.gate import predicted
from conformance.model import vocabulary
from conformance.model.errors import InvalidInput
from conformance.model.facts import Facts
from conformance.model.numerics import Numerics
from conformance.model.results import ImplementationRecord
from conformance.model.rules import Rule, StatedRefusal, When, matches
from conformance.model.spelling import Misspelt
from conformance.model.statement import Statement
from reference import Semantics

FOLDER = Path(__file__).parent


class Prediction(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an implementation does instead of what it states. One of these is given.

    semantics, numerics: fields that have other values.
    refuses: the types of the exceptions that it raises.
    accepts: it answers where it should refuse, such as to statistics of another size.
    formula: its output is wrong, and is that of a formula of `conformance.gate.predicted`.
    wrong: its output is off by more than the bound, or has another shape; it is finite unless an input is not. This is
        the weakest prediction: the gate counts the failures that only this explains.
    no_formula: why `wrong` has no formula.
    crashes: the process dies.
    absent: the output, which `when` names, is not returned.
    """

    semantics: dict[str, Any] = {}
    numerics: dict[str, Any] = {}
    refuses: list[str] = []
    accepts: bool = False
    formula: str = ""
    wrong: bool = False
    no_formula: str = ""
    crashes: bool = False
    absent: bool = False

    def rules(self, when: When, cite: str) -> list[Rule]:
        """Return the prediction as rules of a statement.

        Semantics hold for a whole case, since later steps start from what a step does; numerics hold for a mode and an
        output. `Divergence.covers` holds results to everything else that `when` says.
        """
        return [
            Rule(cite, _without(when, "output", "mode", "update", "trained", "n"), semantics=self.semantics),
            Rule(cite, _without(when, "update", "trained", "n"), numerics=self.numerics),
        ]


class Divergence(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"review_by": "review-by"}):
    """One known departure.

    implementations: ids or patterns, with their device.
    versions: the versions it is known of, as PEP 440 specifiers by package.
    when: the facts of the case, the step and the output under which it happens (`Facts`).
    predicts: what happens then.
    rule: the rule of the reference that it concerns.
    reason: why it happens, in a sentence.
    link: public documentation or an issue, or `unreported`.
    witness: the case of the corpus that shows it.
    since, review-by: dates.
    """

    id: str
    implementations: list[str]
    kind: Literal["defect", "precision", "unsupported"]
    predicts: Prediction
    rule: str
    reason: str
    link: str
    owner: str
    since: date
    review_by: date
    witness: str
    versions: dict[str, str] = {}
    when: When = {}

    def concerns(self, record: ImplementationRecord) -> bool:
        """Return whether the divergence is about this implementation at these versions."""
        return self.names(record) and all(
            is_told(record, package) and SpecifierSet(wanted).contains(record.versions[package], prereleases=True)
            for package, wanted in self.versions.items()
        )

    def names(self, record: ImplementationRecord) -> bool:
        """Return whether the divergence is about this implementation at some version."""
        return any(fnmatch.fnmatchcase(record.id, pattern) for pattern in self.implementations)

    def untold(self, record: ImplementationRecord) -> list[str]:
        """Return the packages whose versions matter but are not reported: the divergence then explains nothing."""
        return [package for package in self.versions if self.names(record) and not is_told(record, package)]

    def covers(self, facts: Facts | None, output: str) -> bool:
        """Return whether something is predicted of an output where these facts hold.

        None stands for the facts of no step, as when a worker died.
        """
        if facts is None:
            return set(self.when) <= {"output"} and output in self.when.get("output", [output])
        return matches(self.when, msgspec.structs.replace(facts, output=output))

    def holds(self, facts: Facts) -> bool:
        """Return whether something is predicted of a step, whatever the output."""
        return matches(_without(self.when, "output"), facts)

    def changed(self, statement: Statement, *, everywhere: bool = False) -> Statement:
        """Return the statement with the prediction in it; everywhere: without its conditions."""
        when = {} if everywhere else self.when
        if self.predicts.wrong or self.predicts.crashes or self.predicts.absent or self.predicts.formula:
            return statement
        if self.predicts.accepts:
            return msgspec.structs.replace(statement, accepts=[*statement.accepts, _without(when, "output")])
        if self.predicts.refuses:
            refusal = StatedRefusal(self.reason, _without(when, "output"), self.predicts.refuses)
            return msgspec.structs.replace(statement, refusals=[refusal, *statement.refusals])
        return msgspec.structs.replace(statement, rules=[*statement.rules, *self.predicts.rules(when, self.reason)])


def is_told(record: ImplementationRecord, package: str) -> bool:
    """Return whether an implementation reports the version of a package, in the form of PEP 440."""
    try:
        Version(record.versions.get(package, ""))
    except InvalidVersion:
        return False
    return True


def _without(when: When, *facts: str) -> When:
    return {fact: values for fact, values in when.items() if fact not in facts}


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    divergence: list[Divergence] = []


def read(folder: Path = FOLDER) -> list[Divergence]:
    """Return every divergence of a folder of manifests."""
    found = [divergence for path in sorted(folder.glob("*.toml")) for divergence in read_file(path)]
    names = [divergence.id for divergence in found]
    if twice := {name for name in names if names.count(name) > 1}:
        raise InvalidInput(f"{folder}: two divergences are called {min(twice)}; give each an id of its own")
    return found


def read_file(path: Path) -> list[Divergence]:
    """Return the divergences of one manifest; what is wrong is named with its line."""
    text = ""
    try:
        text = path.read_text()
        found = msgspec.convert(tomllib.loads(text), _File).divergence
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidInput(f"{path}: {error}; mend it there") from error
    except msgspec.ValidationError as error:
        raise InvalidInput(f"{path}, {_place(text, str(error))}: {error}; see conformance/gate/divergences") from error
    for n, divergence in enumerate(found):
        _check(f"{path}, line {_line(text, n)}, column 1", divergence)
    return found


def _check(where: str, divergence: Divergence) -> None:
    p = divergence.predicts
    if empty := [name for name in ("id", "rule", "reason", "owner") if not getattr(divergence, name).strip()]:
        raise InvalidInput(f"{where}: {empty[0]} of {divergence.id or 'a divergence'} is empty; fill it in")
    one = (p.semantics or p.numerics, p.refuses, p.accepts, p.formula, p.wrong, p.crashes, p.absent)
    if sum(map(bool, one)) != 1:
        raise InvalidInput(
            f"{where}: {divergence.id} must predict one thing: semantics or numerics, refuses, accepts, formula, "
            "wrong, crashes, absent"
        )
    if p.wrong != bool(p.no_formula.strip()):
        raise InvalidInput(
            f"{where}: {divergence.id}: `wrong` explains any value, so that `no_formula` must say why there is no "
            "formula for it, and is for nothing else; add it, or give a formula"
        )
    if not divergence.link.startswith("https://") and divergence.link != "unreported":
        raise InvalidInput(f'{where}: link "{divergence.link}" is neither https://… nor "unreported"; give one of them')
    try:
        for wanted in divergence.versions.values():
            SpecifierSet(wanted)
    except InvalidSpecifier as error:
        raise InvalidInput(f'{where}: {error}; give a PEP 440 specifier such as ">=2.0,<3"') from error
    _check_names(where, divergence)


def _check_names(where: str, divergence: Divergence) -> None:
    """Raise for a name that does not exist: it would never match, and no one would notice."""
    cases = {named.name: named.case for named in corpus.every()}
    facts = {*Facts.__struct_fields__} - {"device"}
    for what, given, known in (
        ("witness", [divergence.witness], cases),
        ("fact", divergence.when, facts),
        ("semantics", divergence.predicts.semantics, {field.name for field in dataclasses.fields(Semantics)}),
        ("numerics", divergence.predicts.numerics, set(Numerics.__struct_fields__)),
        ("formula", [name for name in [divergence.predicts.formula] if name], predicted.FORMULAS),
    ):
        if stray := [name for name in given if name not in known]:
            raise InvalidInput(
                f'{where}: {divergence.id}: no {what} is called "{stray[0]}"; use one of {", ".join(sorted(known))}'
            )
    try:
        vocabulary.check_when(f"{divergence.id}.when", divergence.when, besides=("device",))
        vocabulary.check_semantics(f"{divergence.id}.predicts.semantics", divergence.predicts.semantics)
        vocabulary.check_numerics(f"{divergence.id}.predicts.numerics", divergence.predicts.numerics)
    except Misspelt as error:
        raise InvalidInput(f"{where}: what {divergence.id} predicts is not valid: {error}") from error


def _place(text: str, message: str) -> str:
    """Return the line, and the column, of the table that a validation error speaks of."""
    _, found, rest = message.partition("$.divergence[")
    if not found:
        return "line 1, column 1"
    number, _, field = rest.partition("]")
    start = _line(text, int(number)) if number.isdecimal() else 1
    name = field.strip("`.").split(".")[0].split("[")[0]
    for n, line in enumerate(text.splitlines()[start - 1 :], start):
        if name and line.lstrip().startswith((name, f"[divergence.{name}")):
            return f"line {n}, column {line.index(name) + 1}"
    return f"line {start}, column 1"


def _line(text: str, number: int) -> int:
    """Return the line on which the n-th divergence begins."""
    lines = [n for n, line in enumerate(text.splitlines(), 1) if line.strip() == "[[divergence]]"]
    return lines[number] if number < len(lines) else 1
