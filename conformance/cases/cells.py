"""The mandatory cells, as data: placement × conditioning × precision, and placement × feature."""

from __future__ import annotations

import itertools
from typing import NamedTuple

from conformance.cases.features import FEATURES

_PLAIN: dict[str, tuple[int, int | tuple[int, ...]]] = {
    "rank 2, axis 1": (2, 1),
    "rank 2, axis 0": (2, 0),
    "rank 3, axis 1": (3, 1),
    "rank 3, axis -1": (3, -1),
    "rank 4, axis 1": (4, 1),
    "rank 4, axis -1": (4, -1),
    "rank 4, axis 2": (4, 2),
    "rank 4, axes 1 and 3": (4, (1, 3)),
    "rank 5, axis 1": (5, 1),
    "rank 5, axis -1": (5, -1),
}
PLAIN = tuple(_PLAIN)
"""The placements of plain cases. Features have others too."""
PLACEMENTS = _PLAIN | {
    "rank 0, axis -1": (0, -1),
    "rank 1, axis 0": (1, 0),
    "rank 1, axis -1": (1, -1),
    "rank 6, axis 1": (6, 1),
    "rank 6, axis -1": (6, -1),
}
CONDITIONING = ("easy", "offset", "degenerate")
PRECISION = ("float32", "other")


class Cell(NamedTuple):
    """One mandatory combination. A cell with a feature leaves conditioning and precision open."""

    placement: str
    conditioning: str = ""
    precision: str = ""
    feature: str = ""

    def __str__(self) -> str:
        """Return the cell's name in coverage tables."""
        return "; ".join(part for part in self if part)


CELLS = [
    *(Cell(*c) for c in itertools.product(PLAIN, CONDITIONING, PRECISION)),
    *(Cell(place, feature=name) for name, f in FEATURES.items() if not f.profile for place in f.placements),
]
ALONE = ("sizes", "huge")
"""Profiles that ask nothing but cells of their own."""
OF_PROFILE = {
    profile: {
        Cell(place, feature=name): len(f.variants)
        for name, f in FEATURES.items()
        if f.profile == profile
        for place in f.placements
    }
    for profile in ("thorough", *ALONE)
}
"""Cells that only runs of one profile ask, and how many cases of each: one of each variant."""
LARGE = OF_PROFILE["thorough"]

SMOKE, DEFAULT, THOROUGH = len(CELLS), 3 * len(CELLS), 20 * len(CELLS) + sum(LARGE.values())
"""How many cases the profiles generate, as many of each cell. Fewer than the default are not sufficient."""
