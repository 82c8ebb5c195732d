"""A script run as anybody would run it, and whether it shows what it is to show."""

from __future__ import annotations

import cmath
import os
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from conformance.studies.upstream.shown import Shown

_NUMBERS = re.compile(r": got (\S+) right (\S+)(?: allowed error \S+)?$", re.MULTILINE)
_WORDS = re.compile(r": got (.+?) right (.+)$", re.MULTILINE)
_QUIET = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "CUDA_VISIBLE_DEVICES": "-1",
    "JAX_TRACEBACK_FILTERING": "off",  # else the last line of a traceback is about that, and not the exception
}


@dataclass(frozen=True)
class Ran:
    """What a script printed, and how it ended: its exit status, that of a signal where it is negative."""

    printed: str
    raised: str
    status: int

    @property
    def output(self) -> str:
        """What a reader sees of it: all that it printed, and the last line of what it raised."""
        last = self.raised.strip().splitlines()[-1:] if self.status > 0 else []
        died = [f"(the process died of signal {-self.status})"] if self.status < 0 else []
        return "\n".join([self.printed.strip(), *last, *died])

    @property
    def unavailable(self) -> bool:
        """Whether what it imports is not there."""
        return "ModuleNotFoundError" in self.raised


def run(script: str, python: str, variables: dict[str, str], timeout: float) -> Ran:
    """Run a script by an interpreter, in a process and a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.py"
        path.write_text(script)
        around = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | _QUIET | variables
        command = [python, str(path)]
        try:
            found = subprocess.run(
                command, capture_output=True, text=True, timeout=timeout, cwd=folder, env=around, check=False
            )
        except subprocess.TimeoutExpired:
            return Ran("", f"it did not end within {timeout:g} s", 1)
    return Ran(found.stdout, found.stderr, found.returncode)


def shows(shown: Shown, ran: Ran) -> bool:
    """Return whether a script printed what is wrong beside what is right, as it was judged.

    A wrong value is off by more than is allowed; something raised is of the type that was raised.
    """
    if shown.kind in ("refused", "crashed"):
        died = ran.status < 0 if shown.kind == "crashed" else ran.status > 0
        return died and ": right " in ran.printed and shown.told.partition(":")[0].split(".")[-1] in _named(shown, ran)
    if ran.status:
        return False
    if shown.kind != "value":
        found = _WORDS.search(ran.printed)
        return found is not None and found[1] != found[2] and ("an error" in found[2]) == (shown.kind == "answered")
    found = numbers(ran)
    return found is not None and _off(*found, shown.allowed or 0.0)


def numbers(ran: Ran) -> tuple[complex, complex] | None:
    """Return what a script printed to be got and right; None if it printed no numbers."""
    found = _NUMBERS.search(ran.printed)
    return (complex(found[1]), complex(found[2])) if found else None


def _named(shown: Shown, ran: Ran) -> str:
    return ran.raised if shown.kind == "refused" else shown.told


def _off(got: complex, right: complex, allowed: float) -> bool:
    if cmath.isfinite(got) and cmath.isfinite(right):
        return abs(got - right) > allowed
    return got != right and not (cmath.isnan(got) and cmath.isnan(right))
