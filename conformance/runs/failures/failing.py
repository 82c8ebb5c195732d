"""Which steps of which cases fail by themselves, and not because of what came before."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from conformance.judging.causes.failed_step import number, wrong_of
from conformance.model.results import Result, Rho


class Failing(msgspec.Struct, frozen=True):
    """The first step of a case that fails, its failures, and all steps of the case that fail by themselves."""

    case: str
    step: int
    results: tuple[Result, ...]
    steps: tuple[int, ...]

    @property
    def pattern(self) -> tuple[str, tuple[str, ...]]:
        """The mode, and the outputs that are wrong."""
        return self.results[0].mode, tuple(sorted({r.output for r in self.results}))

    @property
    def wrong(self) -> dict[str, Rho]:
        """The ρ of each wrong array."""
        return wrong_of(self.results)


def steps_failing(results: Sequence[Result]) -> dict[tuple[str, int], bool | None]:
    """Return whether each step of each case fails by itself; None where what came before may be why it fails."""
    first = dict[str, int]()
    for result in results:
        if result.failed:
            first[result.case] = min(result.step, first.get(result.case, result.step))
    found = dict[tuple[str, int], bool | None]()
    for result in results:
        if result.verdict in ("PASS", "FAIL", "ERROR"):
            place = result.case, result.step
            fails, before = _fails(result, result.step == first.get(result.case)), found.get(place, False)
            found[place] = True if True in (fails, before) else None if None in (fails, before) else False
    return found


def _fails(result: Result, first: bool) -> bool | None:
    """Return whether a result fails by itself: of a later step, from the state that the answer itself had before."""
    if not result.failed:
        return False
    if first or result.rho is msgspec.UNSET:
        return True
    if "step" in result.checks:
        return any(number(rho) > 1 for name, rho in result.checks.items() if name != "trajectory")
    return True if result.mode == "train" and result.output not in _MOVING else None


_MOVING = ("moving_mean", "moving_variance")


def cases_failing(results: Sequence[Result], asked: dict[tuple[str, int], bool | None]) -> list[Failing]:
    """Return the first step of each case that fails; what comes after it may only follow from it."""
    failed = dict[str, list[Result]]()
    for result in results:
        if result.failed:
            failed.setdefault(result.case, []).append(result)
    found = list[Failing]()
    for case, those in sorted(failed.items()):
        first = min(r.step for r in those)
        steps = sorted({r.step for r in those if asked[case, r.step]})
        found.append(Failing(case, first, tuple(r for r in those if r.step == first), tuple(steps)))
    return found
