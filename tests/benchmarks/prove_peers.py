"""How much frameworks' own tests of batch normalization assert, and kill, in a second of a processor.

    python tests/benchmarks/prove_peers.py --tests FOLDER [--mutants N] [PEER …]

Two questions, by whole processes, imports included, theirs and ours at the same time on the same machine:

- assertions that pass in a second. Theirs are counted by `peers/assertions.py`; ours are judged arrays of a run of one
  case of each cell, each held in every element to a bound of its own, with nothing compiled kept from before.
- seconds until a mutant of the framework is killed (`tests/mutants/frameworks`): their tests with -x; such a run of
  ours, or else a default run, up to the first failure that nothing explains. A test of theirs that fails without a
  mutant is told, and left out.

`peers/peers.toml` says which tests; those that no wheel brings have to lie in FOLDER. The mutants are those that this
suite is scored by, and it kills all but the equivalent: what share of them others kill is no measure of those.
"""

from __future__ import annotations

import argparse
import fnmatch
import os
import re
import statistics
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import msgspec

from conformance.cases.cells import SMOKE

HERE = Path(__file__).resolve().parent
MUTANTS = HERE.parent / "mutants"
sys.path[:0] = [str(MUTANTS)]

from framework_sites import HOOK, Mutant, read  # noqa: E402 - found by the path above

_OURS = f"""
import sys
sys.path[:0] = [{str(MUTANTS)!r}]
import framework_sites, framework_trial
(mutant,) = [one for one in framework_sites.read() if one.id == sys.argv[1]]
for cases in (framework_trial.SMOKE, framework_trial.DEFAULT):
    if framework_trial.attempt(mutant.site.implementation, cases, mutant.variables()).decision.status == 1:
        sys.exit(1)
"""
_FAILED = re.compile(r"^FAILED (?:\S*/)?(\S+?)(?: - .*)?$", re.MULTILINE)


class Peer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A framework's tests: where its wheel has them, or `files` below --tests, of which `select` takes some.

    source: where the files come from. ours: whom this suite asks. modules: how those begin that the tests reach, where
    not all are reached. markers: those of pytest that the tests use. environment: variables that they are run with.
    """

    ours: list[str]
    wheel: list[str] = []
    files: list[str] = []
    source: str = ""
    select: str = ""
    modules: list[str] = []
    markers: list[str] = []
    environment: dict[str, str] = {}

    def paths(self, folder: Path) -> list[Path]:
        """Return its files: of an installed wheel, or below a folder."""
        found = [(find_spec(one.partition("/")[0]), one) for one in self.wheel]
        roots = [(Path(spec.origin).parents[1], one) for spec, one in found if spec and spec.origin]
        return [root / one for root, one in [*roots, *((folder.resolve(), one) for one in self.files)]]

    def mutants(self, name: str, most: int) -> list[Mutant]:
        """Return some mutants of whom we ask, spread evenly over all."""
        told = [m for m in read() if m.framework == name and not m.site.equivalent]
        told = [m for m in told if any(fnmatch.fnmatchcase(m.site.implementation, one) for one in self.ours)]
        told = [m for m in told if m.site.module.startswith(tuple(self.modules) or "")]
        return told[:: max(1, len(told) // most)][:most]


class Ended(NamedTuple):
    """How a process ended: its exit status, seconds of a processor with its children's, and what it printed."""

    status: int
    cpu: float
    said: str


class Side(msgspec.Struct, frozen=True):
    """What one side asserted, in which seconds of a processor; failing: its tests that fail without a mutant."""

    asserted: int
    cpu: float
    failing: list[str] = []

    @property
    def rate(self) -> float:
        """Assertions in a second."""
        return self.asserted / self.cpu


class Kill(msgspec.Struct, frozen=True):
    """Whether each side noticed a mutant, and the seconds of a processor to that, or to the end."""

    mutant: str
    theirs: bool
    theirs_cpu: float
    ours: bool
    ours_cpu: float


class Figures(msgspec.Struct, frozen=True):
    """What was measured of one framework."""

    name: str
    theirs: Side
    ours: Side
    kills: list[Kill]

    @property
    def row(self) -> str:
        """A row of the table."""
        theirs = [(kill.theirs, kill.theirs_cpu) for kill in self.kills]
        ours = [(kill.ours, kill.ours_cpu) for kill in self.kills]
        rates = f"{self.theirs.rate:.1f} | {self.ours.rate:.1f} | {self.ours.rate / self.theirs.rate:.1f}"
        counts = f"{sum(killed for killed, _ in theirs)} | {sum(killed for killed, _ in ours)} of {len(ours)}"
        there, here = _for_each(theirs), _for_each(ours)
        medians = f"{_median(theirs):.1f} | {_median(ours):.1f}"
        return f"| {self.name} | {rates} | {counts} | {there:.1f} | {here:.1f} | {there / here:.1f} | {medians} |"


def _for_each(kills: list[tuple[bool, float]]) -> float:
    """Return the seconds that went to all mutants, for each that was killed."""
    return sum(cpu for _, cpu in kills) / (sum(killed for killed, _ in kills) or float("nan"))


