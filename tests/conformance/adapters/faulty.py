"""Implementations that crash, hang and answer garbage: each is a result, and costs nobody else one."""

import contextlib
import importlib.util
import os
import signal
import sys
import time

import numpy as np

_HERE = os.path.dirname(os.path.abspath(__file__))
_PATH = os.path.join(_HERE, "..", "..", "..", "conformance", "implementations", "numpy.py")
_SPEC = importlib.util.spec_from_file_location("calibration", os.path.normpath(_PATH))
calibration = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(calibration)


class _Faulty(calibration.TwoPass):
    def run(self, case):
        """Yield what the calibration subject does, spoiled on training steps of rank 2."""
        for out in super(_Faulty, self).run(case):
            yield self.spoil(out) if case.rank == 2 else out


def _make(name, spoil):
    statement = dict(calibration.TwoPass.statement, id="faulty.%s" % name)
    return type(name, (_Faulty,), {"statement": statement, "spoil": lambda self, out: spoil(out), "__doc__": name})


def _segfault(out):
    os.kill(os.getpid(), signal.SIGSEGV)


def _hang(out):
    time.sleep(3600)


def _exhaust(out):
    hoard = []
    while True:
        hoard.append(np.empty(1 << 24))  # the limit counts what is allocated, touched or not


def _print(out):
    sys.stdout.write("junk on stdout\n")
    sys.stdout.flush()
    os.write(1, b"junk on file descriptor 1\n")
    return out


def _garbage(out):
    for fd in range(3, 64):  # the duplicate of the real stdout is one of these
        with contextlib.suppress(OSError):
            os.write(fd, b"\xff" * 64)
    time.sleep(3600)


def _raise(out):
    raise RuntimeError("<script>alert('no')</script>")


def _exit(out):
    os._exit(7)


class Early(calibration.TwoPass):
    """Answers the first step and stops."""

    statement = dict(calibration.TwoPass.statement, id="faulty.early")

    def run(self, case):
        """Yield one step, whatever was asked."""
        yield next(iter(super(Early, self).run(case)))


class Wide(calibration.TwoPass):
    """Correct, and more precise than it promises: computes in float64, returns float32."""

    statement = dict(calibration.TwoPass.statement, id="faulty.wide", returned="rounded")

    def run(self, case):
        """Yield what float64 arithmetic gives, rounded at the end."""
        dtype = case.dtypes["x"]
        case.dtypes = dict(case.dtypes, x="float64")
        for step in case.steps:
            step.x, step.dy = step.x.astype(np.float64), None if step.dy is None else step.dy.astype(np.float64)
        for name in ("gamma", "beta", "mean", "variance"):
            if getattr(case, name) is not None:
                setattr(case, name, getattr(case, name).astype(np.float64))
        for out in super(Wide, self).run(case):
            yield {name: array.astype(dtype) for name, array in out.items()}


def _fork(out):
    if os.fork() == 0:  # the child keeps the pipe open and outlives its parent
        time.sleep(3600)
    os._exit(9)


Fork = _make("fork", _fork)
Fine = _make("fine", lambda out: out)
Segfault = _make("segfault", _segfault)
Hang = _make("hang", _hang)
Exhaust = _make("exhaust", _exhaust)
Print = _make("print", _print)
Garbage = _make("garbage", _garbage)
Raise = _make("raise", _raise)
Exit = _make("exit", _exit)
WrongShape = _make("wrong_shape", lambda out: dict(out, y=out["y"][:, 1:]))
WrongDtype = _make("wrong_dtype", lambda out: dict(out, y=out["y"].astype(np.float16)))
Missing = _make("missing", lambda out: {k: v for k, v in out.items() if k != "y"})
Nothing = _make("nothing", lambda out: {})
NotFinite = _make("not_finite", lambda out: dict(out, y=out["y"] * np.nan))
Complex = _make("complex", lambda out: dict(out, y=out["y"] + 0j))

IMPLEMENTATIONS = [Fine]
