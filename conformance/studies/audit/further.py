"""The cases that an identified statement is held to beside the probes: a ladder of sizes, and what a small run asks.

Probes are small. A statement that explains them may fail at sizes that a kernel takes in blocks, or where rounding
shows. None of the sizes is a multiple of a power of two.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

from conformance.cases import strategies
from conformance.cases.building import build
from conformance.cases.cells import CELLS, PLACEMENTS, Cell
from conformance.cases.recipe import Recipe, Signature
from conformance.model.case import Case
from conformance.model.case_facts import channel, every_step
from conformance.model.statement import Statement
from conformance.studies.audit import making
from conformance.studies.audit.identifying import Identified
from conformance.studies.audit.making import InputLayout
from reference.spec import Spec, kept_axes

_N, _CHANNELS = (33, 65, 127, 257, 1025, 4099), (65, 257, 1025)
_FEW, _FEW_CHANNELS = (65, 4099), (257,)
_FAR = 65_539
_SEED = 0


def cases(statement: Statement, identified: Identified) -> Iterator[Case]:
    """Yield the cases to ask, each of which the implementation supports."""
    for plain in _sizes(statement, identified):
        wanted = [making.first(plain), plain] if "dx" in statement.outputs else [plain]
        yield from [case for case in wanted if not statement.unsupported(*every_step(case))][:1]
    yield from _of_a_run(statement)


# --- sizes ------------------------------------------------------------------------------------------------------


def _sizes(statement: Statement, identified: Identified) -> Iterator[Case]:
    """Yield plain cases in which ever more is averaged, and of ever more channels: whole rows, then places in a row.

    Every size is asked in the first place; elsewhere, and of who compiles for each, a small and a large one.
    """
    places = list({_kind(p): p for found in identified.found for p in reversed(found.places)}.values())
    for number, place in enumerate(places):
        few = number > 0 or statement.compiled
        yield from (making.sized(place, _shape(place, n, 3)) for n in (_FEW if few else _N))
        yield from (making.sized(place, _shape(place, 8, c)) for c in (_FEW_CHANNELS if few else _CHANNELS))
    for place in places[:1]:
        yield making.sized(place, _shape(place, _FAR, 1))
        asked = {place.dtype for place in places}
        for dtype in sorted({d for found in identified.found for d in found.taken} - asked):
            yield from (making.sized(place._replace(dtype=dtype), _shape(place, n, 3)) for n in _FEW)


def _kind(place: InputLayout) -> tuple[int, int, str]:
    """Return what kernels choose by: the rank, of which 2 is one kind and more another, the kept axis, the dtype."""
    return min(len(place.shape), 3), place.axis, place.dtype


def _shape(place: InputLayout, n: int, channels: int) -> tuple[int, ...]:
    """Return a shape with n values per channel: n rows for rank 2, else one sample of n places in a row."""
    rank = len(place.shape)
    shape = [1] * rank
    shape[place.axis % rank] = channels
    shape[0 if rank == 2 else next(a for a in range(1, rank) if a != place.axis % rank)] = n
    return tuple(shape)


# --- what a small run asks --------------------------------------------------------------------------------------


def _of_a_run(statement: Statement) -> Iterator[Case]:
    """Yield the first supported case of each group of cells; who compiles is asked signatures that a run shares."""
    pooled = list[Signature]()
    for cells in _groups(statement):
        for recipe, case in map(_drawn, cells):
            if statement.unsupported(*every_step(case)):
                continue
            if recipe.signature not in pooled:
                if statement.compiled and (not recipe.pooled or len(pooled) == statement.signatures):
                    continue
                pooled.append(recipe.signature)
            yield case
            break


def _groups(statement: Statement) -> list[list[Cell]]:
    """Return the cells of which one case each is asked: those of a feature, and of another dtype in a placement."""
    single, found = statement.takes("dtype", "float32"), dict[tuple[str, ...], list[Cell]]()
    for cell in CELLS:
        if _is_placed(statement, cell) and (single or cell.precision != "float32"):
            plain = (cell.placement, cell.precision)
            apart = (cell.conditioning,) if cell.precision == "float32" or not single else ()
            found.setdefault((cell.feature,) if cell.feature else plain + apart, []).append(cell)
    return list(found.values())


def _is_placed(statement: Statement, cell: Cell) -> bool:
    """Return whether an implementation takes the rank of a cell, and its axis."""
    rank, axis = PLACEMENTS[cell.placement]
    kept = kept_axes(Spec(axis=axis), rank)
    about = {"rank": rank, "channel": channel(kept, rank), "several_axes": len(kept) > 1}
    return cell.feature == "misplaced axis" or all(statement.takes(fact, value) for fact, value in about.items())


@functools.cache
def _drawn(cell: Cell) -> tuple[Recipe, Case]:
    """Return the first case of a cell, drawn once."""
    (recipe,) = strategies.recipes(cell, _SEED, 1)
    return recipe, build(recipe, _SEED)
