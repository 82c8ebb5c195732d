"""The suite inside somebody's own tests, in three lines.

    @pytest.mark.bnconf("mypackage.module:MyBatchNorm")
    def test_batch_norm(bnconf_check):
        bnconf_check()

That is one test for each implementation that the mark names, as `bnconf run -i` names them, and each group of checks.
The cases of an implementation are asked once, by whichever of its tests comes first; xdist's other processes wait for
that and read the run. With known divergences (`divergences`) each test is held to them as by `bnconf gate`: a failure
as predicted is an xfail with the reason, and one more test fails where a prediction has vanished. Without the mark
nothing happens, and nothing of the suite is imported.
"""

from __future__ import annotations

import contextlib
import fcntl
import uuid
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

if TYPE_CHECKING:
    from conformance.gate.outputs.checks import Check
    from conformance.hosts.targets import RosterEntry
    from conformance.model.results import Run

_RUNS = pytest.StashKey[dict[tuple[str, int, int], tuple["Run", Path]]]()
_DECIDED = pytest.StashKey[dict[tuple[str, int, int, str], list["Check"]]]()
_SESSION = pytest.StashKey[str]()  # the same in all of xdist's processes


class CheckedGroup(NamedTuple):
    """What one test asks: an implementation, one group of its checks, which cases, and the folder of what is known."""

    entry: RosterEntry
    group: str
    seed: int
    cases: int
    known: str


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options; each may be given in pytest's configuration file too, and all but the last to the mark."""
    group = parser.getgroup("bnconf", "conformance of batch normalization")
    for name, about in (
        ("cases", "how many cases to ask of each implementation (default: as for `bnconf run`)"),
        ("seed", "decides every case (default 0)"),
        (
            "divergences",
            "folder of known divergences, or `suite` for those of the suite: what they predict is an xfail",
        ),
        ("out", "folder for runs and case files (default: in pytest's cache)"),
    ):
        group.addoption(f"--bnconf-{name}", metavar=name.upper(), help=about)
        parser.addini(f"bnconf_{name}", about)


def pytest_configure(config: pytest.Config) -> None:
    """Register the mark."""
    config.addinivalue_line(
        "markers",
        "bnconf(*implementations, cases, seed, divergences): "
        "hold these, named as for `bnconf run -i`, to the reference",
    )
    config.stash[_RUNS], config.stash[_DECIDED] = {}, {}
    config.stash[_SESSION] = getattr(config, "workerinput", {}).get("testrunuid", uuid.uuid4().hex)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make one test of each implementation and group of checks."""
    mark = metafunc.definition.get_closest_marker("bnconf")
    if mark is None or "bnconf_check" not in metafunc.fixturenames:
        return
    from conformance.cases.cells import DEFAULT  # when it is needed: pytest loads this module in every run

    defaults = {"seed": 0, "cases": DEFAULT}
    seed, cases = (_number(metafunc.config, mark, name, default) for name, default in defaults.items())
    known = _known(metafunc.config, mark)
    checks = [
        CheckedGroup(entry, group, seed, cases, known)
        for entry in _entries(mark)
        for group in _groups(entry, decided=bool(known))
    ]
    metafunc.parametrize("bnconf_check", checks, ids=[f"{c.entry.id}-{c.group}" for c in checks], indirect=True)


def _entries(mark: pytest.Mark) -> list[RosterEntry]:
    from conformance.hosts.roster import select
    from conformance.model.errors import Incomplete, InvalidInput

    if not mark.args or not all(isinstance(name, str) for name in mark.args):
        raise pytest.Collector.CollectError(
            f'bnconf{mark.args}: name implementations, such as @pytest.mark.bnconf("mypackage.module:MyBatchNorm")'
        )
    try:
        return select(mark.args)
    except (InvalidInput, Incomplete) as error:
        raise pytest.Collector.CollectError(str(error)) from error


def _option(config: pytest.Config, mark: pytest.Mark, name: str, default: Any) -> Any:
    """Return an option: from the command line, else from the mark, else from the configuration file."""
    given = (config.getoption(f"bnconf_{name}"), mark.kwargs.get(name), config.getini(f"bnconf_{name}"))
    return next((value for value in given if value not in (None, "")), default)


def _number(config: pytest.Config, mark: pytest.Mark, name: str, default: int) -> int:
    found = _option(config, mark, name, default)
    if not str(found).isdecimal() or (name == "cases" and int(found) < 1):
        raise pytest.Collector.CollectError(f"bnconf {name} is {found}; give a whole number, such as {default}")
    return int(found)


def _known(config: pytest.Config, mark: pytest.Mark) -> str:
    """Return the folder of known divergences, empty where none is asked for; its manifests are valid."""
    found = _option(config, mark, "divergences", "")
    if not found:
        return ""
    from conformance.gate import divergences
    from conformance.model.errors import InvalidInput

    folder = divergences.FOLDER if found == "suite" else config.rootpath / found
    if not folder.is_dir():
        raise pytest.Collector.CollectError(f"bnconf divergences is {found}; give a folder of manifests, or `suite`")
    try:
        divergences.read(folder)
    except InvalidInput as error:
        raise pytest.Collector.CollectError(str(error)) from error
    return str(folder)


def _groups(entry: RosterEntry, *, decided: bool) -> list[str]:
    """Return the groups of checks that an implementation's statement has outputs for, and one of what is known."""
    from conformance.gate.outputs.checks import DIVERGENCES, OUTCOMES, OUTPUTS

    promised = entry.statement
    y = [f"y_{mode}" for mode in promised.modes if "y" in promised.outputs]
    groups = [group for group, outputs in OUTPUTS.items() if outputs & set(promised.outputs)]
    return [*y, *groups, OUTCOMES, *([DIVERGENCES] if decided else [])]


