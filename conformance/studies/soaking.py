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
from conformance.model.errors import Incomplete, InvalidInput
from conformance.runs import estimating, run_file
from conformance.runs.campaign import Campaign, Options
from conformance.runs.progress import Progress

FILE = "soak.jsonl"
_FOLDERS = 20
"""How many runs with findings are left in whole: who fails in one way fails so with every seed, for hours."""


class Round(msgspec.Struct, frozen=True):
    """One run of a soak.

    folder: where the run is; empty where nothing is left of it but this: the same seed makes it again.
    unexplained: what the gate says of failures that no known divergence predicts.
    failed: how many results fail, explained ones included.
    reasons: why the run is incomplete.
    """

    seed: int
    folder: str
    judged: int
    failed: int
    unexplained: tuple[str, ...]
    reasons: tuple[str, ...]


def rounds(options: Options, minutes: float, progress: Progress) -> Iterator[Round]:
    """Yield the runs of `options.seed` and the seeds after it, each whole, until so many minutes are over.

    Each is in a folder of its own, `seed-7`, and has a line in `soak.jsonl` once it is whole; a soak that is resumed
    yields these, and goes on after them. The folder is removed where the gate finds nothing, and where it found
    something of twenty runs before, so that hours fill no disk. The corpus is asked in the first alone. A run that is
    incomplete is the last. What takes longest begins first, as the run before measured.
    """
    done = _begun(options)
    yield from done
    known, began, left = divergences.read(), time.monotonic(), sum(bool(one.folder) for one in done)
    costs = estimating.earlier(options.out, options.cases, options.recorded_profile)
    for n in itertools.count(len(done)):
        folder = options.out / f"seed-{options.seed + n}"
        resumed = options.resume and n == len(done) and (not n or run_file.is_run(folder))
        asked = msgspec.structs.replace(options, seed=options.seed + n, out=folder, resume=resumed, keeps=False)
        if n:
            asked = msgspec.structs.replace(asked, corpus=False)
        one = _round(asked, progress, known, costs)
        if not one.reasons:
            costs = estimating.earlier(folder, options.cases, options.recorded_profile)
            one = _tidied(one, left)
            left += bool(one.folder)
        yield one
        if one.reasons or time.monotonic() - began >= 60 * minutes:
            return


def _begun(options: Options) -> list[Round]:
    """Return the runs of an earlier soak that is resumed; whoever begins anew begins with none."""
    path, first = options.out / FILE, options.seed
    if not (options.resume and path.exists()):
        path.unlink(missing_ok=True)
        return []
    *whole, torn = path.read_bytes().split(b"\n")
    try:
        done = [msgspec.json.decode(line, type=Round) for line in whole]
    except msgspec.DecodeError as error:
        raise InvalidInput(f"--resume: {path} is damaged ({error}); soak again without --resume") from error
    if done and done[0].seed != first:
        began = done[0].seed
        raise InvalidInput(
            f"--resume: {path} is of a soak from --seed {began}, not {first}; name that or another --out"
        )
    if torn:
        os.truncate(path, path.stat().st_size - len(torn))
    return done


def _round(
    options: Options, progress: Progress, known: list[divergences.Divergence], costs: estimating.Costs | None
) -> Round:
    """Make a run, and let the gate decide on it."""
    try:
        end = Campaign(options, progress, costs=costs and costs.cpu | costs.starts).run()
    except Incomplete as error:
        return Round(options.seed, str(options.out), 0, 0, (), (str(error),))
    run = run_file.read(options.out)
    decided = decision.decide(options.out, run, known)
    says = tuple(found.says for found in decided.findings if found.status == 1)
    failed = sum(result.failed for result in run.results)
    return Round(options.seed, str(options.out), decided.judged, failed, says, tuple(end.reasons))


def _tidied(one: Round, left: int) -> Round:
    """Return a run after its line is written and its folder removed, unless it is to be looked at."""
    folder = Path(one.folder)
    if not one.unexplained or left >= _FOLDERS:
        one = msgspec.structs.replace(one, folder="")
    try:
        with (folder.parent / FILE).open("ab") as written:
            written.write(msgspec.json.encode(one) + b"\n")
    except OSError as error:
        reason = f"{error.filename}: cannot be written ({error.strerror}); make room, and go on with --resume"
        return msgspec.structs.replace(one, folder=str(folder), reasons=(reason,))
    if not one.folder:
        shutil.rmtree(folder)
    return one
