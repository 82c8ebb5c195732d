"""One mutant of a framework against the default run of its implementation and the gate."""

from __future__ import annotations

import contextlib
import functools
import os
import resource
import tempfile
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import msgspec
from framework_sites import HOOK, Mutant

from conformance.cases import cells, corpus, strategies
from conformance.gate import decision, divergences, explanation
from conformance.hosts import roster
from conformance.hosts.environment import Limits
from conformance.hosts.participants import Participants
from conformance.hosts.roster import RosterEntry
from conformance.model import results
from conformance.model.outcome import Reply
from conformance.runs import campaign, gzipped, run_file
from conformance.runs.progress import Progress
from conformance.runs.run_case import RunCase

SMOKE, DEFAULT = cells.SMOKE, cells.DEFAULT  # the first is the start of the other, with the corpus in both
PATIENT = Limits(start=1800, case=1800)  # a busy machine kills no mutant; one that never ends takes half an hour


class Killer(msgspec.Struct, frozen=True, omit_defaults=True):
    """The first failure that nothing explains. case: its id, or its name in the corpus. rho: null for not finite."""

    case: str
    output: str
    rho: results.Rho | msgspec.UnsetType = msgspec.UNSET
    outcome: str = ""


class Trial(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of a mutant.

    killed: the gate's exit status on the run is 1. cases: generated ones of that run. seconds, cpu: from the start of
    the run to the killer's judgment, worker and host. run: seconds of the same run without the mutant, to its end.
    note: why it is not killed, or the argument that nothing could.
    """

    id: str
    framework: str
    category: str
    operator: str
    implementation: str
    killed: bool
    cases: int
    run: float
    killer: Killer | None = None
    seconds: float | None = None
    cpu: float | None = None
    note: str = ""
    equivalent: bool = False


class NotGreen(Exception):
    """An implementation fails the gate without any mutant in it."""


class Timed:
    """A run that notes when each case first failed, and ends where the gate will be red.

    What nothing explains outweighs whatever else a run may hold, so that the rest of it can be left out. Cases, and
    what the reference makes of them, are shared by all runs of this process.
    """

    def __init__(self, options: campaign.Options) -> None:
        self.out, items = options.out, _shared(options.cases)
        self.campaign = campaign.Campaign(options, Progress(), self._note, items)
        self._began, self._cpu_before = time.monotonic(), _cpu(None)
        self.failed: dict[str, tuple[float, float]] = {}
        self._run: results.Run | None = None

    def _note(self, item: RunCase, _entry: RosterEntry, _reply: Reply, judged: list[results.Result]) -> None:
        """Note when a case failed first; stop where nothing explains it."""
        found = [result for result in judged if result.failed]
        if found:
            self.failed.setdefault(item.id, (time.monotonic() - self._began, _cpu(self._pid()) - self._cpu_before))
            if any(one.kind != "explained" for one in self._explained(found)):
                self.campaign.stop()

    def _pid(self) -> int:
        """Return the process id of the latest worker."""
        lines = [line for line in gzipped.read(run_file.path_of(self.out)) if line.startswith(b'{"type":"worker"')]
        return msgspec.json.decode(lines[-1], type=results.WorkerRecord).pid

    def _explained(self, found: list[results.Result]) -> list[explanation.Explanation]:
        """Return what the gate will say of these failures; it asks of each case and implementation alone."""
        names = {record.id for record in self._run.implementations} if self._run else set()
        if self._run is None or not {result.implementation for result in found} <= names:
            self._run = run_file.read(self.out)
        run = msgspec.structs.replace(self._run, results=found)
        return explanation.explain(self.out, run, divergences.read(divergences.FOLDER))


@contextlib.contextmanager
def started_with(variables: dict[str, str]) -> Generator[None]:
    """Give variables to the workers that are started meanwhile, and a mutant to find by them."""
    path = os.pathsep.join(filter(None, (str(HOOK), os.environ.get("PYTHONPATH"))))
    before = dict(os.environ)
    os.environ.update({"PYTHONPATH": path, "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1", **variables})
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


_ITEMS: dict[int, list[RunCase]] = {}


def _shared(cases: int) -> list[RunCase]:
    if cases not in _ITEMS:
        drawn: list[Any] = [*strategies.cases(0, cases), *((named, named.case) for named in corpus.read())]
        _ITEMS[cases] = [RunCase(i, origin, case) for i, (origin, case) in enumerate(drawn)]
    return _ITEMS[cases]


def _cpu(pid: int | None) -> float:
    """Return the CPU seconds of this process, of what it has waited for, and of one that lives, where Linux tells."""
    usage, seconds = resource.getrusage(resource.RUSAGE_CHILDREN), time.process_time()
    with contextlib.suppress(OSError):
        if pid is not None:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            seconds += sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    return seconds + usage.ru_utime + usage.ru_stime


class Attempt(msgspec.Struct, frozen=True):
    """A run, what the gate decided on it, when each case first failed, and what the workers said."""

    run: results.Run
    decision: decision.GateDecision
    failed: dict[str, tuple[float, float]]
    said: str

    def killer(self) -> tuple[results.Result, float, float]:
        """Return the first failure that nothing explains, and the wall and CPU seconds to its judgment."""
        found = [r for finding in self.decision.findings if finding.status == 1 for r in finding.failures]
        first = min(found, key=lambda r: (self.failed[r.case][0], r.step, -r.size))
        return first, *self.failed[first.case]


def attempt(implementation: str, cases: int, variables: dict[str, str]) -> Attempt:
    """Run an implementation as `bnconf run -i` does, with these variables in its workers, and ask the gate."""
    with tempfile.TemporaryDirectory(prefix="bnconf-mutant-") as name:
        folder = Path(name)
        who = Participants(roster.select((implementation,)), requested=True, limits=PATIENT)
        timed = Timed(campaign.Options(who, folder, cases=cases))
        with started_with(variables):
            timed.campaign.run()
        run = run_file.read(folder)
        said = "".join(log.read_text(errors="replace") for log in folder.glob("*.log"))
        return Attempt(run, decision.decide(folder, run, divergences.read(divergences.FOLDER)), timed.failed, said)


@functools.cache
def baseline(implementation: str, cases: int) -> tuple[dict[str, str], float]:
    """Return the versions that the implementation runs on, and seconds; raise `NotGreen` where the gate fails it."""
    found = attempt(implementation, cases, {})
    if found.decision.status or not found.run.end:
        raise NotGreen(f"{implementation} without a mutant, {cases} cases: {found.decision.verdict}")
    return found.run.implementations[0].versions, found.run.end.seconds


def trial(mutant: Mutant, cases: int = DEFAULT) -> tuple[Trial, dict[str, str]]:
    """Return what becomes of a mutant, and the versions; all cases are asked only where few do not kill it."""
    identity, few = mutant.site.implementation, min(SMOKE, cases)
    versions, whole = baseline(identity, few)
    found = _judged(mutant, attempt(identity, few, mutant.variables()), whole)
    if not found.killed and few < cases:
        versions, whole = baseline(identity, cases)
        found = _judged(mutant, attempt(identity, cases, mutant.variables()), whole)
    return found, versions


def _judged(mutant: Mutant, found: Attempt, whole: float) -> Trial:
    site, cases = mutant.site, found.run.header.cases
    names = (mutant.id, mutant.framework, mutant.category, site.operator, site.implementation)
    if f"mutant {mutant.id} is in " not in found.said:
        last = found.said.strip().splitlines()[-1:]
        return Trial(*names, False, cases, whole, note=f"not put in: {' '.join(last)[:200]}")
    if found.decision.status != 1:
        note = site.equivalent or found.decision.verdict
        return Trial(*names, False, cases, whole, note=note, equivalent=bool(site.equivalent))
    result, wall, cpu = found.killer()
    named = found.run.cases[result.case].name or result.case
    killer = Killer(named, result.output, result.rho, result.outcome or result.reason)
    return Trial(*names, True, cases, whole, killer, round(wall, 2), round(cpu, 2))