@pytest.fixture
def bnconf_check(request: pytest.FixtureRequest) -> Callable[[], None]:
    """Return what judges one implementation in one group of checks, and fails the test where it does not conform."""
    check = getattr(request, "param", None)
    if check is None:
        raise pytest.UsageError('bnconf_check: mark the test with @pytest.mark.bnconf("mypackage.module:MyBatchNorm")')

    def hold() -> None:
        run, folder = _run(request.config, check)
        decided = _decided(request.config, run, folder, check) if check.known and run.complete else []
        red = [line for d in decided if d.state in ("failed", "error") for line in (*d.says, *d.commands)]
        if problem := "\n".join(red):
            pytest.fail(problem, pytrace=False)
        if expected := "; ".join(line for d in decided if d.state == "known" for line in d.says):
            pytest.xfail(expected)  # strict: where it vanished, the check of what is known fails
        if problem := _problem(run, folder, check.group):
            pytest.fail(problem, pytrace=False)

    return hold


def _decided(config: pytest.Config, run: Run, folder: Path, check: CheckedGroup) -> list[Check]:
    """Return what the gate decided of a group of checks, given what is known."""
    from conformance.gate import divergences
    from conformance.gate.decision import decide
    from conformance.gate.outputs.checks import table

    key, known = (check.entry.id, check.seed, check.cases, check.known), config.stash[_DECIDED]
    if key not in known:
        known[key] = table(decide(folder, run, divergences.read(Path(check.known))), run, folder)
    return [decided for decided in known[key] if decided.group == check.group]


def _run(config: pytest.Config, check: CheckedGroup) -> tuple[Run, Path]:
    """Return the run of an implementation and its folder; its cases are asked once in a session."""
    from conformance.runs import run_file

    key, known = (check.entry.id, check.seed, check.cases), config.stash[_RUNS]
    if key not in known:
        folder = _folder(config) / f"{check.entry.id}-{check.seed}-{check.cases}"
        with _alone(folder):
            stamp, session = folder / "session", config.stash[_SESSION]
            if not stamp.exists() or stamp.read_text() != session:
                stamp.unlink(missing_ok=True)
                _ask(check, folder)
                stamp.write_text(session)
        known[key] = run_file.read(folder), folder
    return known[key]


@contextlib.contextmanager
def _alone(folder: Path) -> Generator[None]:
    """Keep other processes out of a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # until it is closed, if only by death
        yield


def _ask(check: CheckedGroup, folder: Path) -> None:
    from conformance.hosts.participants import Participants
    from conformance.runs.campaign import Campaign, Options
    from conformance.runs.progress import Progress

    options = Options(Participants([check.entry], requested=True), folder, check.seed, check.cases)
    campaign = Campaign(options, Progress())
    campaign.run()
    if campaign.interrupted:
        raise KeyboardInterrupt


def _folder(config: pytest.Config) -> Path:
    """Return where runs are kept; without pytest's cache, xdist's processes each have a place of their own."""
    import tempfile

    asked, cache = config.getoption("bnconf_out") or config.getini("bnconf_out"), getattr(config, "cache", None)
    if asked:
        return config.rootpath / asked
    return cache.mkdir("bnconf") if cache else Path(tempfile.mkdtemp(prefix="bnconf-"))


def _problem(run: Run, folder: Path, group: str) -> str:
    """Return what is wrong in one group of checks, empty where nothing is."""
    from conformance.gate.outputs import checks
    from conformance.runs import commands, summary, wording

    if not run.complete:
        return "; ".join(run.reasons)
    found = [result for result in run.results if checks.group(result) == group]
    failed = [result for result in found if result.failed]
    if not failed:
        compared = group in (checks.OUTCOMES, checks.DIVERGENCES) or any(result.verdict == "PASS" for result in found)
        if not compared:
            return f"{group}: nothing was compared in {len(run.cases)} cases; ask more of them"
        without = checks.never_judged(found)
        return f"{group}: {without} in {len(run.cases)} cases; ask more of them" if without else ""
    worst = max(failed, key=lambda result: summary.as_number(result.rho))
    count = (
        f"{group}: {len(failed)} of {len(found)} judgments fail, in {len({r.case for r in failed})} cases; the worst:"
    )
    return "\n".join([count, wording.describe(worst), commands.replay(run, worst, folder)])
