"""The same implementations on two devices: side by side on the same cases, and asked again for the same bits."""

from __future__ import annotations

import itertools
import math
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import msgspec

from conformance.hosts import availability, going_on
from conformance.hosts.participants import Participants
from conformance.model.case import Case
from conformance.model.case_facts import every_step
from conformance.model.outcome import Crashed, Reply, TimedOut, reply_in_parts
from conformance.model.results import Result, Rho, Run
from conformance.model.statement import Statement, recorded
from conformance.runs import explaining, summary
from conformance.runs import recording as recordings
from conformance.runs.counts import is_judged

_Array = tuple[str, str, int, str]
"""An implementation without its device, a case, a step and an output."""


class SideBySide(msgspec.Struct):
    """One output of an implementation on the CPU and on another device, over the arrays that both were judged on.

    entry: the id without a device. worst: the largest ρ on each. failed: how many arrays fail on each, and on it alone.
    """

    entry: str
    output: str
    arrays: int = 0
    worst: tuple[Rho, Rho] = (None, None)
    failed: tuple[int, int] = (0, 0)
    alone: tuple[int, int] = (0, 0)


def side_by_side(runs: Iterable[Run], device: str) -> list[SideBySide]:
    """Return what both devices were judged on, for each implementation that runs have on both, and each output."""
    found: dict[tuple[str, str], SideBySide] = {}
    order: dict[str, int] = {}
    for run in runs:
        judged = _by_device(run)
        for key in judged["cpu"].keys() & judged[device].keys():
            pair = found.setdefault((key[0], key[3]), SideBySide(key[0], key[3]))
            _add(pair, judged["cpu"][key], judged[device][key])
        for record in run.implementations:
            order.setdefault(record.id.rpartition("@")[0], len(order))
    return sorted(found.values(), key=lambda pair: (order[pair.entry], pair.output))


def _by_device(run: Run) -> defaultdict[str, dict[_Array, Result]]:
    """Return the judged arrays of each device."""
    judged: defaultdict[str, dict[_Array, Result]] = defaultdict(dict)
    for result in filter(is_judged, run.results):
        entry, _, place = result.implementation.rpartition("@")
        judged[place][entry, result.case, result.step, result.output] = result
    return judged


def _add(pair: SideBySide, here: Result, there: Result) -> None:
    fails = here.verdict == "FAIL", there.verdict == "FAIL"
    pair.arrays += 1
    pair.worst = _worse(pair.worst[0], here), _worse(pair.worst[1], there)
    pair.failed = pair.failed[0] + fails[0], pair.failed[1] + fails[1]
    pair.alone = pair.alone[0] + (fails == (True, False)), pair.alone[1] + (fails == (False, True))


def _worse(before: Rho, result: Result) -> Rho:
    rho = None if result.rho is msgspec.UNSET else result.rho
    return rho if summary.as_number(rho) > summary.as_number(before) else before


def as_markdown(pairs: Iterable[SideBySide], device: str) -> str:
    """Return the table of `side_by_side`."""
    head = ["implementation", "output", "arrays", "worst ρ on cpu", f"worst ρ on {device}"]
    head += ["FAIL on cpu", f"FAIL on {device}", "on cpu alone", f"on {device} alone"]
    rows = [[f"`{p.entry}`", p.output, *map(_said, (p.arrays, *p.worst, *p.failed, *p.alone))] for p in pairs]
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows])


def _said(value: Rho) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def camps(runs: Mapping[Path, Run], device: str, most: int, until: float = math.inf) -> str:
    """Return, in words, whether both devices answer the same where both fail, within what both may be off.

    runs: by their folders, which have the answers that fail; most: elements of the cases that are looked at.
    """
    together, apart, later = 0, 0, 0
    for folder, run in runs.items():
        for case in _failing_on_both(run, device):
            if run.cases[case].elements > most or time.monotonic() > until:
                later += 1
                continue
            for recording in recordings.of_run(folder, case):
                for _, _, found in explaining.camps(recording):
                    alike = _alike(found[1:], device)
                    together, apart = together + sum(alike), apart + len(alike) - sum(alike)
    said = (
        f"of {together + apart} arrays that fail on both, {together} are the same on both, of one camp, and {apart} not"
    )
    return said + (f"; {later} cases were not looked at" if later else "")


