"""Measure what differences in semantics are worth: `python tests/benchmarks/effects.py [--write]`.

One line for each pair of values and number of values per channel; --write keeps them for the report.
"""

from __future__ import annotations

import sys

import msgspec
import numpy as np

from conformance.studies.translation import effects, measuring


def main() -> None:
    """Measure, print, and write."""
    with np.errstate(all="ignore"):
        found = [one for n in effects.VALUES for one in measuring.effects(n)]
    lines = ",\n".join(msgspec.json.encode(one).decode() for one in found)
    print(lines)
    if "--write" in sys.argv:
        effects.MEASURED.write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
