"""Which cases an implementation is asked: a part of them where programs are dear, or a run is to be short."""

from __future__ import annotations

import functools
import zlib
from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple, TypeVar

from conformance.cases.cells import DEFAULT, PLAIN
from conformance.cases.features import FEATURES
from conformance.cases.recipe import Signature
from conformance.cases.sizes import SIZES
from conformance.hosts import roster
from conformance.model.facts import Facts
from conformance.model.statement import Statement
from conformance.runs import matrix

_T = TypeVar("_T")
_COUNTED = (*matrix.FEATURES, "forward", "second order")  # each a column of the matrix
_ALONE = ("built in inference", "two call sites", "mixed dtypes", "unknown sizes")
"""Features of a cell that nobody answers without compiling: whoever does is asked them, or nobody might be."""
_A_LOOK = 3  # a run of fewer cases than are sufficient asks who compiles for a third of what it can pay for, or less
_DEARER = 2
"""Where cases are dealt, who compiles is dealt half as much as others: a program takes as long as ten answers."""


class Deal(NamedTuple):
    """How a run deals: each implementation and each seed begins elsewhere, so that together they leave little out.

    seed: the run's.
    cases: how many it draws.
    hands: among how many implementations of the roster they are dealt; 1: each gets all that it can pay for.
    """

    seed: int
    cases: int
    hands: int = 1

    def gives(self, number: int, identity: str) -> bool:
        """Return whether an implementation that pays for no programs gets a drawn case.

        Whoever follows in the roster gets others, most often a variant of the same layer; the calibration subjects, and
        somebody's own, get all. Plain cells come placement after placement, again and again, those in float32 first:
        each gets some of every one.
        """
        place = _eager().get(_name(identity))
        return place is None or (number + number // len(PLAIN) + place + self.seed) % self.hands == 0

    def pooled(
        self, identity: str, statement: Statement, signatures: Iterable[tuple[Signature, list[Facts]]]
    ) -> list[Signature]:
        """Return the pooled signatures that an implementation gets: as many as it can pay for, and one of each feature.

        signatures: those of the run's cases, with the facts of each step.

        Of features it can pay for twice as many: most of their cases compile what plain ones compile too. If the run is
        more than a look, those that the matrix counts come first, and of size it gets all: kernels break where they are
        large.
        """
        found = dict.fromkeys(signature for signature, facts in signatures if not statement.unsupported(*facts))
        plain = [signature for signature in found if not signature.feature]
        featured = defaultdict[str, list[Signature]](list)
        for signature in found:
            featured[signature.feature].append(signature)
        names = [name for name in FEATURES if name in featured]
        of_size = [name for name in names if name in SIZES or FEATURES[name].profile]
        others = [name for name in names if name not in of_size]
        hands = self.hands if _name(identity) in _places() else 1
        part = 1 if self.cases >= DEFAULT else max(_DEARER * hands, _A_LOOK)
        counted = [name for name in others if name in _COUNTED and part == 1]
        rest = [name for name in others if name not in counted]
        turn = _place(identity) + self.seed
        paid = -(-statement.signatures // part)
        chosen = counted + _from(rest, turn, max(0, 2 * paid - len(counted)))
        chosen = chosen[: 2 * paid]
        chosen += [name for name in others if name in _ALONE and name not in chosen and part == 1]
        chosen += _from(of_size, turn, -(-len(of_size) // part))
        return _from(plain, turn, paid) + [featured[name][turn % len(featured[name])] for name in chosen]


def _place(identity: str) -> int:
    """Return the number of an implementation in the roster, so that neighbours are asked other things."""
    return _places().get(_name(identity), zlib.crc32(identity.encode()))


@functools.cache
def _places() -> dict[str, int]:
    return {_name(entry.id): place for place, entry in enumerate(roster.built_in())}


@functools.cache
def _eager() -> dict[str, int]:
    """Return the numbers of those that pay for no programs, without the calibration subjects."""
    found = [entry for entry in roster.built_in() if not (entry.statement.compiled or entry.statement.calibration)]
    return {_name(entry.id): place for place, entry in enumerate(found)}


def _name(identity: str) -> str:
    """Return an id without its device."""
    return identity.rpartition("@")[0]


def _from(there: list[_T], turn: int, most: int) -> list[_T]:
    """Return so many, in a circle: each turn begins where the one before ended."""
    begin = turn * most % len(there) if there else 0
    return (there[begin:] + there[:begin])[:most]
