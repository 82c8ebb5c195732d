"""What a search among releases found, as text and as JSON."""

from __future__ import annotations

from pathlib import Path

import msgspec

from conformance.model.case import case_id
from conformance.runs import commands
from conformance.studies.bisecting.halving import Bisection
from conformance.studies.bisecting.trying import Experiment, Trial

_COMPANIONS = 6


class TrialRow(msgspec.Struct, frozen=True):
    """One release that was asked; date: as YYYY-MM-DD, empty where the index does not say."""

    version: str
    date: str
    state: str
    failing: str
    why: str
    python: str
    interpreter: str
    versions: dict[str, str]


class BisectOutput(msgspec.Struct, frozen=True):
    """A search, as `--json` prints it; last, first: the versions on both sides of the change, empty without one."""

    package: str
    implementation: str
    case: str
    trials: list[TrialRow]
    last: str
    first: str
    companions: dict[str, tuple[str, str]]
    seconds: float


def told(found: Bisection, experiment: Experiment, seconds: float) -> BisectOutput:
    """Return what was found, as data."""
    last, first = ("" if trial is None else str(trial.release.version) for trial in (found.last, found.first))
    return BisectOutput(
        experiment.package,
        experiment.who.entries[0].id,
        case_id(experiment.cases[0]),
        [_row(trial) for trial in found.trials],
        last,
        first,
        companions(found, experiment.package),
        round(seconds, 1),
    )


def _row(trial: Trial) -> TrialRow:
    answer, day = trial.only, trial.release.date
    version, date = str(trial.release.version), day.isoformat() if day else ""
    ran = trial.python, trial.interpreter, trial.versions
    return TrialRow(version, date, answer.state, answer.failing, answer.why, *ran)


def companions(found: Bisection, package: str) -> dict[str, tuple[str, str]]:
    """Return what else differs between the two environments: what there was before, and after."""
    if found.last is None or found.first is None:
        return {}
    old, new = found.last.versions, found.first.versions
    return {
        n: (old.get(n, "-"), new.get(n, "-")) for n in sorted(old | new) if n != package and old.get(n) != new.get(n)
    }


def text(one: BisectOutput, found: Bisection, experiment: Experiment, file: Path) -> str:
    """Return what was found, in lines: the table, the release that changed the answer, and how to go on."""
    wide = max((len(row.version) for row in one.trials), default=0)
    table = [f"{row.version:>{wide}}  {row.date:10}  {_in_words(row)}" for row in one.trials]
    return "\n".join([*table, *_finding(one, found, experiment, file), f"{one.seconds:,.0f} s"])


def _in_words(row: TrialRow) -> str:
    about = row.failing or row.why
    return f"{row.state}{': ' + about if about else ''}{f' (Python {row.python})' if row.python else ''}"


def _finding(one: BisectOutput, found: Bisection, experiment: Experiment, file: Path) -> list[str]:
    if found.last is None or found.first is None:
        return [_nothing(one, found)] if found.answered else []
    lines = [f"{one.package} {_dated(found.first)} is the first that {found.first.only}"]
    lines += [f"    {one.package} {_dated(found.last)}: {found.last.only}"]
    if found.between:
        lines += [f"    between them {', '.join(str(t.release.version) for t in found.between)} did not answer"]
    if one.companions:
        named = [f"{name} {old} → {new}" for name, (old, new) in one.companions.items()]
        more = f" and {len(named) - _COMPANIONS} more" if len(named) > _COMPANIONS else ""
        lines += [f"    also different there: {', '.join(named[:_COMPANIONS])}{more}"]
    return [*lines, "Go on with", *(f"    {line}" for line in _further(found.last, found.first, experiment, file))]


def _dated(trial: Trial) -> str:
    return f"{trial.release.version}" + (f" of {trial.release.date}" if trial.release.date else "")


def _nothing(one: BisectOutput, found: Bisection) -> str:
    said = found.answered[-1].only.state
    where = f"{len(found.answered)} releases of {one.package} that answered, of {len(found.trials)} asked"
    return f"{one.implementation} {said} in all {where}: nothing changed; --matrix asks every one"


def _further(last: Trial, first: Trial, experiment: Experiment, file: Path) -> list[str]:
    """Return commands that go on: the case replayed in both environments, and all that both do compared."""
    entry = experiment.who.entries[0]
    name = "user" if entry.environment.startswith("user") else entry.environment
    hosted = [f"{name}={trial.interpreter}" for trial in (last, first)]
    replays = [commands.line("replay", file, "-i", entry.named, "--env", one) for one in hosted]
    return [*replays, commands.line("compare", *hosted, "-i", entry.named)]
