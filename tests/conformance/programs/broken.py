"""A program that speaks the worker protocol until it breaks it: `broken.py FAULT`.

Before the hello: silent, ends, chatter, newer, unnamed, nonsense. Afterwards, on rank 2: half (a frame), hoard.
"""

import importlib.util
import json
import os
import pathlib
import struct
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[3] / "conformance"


def module(path):
    """Return a module of the suite, by path."""
    spec = importlib.util.spec_from_file_location(path.stem + "_by_path", path)
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


worker, calibration = module(ROOT / "hosts" / "worker.py"), module(ROOT / "implementations" / "numpy.py")
FAULT = sys.argv[1] if __name__ == "__main__" else "fine"


class Subject(calibration.TwoPass):
    """The calibration subject, which on rank 2 breaks off."""

    statement = dict(calibration.TwoPass.statement, id="broken." + FAULT)

    def run(self, case):
        """Yield the subject's outputs, or do what was asked for."""
        if case.rank == 2 and FAULT == "half":
            sys.stdout.buffer.write(struct.pack("<Q", 1000) + b"half of it")
            sys.stdout.buffer.flush()
            os._exit(4)
        hoard = []
        while case.rank == 2 and FAULT == "hoard":
            hoard.append(b"\1" * (1 << 26))
        return super().run(case)


class Second(calibration.Folded):
    """Another implementation in the same program."""

    statement = dict(calibration.Folded.statement, id="broken.second")


def hello():
    """Say hello, or fail to."""
    listing = [{"id": cls.statement["id"] + "@cpu", "statement": cls.statement} for cls in (Subject, Second)]
    said = {"protocol": 2 if FAULT == "newer" else 1, "implementations": listing}
    if FAULT == "nonsense":
        listing[0]["statement"] = dict(Subject.statement, numerics="all of them")
    if FAULT == "silent":
        time.sleep(3600)
    if FAULT == "ends":
        sys.exit("I have nothing to say")
    if FAULT == "chatter":
        print("Loading, please wait", flush=True)  # noqa: T201 - that is the fault
        time.sleep(3600)
    name = "hi" if FAULT == "unnamed" else "hello"
    worker.write_frame(sys.stdout.buffer, worker.encode({name: json.dumps(said)}, {}))


if __name__ == "__main__":
    hello()
    ready = {cls.statement["id"] + "@cpu": cls("cpu") for cls in (Subject, Second)}
    worker.serve(sys.stdin.buffer, sys.stdout.buffer, ready)
