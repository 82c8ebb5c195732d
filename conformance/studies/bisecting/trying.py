"""Cases asked of implementations in an environment of one release, which is made for it."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator

import msgspec
from packaging.utils import canonicalize_name

from conformance.hosts import builds
from conformance.hosts.environment import WorkerDied
from conformance.hosts.participants import Participants
from conformance.hosts.releases import PackageIndex, Release
from conformance.model.case import Case
from conformance.runs import replaying
from conformance.studies.bisecting.effects import MISSING, Effect, answered, lacking

_HALVES = "ml_dtypes"
_WITHOUT = Effect("cannot run here", why=f"{_HALVES}, which has the dtype, cannot be had beside it")
_TRIES = 5
"""How many environments are made of a release until one of them answers."""


class Trial(msgspec.Struct, frozen=True):
    """One release, asked.

    answers: by implementation and number of the case.
    python, interpreter: the Python that it ran on, its version and its path; empty if it could not be built.
    versions: of all that was installed there.
    """

    release: Release
    answers: dict[tuple[str, int], Effect]
    python: str = ""
    interpreter: str = ""
    versions: dict[str, str] = {}

    @property
    def only(self) -> Effect:
        """What became of the only case."""
        return next(iter(self.answers.values()))


class Experiment(msgspec.Struct, frozen=True):
    """What is asked of each release: cases, of implementations, of a package on an index.

    beyond: modules that turned out to be imported though no statement names them.
    """

    package: str
    cases: list[Case]
    who: Participants
    where: PackageIndex
    beyond: list[str] = []

    @property
    def modules(self) -> tuple[str, ...]:
        """What the adapters import."""
        return tuple(dict.fromkeys(name for entry in self.who.entries for name in entry.statement.packages))

    @property
    def further(self) -> tuple[str, ...]:
        """What else they import, where it can be had; NumPy has no bfloat16 of its own."""
        return tuple(dict.fromkeys([*([_HALVES] if any(map(_narrow, self.cases)) else []), *self.beyond]))


def _narrow(case: Case) -> bool:
    """Return whether a case has arrays of a dtype that NumPy has not."""
    return "bfloat16" in msgspec.structs.astuple(case.dtypes) or case.actions.input.startswith("float8")


def ask(experiment: Experiment, release: Release, say: Callable[[str], None]) -> Trial:
    """Ask a release, in the first of its environments in which each implementation can be asked most of it."""
    found = Trial(
        release, dict(_all(experiment, Effect("cannot be built", why="no Python here that it runs on", asked=False)))
    )
    for setup in itertools.islice(builds.setups(experiment.package, release, experiment.modules), _TRIES):
        say(f"{experiment.package} {release.version}: Python {setup.minor}, {_companions(setup)}")
        found = _better(found, _completed(experiment, release, setup))
        if _enough(found):
            break
    return found


def _enough(found: Trial) -> bool:
    """Return whether of each implementation most answers are the release's own."""
    asked = defaultdict[str, list[bool]](list)
    for (who, _), answer in found.answers.items():
        if answer.state != "not supported":
            asked[who].append(answer.asked)
    return all(2 * sum(own) > len(own) for own in asked.values())


def _completed(experiment: Experiment, release: Release, setup: builds.Setup) -> Trial:
    """Ask in an environment to which is added what turns out to be imported; without that where it does not fit."""
    wanted = experiment.further
    tried = _tried(experiment, release, builds.also(setup, wanted))
    if not tried.python and wanted:
        wanted, tried = (), _tried(experiment, release, setup)
    while more := _imported({*experiment.modules, *wanted}, tried):
        experiment.beyond.append(more)
        wanted = (*wanted, more)
        again = _tried(experiment, release, builds.also(setup, wanted))
        if not again.python:
            break
        tried = again
    return tried


def _imported(there: set[str], tried: Trial) -> str:
    """Return a module that was missing there though it is imported, and of which it is known what brings it."""
    missing = (MISSING.search(answer.why) for answer in tried.answers.values())
    names = {found[1] for found in missing if found} - there
    return next((name for name in sorted(names) if builds.known(name)), "")


def _companions(setup: builds.Setup) -> str:
    return "all else as it is here" if setup.held else f"all else of {setup.day or 'today'}"


def _better(old: Trial, new: Trial) -> Trial:
    """Return the trial that tells more: one that ran rather than one that was not built, one that answered rather."""

    def told(trial: Trial) -> tuple[int, bool]:
        return sum(a.decisive and a.asked for a in trial.answers.values()), bool(trial.python)

    return new if told(new) >= told(old) else old


def _tried(experiment: Experiment, release: Release, setup: builds.Setup) -> Trial:
    try:
        built = builds.build(experiment.package, release, setup, experiment.where)
    except builds.Unbuildable as error:
        return Trial(release, dict(_all(experiment, Effect("cannot be built", why=str(error), asked=False))))
    try:
        answers = dict(_answers(experiment, built))
    except WorkerDied as error:
        answers = dict(_all(experiment, Effect("crashes", str(error), asked=False)))
    return Trial(release, answers, built.minor, built.python, built.versions)


def _all(experiment: Experiment, answer: Effect) -> Iterator[tuple[tuple[str, int], Effect]]:
    for entry in experiment.who.entries:
        yield from (((entry.id, number), answer) for number in range(len(experiment.cases)))


def _answers(experiment: Experiment, built: builds.Built) -> Iterator[tuple[tuple[str, int], Effect]]:
    halves = canonicalize_name(_HALVES) in built.versions
    names = {"user" if e.environment.startswith("user") else e.environment for e in experiment.who.entries}
    who = msgspec.structs.replace(experiment.who, interpreters=dict.fromkeys(names, built.python), requested=True)
    can = {number: case for number, case in enumerate(experiment.cases) if halves or not _narrow(case)}
    yield from ((key, _WITHOUT) for key, _ in _all(experiment, _WITHOUT) if key[1] not in can)
    for number, asked in zip(can, replaying.ask(list(can.values()), who), strict=True):
        told = {answer.record.id: answer for answer in asked.answers}
        for entry in who.entries:
            if entry.id in told:
                yield (entry.id, number), answered(told[entry.id])
            elif why := asked.unsupported.get(entry.id):
                yield (entry.id, number), Effect("not supported", why=why)
            else:
                yield (entry.id, number), lacking(asked.missing.get(entry.id, ""))
