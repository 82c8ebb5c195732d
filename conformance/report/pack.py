"""Columns for the page: typed arrays and dictionaries of strings in one compressed block, as `data.js` reads it.

A little-endian uint32, the length of a JSON header; the header; then the arrays, each at a multiple of 8 from the
start. `columns` of the header maps a name to its type, offset and length, and the values of a dictionary.
"""

from __future__ import annotations

import base64
import json
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from reference.spec import Array

_TYPES = {
    "int8": "Int8Array",
    "uint8": "Uint8Array",
    "uint16": "Uint16Array",
    "uint32": "Uint32Array",
    "float32": "Float32Array",
    "float64": "Float64Array",
}


PLANES = "values"
"""The column of arbitrary numbers: all first bytes, then all second ones, which compresses better."""


def _in_planes(values: Array) -> bytes:
    return values.view(np.uint8).reshape(-1, values.itemsize).T.tobytes()


def pack(columns: dict[str, Array | Sequence[str]], rest: dict[str, Any]) -> str:
    """Return columns, and what else is JSON, as base64 of a zlib stream."""
    described: dict[str, Any] = {}
    parts: list[bytes] = []
    offset = 0
    for name, values in columns.items():
        codes, values_of = (values, None) if isinstance(values, np.ndarray) else coded(values)
        body = _in_planes(codes) if name == PLANES else codes.tobytes()
        described[name] = {"type": _TYPES[codes.dtype.name], "offset": offset, "length": int(codes.size)}
        if values_of is not None:
            described[name]["values"] = values_of
        parts.append(body + b"\0" * (-len(body) % 8))
        offset += len(parts[-1])
    header = json.dumps(
        {"columns": described, **rest}, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()
    header += b" " * (-(len(header) + 4) % 8)
    return base64.b64encode(zlib.compress(struct.pack("<I", len(header)) + header + b"".join(parts), 9)).decode()


def coded(values: Sequence[str]) -> tuple[Array, list[str]]:
    """Return strings as codes into the list of those that occur, in order of occurrence.

    >>> codes, names = coded(["b", "a", "b"])
    >>> codes.tolist(), codes.dtype.name, names
    ([0, 1, 0], 'uint8', ['b', 'a'])
    """
    names: dict[str, int] = {}
    codes = [names.setdefault(value, len(names)) for value in values]
    size = np.uint8 if len(names) < 1 << 8 else np.uint16 if len(names) < 1 << 16 else np.uint32
    return np.asarray(codes, size), list(names)
