"""A soak: runs of one seed after the other, each held to the known divergences, until the time is over."""

from __future__ import annotations

import itertools
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from conformance.gate import decision, divergences
from conformance.hosts import compiled, machine
from conformance.model.errors import Incomplete, InvalidInput
from conformance.model.version import version
from conformance.runs import estimating, run_file
from conformance.runs.campaign import Campaign, Options
from conformance.runs.progress import Progress

FILE = "soak.jsonl"
WRONG = 1, 5
"""Exit statuses of findings to look at: a failure that nothing explains, and a fault of bnconf."""


class Soak(msgspec.Struct, frozen=True):
    """What a soak asks, and of whom: the first line of its file."""

    version: str
    seed: int
    cases: int
    corpus: bool
    implementations: list[str]


class Round(msgspec.Struct, frozen=True):
    """One run of a soak, and a line of its file.

    folder: where the run is; empty where nothing is left of it but this: the same seed asks the same cases again.
    unexplained: what the gate says of failures that no known divergence predicts, and of what it could not judge.
    kinds: the implementation, output and kind of each of these.
    failed: how many results fail, explained ones included.
    reasons: why the run is incomplete.
    """

    seed: int
    folder: str
    judged: int
    failed: int
    unexplained: tuple[str, ...]
    kinds: tuple[str, ...]
    reasons: tuple[str, ...]


def rounds(options: Options, minutes: float, progress: Progress) -> Iterator[Round]:
    """Yield the runs of `options.seed` and the seeds after it, each whole, until so many minutes are over.

    Each is in a folder of its own, `seed-7`, and has a line in `soak.jsonl` once it is whole; a soak that is resumed
    yields these first, and goes on after them. A folder stays where something is found of a kind that no earlier one
    has, so that hours fill no disk. The corpus is asked in the first run alone. One that is incomplete is the last.
    What takes longest begins first, as the run before measured.
    """
    done = _begun(options)
    yield from done
    known, ends, costs = divergences.read(), time.monotonic() + 60 * minutes, _costs(options)
    kept = {kind for one in done if one.folder for kind in one.kinds}
    machine.release_memory()
    for n in itertools.count(len(done)):
        asked = _asked(options, n, resumed=options.resume and n == len(done))
        ours = asked.resume or not asked.out.exists()
        try:
            one = _round(asked, progress, known, costs)
            if not one.reasons:
                costs = costs if asked.resume else _costs(asked)
                one = _recorded(one, new=not kept.issuperset(one.kinds), ours=ours)
        except (Incomplete, InvalidInput, OSError) as error:
            if n == len(done) and isinstance(error, InvalidInput):  # nothing has been asked that could be lost
                if not asked.resume:
                    raise
                said = f"{asked.out}: cannot be gone on with ({error}); remove that folder, and go on with --resume"
                raise InvalidInput(said) from error
            one = Round(asked.seed, str(asked.out), 0, 0, (), (), (str(error),))
        kept.update(one.kinds if one.folder else ())
        if options.who.cache:
            compiled.make_room()
        machine.release_memory()
        yield one
        if one.reasons or time.monotonic() >= ends:
            return


def _begun(options: Options) -> list[Round]:
    """Return the runs of an earlier soak that is resumed; whoever begins anew replaces it, and begins with none."""
    path, ids = options.out / FILE, sorted(entry.id for entry in options.who.entries)
    begin = Soak(version(), options.seed, options.cases, options.corpus, ids)
    before, done = _read(path)
    if options.resume:
        if before is None:
            raise InvalidInput(f"--resume: {options.out} holds no soak; leave --resume out, or name the --out of one")
        for name in Soak.__struct_fields__:
            was, now = getattr(before, name), getattr(begin, name)
            if was != now:
                other = " ".join(sorted(set(was) ^ set(now))[:3]) if name == "implementations" else was
                said = f"--resume: {path} is of a soak with another {name} ({other})"
                raise InvalidInput(f"{said}; ask for the same, or name another --out")
        return [msgspec.structs.replace(one, folder=_left(options.out, one)) for one in done]
    if found := [_folder(options.out, one.seed).name for one in done if _left(options.out, one)]:
        said = f"--out {options.out}: holds a soak that found something, in {' '.join(found[:3])}"
        raise InvalidInput(f"{said}; go on with --resume, name another --out, or remove it")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(msgspec.json.encode(begin) + b"\n")
    except OSError as error:
        raise InvalidInput(f"--out {options.out}: cannot be written ({error}); name a folder that can be") from error
    return []


def _read(path: Path) -> tuple[Soak | None, list[Round]]:
    """Return what is in the file of a soak, without a last line that is torn; None where there is none."""
    *lines, torn = path.read_bytes().split(b"\n") if path.exists() else [b""]
    if not lines:
        return None, []
    first, *whole = lines
    try:
        before, done = msgspec.json.decode(first, type=Soak), [msgspec.json.decode(line, type=Round) for line in whole]
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path}: is damaged ({error}); remove it and soak anew, or name another --out") from error
    if [one.seed for one in done] != [before.seed + n for n in range(len(done))]:
        raise InvalidInput(f"{path}: is damaged (a seed is missing); remove it and soak anew, or name another --out")
    if torn:
        os.truncate(path, path.stat().st_size - len(torn))
    return before, done


def _folder(out: Path, seed: int) -> Path:
    return out / f"seed-{seed}"


def _left(out: Path, one: Round) -> str:
    """Return the folder of a run, as it is named today; empty if it is there no more."""
    folder = _folder(out, one.seed)
    return str(folder) if one.folder and run_file.is_run(folder) else ""


def _asked(options: Options, n: int, *, resumed: bool) -> Options:
    """Return what the n-th run asks; resumed: the soak was interrupted in it, or right before."""
    folder = _folder(options.out, options.seed + n)
    found = msgspec.structs.replace(options, seed=options.seed + n, out=folder, keeps=False)
    return msgspec.structs.replace(found, corpus=options.corpus and not n, resume=resumed and run_file.is_run(folder))


def _costs(options: Options) -> estimating.Costs | None:
    return estimating.earlier(options.out, options.cases, options.recorded_profile)


def _round(
    options: Options, progress: Progress, known: list[divergences.Divergence], costs: estimating.Costs | None
) -> Round:
    """Make a run, and let the gate decide on it."""
    cut = ""
    try:
        Campaign(options, progress, costs=costs and costs.cpu | costs.starts).run()
    except Incomplete as error:
        cut = str(error)
    run = run_file.read(options.out)
    decided = decision.decide(options.out, run, known)
    found = [one for one in decided.findings if one.status in WRONG]
    return Round(
        options.seed,
        str(options.out),
        decided.judged,
        sum(result.failed for result in run.results),
        tuple(one.says for one in found),
        tuple(f"{one.implementation} {one.output} {one.kind}" for one in found),
        (cut,) if cut else tuple(run.reasons),
    )


def _recorded(one: Round, *, new: bool, ours: bool) -> Round:
    """Return a run after its line is written, and its folder removed if there is nothing new in it.

    ours: the folder was not there before.
    """
    folder = Path(one.folder)
    one = msgspec.structs.replace(one, folder=one.folder if new else "")
    path = folder.parent / FILE
    try:
        with path.open("ab") as written:
            written.write(msgspec.json.encode(one) + b"\n")
    except OSError as error:
        reason = f"{path}: cannot be written ({error.strerror}); make room, and go on with --resume"
        return msgspec.structs.replace(one, folder=str(folder), reasons=(reason,))
    if not new and ours:
        shutil.rmtree(folder, ignore_errors=True)
    return one
