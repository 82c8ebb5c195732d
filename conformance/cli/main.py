"""The command line: `bnconf`, or `python -m conformance`."""

from __future__ import annotations

import errno
import pkgutil
import sys
from typing import Any

import click

from conformance.model.errors import Incomplete, InvalidInput
from conformance.model.version import version

COMMANDS = {
    "ask": "ask:command",
    "audit": "audit:audit",
    "bisect": "bisect:bisect",
    "cache": "cache:cache",
    "compare": "compare:compare",
    "doctor": "doctor:doctor",
    "env": "env:env",
    "explain": "case:explain",
    "export": "case:export",
    "gate": "gate:gate",
    "gpu": "gpu:gpu",
    "hunt": "hunt:command",
    "identify": "audit:identify",
    "implementations": "doctor:implementations",
    "judge": "vectors:judge",
    "matrix": "matrix:matrix",
    "merge": "merge:merge",
    "recall": "recall:command",
    "replay": "case:replay",
    "report": "report:report",
    "run": "run:run",
    "tolerance": "tolerance:command",
    "translate": "translate:translate",
}
"""Where each command is. Its module is imported once it is called, so that each starts with what it needs alone."""


class _Group(click.Group):
    """The commands, imported as they are called. Our errors become one clear line and an exit code.

    2 is invalid input, 3 incomplete, 5 a fault of ours.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - as click has it
        """Return the names of the commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - likewise
        """Import a command."""
        place = COMMANDS.get(cmd_name)
        return pkgutil.resolve_name(f"conformance.cli.{place}") if place else None

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except InvalidInput as error:
            click.echo(f"Error: {error}", err=True)
            ctx.exit(2)
        except Incomplete as error:
            click.echo(f"Incomplete: {error}", err=True)
            ctx.exit(3)
        except (click.exceptions.Exit, click.ClickException):
            raise
        except OSError as error:
            if error.errno == errno.EPIPE:  # whoever read the output has seen enough
                raise
            place = f"{error.filename}: " if error.filename else ""
            fix = "make room there" if error.errno == errno.ENOSPC else "name one that can be read or written"
            click.echo(f"Error: {place}{error.strerror or error}; {fix}, and run the command again", err=True)
            ctx.exit(2)
        except (click.Abort, KeyboardInterrupt):
            click.echo("Incomplete: interrupted", err=True)
            ctx.exit(3)
        except Exception as error:
            click.echo(f"Internal error: {type(error).__name__}: {error}", err=True)
            if "--debug" in sys.argv:
                raise
            click.echo("This is a fault of bnconf, not of an implementation; --debug shows where.", err=True)
            ctx.exit(5)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version())
@click.option("--debug", is_flag=True, help="Show where a fault of bnconf itself happened.")
def main(debug: bool) -> None:
    """Hold batch normalization implementations to a reference, and prove every difference by a case.

    Exit codes: 0 done; 2 invalid input; 3 incomplete; 5 a fault of bnconf.
    """
