"""Which rule each field of `Semantics` belongs to."""

from __future__ import annotations

import dataclasses
import inspect
import re

from conformance.model.reference_rules import RULES
from reference import Semantics


def test_rules_are_those_of_the_docstring():
    """Each field has the rule that the reference gives it first, whatever indent a Python leaves its docstring."""
    said = re.findall(r"^([a-z_, ]+) \((BN-\d+)", inspect.getdoc(Semantics) or "", re.MULTILINE)
    assert {name: rule for names, rule in said for name in names.split(", ")} == RULES
    assert set(RULES) == {field.name for field in dataclasses.fields(Semantics)}
