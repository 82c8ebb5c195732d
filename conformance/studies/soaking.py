"""A soak: runs of one seed after the other, each held to the known divergences, until the time is over."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator

import msgspec

from conformance.gate import decision, divergences
from conformance.runs import run_file
from conformance.runs.campaign import Campaign, Options
from conformance.runs.progress import Progress


class Round(msgspec.Struct, frozen=True):
    """One run of a soak.

    folder: where the run is.
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

    Each is in a folder of its own, `seed-7`; the corpus is asked in the first alone. A run that is interrupted is the
    last.
    """
    known, began = divergences.read(), time.monotonic()
    for n in itertools.count():
        seed = options.seed + n
        folder = options.out / f"seed-{seed}"
        corpus = options.corpus and not n
        asked = msgspec.structs.replace(options, seed=seed, out=folder, corpus=corpus)
        end = Campaign(asked, progress).run()
        run = run_file.read(folder)
        decided = decision.decide(folder, run, known)
        says = tuple(f.says for f in decided.findings if f.status == 1)
        failed = sum(result.failed for result in run.results)
        yield Round(seed, str(folder), decided.judged, failed, says, tuple(end.reasons))
        if not end.complete or time.monotonic() - began >= 60 * minutes:
            return
