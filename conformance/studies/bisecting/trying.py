"""Cases asked of implementations in an environment of one release, which is made for it."""

from __future__ import annotations

import importlib.util
import itertools
import re
from collections.abc import Callable, Iterator
from typing import Literal

import msgspec

from conformance.hosts import builds
from conformance.hosts.environment import WorkerDied
from conformance.hosts.participants import Participants
from conformance.hosts.releases import PackageIndex, Release
from conformance.model.case import Case
from conformance.model.outcome import Crashed, Outcome, Outputs, Refused, TimedOut
from conformance.model.results import Result
from conformance.runs import replaying, summary
from conformance.runs.recording import RecordedAnswer

State = Literal[
    "passes", "fails", "refuses", "crashes", "not compared", "not supported", "cannot run here", "cannot be built"
]
DECISIVE: tuple[State, ...] = ("passes", "fails", "refuses", "crashes")
"""What a release did with a case, and not why it was not asked."""
_TRIES = 5
"""How many environments are made of a release until one of them answers."""
_MISSING = re.compile(r"No module named '(\w+)")
_BY_OTHERS = re.compile(r"No module named|module '(numpy|jax|scipy)|cannot import")
_NOT_THERE = re.compile(
    r"unexpected keyword|(?i:unrecognized keyword|unknown (keyword )?argument)|Keyword argument not understood"
    r"|has no attribute|No module named|cannot import|No such layer|keyword arguments? .*(not|un)"
)
"""How a release says that it has not yet, or no longer, what an adapter calls."""


class Effect(msgspec.Struct, frozen=True):
    """What became of one case.

    failing: the outputs that fail, worst first, with ρ; or the error. Empty where it passes.
    why: of a case that was not asked or not compared, the reason.
    asked: whether the implementation was asked, and what came of it is not due to what else is installed.
    """

    state: State
    failing: str = ""
    why: str = ""
    asked: bool = True

    @property
    def decisive(self) -> bool:
        """Whether the release answered."""
        return self.state in DECISIVE

    def __str__(self) -> str:
        """Return it in words."""
        about = self.failing or self.why
        return f"{self.state}: {about}" if about else self.state


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
        halves = ["ml_dtypes" for case in self.cases if "bfloat16" in msgspec.structs.astuple(case.dtypes)]
        return tuple(dict.fromkeys([*halves, *self.beyond]))


def ask(experiment: Experiment, release: Release, say: Callable[[str], None]) -> Trial:
    """Ask a release, in the first of its environments in which every implementation can be asked."""
    found = Trial(
        release, dict(_all(experiment, Effect("cannot be built", why="no Python here that it runs on", asked=False)))
    )
    for setup in itertools.islice(builds.setups(experiment.package, release, experiment.modules), _TRIES):
        say(f"{experiment.package} {release.version}: Python {setup.minor}, {_companions(setup)}")
        found = _better(found, _completed(experiment, release, setup))
        if all(answer.asked for answer in found.answers.values()):
            break
    return found


def _completed(experiment: Experiment, release: Release, setup: builds.Setup) -> Trial:
    """Ask in an environment to which is added what turns out to be imported; without that where it does not fit."""
    tried = _tried(experiment, release, builds.also(setup, experiment.further))
    if not tried.python and experiment.further:
        return _tried(experiment, release, setup)
    while more := _imported(experiment, tried):
        experiment.beyond.append(more)
        tried = _tried(experiment, release, builds.also(setup, experiment.further))
    return tried


def _imported(experiment: Experiment, tried: Trial) -> str:
    """Return a module that is installed here, and was missing there though the adapters import it; empty if none is."""
    missing = (_MISSING.search(answer.why) for answer in tried.answers.values())
    names = {found[1] for found in missing if found} - {*experiment.modules, *experiment.further}
    return next((name for name in sorted(names) if importlib.util.find_spec(name)), "")


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
        answers = dict(_answers(experiment, built.python))
    except WorkerDied as error:
        answers = dict(_all(experiment, Effect("crashes", str(error), asked=False)))
    return Trial(release, answers, built.minor, built.python, built.versions)