def _failing_on_both(run: Run, device: str) -> list[str]:
    """Return the cases of which an array fails on both devices."""
    failed = {place: {k for k, r in found.items() if r.verdict == "FAIL"} for place, found in _by_device(run).items()}
    return sorted({key[1] for key in failed.get("cpu", set()) & failed.get(device, set())})


def _alike(wrong: list[list[str]], device: str) -> list[bool]:
    """Return, for each implementation that is wrong on both devices, whether one camp has both."""
    where = {identity: n for n, camp in enumerate(wrong) for identity in camp}
    other = {identity: f"{identity.removesuffix('@cpu')}@{device}" for identity in where if identity.endswith("@cpu")}
    return [where[here] == where[there] for here, there in other.items() if there in where]


def of_sizes(runs: Iterable[Run]) -> str:
    """Return a table of cases: how many answer each, how many arrays fail, and who was not reached in time."""
    head = ["case", "dtype", "elements", "answered by", "arrays", "FAIL", "not reached in time"]
    rows = [row for run in runs for row in _rows(run)]
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows])


def _rows(run: Run) -> Iterator[list[str]]:
    of_case: defaultdict[str, list[Result]] = defaultdict(list)
    for result in run.results:
        of_case[result.case].append(result)
    for case in run.cases.values():
        found = of_case[case.case]
        answered = {result.implementation for result in found if result.verdict != "UNSUPPORTED"}
        lost = [r.id for r in run.implementations if r.available and not recorded(r).compiled]
        missed = sorted(set(lost) - {result.implementation for result in found})
        judged = [result for result in found if is_judged(result)]
        failed = sum(result.verdict == "FAIL" for result in judged)
        said = map(str, (len(answered), len(judged), failed))
        yield [case.cell, case.dtype, f"{case.elements:,}", *said, ", ".join(missed)]
    for one in run.skipped:
        yield [
            one.cell,
            "",
            "",
            "0",
            "0",
            "0",
            f"it would need {one.needed:,} bytes of memory, {one.allowed:,} are allowed",
        ]


class AskedAgain(msgspec.Struct, frozen=True):
    """How an implementation answers one case asked again and again: with the same bits, or with others.

    answers: how many different ones it gave. asked: how often it was asked.
    """

    implementation: str
    case: int
    answers: int
    asked: int


def again(cases: list[Case], who: Participants, times: int, until: float = math.inf) -> Iterator[AskedAgain]:
    """Ask each case so often in one process, and yield how many answers there are, with its number in the list.

    One at a time: what is under way at that moment, a few answers, is waited for.

    Who compiles is asked the first case alone; nobody is asked anything more from the moment `until` on. A sum of
    atomic additions has another order in each call: https://docs.pytorch.org/docs/stable/notes/randomness.html
    """
    bits: defaultdict[tuple[str, int], list[bytes]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        for host in who.environments():
            if time.monotonic() >= until:
                break
            hosted = who.hosted(host)
            started = availability.hosting(host, hosted, who.limits, Path(folder) / "log", in_process=who.in_process)
            with started as (worker, records, _):
                promised = {record.id: recorded(record) for record in records if record.available}
                for reply in going_on.ask(worker, _asked(cases, promised, times, until), promised) if worker else ():
                    if any(isinstance(outcome, TimedOut | Crashed) for outcome in reply.outcomes):
                        continue  # no answer, and so not another one
                    bits[reply.implementation, reply.request].append(_bits(reply))
    for (identity, case), found in sorted(bits.items()):
        yield AskedAgain(identity, case, len(set(found)), len(found))


def _asked(cases: list[Case], who: dict[str, Statement], times: int, until: float) -> Iterator[going_on.AskedCase]:
    """Yield each case so often, for those who support it."""
    for number, case in enumerate(cases):
        facts = every_step(case)
        ids = [name for name, s in who.items() if not s.unsupported(*facts) and not (number and s.compiled)]
        ids.sort(key=lambda name: who[name].compiled)  # who compiles comes last
        for name, _ in itertools.product(ids, range(times)):
            if time.monotonic() < until:
                yield going_on.AskedCase(number, case, [name])


def _bits(reply: Reply) -> bytes:
    return b"".join(reply_in_parts(Reply(0, reply.implementation, reply.outcomes)))  # whatever it took
