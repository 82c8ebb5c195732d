"""Arrays as Python literals that are as short as they can be, and exact."""

from __future__ import annotations

from typing import Any

import numpy as np

from reference.precision import widened
from reference.spec import Array

WIDTH = 116
NARROW = ("float16", "bfloat16", "float8_e4m3fn", "float8_e5m2")
"""The dtypes that NumPy has not, or not as its numbers are written: these are written in float32."""


def stored(array: Array) -> Array:
    """Return an array in a dtype that NumPy has by itself; half precision and less is widened, which is exact."""
    return widened(array, np.float32) if array.dtype.name in NARROW else array


def literal(array: Array) -> str:
    """Return an expression that NumPy evaluates to this array, bit for bit; complex ones are i times what is real.

    >>> literal(np.array([[1, 2.5]], np.float32))
    'np.array([[1, 2.5]], "float32")'
    """
    array = stored(array)
    if array.dtype.kind == "c":
        return f"1j * {literal(np.imag(array))}"
    kind = f'"{array.dtype}"'
    if not array.size:
        return f"np.zeros({array.shape}, {kind})"
    flat = np.ascontiguousarray(array).reshape(-1)
    if flat.size > 1 and flat.tobytes() == flat[:1].tobytes() * flat.size:  # 0 and -0 are equal, and two numbers
        return f"np.full({array.shape}, {number(array.reshape(-1)[0])}, {kind})"
    return f"np.array({_nested(array)}, {kind})"


def _nested(array: Array) -> str:
    if array.ndim == 0:
        return number(array[()])
    return f"[{', '.join(_nested(part) for part in array)}]"


def number(value: Any) -> str:
    """Return the shortest literal of a number in its own dtype.

    >>> number(np.float32(0.1)), number(np.float64(2)), number(np.nan), number(True)
    ('0.1', '2', 'np.nan', 'True')
    """
    if np.asarray(value).dtype == bool:
        return str(bool(value))
    if not np.isfinite(value):
        return ("-" if np.signbit(value) else "") + ("np.nan" if np.isnan(value) else "np.inf")
    text = str(np.asarray(value)[()])
    text = text.removesuffix(".0")
    return "-0.0" if text == "-0" else text


def wrapped(line: str) -> list[str]:
    """Return a line, broken after commas where it is too long."""
    lines: list[str] = []
    indent = " " * (len(line) - len(line.lstrip()) + 4)
    while len(line) > WIDTH:
        cut = line.rfind(", ", 0, WIDTH)
        if cut < 0:
            break
        lines.append(line[: cut + 1])
        line = indent + line[cut + 2 :]
    return [*lines, line]


def packed(pairs: list[tuple[str, str]]) -> list[str]:
    """Return assignments of names to expressions, as many on a line as fit; none may need another.

    >>> packed([("a", "1"), ("b", "2")])
    ['a, b = 1, 2']
    """
    lines: list[str] = []
    together: list[tuple[str, str]] = []
    for pair in pairs:
        if together and len(_line([*together, pair])) > WIDTH:
            lines += wrapped(_line(together))
            together = []
        together.append(pair)
    return [*lines, *wrapped(_line(together))] if together else lines


def _line(pairs: list[tuple[str, str]]) -> str:
    return f"{', '.join(name for name, _ in pairs)} = {', '.join(text for _, text in pairs)}"


def targets(names: list[str]) -> str:
    """Return names to unpack a sequence into."""
    return ", ".join(names) + ("," if len(names) == 1 else "")
