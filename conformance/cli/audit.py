"""`bnconf audit` and `bnconf identify`: what implementations mean by batch normalization, each word with its proof."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec

from conformance.cli.options import chosen, implementations_and_limits
from conformance.cli.terminal import terminal
from conformance.gate import divergences
from conformance.model.case import case_id
from conformance.model.codec import encode_case
from conformance.model.errors import Incomplete, InvalidInput
from conformance.runs import asking
from conformance.studies.audit import checking, comparison, documents, identifying, stating, tables, written
from conformance.studies.audit.auditing import Audit, Auditor

_File = click.Path(path_type=Path, dir_okay=False)
OUT = Path("reports/latest/audit.json")


@click.command()
@implementations_and_limits
@click.option("--out", type=_File, default=OUT, show_default=True, help="The file; cases go to `witnesses` beside it.")
@click.option(
    "--format",
    "style",
    type=click.Choice(["table", "json", "markdown"]),
    default="table",
    show_default=True,
    help="What is printed.",
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json: a list of cells.")
@click.option("--against", type=_File, metavar="FILE", help="Say what changed since the audit in this file.")
def audit(out: Path, style: str, as_json: bool, against: Path | None, **common: Any) -> None:
    """Prove each field of `Semantics` of each implementation by a case that no other value explains.

    A cell is `proven`; `undetermined`, with the reason; or `refuted`: the statement promises what the answer is not.
    Where other numerics than the promised ones explain an answer, that is said by itself, and no field is blamed.
    What is asked beyond `Semantics`, such as a momentum of 1.5, is a field too, whose value is what is done there.
    Every witness is a case file that can be asked again: bnconf replay FILE -i ID.

    Exits 1 where an answer contradicts the statement, 3 where an implementation that was asked for is missing.
    """
    before, known = written.read(against) if against else None, divergences.read()
    quiet = as_json or style == "json"
    found = Auditor(chosen(**common), out.parent, known, lambda line: click.echo(line, err=True)).run()
    contradicted = documents.contradictions(found.cells, documents.read(), known)
    changed = comparison.changes(before, found.cells, found.versions) if before else []
    parts = found.cells, found.schema, found.inapplicable, contradicted, found.versions, found.missing, changed
    written.write(written.Written(*parts, found.numerics, found.unexplained), out)
    if quiet:
        click.echo(msgspec.json.encode(found.cells).decode())
    elif style == "markdown":
        click.echo(tables.as_markdown(found, contradicted, changed), nl=False)
    else:
        tables.print_audit(found, contradicted, changed, terminal())
    _finish(found)


def _finish(found: Audit) -> None:
    if found.contradicted:
        raise click.exceptions.Exit(1)
    if found.missing:
        raise Incomplete("; ".join(f"{name} is not available: {why}" for name, why in found.missing.items()))
    if not found.cells:
        raise Incomplete("no implementation could be audited")


class _Identified(msgspec.Struct, omit_defaults=True):
    """What `identify --json` prints for each path of an implementation.

    What concerns the implementation as a whole is printed with the first path.

    raised: errors, by probe or place.
    statement: what was identified, to be put into an adapter.
    failures: the further cases whose answers contradict it.
    """

    implementation: str
    places: list[str]
    semantics: list[dict[str, Any]]
    open: dict[str, tuple[Any, ...]]
    unexplained: dict[str, str]
    cases: dict[str, str]
    raised: dict[str, str] = {}
    differentiation: str = ""
    statement: dict[str, Any] = {}
    conformed: int = 0
    failed: int = 0
    undecided: int = 0
    failures: list[checking.Failure] = []
    tried: list[str] = []


@click.command()
@implementations_and_limits
@click.option("--out", type=click.Path(path_type=Path), metavar="FOLDER", help="Keep the cases that were asked there.")
@click.option("--json", "as_json", is_flag=True, help="A list of objects with implementation, places, semantics, open.")
def identify(out: Path | None, as_json: bool, **common: Any) -> None:
    """Find every semantics that an implementation's answers are consistent with, and print its statement.

    What its statement says of semantics is disregarded. Each next case is the one that tells the most of what is left
    apart. Then the statement is held to every answer and to further cases, up to 65,539 values per channel: what was
    tried, what raised, what fails and what nothing explains is said in comments. Name the implementation with -i; its
    adapter needs a statement with what it supports.

    Exits 1 where some answer is explained by no semantics, or contradicts the statement that is printed.
    """
    if not common["patterns"]:
        raise InvalidInput("identify asks what -i names; give -i ID, -i PATH.py:Class or -i exec:PROGRAM")
    listed, right = list[_Identified](), list[bool]()
    for entry, _, ask in asking.each(chosen(**common)):
        found = identifying.identify(entry.statement, ask)
        checked = checking.check(entry.statement, found) if found.found else None
        listed += _listed(entry.id, found, checked)
        right.append(found.explained and checked is not None and not checked.failed)
        if not as_json:
            click.echo(_printed(found, checked), nl=False)
        if out:
            _keep(out, found)
    if as_json:
        click.echo(msgspec.json.encode(listed).decode())
    if not all(right):
        raise click.exceptions.Exit(1)
    if not listed:
        raise Incomplete("no plain case could be asked")


def _printed(found: identifying.Identified, checked: checking.Checked | None) -> str:
    """Return comments, and the statement where anything is known of it."""
    lines = [*stating.remarks(found), *(checking.words(checked) if checked else ["nothing was identified"])]
    comments = "".join(f"# {line}\n" for line in lines)
    return comments + (stating.as_source(checked.statement) if checked else "")


def _listed(identity: str, found: identifying.Identified, checked: checking.Checked | None) -> list[_Identified]:
    """Return a path each, the check with the first of them; and one for what is no path."""
    listed = [_identified(identity, one) for one in found.found]
    if checked:
        c = checked
        about = {"conformed": c.conformed, "failed": c.failed, "undecided": c.undecided, "failures": c.failures}
        listed[0] = msgspec.structs.replace(listed[0], statement=c.statement, tried=c.tried, **about)
    raised = {f"{o.place.name} {o.place.dtype}": o.why for o in found.outside if o.raised}
    strange = {f"{o.place.name} {o.place.dtype}": o.way or o.why for o in found.outside if not o.raised}
    if raised or strange:
        cases = {f"{o.place.name} {o.place.dtype}": case_id(o.case) for o in found.outside}
        listed.append(_Identified(identity, [*raised, *strange], [], {}, strange, cases, raised))
    return listed


def _identified(identity: str, found: identifying.Found) -> _Identified:
    return _Identified(
        identity,
        [f"{place.name} {place.dtype}" for place in found.places],
        [stating.changed(semantics) for semantics in found.semantics],
        found.open,
        found.unexplained,
        {probe: case_id(case) for probe, case in found.asked.items()},
        {probe: raised.words for probe, raised in found.raised.items()},
        found.differentiation,
    )


def _keep(folder: Path, found: identifying.Identified) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for identity, (case, _) in found.ask.answers.items():
        (folder / f"{identity}.safetensors").write_bytes(encode_case(case, sealed=True))
