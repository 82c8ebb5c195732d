"""What people ask about batch normalization: the answer, numbers that are computed, a witness to ask again."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from conformance.cases import corpus
from conformance.hosts import roster
from conformance.judging import expectation
from conformance.judging.exact_case import ExactCase
from conformance.judging.promise import Promise
from conformance.judging.simulation import simulate
from conformance.model.case_facts import step_facts
from conformance.model.errors import InvalidInput
from conformance.model.rules import Rule
from conformance.model.statement import Statement
from conformance.studies.audit import fields
from reference import Refusal, Semantics

FILE = Path(__file__).with_suffix(".toml")
FOLDERS = (corpus.FOLDER, corpus.FOLDER.with_name("questions"))


class Show(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A number to show: where it is in a case, and whose it is. Its fields are described in `faq.toml`."""

    says: str
    case: str = ""
    step: int = 0
    output: str = "y"
    index: list[int] = []
    what: Literal["value", "shape", "refusal", "bound"] = "value"
    semantics: dict[str, Any] = {}
    numerics: dict[str, Any] = {}


class FaqEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A question and its answer. The fields are described in `faq.toml`."""

    id: str
    asks: str
    answer: str
    case: str
    shows: list[Show]
    field: str = ""
    convention: str = ""


class Number(msgspec.Struct, frozen=True):
    """A computed number, in words, and what it is."""

    says: str
    value: str


class FaqAnswer(msgspec.Struct, frozen=True):
    """The answer to a question.

    witness: the file of its case.
    means: implementations, by the value that their statement promises.
    """

    id: str
    asks: str
    answer: str
    numbers: list[Number]
    means: dict[str, list[str]]
    witness: str


class _File(msgspec.Struct, forbid_unknown_fields=True):
    question: list[FaqEntry]


def read() -> list[FaqEntry]:
    """Return every question, in the order in which they are listed."""
    return msgspec.convert(tomllib.loads(FILE.read_text(encoding="utf-8")), _File).question


def matching(words: tuple[str, ...]) -> list[FaqEntry]:
    """Return the question of that id, or those in whose id or wording every word is; raise InvalidInput if none is.

    >>> [question.id for question in matching(("last", "batch"))], [question.id for question in matching(("crash",))]
    (['last batch'], ['last batch'])
    """
    found = [question for question in read() if question.id == " ".join(words)]
    found = found or [q for q in read() if all(word.lower() in f"{q.id} {q.asks}".lower() for word in words)]
    if not found:
        known = ", ".join(question.id for question in read())
        raise InvalidInput(f"{' '.join(words)!r}: no question says so; give one of {known}, or words of it")
    return found


def witness(name: str) -> corpus.Named:
    """Return the case of a name."""
    return next(named for folder in FOLDERS for named in corpus.read(folder) if named.name == name)


def path(name: str) -> Path:
    """Return the file of a case."""
    return next(file for folder in FOLDERS if (file := folder / f"{name}.json").exists())


def answered(question: FaqEntry) -> FaqAnswer:
    """Return a question's answer, its numbers computed by the reference from the witness."""
    numbers = [Number(show.says, shown(show, question.case)) for show in question.shows]
    return FaqAnswer(question.id, question.asks, question.answer, numbers, means(question), str(path(question.case)))


def shown(show: Show, case: str) -> str:
    """Return the value of a number, in words."""
    question = ExactCase(witness(show.case or case).case)
    found = simulate(question, Semantics(**show.semantics))[show.step]
    if isinstance(found, Refusal):
        return f"refused: {found}"
    if show.what == "refusal":
        return "not refused"
    value = _bound(question, show) if show.what == "bound" else found[show.output]
    return str(value.shape) if show.what == "shape" else _digits(value[tuple(show.index)] if show.index else value)


def _bound(question: ExactCase, show: Show) -> Any:
    rule = Rule("asked", semantics=show.semantics, numerics=show.numerics)
    promised = Statement(id="asked", packages=[], documentation="", conventions={}, rules=[rule])
    with np.errstate(all="ignore"):
        answers = expectation.trajectory(Promise.of(question, promised))[show.step]
    assert not isinstance(answers, Refusal)
    return answers[show.output].bound


def _digits(value: Any) -> str:
    """Return a number, or a few, to six digits.

    >>> _digits(np.array([1 / 3, 2.0]))
    '0.333333, 2'
    """
    return ", ".join(f"{float(v):.6g}" for v in np.ravel(value))


def means(question: FaqEntry) -> dict[str, list[str]]:
    """Return which implementations mean what, in the field or the convention that the question is about."""
    found: dict[str, list[str]] = {}
    for entry in roster.select(()):
        value = None if entry.statement.calibration else _meant(question, entry.statement)
        if value is not None:
            found.setdefault(value, []).append(entry.id)
    return dict(sorted(found.items()))


def _meant(question: FaqEntry, statement: Statement) -> str | None:
    """Return what an implementation means; None if it cannot be asked the witness, or the witness does not show it."""
    if question.convention:
        return statement.conventions.get(question.convention)
    about = step_facts(witness(question.case).case, 0)
    if not question.field or statement.unsupported(about):
        return None
    promised = statement.semantics(about)
    if fields.inapplicable(statement, question.field, keeps=promised.average != "none"):
        return None
    return str(getattr(promised, question.field))
