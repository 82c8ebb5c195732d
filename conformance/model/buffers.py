"""Safetensors buffers: an 8-byte length, a JSON header and the tensors (https://huggingface.co/docs/safetensors).

A large one is never held twice: it is made in parts that are written or sent one after the other, the tensors from
where they lie, and read back as views of the file. The library writes the same bytes but for the order of the metadata,
which is another one in each process; it needs the whole in memory for that.
"""

from __future__ import annotations

import gzip
import json
import math
import mmap
import struct
import zlib
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from reference.spec import Array

_DTYPES = {
    "I64": np.dtype(np.int64),
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "I32": np.dtype(np.int32),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F16": np.dtype(np.float16),
    "BOOL": np.dtype(bool),
}
"""The dtypes by their names in a header, in the order of their tensors, so that each tensor is aligned."""
_CODES = {dtype.name: code for code, dtype in _DTYPES.items()}
_ORDER = list(_DTYPES)

Body = bytes | mmap.mmap
Parts = list[bytes | memoryview]
"""What a buffer is made of, one part after the other."""
MAPPED = 1 << 24
"""Bytes from which on a file is mapped instead of read."""
_LEVEL = 1  # of gzip: what it makes smaller it makes so at once


def encode(metadata: dict[str, str], tensors: dict[str, Array]) -> bytes:
    """Return a safetensors buffer with this metadata and these tensors, always the same."""
    return b"".join(in_parts(metadata, tensors))


def in_parts(metadata: dict[str, str], tensors: dict[str, Array]) -> Parts:
    """Return the bytes of `encode` in parts. No tensor is copied that is contiguous."""
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    codes = {name: _CODES[array.dtype.name] for name, array in tensors.items()}
    parts: Parts = []
    end = 0
    for name in sorted(codes, key=lambda name: (_ORDER.index(codes[name]), name)):
        array = np.asarray(tensors[name], _DTYPES[codes[name]], order="C")
        begin, end = end, end + array.nbytes
        header[name] = {"dtype": codes[name], "shape": array.shape, "data_offsets": (begin, end)}
        parts.append(array.reshape(-1).view(np.uint8).data)
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return [struct.pack("<Q", len(text)) + text, *parts]


def decode(body: Body) -> tuple[dict[str, str], dict[str, Array]]:
    """Return the metadata and tensors of a safetensors buffer; raise ValueError if it is not one.

    The tensors are views of the buffer, so that those of a mapped file are read when they are used.
    """
    try:
        (length,) = struct.unpack_from("<Q", body)
        header: dict[str, Any] = json.loads(body[8 : 8 + length])
        metadata, begins = header.pop("__metadata__", {}), 8 + length
        for name, said in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
            begins = _ends(name, said, begins, 8 + length)
        if begins != len(body):
            raise ValueError(f"it has {len(body)} bytes, and its header speaks of {begins}")
        return metadata, {name: _view(body, said, 8 + length) for name, said in header.items()}
    except (struct.error, KeyError, TypeError, AttributeError, IndexError, OverflowError, ValueError) as error:
        raise ValueError(f"not a safetensors buffer: {error}") from error


def _ends(name: str, said: dict[str, Any], begins: int, first: int) -> int:
    """Return where a tensor ends in its buffer; raise ValueError if it does not begin where the one before it ends."""
    begin, end = said["data_offsets"]
    size = math.prod(said["shape"]) * _DTYPES[said["dtype"]].itemsize
    if (begin + first, end - begin) != (begins, size) or any(n < 0 for n in said["shape"]):
        raise ValueError(f"{name} is said to have bytes {begin} to {end}")
    return first + end


def _view(body: Body, said: dict[str, Any], first: int) -> Array:
    dtype, shape = _DTYPES[said["dtype"]], said["shape"]
    return np.frombuffer(body, dtype, math.prod(shape), first + said["data_offsets"][0]).reshape(shape)


def write(path: Path, parts: Parts, *, packed: bool = False) -> None:
    """Write a buffer to a file, part by part. What was there before stays whole, as parts may be read from it.

    packed: in gzip, beside it with .gz, unless it is so large that it will be mapped.
    """
    packed = packed and sum(len(part) for part in parts) < MAPPED
    path = _packed(path) if packed else path
    draft = path.with_name(f"{path.name}.draft")
    try:
        with gzip.open(draft, "wb", _LEVEL) if packed else draft.open("wb") as stream:
            stream.writelines(parts)
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise


def read(path: Path) -> Body:
    """Return the bytes of a file, in gzip or not. Those of a large one stay there: it may be larger than memory."""
    if there(path) != path:
        try:
            with gzip.open(there(path)) as stream:
                return stream.read()
        except (EOFError, zlib.error) as error:
            raise ValueError(f"not a safetensors buffer: {error}") from error
    with path.open("rb") as stream:
        large = path.stat().st_size >= MAPPED
        return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) if large else stream.read()


def there(path: Path) -> Path:
    """Return where the buffer of a file is: in it, or in gzip beside it."""
    return path if path.exists() or not _packed(path).exists() else _packed(path)


def _packed(path: Path) -> Path:
    return path.with_name(f"{path.name}.gz")
