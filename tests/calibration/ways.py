"""The ways of computing that are judged: `bnconf run -i tests/calibration/ways.py`, or `…/ways.py:NAME` for one.

Families change one part each; of the mixed ones every part is drawn by seed.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parent)]

import along  # noqa: E402 - found by the path above, as what follows
import gradients as g  # noqa: E402
import maps  # noqa: E402
import moments as mo  # noqa: E402
import numpy as np  # noqa: E402
from arithmetic import Flushed, Nearest, Tf32, Whole  # noqa: E402
from sums import (  # noqa: E402
    Blocks,
    Fused,
    FusedReversed,
    Halves,
    Kahan,
    Lanes,
    Pairwise,
    Reversed,
    Serial,
    Shuffled,
)
from way import Way, way  # noqa: E402

WIDTHS = (2, 4, 8, 32, 128)
SUMS: dict[str, Any] = {
    "serial": Serial(),
    "serial_reciprocal": Serial(reciprocal=True),
    "reversed": Reversed(),
    "shuffled": Shuffled(),
    "shuffled_reciprocal": Shuffled(reciprocal=True),
    **{f"lanes_{width}": Lanes(width) for width in WIDTHS},
    **{f"lanes_{width}_tree": Lanes(width, tree=True, reciprocal=True) for width in WIDTHS},
    "blocks_16": Blocks(16),
    "pairwise": Pairwise(),
    "pairwise_reciprocal": Pairwise(reciprocal=True),
    "halves": Halves(),
    "kahan": Kahan(),
    "fused": Fused(),
    "fused_reversed": FusedReversed(),
}
MOMENTS: dict[str, Any] = {
    "corrected_variance": mo.corrected_variance,
    "corrected_mean": mo.corrected_mean,
    "corrected_both": mo.corrected_both,
    "welford": mo.welford,
    "welford_reciprocal": mo.welford_reciprocal,
    **{f"chan_{width}": mo.merged(mo.chan, width) for width in (1, *WIDTHS)},
    **{f"chan_{width}_tree": mo.merged(mo.chan, width, tree=True) for width in (8, 32)},
    **{f"weighted_{width}": mo.merged(mo.weighted, width) for width in (1, *WIDTHS)},
    **{f"weighted_{width}_tree": mo.merged(mo.weighted, width, tree=True) for width in (8, 32)},
    "ones_chan": mo.of_ones(mo.chan),
    "ones_weighted": mo.of_ones(mo.weighted),
    "fast": mo.fast,
    "fast_clamped": mo.fast_clamped,
    "fast_fused": mo.fast_fused,
    "fast_sums": mo.fast_sums,
}
ROOTS: dict[str, Any] = {
    "inverse": maps.inverse,
    "root_of_inverse": maps.root_of_inverse,
    "rsqrt_above": maps.rsqrt(2),
    "rsqrt_below": maps.rsqrt(-2),
    "power": maps.power,
}
AFFINES: dict[str, Any] = {
    name: getattr(maps, name)
    for name in (
        [
            "direct",
            "direct_fused",
            "scaled",
            "scaled_fused",
            "scaled_first",
            "quotient",
            "folded",
            "folded_fused",
            "spread",
            "apart",
        ]
    )
}
GRADIENTS: dict[str, Any] = {
    name: getattr(g, name)
    for name in [
        "textbook",
        "cudnn",
        "torch",
        "torch_cuda",
        "tensorflow",
        "paper",
        "direct_cubed",
        "direct_divided",
        "direct_squared",
        "scaled_cubed",
        "scaled_divided",
        "scaled_squared",
        "folded_cubed",
        "folded_divided",
        "folded_squared",
    ]
}
FAST_GRADIENTS: dict[str, Any] = {n: getattr(g, n) for n in ("fast_cubed", "fast_divided", "fast_squared")}
AVERAGES: dict[str, Any] = {
    name: getattr(maps, name) for name in ["weighted", "weighted_fused", "moved_back", "moved", "lerp", "lerp_exact"]
}
WHOLE: dict[str, dict[str, Any]] = {
    "two_pass": {},
    "two_pass_reciprocal": {"add": Serial(reciprocal=True)},
    "tree": {"add": Pairwise(reciprocal=True)},
    "corrected": {"moments": mo.corrected_both},
    "welford": {"moments": mo.welford},
    "chan": {"moments": mo.merged(mo.chan, 4), "average": maps.moved},
    "weighted": {"moments": mo.merged(mo.weighted, 1)},
    "fast": {"moments": mo.fast_clamped, "affine": maps.scaled, "gradient": g.fast_cubed},
    "folded": {"affine": maps.folded, "gradient": g.folded_divided, "root": maps.rsqrt(2)},
    "apart": {"affine": maps.apart, "gradient": g.paper, "average": maps.moved_back},
    "torch": {"gradient": g.torch_cuda, "inferred": g.of_inference_late, "root": maps.rsqrt(-2)},
    "autodiff": {"gradient": g.direct_cubed, "average": maps.lerp_exact},
}
DIRECTIONS = ("up", "down", "away", "toward", "either")
WORST = {"moments": "up", "root": "down", "map": "away", "gradient": "away", "average": "away"}


def ways() -> Iterator[type[Way]]:
    """Yield every way."""
    yield from (way(f"sum_{name}", add=add) for name, add in SUMS.items())
    yield from (way(f"moments_{name}", moments=moments) for name, moments in MOMENTS.items())
    yield way("moments_ones_chan_tree", moments=mo.of_ones(mo.chan), add=Pairwise())
    yield from (
        way(f"fast_{name}", moments=mo.fast_clamped, add=SUMS[name]) for name in ("pairwise", "fused", "lanes_8")
    )
    yield from (way(f"root_{name}", root=root) for name, root in ROOTS.items() if name != "inverse")
    yield from (way(f"affine_{name}", affine=affine) for name, affine in AFFINES.items() if name != "direct")
    yield from (way(f"gradient_{name}", gradient=gradient) for name, gradient in GRADIENTS.items())
    yield from (
        way(f"gradient_{name}", moments=mo.fast_clamped, gradient=gradient) for name, gradient in FAST_GRADIENTS.items()
    )
    yield from (way(f"average_{name}", average=average, unbiased=True) for name, average in AVERAGES.items())
    yield from _in_other_arithmetic()
    yield from _whole()
    yield from _told()
    yield from (mixed(seed) for seed in range(24))
    yield from along.ways()


def _in_other_arithmetic() -> Iterator[type[Way]]:
    folded = {"affine": maps.folded, "gradient": g.folded_cubed}
    fast = {"moments": mo.fast_clamped, "gradient": g.fast_divided}
    kinds: dict[str, dict[str, Any]] = {
        "two_pass": {},
        "fast": fast,
        "welford": {"moments": mo.welford_reciprocal, "gradient": g.torch},
        "folded": folded,
        "paper": {"gradient": g.paper, "add": Pairwise()},
    }
    yield from (way(f"flushed_{name}", kinds=Flushed, **parts) for name, parts in kinds.items())
    halves = {"accumulate": "input", "dtypes": ("float16", "bfloat16"), "returned": "rounded"}
    kinds["fused"] = {"add": Fused(), "affine": maps.direct_fused}
    yield from (way(f"native_half_{name}", **parts, **halves) for name, parts in kinds.items())
    single = {"accumulate": "float32", "dtypes": ("float64",), "returned": "rounded"}
    yield from (way(f"single_{name}", **parts, **single) for name, parts in kinds.items() if name != "paper")
    wide = {"kinds": _staged(lambda _: Nearest("float64"), "moments"), "returned": "rounded"}
    yield from (way(f"wide_sums_{name}", **parts, **wide) for name, parts in (("two_pass", {}), ("folded", folded)))


def _staged(kind: Any, *stages: str) -> dict[str, Any]:
    """Return one arithmetic for these stages, that of the way for the others."""
    return dict.fromkeys(("moments", "root", "map", "gradient", "average"), Nearest) | dict.fromkeys(stages, kind)


def _told() -> Iterator[type[Way]]:
    """Yield ways that say more of themselves than that sums are in any order, and are held to it."""
    adds: dict[str, tuple[Any, dict[str, Any]]] = {
        "kahan": (Kahan(), {"sums": "compensated"}),
        "blocks_16": (Blocks(16), {"block": 16}),
        **{f"lanes_{width}": (Lanes(width), {"lanes": width}) for width in (4, 32)},
        **{f"lanes_{width}_tree": (Lanes(width, tree=True), {"sums": "tree", "lanes": width}) for width in (8, 128)},
    }
    yield from (way(f"told_{name}", add=add, words=words) for name, (add, words) in adds.items())
    folded = {"affine": maps.folded, "gradient": g.folded_cubed}
    yield way("told_lanes_32_folded", add=Lanes(32), words={"lanes": 32}, **folded)
    yield way("told_kahan_fast", add=Kahan(), words={"sums": "compensated"}, moments=mo.fast_clamped)
    merges = {"chan": mo.chan, "weighted": mo.weighted}
    for width, (name, merge) in itertools.product((8, 32), merges.items()):
        lanes = {"words": {"lanes": width}, "add": Lanes(width)}
        yield way(f"told_{name}_{width}", moments=mo.merged(merge, width), **lanes)
        tree = {"sums": "tree", "lanes": width}
        moments = mo.merged(merge, width, tree=True)
        yield way(f"told_{name}_{width}_tree", moments=moments, words=tree, add=Lanes(width, tree=True))
    yield way("told_shifted", moments=mo.shifted)
    yield way("told_shifted_lanes_32", moments=mo.shifted, add=Lanes(32), words={"lanes": 32})
    yield way("told_logarithm", root=maps.logarithm)
    yield way("told_recovered", gradient=g.recovered)
    yield way("told_recovered_folded", gradient=g.recovered, affine=maps.folded)
    for dtype in ("float16", "bfloat16"):
        yield way(f"told_saved_{dtype}", saved=dtype, dtypes=("float32", dtype))
    narrow = {"dtypes": ("float32", "float16", "bfloat16"), "returned": "rounded"}
    yield from (way(f"told_{name}", accumulate=name, **narrow) for name in ("float64", "float16", "bfloat16"))
    yield way("told_tf32", accumulate="tf32", kinds=Tf32, **narrow)
    directed = narrow | {"stored": "float64"}
    for direction in ("up", "away"):
        kind = {"kinds": partial(Whole, direction=direction)} | directed
        yield way(f"told_{direction}_lanes_32", add=Lanes(32), words={"lanes": 32}, **kind)
        yield way(f"told_{direction}_chan_8", moments=mo.merged(mo.chan, 8), add=Lanes(8), words={"lanes": 8}, **kind)
        yield way(f"told_{direction}_shifted", moments=mo.shifted, **kind)
        yield way(f"told_{direction}_recovered", gradient=g.recovered, **kind)


def _whole() -> Iterator[type[Way]]:
    """Yield ways whose every rounding is a whole unit, stored in what holds all of it."""
    narrow = {"stored": "float64", "dtypes": ("float32", "float16", "bfloat16")}
    for number, (name, parts) in enumerate(WHOLE.items()):
        for direction in DIRECTIONS[number % 2 :: 2] if number > 1 else DIRECTIONS:
            yield way(f"whole_{direction}_{name}", kinds=partial(Whole, direction=direction), **parts, **narrow)
        worst = {stage: partial(Whole, direction=direction) for stage, direction in WORST.items()}
        yield way(f"whole_worst_{name}", kinds=worst, **parts, **narrow)
    half = narrow | {"dtypes": ("float16", "bfloat16"), "accumulate": "input"}
    for direction, name in itertools.product(("up", "away"), ("two_pass", "fast", "folded")):
        kind = partial(Whole, direction=direction)
        yield way(f"whole_half_{direction}_{name}", kinds=kind, **WHOLE[name], **half)


def mixed(seed: int) -> type[Way]:
    """Return a way whose parts are drawn."""
    rng = np.random.default_rng(seed)

    def one(of: dict[str, Any]) -> Any:
        return of[str(rng.choice(list(of)))]

    moments = one(MOMENTS | {"two_pass": mo.two_pass})
    of_fast = FAST_GRADIENTS if mo.word(moments)["variance"] == "fast" else {}
    affine, gradient = one(AFFINES), one(GRADIENTS | of_fast)
    root = maps.inverse if affine in maps.divides else one(ROOTS)
    parts = {"add": one(SUMS), "moments": moments, "affine": affine, "gradient": gradient, "root": root}
    inferred = (g.of_inference, g.of_inference_late)[rng.integers(2)]
    kind = (Nearest, Nearest, Flushed)[rng.integers(3)]
    return way(f"mixed_{seed:02}", **parts, average=one(AVERAGES), inferred=inferred, kinds=kind)


IMPLEMENTATIONS = list(ways())


def __getattr__(name: str) -> type[Way]:
    """Return the way of a name."""
    found = next((made for made in IMPLEMENTATIONS if made.__name__ == name), None)
    if found is None:
        raise AttributeError(f"no way is called {name}")
    return found
