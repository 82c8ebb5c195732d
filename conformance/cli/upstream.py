"""The options of `bnconf explain --upstream`; what it does is imported where it is asked for (`bug_report`)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from conformance.model.errors import InvalidInput


@dataclass(frozen=True)
class Wanted:
    """What the options ask for; wanted: a bug report at all."""

    wanted: bool
    script_only: bool
    out: Path | None
    instead: tuple[str, ...]

    def __post_init__(self) -> None:
        """Raise where an option is given that only means something with `--upstream`."""
        given = {"--script-only": self.script_only, "--out": self.out, "--instead": self.instead}
        if not self.wanted and (stray := [name for name, value in given.items() if value]):
            raise InvalidInput(f"{stray[0]}: is for a bug report; add --upstream")


def options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that ask for a bug report, which the command gets as `report`."""

    @functools.wraps(command)
    def called(*, upstream: bool, script_only: bool, out: Path | None, instead: tuple[str, ...], **others: Any) -> None:
        command(report=Wanted(upstream, script_only, out, instead), **others)

    for option in (
        click.option("--upstream", is_flag=True, help="A bug report about the first of -i that fails: a script of at "
                     "most thirty lines that needs NumPy and the framework alone, run here, and an issue around it."),
        click.option("--script-only", is_flag=True, help="With --upstream: the script alone."),
        click.option("--out", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
                     help="With --upstream: write it there."),
        click.option("--instead", multiple=True, metavar="FIELD=VALUE",
                     help="With --upstream: what you expected, in the words of a statement, where something else is "
                     "promised, such as stored_variance=biased. Repeatable."),
    ):  # fmt: skip
        called = option(called)
    return called
