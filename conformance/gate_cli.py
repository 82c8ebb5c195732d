"""`bnconf gate`: whether a run may pass."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path

import click
import msgspec

from conformance import baseline as _baseline
from conformance import divergences, results
from conformance.gate import Finding, GateDecision, decide

_SHOWN = 3


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), default=Path("reports/latest"))
@click.option(
    "--divergences",
    "manifests",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=divergences.FOLDER,
    help="Folder of manifests. Default: the one that comes with the suite.",
)
@click.option("--baseline", type=click.Path(path_type=Path), help="Baseline to compare with, a JSON lines file.")
@click.option(
    "--write-baseline", type=click.Path(path_type=Path), help="Write the run's own baseline there, and decide."
)
@click.option("--today", type=click.DateTime(["%Y-%m-%d"]), help="The day that review dates are held to.")
@click.option("--only", multiple=True, metavar="ID", help="Findings about these implementations only. Repeatable.")
@click.option("--fail-fast", is_flag=True, help="Show the first finding that makes it red, and stop.")
@click.option("--exit-zero", is_flag=True, help="Report, and exit 0 whatever is found.")
@click.option("--json", "as_json", is_flag=True, help="Print the decision as JSON.")
@click.pass_context
def gate(
    ctx: click.Context,
    folder: Path,
    manifests: Path,
    baseline: Path | None,
    write_baseline: Path | None,
    today: datetime | None,
    only: tuple[str, ...],
    fail_fast: bool,
    exit_zero: bool,
    as_json: bool,
) -> None:
    """Decide whether a run may pass: what fails must be known, and behave as is known of it.

    Exits 0 when all conforms or is explained; 1 for what nothing explains; 2 for invalid input; 3 when the run is
    incomplete; 4 when a known divergence has vanished or is due for review; 5 for a fault of bnconf.
    """
    run = results.read(folder)
    base = _baseline.read(baseline) if baseline else None
    day: date | None = today.date() if today else None
    decision = decide(folder, run, divergences.read(manifests), base, day).only(only)
    if write_baseline:
        click.echo(f"baseline: {_baseline.write(run, write_baseline)}", err=True)
    click.echo(
        as_text(decision, folder, run, first=fail_fast) if not as_json else msgspec.json.encode(decision).decode()
    )
    ctx.exit(0 if exit_zero else decision.status)


def as_text(decision: GateDecision, folder: Path, run: results.Run, *, first: bool = False) -> str:
    """Return the decision in plain lines, the verdict last; each failure ends with the command that replays it."""
    red = [finding for finding in decision.findings if finding.status]
    shown = red[:1] if first else decision.findings
    lines = [line for finding in shown for line in _lines(finding, folder, run)]
    return "\n".join([*lines, *_explained(decision), decision.verdict])


def _lines(finding: Finding, folder: Path, run: results.Run) -> list[str]:
    lines = [f"{finding.kind.upper()} {finding.says}"]
    for result in finding.failures[:_SHOWN]:
        case = folder / run.cases[result.case].file
        lines.append(f"    step {result.step} {result.mode}: bnconf replay {case} -i {result.implementation}")
    more = len(finding.failures) - _SHOWN
    return [*lines, f"    and {more} more"] if more > 0 else lines


def _explained(decision: GateDecision) -> list[str]:
    counts: dict[str, int] = {}
    for explanation in decision.explained:
        for name in explanation.divergences:
            counts[name] = counts.get(name, 0) + 1
    return [f"explained: {name} ({count} failures)" for name, count in sorted(counts.items())]
