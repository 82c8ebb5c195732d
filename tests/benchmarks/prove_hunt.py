"""Prove that `bnconf hunt` makes failures small: thirty named faults, drawn by seed, in a correct implementation.

    python tests/benchmarks/prove_hunt.py [--seed N] [--faults 30] [--cases 600]

Prints, of each fault, the kinds of failure that were caught and the elements of the batches of each smallest case.
Exits 1 where nothing is caught of a fault, or one of its smallest cases has more than twelve elements.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "mutants" / "faults"))

from layer import Layer, Subject
from named_faults import FAULTS, Fault

from conformance.hosts import worker
from conformance.model.case import Case, content
from conformance.model.outcome import Outputs, Refused, Reply
from conformance.model.results import ImplementationRecord
from conformance.studies.hunt.hunting import Caught, Hunt

MOST = 12
SUBJECT = Subject()


def main() -> int:
    """Hunt each fault, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--faults", type=int, default=30)
    parser.add_argument("--cases", type=int, default=600, help="asked of each")
    options = parser.parse_args()
    wrong = [fault for fault in FAULTS if fault.category != "rounding"]
    order = np.random.default_rng(options.seed).permutation(len(wrong))[: options.faults]
    bad = [fault.name for fault in (wrong[i] for i in order) if not small(fault, hunted(fault, options))]
    print(f"{len(order) - len(bad)} of {len(order)} faults end in a case of at most {MOST} elements")
    print("\n".join(bad))
    return 1 if bad else 0


def hunted(fault: Fault, options: argparse.Namespace) -> list[Caught]:
    """Return what is caught of a fault."""
    statement: dict[str, Any] = msgspec.to_builtins(SUBJECT.statement)
    record = ImplementationRecord("faulty.layer@cpu", "faulty", "cpu", True, statement=statement)
    with tempfile.TemporaryDirectory() as folder:
        hunt = Hunt(record, lambda case: asked(fault, case), [], Path(folder), lambda _line: None)
        return hunt.run(math.inf, options.cases, options.seed)


def asked(fault: Fault, case: Case) -> Reply:
    """Return the answer of the layer with the fault in it; what it raises is a refusal, as it is in a worker."""
    seen = worker.Case(json.loads(json.dumps(content(case))), case.tensors, msgspec.to_builtins(SUBJECT.statement))
    outcomes = list[Any]()
    try:
        with np.errstate(all="ignore"):
            outcomes += [Outputs(step) for step in Layer(SUBJECT, fault.at).run(seen)]
    except Exception as error:
        outcomes.append(Refused(type(error).__name__, str(error)))
    return Reply(0, "faulty.layer@cpu", tuple(outcomes))


def small(fault: Fault, caught: list[Caught]) -> bool:
    """Say what was caught, and return whether every kind of it ends in a case that is small enough."""
    sizes = sorted(one.elements for one in caught)
    print(f"{fault.name}: {len(sizes)} kinds, elements {sizes}", flush=True)
    return bool(sizes) and sizes[-1] <= MOST


if __name__ == "__main__":
    sys.exit(main())
