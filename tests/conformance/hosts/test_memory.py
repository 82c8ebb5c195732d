"""Memory that threads had allocated goes back to the system, for whoever makes one run after the other."""

from __future__ import annotations

import subprocess
import sys

import pytest

from conformance.hosts import machine

_THREADS = """
import sys, threading
import numpy as np, psutil
from conformance.hosts import machine

def work():
    arrays = [np.ones(4_000) for _ in range(3_000)]
    kept.append(arrays[-1])

def resident():
    return psutil.Process().memory_info().rss

if "at first" in sys.argv:
    machine.release_memory()
kept = []
for _ in range(8):
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
before = resident()
machine.release_memory()
print(before, resident())
"""


def held(*asked):
    """Return the bytes that a process holds after eight threads, and after it has released what they freed."""
    done = subprocess.run([sys.executable, "-c", _THREADS, *asked], capture_output=True, text=True, check=True)
    return tuple(map(int, done.stdout.split()))


@pytest.mark.skipif(sys.platform != "linux", reason="of the C library of most Linuxes")
def test_what_threads_freed_goes_back_to_the_system():
    """Each thread allocates where the one before did, if that was asked at first, and nothing of it stays."""
    apart, together = held(), held("at first")
    assert together[0] < 0.8 * apart[0]
    assert together[1] < 0.5 * together[0]


@pytest.mark.parametrize("fault", [AttributeError, OSError, TypeError])
def test_another_c_library_is_left_alone(monkeypatch, fault):
    """That of macOS has no such function, and Windows no such library."""

    def missing(_):
        raise fault

    monkeypatch.setattr(machine.ctypes, "CDLL", missing)
    machine.release_memory()
