"""`bnconf gate`: whether a run may pass."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import click
import msgspec

from conformance.cli.options import what_the_gate_reads
from conformance.gate import baseline as _baseline
from conformance.gate import divergences, manifest_edits
from conformance.gate.decision import GateDecision, decide
from conformance.gate.outputs import ctrf, github, junit, sarif, text
from conformance.model import results
from conformance.model.errors import InvalidInput
from conformance.runs import run_file

_File = click.Path(path_type=Path, dir_okay=False)
_FORMATS: dict[str, Callable[[GateDecision, results.Run, Path], str]] = {
    "junit": junit.as_junit,
    "sarif": sarif.as_sarif,
    "ctrf": ctrf.as_ctrf,
    "summary": github.as_summary,
}


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), default=Path("reports/latest"))
@what_the_gate_reads
@click.option("--write-baseline", type=_File, help="Write the run's own baseline there, and decide.")
@click.option("--only", multiple=True, metavar="ID", help="Findings about these implementations only. Repeatable.")
@click.option("--fail-fast", is_flag=True, help="Show the first finding that makes it red, and stop.")
@click.option("--strict", is_flag=True, help="Exit 4 where what is known is of another version or device.")
@click.option("--exit-zero", is_flag=True, help="Report, and exit 0 whatever is found.")
@click.option("--json", "as_json", is_flag=True, help="Print the decision as JSON.")
@click.option("--update", is_flag=True, help="Print proposed edits of the manifests as a patch, and change nothing.")
@click.option("--junit", type=_File, help="Write JUnit XML there.")
@click.option("--sarif", type=_File, help="Write SARIF 2.1.0 there.")
@click.option("--ctrf", type=_File, help="Write CTRF JSON there.")
@click.option("--summary", type=_File, help="Write Markdown there; in GitHub Actions the step's summary has it too.")
@click.option("--annotations/--no-annotations", default=None, help="GitHub annotations. Default: in GitHub Actions.")
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
    strict: bool,
    exit_zero: bool,
    as_json: bool,
    update: bool,
    annotations: bool | None,
    **files: Path | None,
) -> None:
    """Decide whether a run may pass: what fails must be known, and behave as is known of it.

    Exits 0 when all conforms or is explained; 1 for what nothing explains; 2 for invalid input; 3 when the run is
    incomplete; 4 when a known divergence has vanished or is due for review; 5 for a fault of bnconf. Where failures are
    the same as those known of another version it is yellow: that is said once for each package, and exits 0.
    """
    run, folder = run_file.read(folder), folder if folder.is_dir() else folder.parent
    base = _baseline.read(baseline) if baseline else None
    known = divergences.read(manifests)
    decision = decide(folder, run, known, base, today.date() if today else None, only, strict=strict)
    if write_baseline:
        click.echo(f"baseline: {_baseline.write(run, write_baseline)}", err=True)
    _write(decision, run, folder, files)
    if annotations or (annotations is None and os.environ.get("GITHUB_ACTIONS") == "true"):
        click.echo(github.as_annotations(decision), err=True, nl=False)
    if update:
        click.echo(manifest_edits.patch(manifests, decision, run, known, folder), nl=False)
    shown = text.as_text(decision, run, folder, first=fail_fast)
    click.echo(msgspec.json.encode(decision).decode() if as_json else shown, err=update)
    ctx.exit(0 if exit_zero else decision.status)


def _write(decision: GateDecision, run: results.Run, folder: Path, files: dict[str, Path | None]) -> None:
    """Write the files that were asked for, and append to the summary of GitHub's step where there is one."""
    for name, path in files.items():
        if path:
            _save(name, path, _FORMATS[name](decision, run, folder), "w")
    if step := os.environ.get("GITHUB_STEP_SUMMARY"):
        _save("summary", Path(step), github.as_summary(decision, run, folder), "a")


def _save(option: str, path: Path, content: str, mode: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open(mode, encoding="utf-8") as file:
            file.write(content)
    except OSError as error:
        raise InvalidInput(f"--{option} {path}: cannot be written ({error.strerror}); name a file that can") from error
