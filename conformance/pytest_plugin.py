"""The suite inside somebody's own tests, in three lines.

    @pytest.mark.bnconf("mypackage.module:MyBatchNorm")
    def test_batch_norm(bnconf_check):
        bnconf_check()

That is one test for each implementation that the mark names, as `bnconf run -i` names them, and each group of checks.
The cases of an implementation are asked once, by whichever of its tests comes first; xdist's other processes wait for
that and read the run. Without the mark nothing happens, and nothing of the suite is imported.
"""

from __future__ import annotations

import contextlib
import fcntl
import uuid
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    from conformance.results import Result, Run
    from conformance.targets import Entry

_OUTPUTS = {
    "gradients": {"dx", "dgamma", "dbeta", "y_tangent", "dx_tangent", "dgamma_tangent"},
    "moving_statistics": {"moving_mean", "moving_variance", "moving_stddev", "renorm_mean", "renorm_stddev"},
    "batch_statistics": {"mean", "variance"},
}
_OUTCOMES = "outcomes"  # what is refused, and what crashes, hangs or stops answering
_RUNS = pytest.StashKey[dict[tuple[str, int, int], tuple["Run", Path]]]()
_SESSION = pytest.StashKey[str]()  # the same in all of xdist's processes


class Check(NamedTuple):
    """What one test asks: an implementation, one group of its checks, and which cases."""

    entry: Entry
    group: str
    seed: int
    cases: int


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options; each may be given in pytest's configuration file too, and the first two to the mark."""
    group = parser.getgroup("bnconf", "conformance of batch normalization")
    for name, about in (
        ("cases", "how many cases to ask of each implementation (default 380)"),
        ("seed", "decides every case (default 0)"),
        ("out", "folder for runs and case files (default: in pytest's cache)"),
    ):
        group.addoption(f"--bnconf-{name}", metavar=name.upper(), help=about)
        parser.addini(f"bnconf_{name}", about)


def pytest_configure(config: pytest.Config) -> None:
    """Register the mark."""
    config.addinivalue_line(
        "markers", "bnconf(*implementations, cases, seed): hold these, named as for `bnconf run -i`, to the reference"
    )
    config.stash[_RUNS] = {}
    config.stash[_SESSION] = getattr(config, "workerinput", {}).get("testrunuid", uuid.uuid4().hex)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make one test of each implementation and group of checks."""
    mark = metafunc.definition.get_closest_marker("bnconf")
    if mark is None or "bnconf_check" not in metafunc.fixturenames:
        return
    seed, cases = (_number(metafunc.config, mark, name, default) for name, default in (("seed", 0), ("cases", 380)))
    checks = [Check(entry, group, seed, cases) for entry in _entries(mark) for group in _groups(entry)]
    metafunc.parametrize("bnconf_check", checks, ids=[f"{c.entry.id}-{c.group}" for c in checks], indirect=True)


def _entries(mark: pytest.Mark) -> list[Entry]:
    from conformance.errors import Incomplete, InvalidInput
    from conformance.roster import select

    if not mark.args or not all(isinstance(name, str) for name in mark.args):
        raise pytest.Collector.CollectError(
            f'bnconf{mark.args}: name implementations, such as @pytest.mark.bnconf("mypackage.module:MyBatchNorm")'
        )
    try:
        return select(mark.args)
    except (InvalidInput, Incomplete) as error:
        raise pytest.Collector.CollectError(str(error)) from error


def _number(config: pytest.Config, mark: pytest.Mark, name: str, default: int) -> int:
    """Return an option: from the command line, else from the mark, else from the configuration file."""
    given = (config.getoption(f"bnconf_{name}"), mark.kwargs.get(name), config.getini(f"bnconf_{name}"))
    found = next((value for value in given if value not in (None, "")), default)
    if not str(found).isdecimal() or (name == "cases" and int(found) < 1):
        raise pytest.Collector.CollectError(f"bnconf {name} is {found}; give a whole number, such as {default}")
    return int(found)


def _groups(entry: Entry) -> list[str]:
    """Return the groups of checks that an implementation's statement has outputs for."""
    promised = entry.statement
    y = [f"y_{mode}" for mode in promised.modes if "y" in promised.outputs]
    return [*y, *(group for group, outputs in _OUTPUTS.items() if outputs & set(promised.outputs)), _OUTCOMES]


def _group(result: Result) -> str:
    found = next((group for group, outputs in _OUTPUTS.items() if result.output in outputs), _OUTCOMES)
    return f"y_{result.mode}" if result.output == "y" else found


@pytest.fixture
def bnconf_check(request: pytest.FixtureRequest) -> Callable[[], None]:
    """Return what judges one implementation in one group of checks, and fails the test where it does not conform."""
    check = getattr(request, "param", None)
    if check is None:
        raise pytest.UsageError('bnconf_check: mark the test with @pytest.mark.bnconf("mypackage.module:MyBatchNorm")')

    def hold() -> None:
        run, folder = _run(request.config, check)
        if problem := _problem(run, folder, check.group):
            pytest.fail(problem, pytrace=False)

    return hold


def _run(config: pytest.Config, check: Check) -> tuple[Run, Path]:
    """Return the run of an implementation and its folder; its cases are asked once in a session."""
    from conformance import results

    key, known = (check.entry.id, check.seed, check.cases), config.stash[_RUNS]
    if key not in known:
        folder = _folder(config) / f"{check.entry.id}-{check.seed}-{check.cases}"
        with _alone(folder):
            stamp, session = folder / "session", config.stash[_SESSION]
            if not stamp.exists() or stamp.read_text() != session:
                stamp.unlink(missing_ok=True)
                _ask(check, folder)
                stamp.write_text(session)
        known[key] = results.read(folder), folder
    return known[key]


@contextlib.contextmanager
def _alone(folder: Path) -> Generator[None]:
    """Keep other processes out of a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # until it is closed, if only by death
        yield


def _ask(check: Check, folder: Path) -> None:
    from conformance.campaign import Campaign, Options, Progress

    options = Options([check.entry], folder, seed=check.seed, cases=check.cases, requested=True)
    end = Campaign(options, Progress()).run()
    if "the run was interrupted" in end.reasons:
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
    from conformance import console, summary

    if not run.complete:
        return "; ".join(run.reasons)
    found = [result for result in run.results if _group(result) == group]
    failed = [result for result in found if result.verdict in ("FAIL", "ERROR")]
    if not failed:
        compared = group == _OUTCOMES or any(result.verdict == "PASS" for result in found)
        return "" if compared else f"{group}: nothing was compared in {len(run.cases)} cases; ask more of them"
    worst = max(failed, key=lambda result: summary.as_number(result.rho))
    count = (
        f"{group}: {len(failed)} of {len(found)} judgments fail, in {len({r.case for r in failed})} cases; the worst:"
    )
    return "\n".join([count, console.describe(worst), console.replay_command(run, worst, folder)])
