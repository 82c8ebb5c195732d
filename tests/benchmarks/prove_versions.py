"""Judge each family at the oldest version that is claimed, at newer ones and at the newest: `make prove-versions`.

Each version gets an environment of its own, with companions of its day, and a run of a case of each cell, which is
gated. What was judged is kept in reports/versions, and a version is judged again only where its file is gone. The
table is conformance/versions.md, in which a family of which nothing is kept stays as it stands. Exits 1 where a gate is
neither green nor yellow.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from conformance.cases.cells import SMOKE
from conformance.hosts import builds, releases, roster, venvs
from conformance.hosts.releases import PackageIndex, Release
from conformance.model.results import ImplementationRecord
from conformance.model.version import extras
from conformance.runs import run_file
from conformance.studies.bisecting.effects import LOOKED_FOR

KEPT = Path("reports/versions")
PAGE = Path("conformance/versions.md")
_BETWEEN = 2
_TRIES = 3
"""How many environments of its day, and of a year later, are made until everybody can run; then one of today."""
_PATIENT = "900"
"""Seconds for a case: a machine that does something else beside it is no reason for a failure."""
_ROW = re.compile(r"^\| \d", re.MULTILINE)
_HEAD = """# The versions that are judged

Made by `make prove-versions`: {versions} versions of {families} families on a CPU. Each family at the oldest version
that `pyproject.toml` claims, at two between and at the newest that the index has, in an environment of its own with
companions of its day: a run of a case of each cell, and its gate. *There* counts the implementations that can run.
**green**: what departs does so as is known of this very version. **yellow**: some as is known of another version, which
the gate says in one line. What changed from release to release: [history.md](history.md).
"""


class Family(NamedTuple):
    """Implementations of one package: the module that has its version, its distribution, and who they are."""

    module: str
    package: str
    patterns: tuple[str, ...]

    @property
    def entries(self) -> list[roster.RosterEntry]:
        """Its implementations."""
        return roster.select(self.patterns)

    @property
    def claimed(self) -> SpecifierSet:
        """The versions that pyproject.toml claims."""
        needed = (one for of_extra in extras().values() for one in of_extra)
        return next(one.specifier for one in needed if canonicalize_name(one.name) == canonicalize_name(self.package))


_LEGACY = ("tf_keras.*", "tf.compat.v1.layers.batch_normalization", "tf.compat.v1.layers.batch_normalization+bool")
FAMILIES = [
    Family("onnx", "onnx", ("onnx.*",)),
    Family("onnxruntime", "onnxruntime", ("onnxruntime.*",)),
    Family("equinox", "equinox", ("equinox.*",)),
    Family("haiku", "dm-haiku", ("haiku.*",)),
    Family("flax", "flax", ("flax.*",)),
    Family("jax", "jax", ("jax.*",)),
    Family("keras", "keras", ("keras.*+numpy", "keras.*+tensorflow", "keras.*+jax+jit")),
    Family("sonnet", "dm-sonnet", ("sonnet.*",)),
    Family("tf_keras", "tf-keras", _LEGACY),
    Family("tensorflow", "tensorflow", ("tf.nn.*", "tf.raw_ops.*", "tf.compat.v1.nn.*")),
    Family("torch", "torch", ("torch.*",)),
]


class JudgedVersion(msgspec.Struct, frozen=True):
    """What became of one version.

    beside: what else the adapters import, with its version. there, wanted: how many can run, of how many.
    missing: who cannot run, and why. less: the facts that somebody is asked fewer values of than its statement says.
    says: the gate's findings, its verdict the last.
    """

    version: str
    date: str
    beside: dict[str, str]
    there: int
    wanted: int
    missing: dict[str, str]
    less: dict[str, list[str]]
    says: list[str]

    @property
    def colour(self) -> str:
        """The gate's: green, yellow or red."""
        return self.says[-1].partition(" ")[0]


