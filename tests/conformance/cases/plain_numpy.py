"""The two-pass NumPy adapter as a subject: a fault is put into a class of its own, and asked the cases of a feature."""

from __future__ import annotations

import functools
import json

import msgspec
import numpy as np

from conformance.cases.building import build
from conformance.cases.cells import CELLS
from conformance.cases.features import FEATURES
from conformance.cases.strategies import recipes
from conformance.hosts import worker
from conformance.hosts.roster import ADAPTERS
from conformance.judging.exact_case import ExactCase
from conformance.judging.judgment import judge
from conformance.model.case import content
from conformance.model.case_facts import every_step
from conformance.model.outcome import Outputs, Refused, Reply
from conformance.model.statement import Statement

(TwoPass,) = worker.load(str(ADAPTERS / "numpy.py") + ":TwoPass")
STATEMENT = msgspec.convert(TwoPass.statement, Statement)


@functools.cache
def asked(feature, count=None):
    """Return cases that NumPy may answer: of each cell of a feature, of plain cells for none, so many.

    count: None stands for one of each variant.
    """
    cells = [cell for cell in CELLS if cell.feature == feature]
    number = count or (len(FEATURES[feature].variants) if feature else 1)
    found = [build(recipe, 5) for cell in cells for recipe in recipes(cell, 5, number)]
    return [ExactCase(case) for case in found if not STATEMENT.unsupported(*every_step(case))]


def judged(kind, exact_case):
    """Return the verdicts on what a subject answers to a case."""
    case = exact_case.case
    fields = json.loads(json.dumps(content(case)))
    with np.errstate(all="ignore"):
        outcomes, got = worker.run(kind("cpu"), worker.Case(fields, case.tensors, kind.statement))
    answers = [
        Refused("ValueError", "")
        if outcome["type"] == "refused"
        else Outputs({n.partition(".")[2]: a for n, a in got.items() if n.startswith(f"{t}.")})
        for t, outcome in enumerate(outcomes)
    ]
    return judge("case", exact_case, STATEMENT, Reply(0, "subject@cpu", tuple(answers)))
