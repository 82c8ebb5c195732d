"""Documentation that behaviour contradicts, both cited: what pages say, beside the case that proves otherwise."""

from __future__ import annotations

import fnmatch
import tomllib
from collections.abc import Iterable
from pathlib import Path

import msgspec

from conformance.gate.divergences import Divergence
from conformance.model.errors import InvalidInput
from conformance.studies.audit import fields
from conformance.studies.audit.cells import FieldFinding, Witness

FILE = Path(__file__).with_suffix(".toml")


class Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A page that says what a field is, in its own words."""

    implementations: list[str]
    field: str
    says: str
    quote: str
    cite: str

    def speaks_of(self, cell: FieldFinding) -> bool:
        """Return whether the page is about the field of a finding."""
        named = any(fnmatch.fnmatchcase(cell.implementation, pattern) for pattern in self.implementations)
        return named and cell.field == self.field


class Contradiction(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is documented, where, and what holds instead, with the case that shows it."""

    implementation: str
    field: str
    documented: str | float
    cite: str
    behaves: str | float
    witness: Witness
    quote: str = ""
    divergence: str = ""
    link: str = ""


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    document: list[Document] = []


def read(path: Path = FILE) -> list[Document]:
    """Return the pages of a file; raise `InvalidInput` for a value that the field cannot have."""
    try:
        found = msgspec.convert(tomllib.loads(path.read_text()), _File).document
    except (OSError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise InvalidInput(f"{path}: {error}; mend it there") from error
    for document in found:
        if document.field not in fields.NAMES or document.says not in fields.values(document.field):
            raise InvalidInput(f"{path}: {document.field} is never {document.says}; see reference/semantics.py")
    return found


def contradictions(
    cells: Iterable[FieldFinding], documents: Iterable[Document], known: Iterable[Divergence]
) -> list[Contradiction]:
    """Return what pages say that proven findings contradict, and likewise statements that known divergences amend."""
    links, pages = {divergence.id: divergence.link for divergence in known}, list(documents)
    return [one for cell in cells if cell.status == "proven" for one in _of(cell, pages, links)]


def _of(cell: FieldFinding, documents: list[Document], links: dict[str, str]) -> list[Contradiction]:
    assert cell.witness
    about = (cell.implementation, cell.field)
    found = [
        Contradiction(*about, d.says, d.cite, cell.value, cell.witness, d.quote)
        for d in documents
        if d.speaks_of(cell) and d.says != cell.value
    ]
    if cell.promised is not None:
        link = links.get(cell.divergence, "")
        known = Contradiction(*about, cell.promised, cell.cite, cell.value, cell.witness, "", cell.divergence, link)
        found.append(known)
    return found
