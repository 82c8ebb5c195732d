"""Arrays as one binary file, and one line of text for each: what thirty lines of C or JavaScript read.

    role name dtype offset rank size size …

Roles are `input`, `expected`, `allowed` and `answer`. Numbers are little-endian, in C order, each array from a byte
that 8 divides on.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from conformance.model.case import numpy_dtype
from conformance.model.errors import InvalidInput
from reference.spec import Array

DTYPES = ("bool", "float16", "bfloat16", "float32", "float64", "int32", "uint8")
REFUSED = "refused"
_ALIGNED = 8


class NamedArray(NamedTuple):
    """One array: what it is for, and its name, such as 0.x."""

    role: str
    name: str
    array: Array


def write(path: Path, arrays: list[NamedArray]) -> None:
    """Write `path`.txt and `path`.bin."""
    text, body = list[str](), bytearray()
    for role, name, array in arrays:
        words = [role, name, array.dtype.name, len(body), array.ndim, *array.shape]
        text.append(" ".join(map(str, words)) + "\n")
        own = np.ascontiguousarray(array)
        body += own.astype(own.dtype.newbyteorder("<"), copy=False).tobytes()
        body += bytes(-len(body) % _ALIGNED)
    path.with_suffix(".txt").write_text("".join(text))
    path.with_suffix(".bin").write_bytes(body)


def read(path: Path) -> list[NamedArray]:
    """Return what `path`.txt and `path`.bin hold; raise `InvalidInput`, which names the line, where they do not fit.

    The .bin may be missing where no line needs a byte of it. Lines of steps that were refused are no arrays.
    """
    text, binary = path.with_suffix(".txt"), path.with_suffix(".bin")
    body = binary.read_bytes() if binary.exists() else b""
    numbered = enumerate(text.read_text().splitlines(), 1)
    return [_line(f"{text}:{n}", line, body) for n, line in numbered if line.split()[:1] not in ([], [REFUSED])]


def _line(where: str, line: str, body: bytes) -> NamedArray:
    words = line.split()
    numbers = words[3:]
    if len(words) < 5 or not all(map(str.isdigit, numbers)) or len(numbers) != 2 + int(numbers[1]):
        raise InvalidInput(f"{where}: {line!r} is no line; it must be: role name dtype offset rank size size …")
    if words[2] not in DTYPES:
        raise InvalidInput(f"{where}: {words[2]!r} is no dtype; it must be one of {', '.join(DTYPES)}")
    dtype, shape, offset = numpy_dtype(words[2]), tuple(map(int, numbers[2:])), int(numbers[0])
    count = int(np.prod(shape, dtype=np.int64))
    if offset + count * dtype.itemsize > len(body):
        raise InvalidInput(
            f"{where}: {words[1]} would end at byte {offset + count * dtype.itemsize}, and the .bin has {len(body)}; "
            "write offset and sizes of what is there"
        )
    return NamedArray(words[0], words[1], np.frombuffer(body, dtype, count, offset).reshape(shape))
