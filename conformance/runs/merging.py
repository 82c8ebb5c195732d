"""The shards of a run, put together: the same records as the unsharded run's, except for times and processes.

Two of them may be the same shard, if they asked different implementations.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import msgspec
from msgspec import UNSET

from conformance.model import buffers
from conformance.model.errors import InvalidInput
from conformance.model.results import EndRecord, ImplementationRecord, Record, Run
from conformance.runs import run_file
from conformance.runs.run_file import RunFile, answer_file
from conformance.runs.timetable import added

_SAME = ("version", "seed", "cases", "selected", "profile")


class Shard(msgspec.Struct, frozen=True):
    """One shard: its number and how many there are, its folder and what it holds."""

    number: int
    shards: int
    folder: Path
    run: Run

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"{self.folder} (shard {self.number}/{self.shards})"


def merge(folders: list[Path], out: Path, command: list[str]) -> EndRecord:
    """Write the run that shards make together; one that lacks a shard, or part of one, is incomplete and says so."""
    shards = sorted((_shard(folder) for folder in folders), key=lambda shard: shard.number)
    if out.resolve() in {shard.folder.resolve() for shard in shards}:
        raise InvalidInput(f"--out {out}: is one of the shards; name another folder")
    records, end = _together(shards, command)
    with RunFile(out, records) as file:
        _copy(shards, out)
        file.finish([r.id for r in records if isinstance(r, ImplementationRecord)])
    return end


def join(
    files: list[Path], out: Path, command: list[str], ids: list[str], seconds: float, lost: dict[str, list[str]]
) -> EndRecord:
    """Write the run that shards make together whose cases and answers are in its folder already.

    files: their run files.
    ids: all implementations, in their order.
    seconds: how long the whole took.
    lost: why shards are missing, each reason with the implementations that it is about.
    """
    records, end = _together(sorted(map(_shard, files), key=lambda shard: shard.number), command, lost)
    end = msgspec.structs.replace(end, seconds=round(seconds, 3))
    with RunFile(out, [*map(_named_here, records[:-1]), end], clear=False) as file:
        file.finish(ids)
    return end


def _named_here(record: Record) -> Record:
    """Return a record with the directory where a target was named: this one, wherever it was asked."""
    if not isinstance(record, ImplementationRecord) or not record.directory:
        return record
    return msgspec.structs.replace(record, directory=str(Path.cwd()))


def _together(
    shards: list[Shard], command: list[str], lost: Mapping[str, Sequence[str]] = MappingProxyType({})
) -> tuple[list[Record], EndRecord]:
    """Return the records of the run that shards make together, and the last of them."""
    _check(shards)
    first = shards[0].run
    implementations = _implementations(shards)
    cases = {name: record for shard in shards for name, record in shard.run.cases.items()}
    asked = {record.index for record in cases.values()}
    skipped = {record.index: record for shard in shards for record in shard.run.skipped if record.index not in asked}
    indices = sorted([*(record.index for record in cases.values()), *skipped])
    whole = indices == list(range(len(indices)))
    missing = dict.fromkeys(lost or _missing(shards, whole=whole), "")
    named = {identity for ids in lost.values() for identity in ids}
    elsewhere = {said: identity for said, identity in _elsewhere(shards) if identity not in named}
    end = _end(shards, missing | elsewhere | dict(_said(shards)))
    started = min(shard.run.header.started for shard in shards)
    header = msgspec.structs.replace(first.header, command=command, started=started, shard="1/1")
    found = [result for shard in shards for result in shard.run.results]
    return [header, *implementations.values(), *cases.values(), *skipped.values(), *found, end], end


def _shard(folder: Path) -> Shard:
    run = run_file.read(folder)
    number, _, shards = run.header.shard.partition("/")
    return Shard(int(number), int(shards), folder if folder.is_dir() else folder.parent, run)


def _check(shards: list[Shard]) -> None:
    """Raise unless these are different shards of one run."""
    first = shards[0]
    for shard in shards[1:]:
        one, other = first.run.header, shard.run.header
        if differ := [name for name in _SAME if getattr(one, name) != getattr(other, name)]:
            name = differ[0]
            raise InvalidInput(
                f"{shard.name}: has {name} {getattr(other, name)}, {first.name} has {getattr(one, name)}; "
                "merge shards of one run only"
            )
        if shard.shards != first.shards:
            raise InvalidInput(f"{shard.name}: is of another number of shards than {first.name}; run them all as K/N")
    seen: dict[tuple[int, str], Shard] = {}
    for shard in shards:
        for record in shard.run.implementations:
            before = seen.setdefault((shard.number, record.id), shard)
            if before is not shard:
                raise InvalidInput(f"{shard.name}: is the same shard as {before.name}; name each shard once")


def _implementations(shards: list[Shard]) -> dict[str, ImplementationRecord]:
    """Return what the shards say of each implementation; raise where two judged different versions of one."""
    found: dict[str, ImplementationRecord] = {}
    for shard in shards:
        for record in shard.run.implementations:
            other = found.setdefault(record.id, record)
            if record.available and other.available and bare(record) != bare(other):
                raise InvalidInput(
                    f"{shard.name}: {record.id} is another than in the shards before it "
                    f"({versions(record)}; {versions(other)}); run all shards with the same versions"
                )
            if record.available:
                found[record.id] = record
    return found


def bare(record: ImplementationRecord) -> ImplementationRecord:
    """Return a record without the place that it was asked from, which may differ between machines."""
    return msgspec.structs.replace(record, options=[], directory="", sources="")


def versions(record: ImplementationRecord) -> str:
    """Return the versions that an implementation ran on, in words."""
    return ", ".join(f"{package} {version}" for package, version in sorted(record.versions.items()))


def _missing(shards: list[Shard], *, whole: bool) -> Iterator[str]:
    """Yield what a missing shard makes incomplete, or a case; whole: there are all cases."""
    numbers = {shard.number for shard in shards}
    gone = [n for n in range(1, shards[0].shards + 1) if n not in numbers]
    yield from (f"shard {n}/{shards[0].shards} is missing" for n in gone)
    if not gone and not whole:
        yield "the shards do not hold every case: were some run without the corpus, or cut off early?"


def _elsewhere(shards: list[Shard]) -> Iterator[tuple[str, str]]:
    """Yield that some shards judged an implementation while others could not, or were not asked to, and its id."""
    listed = Counter(record.id for shard in shards for record in shard.run.implementations if record.available)
    number = len({shard.number for shard in shards})
    for identity, count in listed.items():
        if count < number:
            said = f"{identity} is available in {count} of {number} shards; run all shards on equal machines"
            yield said, identity


def _said(shards: list[Shard]) -> Iterator[tuple[str, str]]:
    """Yield why shards are incomplete, and whose reason it is.

    A shard may compare nothing as long as another one compares something.
    """
    compared = any(result.verdict in ("PASS", "FAIL") for shard in shards for result in shard.run.results)
    for shard in shards:
        if shard.run.end is None:
            yield f"shard {shard.number}/{shard.shards}: {shard.run.reasons[0]}", ""
        elif not shard.run.complete and not (compared and shard.run.end.nothing):
            yield from ((reason, shard.run.whose.get(reason, "")) for reason in shard.run.reasons)


def _end(shards: list[Shard], whose: dict[str, str]) -> EndRecord:
    """Return how the whole run ended: it took as long as its longest shard, with the work of all.

    whose: why it is incomplete, each reason with the implementation that it is about, if any.
    """
    ends = [shard.run.end for shard in shards if shard.run.end]
    cpu, verdicts = dict[str, float](), Counter[str](r.verdict for shard in shards for r in shard.run.results)
    for name, seconds in (item for end in ends for item in end.cpu.items()):
        cpu[name] = round(cpu.get(name, 0.0) + seconds, 3)
    longest = max((end.seconds for end in ends), default=0.0)
    about = {reason: identity for reason, identity in sorted(whose.items()) if identity} or msgspec.UNSET
    taken, judged = dict(sorted(cpu.items())), dict(sorted(verdicts.items()))
    spent = added([end.timetable for end in ends if end.timetable]) or UNSET
    return EndRecord(not whose, sorted(whose), longest, taken, judged, whose=about, timetable=spent)


def _copy(shards: list[Shard], out: Path) -> None:
    """Copy the cases and the answers that failed."""
    for shard in shards:
        answers = {answer_file(r.case, r.implementation) for r in shard.run.results if r.failed}
        failed = {r.case for r in shard.run.results if r.failed}
        drawn = {case.file for case in shard.run.cases.values() if case.recipe and case.case not in failed}
        for file in sorted({*(record.file for record in shard.run.cases.values()), *answers}):
            kept = buffers.there(shard.folder / file)
            if file in drawn and not kept.exists():
                continue
            try:
                shutil.copyfile(kept, out / kept.relative_to(shard.folder))
            except OSError as error:
                raise InvalidInput(
                    f"{shard.folder / file}: cannot be copied ({error.strerror}); copy the whole folder of the shard"
                ) from error
