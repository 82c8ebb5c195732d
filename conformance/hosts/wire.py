"""Frames and safetensors: an 8-byte length, a JSON header, a buffer.

Like `worker.py` read by Python 3.6, and importing nothing of the host.
"""

import json
import struct

import numpy as np

_DTYPES = {"BOOL": "bool", "I32": "int32", "I64": "int64", "F16": "float16", "BF16": "bfloat16", "F32": "float32"}
_DTYPES["F64"] = "float64"
CODES = {name: code for code, name in _DTYPES.items()}


def dtype(name):
    """Return the dtype of a name."""
    if name == "bfloat16" or name.startswith("float8"):
        import ml_dtypes  # NumPy has none of these of its own

        return np.dtype(getattr(ml_dtypes, name))
    return np.dtype(name)


def decode(body):
    """Return (metadata, tensors) of a safetensors buffer, of which the tensors are views."""
    (length,) = struct.unpack("<Q", body[:8])
    header = json.loads(body[8 : 8 + length].decode("utf-8"))
    metadata = header.pop("__metadata__", {})
    start, whole = 8 + length, memoryview(body)
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        array = np.frombuffer(whole[start + begin : start + end], dtype(_DTYPES[entry["dtype"]]))
        tensors[name] = array.reshape(entry["shape"])
    return metadata, tensors


def encode(metadata, tensors):
    """Return a safetensors buffer."""
    return b"".join(in_parts(metadata, tensors))


def in_parts(metadata, tensors):
    """Return a safetensors buffer in parts: its head, and the bytes of each tensor, which are not copied."""
    header, parts, offset = {"__metadata__": metadata}, [], 0
    for name in sorted(tensors):
        array = np.asarray(tensors[name])
        offsets = [offset, offset + array.nbytes]
        header[name] = {"dtype": CODES[array.dtype.name], "shape": list(array.shape), "data_offsets": offsets}
        parts.append(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        offset += array.nbytes
    text = json.dumps(header).encode("utf-8")
    text += b" " * (-len(text) % 8)
    return [struct.pack("<Q", len(text)) + text] + parts


def read_frame(stream):
    """Return the next frame's body; None at the end of the stream."""
    head = stream.read(8)
    if len(head) < 8:
        return None
    (length,) = struct.unpack("<Q", head)
    return stream.read(length)


def write_frame(stream, *parts):
    """Write one frame: an 8-byte little-endian length, then the body, which may come in parts."""
    stream.write(struct.pack("<Q", sum(len(part) for part in parts)))
    for part in parts:
        stream.write(part)
    stream.flush()
