"""The first release that answers otherwise, found by halving."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable

import msgspec

from conformance.hosts.releases import Release
from conformance.model.errors import Incomplete, InvalidInput
from conformance.studies.bisecting.trying import Trial

Try = Callable[[Release], Trial]
_NEWEST = 8
"""How many of the newest are asked until one answers."""
_BESIDE = 3
"""How many neighbours are asked before none from there on is taken to answer."""


class Bisection(msgspec.Struct, frozen=True):
    """What a search found.

    trials: the releases that were asked, oldest first.
    last, first: the last that answers as the older end does, and the first that does not; None if nothing differs.
    """

    trials: list[Trial]
    last: Trial | None = None
    first: Trial | None = None

    @property
    def between(self) -> list[Trial]:
        """Releases between the two that did not answer, or were not asked."""
        if self.last is None or self.first is None:
            return []
        return [t for t in self.trials if self.last.release.version < t.release.version < self.first.release.version]

    @property
    def answered(self) -> list[Trial]:
        """The releases that answered."""
        return [trial for trial in self.trials if trial.only.decisive]


class _Asked:
    """Releases by number, each asked once."""

    def __init__(self, releases: list[Release], ask: Try) -> None:
        self.releases, self._ask, self.trials = releases, ask, dict[int, Trial]()

    def at(self, number: int) -> Trial:
        if number not in self.trials:
            self.trials[number] = self._ask(self.releases[number])
        return self.trials[number]

    def found(self, *ends: int) -> Bisection:
        trials = [self.trials[number] for number in sorted(self.trials)]
        return Bisection(trials, *(self.trials[number] for number in ends))

    def nearest(self, numbers: Iterable[int]) -> int | None:
        """Return the first of these that answers."""
        return next((number for number in numbers if self.at(number).only.decisive), None)


def whole(releases: list[Release], ask: Try) -> Bisection:
    """Ask all releases, and return the last change among them."""
    asked = _Asked(releases, ask)
    known = [number for number in range(len(releases)) if asked.at(number).only.decisive]
    pairs = [p for p in itertools.pairwise(known) if _differ(asked, *p)]
    return asked.found(*pairs[-1]) if pairs else asked.found()


def search(releases: list[Release], ask: Try, good: Release | None = None, bad: Release | None = None) -> Bisection:
    """Find the first release that answers otherwise than those before it.

    good, bad: releases that answer differently, of either order. Where one is not given, the newest that answers is
    taken; where that differs in nothing, a release is looked for in steps of 1, 2, 4, … back. Raise `InvalidInput`
    where the two given answer alike, `Incomplete` where one of them does not answer.
    """
    asked = _Asked(releases, ask)
    told = {name: releases.index(one) for name, one in (("--good", good), ("--bad", bad)) if one is not None}
    for name, number in told.items():
        if not asked.at(number).only.decisive:
            raise Incomplete(f"{name} {releases[number].version}: {asked.at(number).only}")
    ends = sorted(told.values())
    if len(ends) == 2:
        if not _differ(asked, *ends):
            both = " and ".join(f"{name} {releases[number].version}" for name, number in told.items())
            raise InvalidInput(
                f"{both} answer alike ({asked.at(ends[0]).only}); name two that differ, or leave one out"
            )
        return asked.found(*_halved(asked, ends[0], ends[1]))
    return _from_one_end(asked, ends)


def _from_one_end(asked: _Asked, told: list[int]) -> Bisection:
    """Search from the newest that answers, and a given one."""
    newest = asked.nearest(reversed(range(len(asked.releases))[-_NEWEST:]))
    if newest is None:
        return asked.found()
    ends = next(((min(one, newest), max(one, newest)) for one in told if _differ(asked, one, newest)), None)
    ends = ends or _otherwise(asked, min([newest, *told]))
    return asked.found(*_halved(asked, *ends)) if ends else asked.found()


def _differ(asked: _Asked, one: int, other: int) -> bool:
    return asked.at(one).only.state != asked.at(other).only.state


def _otherwise(asked: _Asked, last: int) -> tuple[int, int] | None:
    """Return two releases that answer differently, the newer as the last does; none of those before `wall` answers."""
    near, wall, step = last, -1, 1
    while near - wall > 1:
        middle = max(near - step, 0) if wall < 0 else (near + wall) // 2
        far = asked.nearest(range(middle, max(middle - _BESIDE, wall), -1))
        if far is None:
            wall = middle
        elif _differ(asked, far, last):
            return far, near
        else:
            near = far
        step *= 2
    return None


def _halved(asked: _Asked, old: int, new: int) -> tuple[int, int]:
    """Return the last number that answers as `old` does and the first that does not, as near as releases answer."""
    while new - old > 1:
        middle = (old + new) // 2
        inside = sorted(range(old + 1, new), key=lambda number: (abs(number - middle), number))
        found = asked.nearest(inside)
        if found is None:
            break
        old, new = (old, found) if _differ(asked, old, found) else (found, new)
    return old, new
