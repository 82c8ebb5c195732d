"""What results may depend on besides the frameworks: the machine, and the number of threads that workers may use."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import platform
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import psutil

_ARENA_MAX = -8  # M_ARENA_MAX in malloc.h
PINNED = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "TORCHINDUCTOR_COMPILE_THREADS": "1",
    "PYTHONHASHSEED": "0",
}


def processor() -> str:
    """Return the processor's name and the instruction sets that decide how sums are ordered, as Linux reports them."""
    with contextlib.suppress(OSError):
        lines = (line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines())
        found = {key.strip(): value.strip() for key, _, value in lines}
        flags = [flag for flag in found.get("flags", "").split() if flag.startswith(("fma", "avx", "amx", "f16c"))]
        return f"{found.get('model name', platform.processor())} ({' '.join(flags)})"
    return platform.processor()


def cache() -> Path:
    """Return where bnconf keeps what it made once for this user."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bnconf"


def keep_newest(paths: Iterable[Path], most: int) -> None:
    """Remove all but the newest of some files; whoever does so at the same time does no harm."""
    with contextlib.suppress(OSError):
        newest = sorted(paths, key=lambda path: path.stat().st_mtime, reverse=True)
        for old in newest[most:]:
            old.unlink(missing_ok=True)


def release_memory() -> None:
    """Give what nothing refers to back to the system, and let all threads allocate in one place from now on.

    Who makes many runs with threads of their own grows otherwise: the C library of most Linuxes keeps an arena for each
    thread, and what is freed in it. Others do neither. https://man7.org/linux/man-pages/man3/mallopt.3.html
    """
    gc.collect()
    with contextlib.suppress(AttributeError, OSError, TypeError):
        library = ctypes.CDLL(None)
        library.mallopt(_ARENA_MAX, 1)
        library.malloc_trim(0)


def available_memory() -> int:
    """Return how many bytes of memory can be allocated, as the system estimates it."""
    found = [psutil.virtual_memory().available]
    with contextlib.suppress(OSError, ValueError):
        found.append(int(Path("/sys/fs/cgroup/memory.max").read_text()))  # of the container, if that says a number
    return min(found)


def describe_host() -> dict[str, Any]:
    """Return what the results may depend on: platform, processor, versions, thread pins."""
    return {
        "platform": platform.platform(),
        "machine": platform.machine(),
        "processor": processor(),
        "processors": os.cpu_count(),
        "python": sys.version.split()[0],
        "numpy": np.__version__,
        "longdouble_bits": int(np.finfo(np.longdouble).nmant),
        "pinned": PINNED,
    }
