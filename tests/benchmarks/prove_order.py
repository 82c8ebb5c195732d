"""Prove that no answer depends on what was asked before: `python tests/benchmarks/prove_order.py [--help]`.

A worker is asked pairs of cases, A then B, of a pool drawn by seed: generated cases, named ones, and of each some that
differ from it in one fact alone (who gives the parameters, a dtype, a mode, a derivative, a mask…), as half of the
pairs do. All pairs are asked of one instance, one after another, so that each B follows all that was asked before it
too. B's answer must be, bit for bit and word for word, that of an instance made for B alone. And as such an instance
lives in a process that has computed before, some cases are asked in processes of their own as well.

Exits 1 where an answer differs from that of a fresh instance which is the same when it is asked again.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from conformance.cases import cells, corpus, strategies
from conformance.hosts import roster
from conformance.hosts.environment import Environment, Limits, Request, Worker, WorkerDied
from conformance.hosts.targets import RosterEntry
from conformance.model.case import Case, Derivative, case_id
from conformance.model.case_facts import every_step
from conformance.model.codec import encode_case
from conformance.model.outcome import Outputs, Reply

AFRESH = Path(__file__).with_name("afresh.py")
LARGEST = 4_000
_GIVEN = ("gamma", "beta", "moving_mean", "moving_variance")


# --- cases that differ in one fact --------------------------------------------------------------------------------


def neighbours(case: Case) -> Iterator[tuple[str, Case]]:
    """Yield cases that differ from one in one fact alone, with the fact; some of them make no sense, or are unusual."""
    yield from _of_tensors(case)
    yield from _of_spec(case)
    yield from _of_steps(case)
    for name, value in (("init_mode", "infer"), ("round_trip", "config"), ("round_trip", "state"), ("flag", "int")):
        yield f"actions.{name}", _with(case, actions=_with(case.actions, **{name: value}))
    for layout in ("F", "strided"):
        yield "layout", _with(case, layout=layout)
    yield "batches", _with(case, batches=0 if case.batches else 3)
    yield "unknown sizes", _with(case, actions=_with(case.actions, unknown_sizes=(0,)))


def _with(struct: Any, **changes: Any) -> Any:
    return msgspec.structs.replace(struct, **changes)


def _of_tensors(case: Case) -> Iterator[tuple[str, Case]]:
    without = {n: a for n, a in case.tensors.items() if n not in _GIVEN}
    yield "nothing given", _with(case, tensors=without)
    for names in (("gamma", "beta"), ("gamma",), ("beta",), ("moving_mean", "moving_variance")):
        yield f"no {names[0]}", _with(case, tensors={n: a for n, a in case.tensors.items() if n not in names})
    yield "values", _with(case, tensors={n: _other(a) for n, a in case.tensors.items()})
    for dtypes in ({"parameters": "float64"}, {"statistics": "float64"}, {"parameters": "float16"}):
        changed = _with(case.dtypes, **dtypes)
        own = {n: changed.of(n) for n in case.tensors}
        tensors = {n: a if own[n] is None else a.astype(_dtype(own[n])) for n, a in case.tensors.items()}
        yield f"dtypes.{next(iter(dtypes))}", _with(case, dtypes=changed, tensors=tensors)
    if case.shape and case.shape[0] > 3:
        fewer = {n: a[:-1] if n[0].isdigit() and a.shape[:1] == case.shape[:1] else a for n, a in case.tensors.items()}
        yield "rows", _with(case, tensors=fewer)
    masks = {n: a for n, a in case.tensors.items() if n.endswith(".mask")}
    yield "mask", _with(case, tensors={n: a for n, a in case.tensors.items() if n not in masks} | _masks(case, masks))


def _masks(case: Case, masks: dict[str, Any]) -> dict[str, Any]:
    if masks:
        return {n: a.astype(np.float32) if a.dtype == bool else a != 0 for n, a in masks.items()}
    return {f"{t}.mask": np.arange(case.x(t).size).reshape(case.x(t).shape) % 3 != 1 for t in range(len(case.steps))}


def _other(array: Any) -> Any:
    return np.roll(array, 1) if array.size else array


def _dtype(name: str) -> Any:
    import ml_dtypes

    return getattr(ml_dtypes, name) if name == "bfloat16" else name


def _of_spec(case: Case) -> Iterator[tuple[str, Case]]:
    spec = case.spec
    facts: list[dict[str, Any]] = [{"epsilon": 0.125}, {"momentum": 0.25}, {"trainable": not spec.trainable}]
    facts += [{"center": not spec.center}, {"scale": not spec.scale}, {"renorm": not spec.renorm}]
    facts += [{"renorm_momentum": 0.5}, {"renorm_clipping": {"rmax": 1.5}}, {"renorm_clipping": {"dmax": 0.5}}]
    facts += [{"virtual_batch_size": 2 if spec.virtual_batch_size is None else None}]
    axis = spec.axis if isinstance(spec.axis, int) else 0
    facts += [{"axis": axis - len(case.shape) if axis >= 0 else axis + len(case.shape)}]
    for changed in facts:
        name = next(iter(changed))
        dropped = {"center": ("beta",), "scale": ("gamma",)}.get(name, ()) if changed[name] is False else ()
        tensors = {n: a for n, a in case.tensors.items() if n not in dropped}
        yield name, _with(case, spec=dataclasses.replace(spec, **changed), tensors=tensors)


def _of_steps(case: Case) -> Iterator[tuple[str, Case]]:
    flipped = {"train": "infer", "infer": "train"}
    last, rest = case.steps[-1], case.steps[:-1]
    yield "mode", _with(case, steps=(*rest, _with(last, mode=flipped[last.mode])))
    yield "modes", _with(case, steps=tuple(_with(step, mode=flipped[step.mode]) for step in case.steps))
    for name, value in (("update", False), ("trainable", False)):
        yield f"step.{name}", _with(case, steps=(*rest, _with(last, **{name: value})))
    shared = tuple(_with(step, site=t % 2) for t, step in enumerate(case.steps))
    yield "sites", _with(case, steps=shared, actions=_with(case.actions, sites=2))
    plain = {n: a for n, a in case.tensors.items() if not n.endswith((".dy", ".tangent"))}
    cotangents = {f"{t}.dy": _other(case.x(t)) for t in range(len(case.steps))}
    tangents = {f"{t}.tangent": _other(_other(case.x(t))) for t in range(len(case.steps))}
    for name, asked, arrays in (
        ("none", (), {}),
        ("reverse", (Derivative(),), cotangents),
        ("forward", (Derivative(), Derivative(1, "forward")), cotangents | tangents),
        ("reverse twice", (Derivative(), Derivative(2)), cotangents | tangents),
        ("forward over reverse", (Derivative(), Derivative(2, "forward_over_reverse")), cotangents | tangents),
    ):
        steps = tuple(_with(step, derivatives=asked) for step in case.steps)
        yield f"derivatives: {name}", _with(case, steps=steps, tensors=plain | arrays)


# --- the pool -----------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Pool:
    """Cases that an implementation supports, and which of them differ in one fact: (index, index, fact)."""

    cases: list[Case]
    near: list[tuple[int, int, str]]

    def pairs(self, rng: np.random.Generator, number: int) -> list[tuple[int, int, str]]:
        """Return pairs (A, B, fact), at least half of them near ones, in random order; a fact of any two is empty."""
        any_two = [(*map(int, rng.integers(len(self.cases), size=2)), "") for _ in range(number // 2)]
        order = rng.integers(len(self.near), size=number - len(any_two)) if self.near else []
        near = [self.near[i] if rng.random() < 0.5 else _turned(self.near[i]) for i in order]
        found: list[Any] = [*any_two, *near]
        return [found[i] for i in rng.permutation(len(found))]


def _turned(pair: tuple[int, int, str]) -> tuple[int, int, str]:
    a, b, fact = pair
    return b, a, fact


@functools.cache
def _drawn(seed: int) -> list[Case]:
    drawn = [case for _, case in strategies.cases(seed, cells.DEFAULT)]
    small = [case for case in drawn if case.x(0).size <= LARGEST]
    return small + [named.case for named in corpus.read() if named.case.x(0).size <= LARGEST]


def pool(entry: RosterEntry, rng: np.random.Generator, seed: int, bases: int, most: int) -> Pool:
    """Return a pool of some bases, first those without what is special, with some of their neighbours."""
    drawn, supported = _drawn(seed), functools.partial(_supported, entry)
    order = [drawn[i] for i in rng.permutation(len(drawn))]
    found, cases, near = list[Case](), list[Case](), list[tuple[int, int, str]]()
    for case in order:
        if len(found) < bases and supported(case):
            found.append(case)
    for base in found:
        cases.append(base)
        at, changed = len(cases) - 1, [(fact, case) for fact, case in neighbours(base) if supported(case)]
        for i in rng.permutation(len(changed))[: max(most // max(len(found), 1) - 1, 1)]:
            cases.append(changed[i][1])
            near.append((at, len(cases) - 1, changed[i][0]))
    return Pool(cases, near)


def _supported(entry: RosterEntry, case: Case) -> bool:
    try:
        return not entry.statement.unsupported(*every_step(case))
    except (KeyError, IndexError, ValueError):
        return False


# --- asking -------------------------------------------------------------------------------------------------------


class Asked:
    """A worker process of `afresh.py`, asked one question at a time."""

    def __init__(self, environment: Environment, folder: Path) -> None:
        command = (environment.python, str(AFRESH), "--device", environment.device, *environment.adapters)
        program = Environment(environment.name, program=command, variables=environment.variables)
        self.worker = Worker(program, Limits(case=300, memory=16), folder / f"{environment.name}.log")

    def answer(self, identity: str, case: Case) -> Any:
        """Return an answer as something to compare: outcomes, with the bytes of every array."""
        request = Request(0, functools.partial(encode_case, case), [identity])
        (reply,) = self.worker.ask([request])
        return told(reply)


def told(reply: Reply) -> Any:
    """Return all that a reply says."""
    return [
        {n: (a.dtype.name, a.shape, a.tobytes()) for n, a in sorted(outcome.tensors.items())}
        if isinstance(outcome, Outputs)
        else outcome
        for outcome in reply.outcomes
    ]


def prove(asked: Asked, entry: RosterEntry, options: argparse.Namespace) -> tuple[Counter[str], Pool]:
    """Ask an implementation its pairs; print and count where an answer depends on what was asked before."""
    rng = np.random.default_rng([options.seed, *entry.id.encode()])
    found = pool(entry, rng, options.seed, options.bases, options.pool)
    fresh: dict[int, Any] = {}
    counts = Counter[str]()
    for a, b, fact in found.pairs(rng, options.pairs) if found.cases else ():
        asked.answer(entry.id, found.cases[a])
        after = asked.answer(entry.id, found.cases[b])
        if b not in fresh:
            fresh[b] = asked.answer(f"fresh:{entry.id}", found.cases[b])
        counts["pairs"] += 1
        counts["near"] += bool(fact)
        if after != fresh[b]:
            again = asked.answer(f"fresh:{entry.id}", found.cases[b])
            kind = "different" if again == fresh[b] else "undetermined"
            counts[kind] += 1
            if counts[kind] <= options.show:
                print(f"  {kind}: {entry.id}, case {case_id(found.cases[b])} after {case_id(found.cases[a])} ({fact})")
                print(f"    {_differs(after, fresh[b])}")
    counts["cases"] = len(found.cases)
    return counts, found


def _differs(one: Any, other: Any) -> str:
    for t, (a, b) in enumerate(zip(one, other, strict=False)):
        if isinstance(a, dict) and isinstance(b, dict):
            names = [n for n in a.keys() | b.keys() if a.get(n) != b.get(n)]
            if names:
                return f"step {t}: {', '.join(sorted(names))}"
        elif a != b:
            return f"step {t}: {str(a)[:300]} / {str(b)[:300]}"
    return f"{len(one)} steps / {len(other)}"


def in_processes_of_their_own(
    environment: Environment, pools: dict[str, Pool], folder: Path, options: argparse.Namespace
) -> Counter[str]:
    """Ask some cases each in a new process, and once more of a new instance in a process that was asked them all."""
    rng, counts = np.random.default_rng(options.seed), Counter[str]()
    some = {
        (i, identity): kept.cases[int(rng.integers(len(kept.cases)))]
        for identity, kept in pools.items()
        if kept.cases
        for i in range(options.processes)
    }
    alone: dict[tuple[int, str], Any] = {}
    for i in range(options.processes):
        with_one = Asked(environment, folder)
        alone |= {key: with_one.answer(key[1], case) for key, case in some.items() if key[0] == i}
        with_one.worker.close()
    together = Asked(environment, folder)
    for key, case in some.items():
        counts["alone"] += 1
        if together.answer(f"fresh:{key[1]}", case) != alone[key]:
            counts["differs from a process of its own"] += 1
            print(f"  {key[1]}: {case_id(case)} differs from a process of its own")
    together.worker.close()
    return counts


def main() -> int:
    """Ask all that the options name, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-i", dest="patterns", action="append", default=[], help="implementations; default all")
    parser.add_argument("--pairs", type=int, default=300)
    parser.add_argument("--pool", type=int, default=60, help="cases of an implementation, neighbours among them")
    parser.add_argument("--bases", type=int, default=12, help="of these, cases that were drawn")
    parser.add_argument("--processes", type=int, default=2, help="of each environment, to ask each implementation in")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", type=int, default=3, help="differences to print of each implementation")
    options = parser.parse_args()
    total = Counter[str]()
    entries = roster.select(tuple(options.patterns))
    with tempfile.TemporaryDirectory() as folder:
        for environment in roster.environments(entries, {}):
            hosted = [entry for entry in entries if entry.host == environment.name]
            total += of_environment(environment, hosted, Path(folder), options)
    print("all: " + ", ".join(f"{number} {name}" for name, number in total.items()))
    return 1 if total["different"] + total["differs from a process of its own"] else 0


def of_environment(environment: Environment, entries: list[RosterEntry], folder: Path, options: Any) -> Counter[str]:
    """Prove it of what one environment hosts; where it cannot start, say so."""
    try:
        asked = Asked(environment, folder)
    except WorkerDied as error:
        print(f"{environment.name}: {error}")
        return Counter()
    total, pools = Counter[str](), dict[str, Pool]()
    available = {listing.id for listing in asked.worker.hello.implementations if listing.available}
    for entry in (entry for entry in entries if entry.id in available):
        began = time.monotonic()
        counts, pools[entry.id] = prove(asked, entry, options)
        total += counts
        seconds = time.monotonic() - began
        print(f"{entry.id}: {', '.join(f'{n} {name}' for name, n in counts.items())}, {seconds:.0f} s", flush=True)
    asked.worker.close()
    return total + in_processes_of_their_own(environment, pools, folder, options)


if __name__ == "__main__":
    sys.exit(main())
