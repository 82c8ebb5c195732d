"""The mutants of the frameworks: `frameworks/operators.toml`, and sites that use them, in a file for each framework."""

from __future__ import annotations

import importlib.util
import json
import tomllib
from pathlib import Path
from types import ModuleType

import msgspec

FOLDER = Path(__file__).resolve().parent / "frameworks"
HOOK = FOLDER / "hook"


class Site(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a mutant is, and what it changes.

    operator: of `operators.toml`. implementation: the id of the roster that has to tell. within: dotted name of the
    function or class in the module. find, replace: the words that a search needs there, and what stands for them; nth:
    which of several, from 1. equivalent: why nothing that is promised can change; of a survivor only.
    """

    operator: str
    implementation: str
    module: str
    within: str
    find: str
    replace: str
    nth: int = 0
    equivalent: str = ""


class Mutant(msgspec.Struct, frozen=True):
    """A site with the names by which it is counted."""

    id: str
    framework: str
    category: str
    site: Site

    def variables(self) -> dict[str, str]:
        """Return what the hook reads of a worker's environment."""
        fields = ("module", "within", "find", "replace", "nth")
        return {"BNCONF_MUTANT": json.dumps({"id": self.id} | {name: getattr(self.site, name) for name in fields})}


def operators(folder: Path = FOLDER) -> dict[str, str]:
    """Return the category of each operator."""
    listed = msgspec.convert(_table(folder / "operators.toml"), dict[str, dict[str, str]])
    return {name: category for category, named in listed.items() for name in named}


def read(folder: Path = FOLDER) -> list[Mutant]:
    """Return every mutant, by implementation; KeyError for an operator that is not listed."""
    categories = operators(folder)
    found = [
        Mutant(f"{path.stem}-{name}", path.stem, categories[site.operator], site)
        for path in sorted(folder.glob("*.toml"))
        if path.stem != "operators"
        for name, site in msgspec.convert(_table(path), dict[str, Site]).items()
    ]
    return sorted(found, key=lambda mutant: (mutant.site.implementation, mutant.id))


def _table(path: Path) -> dict[str, object]:
    with path.open("rb") as file:
        return tomllib.load(file)


def installed(module: str) -> Path | None:
    """Return the file of a module, found without importing it; None where its package is not installed."""
    package, _, rest = module.partition(".")
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0], *rest.split(".")).with_suffix(".py")


def hook() -> ModuleType:
    """Return the hook as a module; without BNCONF_MUTANT it does nothing."""
    spec = importlib.util.spec_from_file_location("mutants_hook", HOOK / "sitecustomize.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
