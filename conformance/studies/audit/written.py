"""The file that an audit leaves: its findings, documentation that they contradict, and changes since another."""

from __future__ import annotations

from pathlib import Path

import msgspec

from conformance.model.errors import InvalidInput
from conformance.runs import commands
from conformance.studies.audit.blame import OtherNumerics, Unexplained
from conformance.studies.audit.cells import FieldFinding, Inapplicable, Value
from conformance.studies.audit.documents import Contradiction


class Change(msgspec.Struct, frozen=True):
    """A field of an implementation that differs; before, after: each value with its status, empty if it is gone."""

    implementation: str
    field: str
    before: tuple[tuple[Value, str], ...]
    after: tuple[tuple[Value, str], ...]
    versions_before: dict[str, str] = {}
    versions_after: dict[str, str] = {}


class Written(msgspec.Struct):
    """An audit as it is written.

    missing: why implementations could not be asked, by id.
    numerics, unexplained: what contradicts a statement without being due to one field.
    """

    cells: list[FieldFinding]
    schema: int = 1
    inapplicable: list[Inapplicable] = []
    documentation: list[Contradiction] = []
    versions: dict[str, dict[str, str]] = {}
    missing: dict[str, str] = {}
    changes: list[Change] = []
    numerics: list[OtherNumerics] = []
    unexplained: list[Unexplained] = []


def write(written: Written, path: Path) -> None:
    """Write an audit to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(written), indent=1) + b"\n")


def read(path: Path) -> Written:
    """Return an audit from its file; raise `InvalidInput` if the file holds none."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Written)
    except (OSError, ValueError) as error:
        raise InvalidInput(
            f"{path}: is no audit ({error}); write it again: {commands.line('audit', '--out', commands.file(path))}"
        ) from error