def bnconf(*arguments: str) -> list[str]:
    """Run the command and return the lines that it prints."""
    command = [sys.executable, "-m", "conformance", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()


def chosen(found: list[Release], claimed: SpecifierSet) -> list[Release]:
    """Return the oldest release that is claimed, two between and the newest, of those that a Python here installs."""
    pythons = [python for python in builds.PYTHONS if next(venvs.interpreters(python), "")]
    here = [one for one in found if one.version in claimed and any(map(one.runs_on, pythons))]
    at = {round((len(here) - 1) * n / (_BETWEEN + 1)) for n in range(_BETWEEN + 2)} if here else set[int]()
    return [here[n] for n in sorted(at)]


def judged(family: Family, release: Release, where: PackageIndex) -> JudgedVersion:
    """Judge a version, in the first of its environments in which everybody that it has can run, or else in the best."""
    modules = tuple(dict.fromkeys(name for entry in family.entries for name in entry.statement.packages))
    said = ["red (3): no environment can be made of it"]
    best = JudgedVersion(str(release.version), "", {}, 0, len(family.entries), {}, {}, said)
    of_its_day = (setup for setup in builds.setups(family.package, release, modules) if not setup.held)
    ways = list(itertools.islice(of_its_day, _TRIES))
    for setup in [*ways, *(msgspec.structs.replace(way, day=None) for way in ways[:1])]:
        print(f"{family.module} {release.version}: Python {setup.minor}, all of {setup.day or 'today'}", flush=True)
        try:
            built = builds.build(family.package, release, _beside_bnconf(setup), where)
        except builds.Unbuildable as error:
            print(f"    not built: {error}", flush=True)
            continue
        found = asked(family, built.python, str(release.version))
        best = found if found.there > best.there or not best.missing else best
        if best.there and all(why.startswith(LOOKED_FOR) for why in best.missing.values()):
            break
    return msgspec.structs.replace(best, version=str(release.version), date=str(release.date or ""))


def _beside_bnconf(setup: builds.Setup) -> builds.Setup:
    """Return a setup whose companions are claimed too, with the NumPy that bnconf needs: as an extra brings them."""
    claims = {canonicalize_name(one.name): one.specifier for of_extra in extras().values() for one in of_extra}
    claims[canonicalize_name("numpy")] = SpecifierSet(">=2")
    wanted = tuple(
        one if "==" in one else f"{one}{claims.get(canonicalize_name(one.partition('[')[0]), '')}"
        for one in setup.requirements
    )
    return builds.also(msgspec.structs.replace(setup, requirements=wanted), ("ml_dtypes",))


def asked(family: Family, python: str, name: str = "given") -> JudgedVersion:
    """Judge the version of a family that a Python has; name: what its run is kept by."""
    hosts, out = dict.fromkeys(entry.environment for entry in family.entries), KEPT / f"{family.module}-{name}"
    named = [word for pattern in family.patterns for word in ("-i", pattern)]
    hosted = [word for host in hosts for word in ("--env", f"{host}={python}")]
    bnconf("run", *named, *hosted, "--cases", str(SMOKE), "--timeout", _PATIENT, "--out", str(out))
    records = run_file.read(out).implementations
    there = [record for record in records if record.available]
    only = [word for record in there for word in ("--only", record.id)]
    says = bnconf("gate", str(out), *only) if there else ["red (3): nobody can run"]
    versions = {name: version for record in there for name, version in record.versions.items()}
    return JudgedVersion(
        versions.pop(family.module, ""),
        "",
        versions,
        len(there),
        len(records),
        {record.id: record.reason for record in records if not record.available},
        dict(_less(there)),
        [line for line in says if not line.startswith((" ", "explained: "))],
    )


def _less(records: list[ImplementationRecord]) -> Iterator[tuple[str, list[str]]]:
    known = {entry.id: entry.statement.supports for entry in roster.built_in()}
    for record in records:
        supports: dict[str, list[object]] = record.statement["supports"]
        if less := [fact for fact, values in supports.items() if values != known[record.id].get(fact)]:
            yield record.id, less


def page(found: dict[str, list[JudgedVersion]], standing: str = "") -> str:
    """Return the table of all families as Markdown; standing: the page that there is."""
    there = {part.partition("\n")[0]: f"{part.strip()}\n" for part in standing.split("\n## ")[1:]}
    parts = there | {family: "\n".join(_of_family(family, versions)) + "\n" for family, versions in found.items()}
    shown = [parts[family.module] for family in FAMILIES if family.module in parts]
    versions = sum(len(_ROW.findall(part)) for part in shown)
    head = _HEAD.format(versions=versions, families=len(shown))
    if missing := [family.module for family in FAMILIES if family.module not in parts]:
        head += f"\nNot judged yet: {', '.join(missing)}.\n"
    return head + "".join(f"\n## {part}" for part in shown)


def _of_family(family: str, versions: list[JudgedVersion]) -> Iterator[str]:
    yield from (family, "", "| version | beside it | there | gate |", "|---|---|---|---|")
    for one in versions:
        beside = ", ".join(f"{name} {version}" for name, version in one.beside.items() if name != "jaxlib")
        counted = one.says[-1].partition("; ")[2]
        said = f"**{one.colour}**: {counted}" if counted else one.says[-1]
        yield f"| {one.version} {one.date} | {beside} | {one.there} of {one.wanted} | {said} |"
    if told := [f"- {one.version}: {line}" for one in versions for line in _told(one)]:
        yield from ("", *told)


def _told(one: JudgedVersion) -> Iterator[str]:
    """Yield, in a line each, who cannot run and why, who is asked less, and what the gate found."""
    reasons = Counter(one.missing.values())
    for reason, number in reasons.items():
        who = [name for name, why in one.missing.items() if why == reason]
        yield f"`{who[0]}`{f' and {number - 1} more' if number > 1 else ''} cannot run: {reason}"
    narrower = Counter(tuple(facts) for facts in one.less.values())
    for facts, number in narrower.items():
        yield f"{number} implementations are asked less of {', '.join(facts)}"
    yield from one.says[:-1]


def _kept(family: Family, version: str) -> Path:
    return KEPT / f"{family.module}-{version}.json"


def _read(family: Family) -> list[JudgedVersion]:
    """Return what is kept of a family, the oldest version first."""
    found = [
        msgspec.json.decode(file.read_bytes(), type=JudgedVersion) for file in KEPT.glob(f"{family.module}-*.json")
    ]
    return sorted(found, key=lambda one: Version(one.version))


def _judge(family: Family, pythons: list[str]) -> None:
    """Judge the versions of a family that are not kept, the ends before what is between, and keep what is said."""
    where = releases.index()
    wanted = chosen(releases.of(family.package, where), family.claimed) if not pythons else []
    missing = [one for one in (*wanted[:1], *wanted[:0:-1]) if not _kept(family, str(one.version)).exists()]
    asking = [functools.partial(judged, family, release, where) for release in missing]
    asking += [functools.partial(asked, family, python) for python in pythons]
    for ask in asking:
        found = ask()
        print(f"{family.module} {found.version}:", *found.says, sep="\n    ", flush=True)
        _kept(family, found.version).write_bytes(msgspec.json.encode(found))


def main(arguments: list[str] | None = None) -> int:
    """Read the command line, judge what is not kept, write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("families", nargs="*", help=f"of {', '.join(one.module for one in FAMILIES)}; default: all")
    parser.add_argument("--python", action="append", default=[], help="judge what this one has; repeatable")
    parser.add_argument("--page-only", action="store_true", help="make the table of what is kept")
    given = parser.parse_args(arguments)
    KEPT.mkdir(parents=True, exist_ok=True)
    for family in FAMILIES:
        wanted = family.module in (given.families or [family.module])
        if wanted and not given.page_only:
            _judge(family, given.python)
    found = {family.module: kept for family in FAMILIES if (kept := _read(family))}
    PAGE.write_text(page(found, PAGE.read_text() if PAGE.exists() else ""))
    red = [f"{name} {one.version}" for name, versions in found.items() for one in versions if one.colour == "red"]
    print(f"{PAGE}: {sum(map(len, found.values()))} versions, {len(red)} red{': ' * bool(red)}{', '.join(red)}")
    return int(bool(red))


if __name__ == "__main__":
    sys.exit(main())
