"""The cases of a run, drawn one by one, and each recorded before the next.

A large one is read from its file from then on, so that all of them may be more than memory holds. One that memory does
not hold alone is skipped, before any of it is drawn.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from conformance.cases import building, corpus
from conformance.cases.recipe import Recipe, Signature
from conformance.model.facts import Facts
from conformance.model.results import SkippedRecord
from conformance.model.stopwatch import part
from conformance.runs import kept_recipes
from conformance.runs.case_files import CaseFiles
from conformance.runs.fitting import Room
from conformance.runs.kept_recipes import WantedRecipes
from conformance.runs.ledger import Ledger
from conformance.runs.run_case import RunCase


class Drawn(NamedTuple):
    """A case that may be asked.

    size: its bytes; make: builds it; given: somebody else has it, and may have other uses for what is computed of it.
    """

    number: int
    origin: Recipe | corpus.Named
    size: int
    make: Callable[[], RunCase]
    given: bool = False


class Gathered(NamedTuple):
    """What a run asks.

    items: the cases, by index.
    signatures: the pooled ones of all shards, each with the facts of a case of it.
    skipped: why others are not asked.
    """

    items: dict[int, RunCase]
    signatures: list[tuple[Signature, list[Facts]]]
    skipped: list[str]


def drawn(asked: WantedRecipes, *, with_corpus: bool, ids: Iterable[str] = (), cache: bool = True) -> Iterator[Drawn]:
    """Yield the cases of a seed, or of a profile that has some of its own, and of the corpus those of a run of these.

    ids: of the implementations.
    """
    with part("draw"):
        recipes = kept_recipes.recipes(asked, cache=cache)
    for i, recipe in enumerate(recipes):
        yield Drawn(i, recipe, building.size(recipe), functools.partial(_built, i, recipe, asked.seed))
    for i, named in enumerate(corpus.of_run(ids) if with_corpus else (), len(recipes)):
        yield Drawn(i, named, named.case.nbytes, functools.partial(RunCase, i, named, named.case))


def _built(index: int, recipe: Recipe, seed: int) -> RunCase:
    return RunCase(index, recipe, building.build(recipe, seed))


def given(items: Iterable[RunCase]) -> Iterator[Drawn]:
    """Yield cases that somebody made already."""
    for item in items:
        yield Drawn(item.index, item.origin, item.case.nbytes, lambda item=item: item, given=True)


def gather(cases: Iterable[Drawn], shard: tuple[int, int], room: Room, files: CaseFiles, ledger: Ledger) -> Gathered:
    """Write the cases of a shard, as far as they are kept, and their records, and return them."""
    found = Gathered({}, [], [])
    for one in cases:
        here, needed = one.number % shard[1] == shard[0] - 1, room.lacking(one.size)
        if needed and here:
            found.skipped.append(_skipped(one, needed, room, ledger))
        elif not needed and (here or (isinstance(one.origin, Recipe) and one.origin.pooled)):
            item = _made(one, ledger)
            if here:
                found.items[one.number] = item
                files.put(item)
                ledger.write(item.record())
            if item.signature:
                found.signatures.append((item.signature, item.facts))
            if here and not one.given:
                item.release()
    return found


def _made(one: Drawn, ledger: Ledger) -> RunCase:
    began = time.thread_time()
    with part("draw"):
        item = one.make()
    ledger.took({"generating": time.thread_time() - began})
    return item


def _skipped(one: Drawn, needed: int, room: Room, ledger: Ledger) -> str:
    cell = one.origin.cell if isinstance(one.origin, Recipe) else one.origin.name
    ledger.write(SkippedRecord(one.number, cell, needed, room.allowed))
    return f"{cell}: {room.refusal(needed)}"