def _median(kills: list[tuple[bool, float]]) -> float:
    """Return the median of the seconds to those mutants that were killed."""
    return statistics.median([cpu for killed, cpu in kills if killed] or [float("nan")])


def main() -> int:
    """Measure the peers that are named; return the exit status: 2 where tests are missing."""
    parser = argparse.ArgumentParser(description="Measure frameworks' own tests beside this suite.")
    parser.add_argument("--tests", type=Path, default=Path(), help="the folder of those tests that no wheel brings")
    parser.add_argument("--mutants", type=int, default=12, help="of each framework (default: 12)")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("peers", nargs="*", help="default: all")
    asked = parser.parse_args()
    peers = msgspec.convert(tomllib.loads((HERE / "peers/peers.toml").read_text()), dict[str, Peer])
    found: list[Figures] = []
    for name in asked.peers or peers:
        files = peers[name].paths(asked.tests)
        if missing := [str(file) for file in files if not file.is_file()]:
            print(f"{name}: {', '.join(missing)} is not there; take it from {peers[name].source}, give --tests FOLDER")
            return 2
        found.append(measured(name, peers[name], files, asked.mutants))
    if asked.json:
        asked.json.write_bytes(msgspec.json.format(msgspec.json.encode(found)) + b"\n")
    print("| tests | assertions/s | ours | ratio | killed | ours | s for each | ours | ratio | median to one | ours |")
    print("|---" * 11 + "|")
    print("\n".join(one.row for one in found))
    return 0


def measured(name: str, peer: Peer, files: list[Path], mutants: int) -> Figures:
    """Return the figures of one framework; both sides are asked at the same time."""
    with tempfile.TemporaryDirectory(prefix="bnconf-peers-") as folder, ThreadPoolExecutor(2) as both:
        home = Path(folder)
        asked, judged = both.submit(_asserted, peer, files, home), both.submit(_judged, peer, home)
        theirs, ours = asked.result(), judged.result()
        print(f"{name}: {theirs}\n    ours: {ours}", flush=True)
        kills: list[Kill] = []
        for mutant in peer.mutants(name, mutants):
            asked = both.submit(_tests, peer, files, home, theirs.failing, mutant)
            here = both.submit(_process, [sys.executable, "-c", _OURS, mutant.id], {}).result()
            there = asked.result()
            assert here.status in (0, 1), here.said
            kills.append(Kill(mutant.id, there.status != 0, round(there.cpu, 2), here.status == 1, round(here.cpu, 2)))
            print("   ", kills[-1], flush=True)
    return Figures(name, theirs, ours, kills)


def _asserted(peer: Peer, files: list[Path], home: Path) -> Side:
    """Run a framework's tests without a mutant."""
    ended = _tests(peer, files, home, (), None)
    passed = int((home / "assertions").read_text())
    assert passed, ended.said
    return Side(passed, round(ended.cpu, 2), _FAILED.findall(ended.said))


def _tests(peer: Peer, files: list[Path], home: Path, failing: Sequence[str], mutant: Mutant | None) -> Ended:
    """Run a framework's tests but for some; with a mutant, to the first that fails."""
    markers = "".join(f"\n    {one}" for one in peer.markers)
    (home / "pytest.ini").write_text(f"[pytest]\nenable_assertion_pass_hook = true\nmarkers ={markers}\n")
    options = ["-q", "-s", "-p", "no:cacheprovider", "-p", "assertions", "-c", str(home / "pytest.ini")]
    options += ["--rootdir", str(files[0].parent), *(["-k", peer.select] if peer.select else [])]
    options += [*(["-x"] if mutant else []), *(part for one in failing for part in ("--deselect", one))]
    path = [HERE / "peers", *([HOOK] if mutant else []), *(file.parent for file in files[:1] if peer.files)]
    ended = _process(
        [sys.executable, "-m", "pytest", *options, *map(str, files)],
        {
            **peer.environment,
            "PEERS_ASSERTIONS": str(home / "assertions"),
            "PYTHONPATH": os.pathsep.join(map(str, path)),
            **(mutant.variables() if mutant else {}),
        },
    )
    assert ended.status in (0, 1), ended.said
    assert not mutant or f"mutant {mutant.id} is in " in ended.said, ended.said
    return ended


def _judged(peer: Peer, home: Path) -> Side:
    """Ask a case of each cell, and gate it."""
    command = [sys.executable, "-m", "conformance"]
    asked = [part for one in peer.ours for part in ("-i", one)]
    run = _process([*command, "run", "--cases", str(SMOKE), "--no-cache", "--out", str(home / "run"), *asked], {})
    gated = _process([*command, "gate", str(home / "run")], {})
    judged = re.search(r"(\d+) judged arrays", gated.said)
    assert (run.status, gated.status) == (0, 0), run.said + gated.said
    assert judged, gated.said
    return Side(int(judged[1]), round(run.cpu, 2))


def _process(command: list[str], variables: dict[str, str]) -> Ended:
    """Run a process to its end, and those that it started and waited for."""
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT, env={**os.environ, **variables})
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        return Ended(process.returncode, usage.ru_utime + usage.ru_stime, said.read())


if __name__ == "__main__":
    sys.exit(main())
