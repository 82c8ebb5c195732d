"""The same implementations on two devices: side by side on the same cases, and asked again for the same bits."""

from __future__ import annotations

import math
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from conformance.hosts import availability, going_on
from conformance.hosts.participants import Participants
from conformance.model.case import Case
from conformance.model.case_facts import every_step
from conformance.model.outcome import Reply, reply_in_parts
from conformance.model.results import Result, Rho, Run
from conformance.model.statement import Statement, recorded
from conformance.runs import summary
from conformance.runs.counts import is_judged


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


def side_by_side(run: Run, device: str) -> list[SideBySide]:
    """Return what both devices were judged on, for each implementation that a run has on both, and each output."""
    found: dict[tuple[str, str], SideBySide] = {}
    judged: defaultdict[str, dict[tuple[str, str, int, str], Result]] = defaultdict(dict)
    for result in filter(is_judged, run.results):
        entry, _, place = result.implementation.rpartition("@")
        judged[place][entry, result.case, result.step, result.output] = result
    for key in judged["cpu"].keys() & judged[device].keys():
        pair = found.setdefault((key[0], key[3]), SideBySide(key[0], key[3]))
        _add(pair, judged["cpu"][key], judged[device][key])
    order = {record.id.rpartition("@")[0]: place for place, record in enumerate(run.implementations)}
    return sorted(found.values(), key=lambda pair: (order[pair.entry], pair.output))


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

    Who compiles is asked the first case alone; nobody is asked anything more from the moment `until` on. A sum of
    atomic additions has another order in each call: https://docs.pytorch.org/docs/stable/notes/randomness.html
    """
    bits: defaultdict[tuple[str, int], list[bytes]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        for host in who.environments():
            hosted = who.hosted(host)
            started = availability.hosting(host, hosted, who.limits, Path(folder) / "log", in_process=who.in_process)
            with started as (worker, records, _):
                promised = {record.id: recorded(record) for record in records if record.available}
                for reply in going_on.ask(worker, _asked(cases, promised, times, until), promised) if worker else ():
                    bits[reply.implementation, reply.request].append(_bits(reply))
    for (identity, case), found in sorted(bits.items()):
        yield AskedAgain(identity, case, len(set(found)), len(found))


def _asked(cases: list[Case], who: dict[str, Statement], times: int, until: float) -> Iterator[going_on.AskedCase]:
    """Yield each case so often, for those who support it."""
    for number, case in enumerate(cases):
        facts = every_step(case)
        ids = [name for name, s in who.items() if not s.unsupported(*facts) and not (number and s.compiled)]
        for _ in range(times if ids else 0):
            if time.monotonic() < until:
                yield going_on.AskedCase(number, case, ids)


def _bits(reply: Reply) -> bytes:
    return b"".join(reply_in_parts(msgspec.structs.replace(reply, request=0, cpu=0.0)))
