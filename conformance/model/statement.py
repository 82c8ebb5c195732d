"""Implementation conformance statements: what an implementation promises, as data that needs no framework to read.

A statement is a function of the facts about a step (see `facts`). Its rules whose `when` holds override the defaults;
of several, the last one wins.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

import msgspec

from conformance.model import rules, vocabulary
from conformance.model.errors import InvalidInput
from conformance.model.facts import DEVICES, Facts, Mode
from conformance.model.numerics import Numerics
from conformance.model.outputs import BY_NAME, OF_A_LAYER
from conformance.model.results import ImplementationRecord
from conformance.model.rules import Rule, StatedRefusal, When, matches
from conformance.model.spelling import Misspelt, converted
from reference import Semantics
from reference.dtypes import stored


class Statement(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    """What one implementation promises.

    id: `framework.entry(+variant)*`, of letters, digits and `._+-`.
    packages: the modules whose versions identify it.
    conventions: how its native arguments differ from the neutral `Spec`.
    supports: the facts that a case must have to be asked at all.
    modes: the modes it has; a step of another mode leaves it as it is, and nothing is judged.
    outputs: what it returns; who only infers and says nothing may leave out all but y.
    rules, refusals: what it promises, and what it refuses, where.
    accepts: where it answers what makes no sense, such as statistics of another size.
    lacks: why it offers none of a column of the matrix (see `offers`).
    compiled: it pays for each new static signature, so it gets the pooled ones only.
    signatures: how many of those it can pay for.
    calibration: it is there to test the suite.
    returned: batch statistics are returned `as_used` in the output, or may be `rounded` on the way out.
    keeps_inputs: it leaves what it is given as it was, bit for bit, but for the moving statistics.
    device: where it runs, which the host fills in; a `when` may name it beside the facts of the case.
    """

    id: str
    packages: list[str]
    documentation: str
    conventions: dict[str, str]
    supports: When = {}
    modes: tuple[Literal["train", "infer"], ...] = ("train", "infer")
    outputs: tuple[str, ...] = OF_A_LAYER
    rules: list[Rule] = []
    refusals: list[StatedRefusal] = []
    accepts: list[When] = []
    lacks: dict[str, str] = {}
    compiled: bool = False
    signatures: int = 16
    calibration: bool = False
    returned: Literal["rounded", "as_used"] = "rounded"
    keeps_inputs: bool = False
    device: str = "cpu"

    def __post_init__(self) -> None:
        """Raise `Misspelt` for a meaningless promise: it would never hold, and no one would notice."""
        _check_names(self)
        vocabulary.check_when("supports", self.supports, besides=("output",))
        rules.check(self.rules)
        rules.check_refusals(self.refusals)
        for n, when in enumerate(self.accepts):
            vocabulary.check_when(f"accepts[{n}]", when, besides=("output",))

    @cached_property
    def known(self) -> dict[Any, Any]:
        """What was computed of it, by the facts that it was computed of."""
        return {}

    def on(self, device: str) -> Statement:
        """Return what is promised on a device."""
        return msgspec.structs.replace(self, device=device)

    def _here(self, facts: Facts) -> Facts:
        """Return the facts with the device added; without a training mode no layer was ever trained."""
        trained = facts.trained and "train" in self.modes
        return msgspec.structs.replace(facts, device=self.device, trained=trained)

    @property
    def framework(self) -> str:
        """The first part of the id."""
        return self.id.split(".")[0]

    def semantics(self, facts: Facts) -> Semantics:
        """Return the semantics promised for a step."""
        here = self._here(facts)
        fields = [rule.semantics for rule in self.rules if matches(rule.when, here)]
        return msgspec.convert({k: v for f in fields for k, v in f.items()}, Semantics)

    def numerics(self, facts: Facts, mode: Mode, output: str) -> Numerics:
        """Return the numerical class promised for one output of a step in this mode."""
        here = msgspec.structs.replace(self._here(facts), mode=mode, output=output)
        fields: dict[str, Any] = {"stored": self._stored(facts, output)}
        for rule in self.rules:
            if matches(rule.when, here):
                fields |= rule.numerics
        return msgspec.convert(fields, Numerics)

    def _stored(self, facts: Facts, output: str) -> str:
        """Return the dtype of an output that no rule for numerics gives one: for y, that of `output_dtype` (BN-26)."""
        known = BY_NAME[output]
        if known.like != "input" or known.wrt:
            return known.like
        promised = self.semantics(facts)
        return "input" if promised.output_dtype == "input" else stored(facts.dtype, promised).output

    def returns(self, facts: Facts) -> list[str]:
        """Return the outputs promised for a step."""
        here = self._here(facts)
        absent = {name for rule in self.rules if matches(rule.when, here) for name in rule.absent}
        return [output for output in self.outputs if output not in absent]

    def may_leave_out(self, output: str) -> bool:
        """Return whether an output is judged only if it is returned: by one that only infers, and names no outputs.

        An inference engine has no gradients and returns no statistics, which its statement need not say.
        """
        return "train" not in self.modes and self.outputs == OF_A_LAYER and output != "y"

    def offers(self, column: str) -> bool:
        """Return whether it can be asked for a column of the matrix, one of `COLUMNS`."""
        fact, wanted = COLUMNS[column]
        if fact == "modes":
            return column in self.modes
        if fact == "outputs":
            return bool(set(wanted) & set(self.outputs))
        allowed = (_ORDINARY | self.supports).get(fact)
        return allowed is None or bool(set(wanted) & set(allowed))

    def unsupported(self, *steps: Facts) -> str:
        """Return why a case cannot be asked, empty if it can; steps: the facts about each (`every_step`)."""
        for t, about in enumerate(steps):
            here, of = self._here(about), f" in step {t}" if t else ""
            for fact, allowed in (_ORDINARY | self.supports).items():
                if (value := here.said(fact)) not in allowed:
                    return f"{fact} is {value}{of}; supported: {', '.join(map(str, allowed))}"
        return ""

    def narrowed(self, narrower: Mapping[str, Sequence[Any]], version: str) -> Statement:
        """Return what is promised where the installed version allows fewer values of some facts.

        narrower: by fact, those that it allows. version: what it is called where a column of the matrix goes with them.
        """
        known = _ORDINARY | self.supports
        fewer = {fact: [v for v in known.get(fact, allowed) if v in allowed] for fact, allowed in narrower.items()}
        made = msgspec.structs.replace(self, supports={**self.supports, **fewer})
        lost = [column for column in COLUMNS if self.offers(column) and not made.offers(column)]
        return msgspec.structs.replace(made, lacks={**self.lacks, **dict.fromkeys(lost, f"{version} does not have it")})

    def takes(self, fact: str, value: Any) -> bool:
        """Return whether a case may have this value of a fact, whatever its other facts."""
        return value in (_ORDINARY | self.supports).get(fact, [value])

    def answers(self, facts: Facts) -> bool:
        """Return whether a step that makes no sense may be answered, as the statement says."""
        here = self._here(facts)
        return any(matches(when, here) for when in self.accepts)

    def refusal(self, facts: Facts) -> StatedRefusal | None:
        """Return the first documented refusal that a step meets."""
        return next(iter(self.refusing(facts)), None)

    def refusing(self, facts: Facts) -> list[StatedRefusal]:
        """Return every documented refusal that a step meets."""
        here = self._here(facts)
        return [refusal for refusal in self.refusals if matches(refusal.when, here)]


# What a case may ask beyond this, a statement must say that it supports.
_ORDINARY: When = {
    "start": ["given"],
    "begun": [False],
    "differentiation": ["none", "reverse"],
    "of": ["y"],
    "along": ["x"],
    "sites": [1],
    "init_mode": ["train"],
    "round_trip": ["none"],
    "flag": ["bool"],
    "backward": ["each"],
    "input": ["stored"],
    "scalars": ["number"],
    "mapped": ["none"],
    "replicas": [False],
    "dy_layout": ["C"],
    "layer_layout": ["C"],
    "toggled": [False],
    "unknown_sizes": [False],
    "updates": [True],
    "cumulative": [False],
    "virtual": [False],
    "renorm": [False],
    "mask": [False],
    "weights": [False],
    "misplaced": [False],
    "mixed": [False],
    "adjustment": [False],
    "odd": [False],
    "tracked": [True],
}

# What the matrix counts: the fact of a case that asks for it, and its values.
COLUMNS: dict[str, tuple[str, tuple[Any, ...]]] = {
    "train": ("modes", ()),
    "infer": ("modes", ()),
    "gradient": ("outputs", ("dx",)),
    "forward": ("differentiation", ("forward",)),
    "second order": ("differentiation", ("reverse_over_reverse", "forward_over_reverse", "forward_over_forward")),
    "mask": ("mask", ("full", "spread", "without_last")),
    "renorm": ("renorm", (True,)),
    "virtual batch": ("virtual", (True,)),
    "adjustment": ("adjustment", (True,)),
}


def stated(fields: Any, whose: str) -> Statement:
    """Return a statement that was read as data; raise `InvalidInput` for anything meaningless in it.

    whose: what the message calls it, such as `-i mine.py: the statement of mine.batch_norm@cpu`.
    """
    try:
        return converted(fields, Statement)
    except Misspelt as error:
        raise InvalidInput(f"{whose} is not valid: {error}") from error


def recorded(record: ImplementationRecord) -> Statement:
    """Return the statement that a run was judged by; raise `InvalidInput` if the file was altered."""
    return stated(record.statement, f"the recorded statement of {record.id}")


def _check_names(statement: Statement) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._+-]*", statement.id):
        meant = re.sub(r"[^A-Za-z0-9._+-]+", "_", statement.id).lstrip(".+-") or "mine.batch_norm"
        rule = "begins with no letter or digit" if meant != statement.id and re.match(r"[.+-]", statement.id) else ""
        raise Misspelt(f'id: "{statement.id}" {rule or "is not of letters, digits and ._+-"}; did you mean {meant}?')
    vocabulary.check_conventions(statement.conventions)
    vocabulary.check_outputs("outputs", statement.outputs)
    vocabulary.check_words("lacks", "column of the matrix", statement.lacks, COLUMNS)
    vocabulary.check_words("device", "device", [statement.device], DEVICES)
    if not statement.outputs:
        raise Misspelt("outputs: names none, and nothing could be judged; name y at least")
    if not statement.modes:
        raise Misspelt("modes: names none, and nothing could be asked; name train, infer, or both")
    if statement.signatures < 1:
        raise Misspelt(f"signatures: {statement.signatures} is not a whole number ≥ 1")
