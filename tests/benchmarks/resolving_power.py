"""Measure what the bounds can see: `python tests/benchmarks/resolving_power.py [--write]`.

One line for each class, kind of data and number of values per channel; --write keeps them for the report.
"""

from __future__ import annotations

import sys

import msgspec
import numpy as np

from conformance.studies import resolving


def main() -> None:
    """Measure, print, and write."""
    found = list[resolving.Power]()
    print(
        f"{'class':18}{'data':>10}{'n':>11}" + "".join(f"{name:>10}" for name in resolving.Power.__struct_fields__[3:])
    )
    with np.errstate(all="ignore"):
        for of in resolving.CLASSES:
            for whole in (False, True):
                for n in resolving.SIZES:
                    one = resolving.power(of, n, whole=whole)
                    found.append(one)
                    figures = "".join(f"{value:>10.2g}" for value in msgspec.structs.astuple(one)[3:])
                    print(f"{of:18}{'whole' if whole else 'ordinary':>10}{n:>11,}{figures}")
    if "--write" in sys.argv:
        lines = ",\n".join(msgspec.json.encode(one).decode() for one in found)
        resolving.MEASURED.write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
