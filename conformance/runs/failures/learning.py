"""The shortest true sentence on where an implementation fails, over all steps that were judged.

It names one condition or two that hold wherever it fails, and the mode besides. Of those the one is taken that tells
failures from passes in the fewest bits, its own length included (Rissanen's minimum description length): one that lets
few passes in, unless a shorter one does nearly as well.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np

from conformance.runs.failures.conditions import Condition, ConditionTable
from reference.spec import Array

MOST = 60
"""Conditions of which pairs are tried: the best ones alone."""


class Where(msgspec.Struct, frozen=True):
    """Where an implementation fails.

    says: the conditions in words, `wherever it was asked` where there is none.
    fails, of: how many steps fail there, of how many.
    elsewhere: how many steps were judged elsewhere, none of which fails.
    """

    says: str
    fails: int
    of: int
    elsewhere: int = 0

    @property
    def sentence(self) -> str:
        """The sentence with its counts.

        >>> Where("only where N > 1,024", 14, 15, 200).sentence
        'only where N > 1,024: 14 of 15 steps fail there, none of 200 elsewhere'
        """
        there = " there" if self.elsewhere else ""
        none = f", none of {self.elsewhere:,} elsewhere" if self.elsewhere else ""
        return f"{self.says}: {self.fails:,} of {self.of:,} steps fail{there}{none}"


def where(table: ConditionTable, judged: Sequence[int], failing: Sequence[int]) -> Where:
    """Return where an implementation fails; judged, failing: rows of the table, those that fail among the judged."""
    rows = np.array(sorted(set(judged) | set(failing)))
    fails = np.isin(rows, np.array(sorted(failing)))
    best = min(_sentences(table, rows, fails), key=lambda found: found[0])
    _, conditions, holds = best
    inside = int(holds.sum())
    says = f"only {' and '.join(one.says for one in conditions)}" if conditions else "wherever it was asked"
    return Where(says, int(fails.sum()), inside, len(rows) - inside)


def _sentences(
    table: ConditionTable, rows: Array, fails: Array
) -> Iterator[tuple[float, tuple[Condition, ...], Array]]:
    """Yield what may be said, with its bits: nothing, one condition, or two, which may hold in one mode alone."""
    everywhere = np.ones(len(rows), bool)
    failures = int(fails.sum())
    yield _bits(failures, len(rows)), (), everywhere
    single = list(table.conditions(rows.tolist(), fails))
    best = sorted(single, key=lambda one: one.bits + _bits(failures, int(one.holds.sum())))[:MOST]
    mode = [one for one in single if one.says in ("in training", "in inference")]
    pairs = [pair for pair in itertools.combinations(best, 2) if not set(map(id, pair)) & set(map(id, mode))]
    for several in (
        *((one,) for one in single),
        *itertools.combinations(best, 2),
        *((*p, *mode) for p in pairs if mode),
    ):
        together = np.logical_and.reduce([one.holds for one in several])
        bits = sum(one.bits for one in several) + len(several) - 1
        yield bits + _bits(failures, int(together.sum())), tuple(sorted(several, key=lambda c: c.bits)), together


def _bits(failures: int, of: int) -> float:
    """Return how many bits tell which of some steps fail."""
    share = failures / of
    if share in (0.0, 1.0):
        return 0.0
    return -of * (share * math.log2(share) + (1 - share) * math.log2(1 - share))
