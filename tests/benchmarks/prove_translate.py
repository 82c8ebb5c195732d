"""Prove `bnconf translate` for every ordered pair of layers: each difference of their answers is as predicted.

    python tests/benchmarks/prove_translate.py [--from NAME]… [--n N] [--rank RANK] [--json FILE]

For each source its own defaults; every implementation is started once and asked all of it. Exits 1 where an answer is
not as predicted, 3 where an implementation is not available.
"""

from __future__ import annotations

import argparse
import sys
import time
from itertools import permutations
from pathlib import Path

import msgspec

from conformance.gate import divergences
from conformance.hosts.participants import Participants
from conformance.studies.translation import natives, showing, translating
from conformance.studies.translation.translating import Job, Translation
from conformance.studies.translation.verifying import Inquiry

LAYERS = ("torch", "tf_keras", "keras", "flax", "haiku", "equinox", "tf.layers")


def main() -> int:
    """Translate, ask, print the table, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--from", dest="sources", action="append", default=[])
    parser.add_argument("--n", type=int, default=64)
    parser.add_argument("--rank", type=int, default=4)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    began, inquiry = time.monotonic(), Inquiry()
    jobs = dict(made(arguments.sources or LAYERS, arguments.rank, arguments.n, inquiry))
    inquiry.ask(Participants([], requested=True))
    if inquiry.missing:
        print("\n".join(inquiry.missing.values()))
        return 3
    known = divergences.read()
    found = {pair: job.finish(inquiry, known, pair) for pair, job in jobs.items()}
    told(found, time.monotonic() - began)
    if arguments.json:
        arguments.json.write_bytes(msgspec.json.encode(found))
    return 1 if any(one.surprises for one in found.values()) else 0


def made(sources, rank: int, n: int, inquiry: Inquiry):
    """Yield each pair's translation, having entered what it asks."""
    halves = {name: translating.half(natives.chosen("--from", name, rank, "cpu", sys.executable)) for name in LAYERS}
    for source, target in permutations(LAYERS, 2):
        if source in sources:
            job = Job(halves[source], halves[target], {}, rank=rank, n=n)
            job.enter(inquiry, f"{source} -> {target}")
            yield f"{source} -> {target}", job


def told(found: dict[str, Translation], seconds: float) -> None:
    """Print a line for each pair, and what is not as predicted."""
    print(
        f"{'from -> to':24} {'compared':>8} {'agree':>6} {'differ':>6} {'known':>6} {'not':>4} {'worst ρ':>8}  largest"
    )
    for pair, one in found.items():
        counts = [sum(c.verdict == v for c in one.verified) for v in VERDICTS]
        worst = max((c.rho for c in one.verified if c.verdict in VERDICTS[:2]), default=0)
        status = 1 if one.surprises else 0
        line = f"{pair:24} {sum(counts):8} " + " ".join(f"{c:{w}}" for c, w in zip(counts, (6, 6, 6, 4), strict=True))
        print(f"{line} {worst:8.2g}  {showing.largest(one.differences)}  exit {status}")
    for pair, one in found.items():
        for surprise in one.surprises:
            print(pair, showing.line_of(surprise))
    everything = [c for one in found.values() for c in one.verified]
    vacuous = sum(c.vacuous > 0 for c in everything), sum(c.verdict == "not compared" for c in everything)
    print(f"{vacuous[0]} outputs have an element without a finite bound, {vacuous[1]} were not compared at all")
    print(f"{len(found)} pairs, {sum(not one.surprises for one in found.values())} as predicted, {seconds:.0f} s")


VERDICTS = ("agree", "differ as predicted", "known divergence", "NOT as predicted")


if __name__ == "__main__":
    sys.exit(main())
