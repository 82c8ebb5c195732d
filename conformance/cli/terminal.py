"""The terminal: how wide it is, and text in it as it stands: names and messages of others have brackets in them."""

from __future__ import annotations

import os
import textwrap

from rich.console import Console

WIDE = 200
"""Columns of a table in a pipe or a log, where nobody says how wide it is."""


def terminal(*, stderr: bool = False, wide: int = WIDE) -> Console:
    """Return the terminal, as wide as it is or as COLUMNS says; in a pipe without COLUMNS, `wide`."""
    found = Console(stderr=stderr, markup=False, emoji=False, highlight=False)
    if not found.is_terminal and "COLUMNS" not in os.environ:
        found.width = wide
    return found


def say(console: Console, text: str, *, indent: str = "  ") -> None:
    """Print a sentence, wrapped at the words of a terminal and indented from its second line on; in a pipe one line."""
    if console.is_terminal:
        text = textwrap.fill(text, console.width, subsequent_indent=indent, break_on_hyphens=False)
    console.print(text, soft_wrap=True)


def in_lines(name: str, width: int) -> str:
    """Return a name in lines of at most so many characters, cut before `.`, `+` or `@` if it can be.

    >>> in_lines("onnxruntime.BatchNormalization+opset15@cpu", 32).split()
    ['onnxruntime.BatchNormalization', '+opset15@cpu']
    """
    lines = list[str]()
    while len(name) > width:
        cut = max(name.rfind(sign, 1, width + 1) for sign in ".+@")
        cut = cut if cut > 0 else width
        lines.append(name[:cut])
        name = name[cut:]
    return "\n".join([*lines, name])