def _all(experiment: Experiment, answer: Effect) -> Iterator[tuple[tuple[str, int], Effect]]:
    for entry in experiment.who.entries:
        yield from (((entry.id, number), answer) for number in range(len(experiment.cases)))


def _answers(experiment: Experiment, python: str) -> Iterator[tuple[tuple[str, int], Effect]]:
    names = {"user" if e.environment.startswith("user") else e.environment for e in experiment.who.entries}
    who = msgspec.structs.replace(experiment.who, interpreters=dict.fromkeys(names, python), requested=True)
    for number, asked in enumerate(replaying.ask(experiment.cases, who)):
        told = {answer.record.id: answer for answer in asked.answers}
        for entry in who.entries:
            if entry.id in told:
                yield (entry.id, number), answered(told[entry.id])
            elif why := asked.unsupported.get(entry.id):
                yield (entry.id, number), Effect("not supported", why=why)
            else:
                why = _shorter(asked.missing.get(entry.id, ""))
                yield (entry.id, number), Effect("cannot run here", why=why, asked=False)


def _shorter(why: str) -> str:
    return why.partition(" is not available: ")[2] or why


def answered(answer: RecordedAnswer) -> Effect:
    """Return what an answer comes to: an adapter's own error is no answer of the release."""
    outcomes = answer.reply.outcomes if answer.reply else ()
    if absent := next((outcome for outcome in outcomes if _absent(outcome)), None):
        return Effect("cannot run here", why=_said(absent), asked=not _BY_OTHERS.search(_said(absent)))
    failed = sorted((r for r in answer.results if r.failed), key=lambda r: -r.size)
    if not failed:
        return _passed(answer)
    raised = [outcomes[r.step] for r in failed if r.outcome and 0 <= r.step < len(outcomes)]
    first = next((o for o in raised if not isinstance(o, Outputs)), None)
    if first is None:
        return Effect("fails", _named(failed))
    if isinstance(first, Refused):
        return Effect("refuses", _said(first))
    return Effect("crashes", _said(first), asked=False)


def _passed(answer: RecordedAnswer) -> Effect:
    judged = [result for result in answer.results if result.verdict == "PASS"]
    return (
        Effect("passes") if judged else Effect("not compared", why=answer.results[0].reason if answer.results else "")
    )


def _absent(outcome: Outcome) -> bool:
    """Return whether something is not there that is called, in the release or beside it."""
    if isinstance(outcome, Crashed):
        return bool(_MISSING.search(outcome.reason))
    return isinstance(outcome, Refused) and (outcome.by_adapter or bool(_NOT_THERE.search(outcome.message)))


def _said(outcome: Outcome) -> str:
    if isinstance(outcome, Refused):
        return f"{outcome.error}: {outcome.message[:160]}"
    if isinstance(outcome, TimedOut):
        return f"no answer within {outcome.seconds:g} s"
    return outcome.reason if isinstance(outcome, Crashed) else ""


def _named(failed: list[Result]) -> str:
    """Return the outputs that fail, the worst of each first, with ρ; where it answers what is to be refused, that.

    >>> _named([Result("c", "i", "FAIL", output="y", rho=3e5), Result("c", "i", "FAIL", output="y", rho=2.0)])
    'y (ρ 3e+05)'
    """
    if failed[0].outcome:
        return "answers what is to be refused"
    worst = {r.output: r for r in reversed(failed)}
    return ", ".join(f"{name} (ρ {_size(worst[name])})" for name in sorted(worst, key=lambda n: -worst[n].size))


def _size(result: Result) -> str:
    return "∞" if result.rho is msgspec.UNSET or result.rho is None else f"{summary.as_number(result.rho):.3g}"
