"""Divergences that speak of another version or device than a run has: whether they hold here too, and how to say so."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from conformance.gate.divergences import Divergence, is_told
from conformance.model.facts import DEVICES
from conformance.model.results import ImplementationRecord, Run

DEVICE = "device"
_RANGE = re.compile(r">=\s*([\d.]+)\s*,\s*<\s*([\d.]+)")


class OtherVersion(NamedTuple):
    """A package of which a divergence names other versions than those that are here; or `DEVICE`, with devices."""

    package: str
    wanted: str
    found: str


def other_versions(divergence: Divergence, record: ImplementationRecord) -> list[OtherVersion]:
    """Return what keeps a divergence from speaking of an implementation that it names: a device, packages' versions."""
    device = [] if divergence.names(record) else _other_device(divergence, record)
    named = device or divergence.names(record)
    if not named or not all(is_told(record, package) for package in divergence.versions):
        return []
    return device + [
        OtherVersion(package, wanted, record.versions[package])
        for package, wanted in divergence.versions.items()
        if not SpecifierSet(wanted).contains(record.versions[package], prereleases=True)
    ]


def _other_device(divergence: Divergence, record: ImplementationRecord) -> list[OtherVersion]:
    """Return the device on which a divergence names what the record is about; nothing if it does on none."""
    entry = record.id.rpartition("@")[0]
    others = [one for one in DEVICES if one != record.device]
    named = [one for one in others if divergence.names(msgspec.structs.replace(record, id=f"{entry}@{one}"))]
    return [OtherVersion(DEVICE, one, record.device) for one in named]


class Witnesses:
    """What became of the named cases of a run."""

    def __init__(self, run: Run) -> None:
        names = {case.case: case.name for case in run.cases.values() if case.name}
        self._verdicts = defaultdict[tuple[str, str], set[str]](set)
        for result in run.results:
            if result.case in names:
                self._verdicts[names[result.case], result.implementation].add(result.verdict)

    def verdicts(self, divergence: Divergence, record: ImplementationRecord) -> set[str]:
        """Return the verdicts on the answer of an implementation to the witness; empty if it was not asked."""
        return self._verdicts.get((divergence.witness, record.id), set())

    def passed(self, divergence: Divergence, record: ImplementationRecord) -> bool:
        """Return whether an implementation was asked the witness, and conforms."""
        found = self.verdicts(divergence, record)
        return "PASS" in found and not found & {"FAIL", "ERROR"}


def elsewhere(witnesses: Witnesses, known: Iterable[Divergence], record: ImplementationRecord) -> list[Divergence]:
    """Return the divergences of other versions that may hold at this one.

    One whose witness passes does not; one that any wrong value would fit, or a crash, does if its witness fails.
    """
    found: list[Divergence] = []
    for divergence in known:
        if other_versions(divergence, record):
            said = witnesses.verdicts(divergence, record)
            loose = divergence.predicts.wrong or divergence.predicts.crashes
            if "FAIL" in said or not (said & {"PASS", "ERROR"} or loose):
                found.append(divergence)
    return found


def widened(wanted: str, version: str) -> str:
    """Return a range of versions that this one is in too, as exact as it was; empty where it is no plain range.

    >>> widened(">=2.13,<2.14", "2.14.1+cpu"), widened(">=0.12.8,<0.13", "0.12.1"), widened("==1", "2")
    ('>=2.13,<2.15', '>=0.12.1,<0.13', '')
    """
    found, there = _RANGE.fullmatch(wanted.strip()), Version(version).release
    if not found:
        return ""
    low, high = (Version(end).release for end in found.groups())
    if there < low:
        return f">={_dotted(there[: len(low)])},<{found[2]}"
    if there >= high:
        end = (*there, 0, 0)[: len(high)]
        return f">={found[1]},<{_dotted((*end[:-1], end[-1] + 1))}"
    return wanted


def _dotted(release: tuple[int, ...]) -> str:
    return ".".join(map(str, release))


def wider(divergence: Divergence, run: Run) -> Iterator[tuple[str, str, str]]:
    """Yield each package with what a divergence says of its versions, and what would be true of the run's too.

    Nothing where an implementation of other versions, that it names, passes its witness: then it does not hold there.
    """
    records = [record for record in run.implementations if record.available and other_versions(divergence, record)]
    witnesses = Witnesses(run)
    if any(witnesses.passed(divergence, record) for record in records):
        return
    said = dict(divergence.versions)
    others = [other for record in records for other in other_versions(divergence, record)]
    for other in (one for one in others if one.package != DEVICE):
        said[other.package] = widened(said[other.package], other.found) or said[other.package]
    for package, before in divergence.versions.items():
        if said[package] != before:
            yield package, before, said[package]
    yield from dict.fromkeys((DEVICE, other.wanted, "*") for other in others if other.package == DEVICE)
