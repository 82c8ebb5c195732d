"""Proposed edits of the manifests of known divergences, as a patch. Nothing is written: a person decides.

The entry of a divergence that vanished everywhere is removed. One that vanished in places, behaves otherwise, spread or
is due for review gets a comment; one that happens at another version or on another device as well gets a wider range.
A failure that nothing explains gets a stub, which becomes a valid entry once somebody says what it predicts, and why.
Entries are edited as lines of text, so that everything else stays as it is written.
"""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from conformance.gate import divergences, other_versions
from conformance.gate.decision import GateDecision
from conformance.gate.divergences import Divergence
from conformance.gate.findings import Finding
from conformance.gate.outputs.text import command, one_line
from conformance.model.errors import InvalidInput
from conformance.model.results import ImplementationRecord, Run

_ENTRY = "[[divergence]]"
_NEW = "# Known divergences; conformance/gate/divergences/__init__.py says what an entry holds.\n"
_STUB = """
{says}
[[divergence]]
id = {id}
implementations = {implementations}
{versions}when = {{ output = {outputs} }}
kind = "" # defect, precision or unsupported
predicts = {{}} # what holds there instead of the statement
rule = "" # of reference/README.md
reason = "" # a sentence
link = "" # https://…, or unreported
owner = ""
since = {since}
review-by = "" # a date
witness = "" # a case of the corpus
"""


def patch(manifests: Path, decision: GateDecision, run: Run, known: list[Divergence], folder: Path) -> str:
    """Return the proposed edits as a unified diff for `patch -p0 -d MANIFESTS`; empty where there are none."""
    records = {record.id: record for record in run.implementations}
    texts = {path.name: path.read_text() for path in sorted(manifests.glob("*.toml"))}
    edited = {name: _edited(manifests / name, text, decision, run) for name, text in texts.items()}
    names = {divergence.id for divergence in known}
    for identity, findings in _unexplained(decision):
        name = f"{records[identity].framework}.toml"
        edited[name] = edited.get(name, _NEW) + _stub(findings, records[identity], run, folder, names)
    return "".join(_diff(name, texts.get(name), text) for name, text in sorted(edited.items()))


def _edited(path: Path, text: str, decision: GateDecision, run: Run) -> str:
    """Return a manifest with comments where a person should look, and without what vanished everywhere."""
    lines, known = text.splitlines(keepends=True), divergences.read_file(path)
    starts = [n for n, line in enumerate(lines) if line.strip() == _ENTRY]
    if len(starts) != len(known):
        raise InvalidInput(f"{path}: --update reads entries as {_ENTRY} tables only; write each one as such a table")
    begins = [_begin(lines, start) for start in starts]
    blocks = [lines[begin:end] for begin, end in itertools.pairwise([*begins, len(lines)])]
    kept = [
        _commented(_wider(block, divergence, decision, run), divergence, decision)
        for block, divergence in zip(blocks, known, strict=True)
        if not _vanished_everywhere(divergence, decision, run)
    ]
    return "".join(itertools.chain(lines[: begins[0]] if begins else lines, *kept))


def _begin(lines: list[str], start: int) -> int:
    """Return where an entry begins: with the comment right above it."""
    while start and lines[start - 1].lstrip().startswith("#"):
        start -= 1
    return start


def _vanished_everywhere(divergence: Divergence, decision: GateDecision, run: Run) -> bool:
    """Return whether all implementations that a divergence is about, and that were asked, pass its witness."""
    asked = {record.id for record in run.implementations if record.available and divergence.concerns(record)}
    about = [finding for finding in decision.findings if divergence.id in finding.divergences]
    used = any(divergence.id in explanation.divergences for explanation in decision.explained)
    return not used and {f.implementation for f in about if f.kind == "vanished"} == asked != set()


def _wider(block: list[str], divergence: Divergence, decision: GateDecision, run: Run) -> list[str]:
    """Return an entry with the run's versions in its range, or all devices, where it explains what it does not name."""
    if not any(f.kind.startswith("another ") and divergence.id in f.divergences for f in decision.findings):
        return block
    for package, before, now in other_versions.wider(divergence, run):
        if package == other_versions.DEVICE:
            block = [line.replace(f'@{before}"', f'@{now}"') for line in block]
            continue
        old = re.compile(rf'(^\s*versions.*?\b{re.escape(package)}"?\s*=\s*"){re.escape(before)}"')
        block = [old.sub(rf'\g<1>{now}"', line) for line in block]
    return block


def _commented(block: list[str], divergence: Divergence, decision: GateDecision) -> list[str]:
    says = [f.says for f in decision.findings if divergence.id in f.divergences and f.status]
    comments = [f"# bnconf: {one_line(said)}\n" for said in dict.fromkeys(says)]
    return [*(comment for comment in comments if comment not in block), *block]


def _unexplained(decision: GateDecision) -> Iterator[tuple[str, list[Finding]]]:
    """Yield the findings that nothing explains, by implementation: often one cause shows in several outputs."""
    found = [finding for finding in decision.findings if finding.kind == "unexplained"]
    for identity, findings in itertools.groupby(found, key=lambda finding: finding.implementation):
        yield identity, list(findings)


def _stub(findings: list[Finding], record: ImplementationRecord, run: Run, folder: Path, names: set[str]) -> str:
    """Return an entry for these findings, without what only a person can say. Its new id is added to names."""
    ids = (f"{record.id}{suffix}" for suffix in _suffixes())
    name = next(identity for identity in ids if identity not in names)
    names.add(name)
    packages = [p for p in record.statement.get("packages", ()) if divergences.is_told(record, p)]
    versions = ", ".join(f"{_toml(package)} = {_toml(f'=={record.versions[package]}')}" for package in packages)
    lines = [line for f in findings for line in (one_line(f.says), command(run, f.failures[0], folder))]
    return _STUB.format(
        says="\n".join(f"# {line}" for line in lines),
        id=_toml(name),
        implementations=_toml([record.id]),
        versions=f"versions = {{ {versions} }}\n" if versions else "",
        outputs=_toml([finding.output for finding in findings]),
        since=run.header.started[:10],
    )


def _suffixes() -> Iterator[str]:
    yield ""
    yield from (f"-{n}" for n in itertools.count(2))


def _toml(value: str | list[str]) -> str:
    """Return a string or a list of strings as TOML; JSON writes both the same way."""
    return msgspec.json.encode(value).decode()


def _diff(name: str, before: str | None, after: str) -> str:
    old, new = (before or "").splitlines(keepends=True), after.splitlines(keepends=True)
    lines = difflib.unified_diff(old, new, "/dev/null" if before is None else name, name)
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)
