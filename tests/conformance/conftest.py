"""Helpers for tests of the suite: adapters by path, small runs, cases made by hand."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from conformance.cases import strategies
from conformance.hosts.environment import Limits
from conformance.hosts.participants import Participants
from conformance.hosts.roster import select
from conformance.model import results
from conformance.model.case import Case, Derivative, Step
from conformance.runs import run_file
from conformance.runs.campaign import Campaign, Options
from conformance.runs.kept_verdicts import KeptVerdicts
from conformance.runs.progress import Progress
from reference import Spec

ADAPTERS = Path(__file__).with_name("adapters")
EVERYTHING = "BNCONF_RUN_OF_EVERYTHING"  # the folder of a run of the whole roster, a case of every cell and the corpus
PATIENCE = 540  # seconds for that run, which may still be going on: beyond 600 a test ends the process


@pytest.fixture(autouse=True, scope="session")
def kept_verdicts_opened() -> Any:
    """Judge all that this process asks: what is kept knows no patches. Return how what is kept is opened."""
    opened = KeptVerdicts.opened
    KeptVerdicts.opened = lambda _self: contextlib.nullcontext()
    return opened


@pytest.fixture
def adapter() -> Callable[[str], str]:
    """Return an adapter of the tests, `file:Class`, as a target for -i."""

    def target(name: str) -> str:
        file, _, cls = name.partition(":")
        return f"{ADAPTERS / file}.py" + (f":{cls}" if cls else "")

    return target


@pytest.fixture(scope="session")
def asked_before(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return the folder of a run, made where nobody has asked for the same one yet: not to be written to."""
    made: dict[str, Path] = {}

    def folder(patterns: tuple[str, ...], **told: Any) -> Path:
        key = repr((patterns, sorted(told.items())))
        if key not in made:
            made[key] = tmp_path_factory.mktemp("asked")
            campaign(patterns, made[key], **told)
        return made[key]

    return folder


@pytest.fixture(scope="session", autouse=True)
def drawn_once() -> None:
    """Draw the recipes of a seed and a number once in a process: most tests ask the first few of seed 0."""
    strategies.chosen = functools.lru_cache(maxsize=64)(strategies.chosen)


@pytest.fixture(scope="session")
def everything_asked() -> tuple[results.Run, Path] | None:
    """Return the run of everything that `.ci/run` makes, once it is done, and its folder: nobody is asked twice."""
    made = os.environ.get(EVERYTHING)
    if not made:
        return None
    until = time.monotonic() + PATIENCE
    while not (Path(made) / "report.html").exists():
        assert time.monotonic() < until, f"{made} has no report after {PATIENCE} s"
        time.sleep(1)
    return run_file.read(Path(made)), Path(made)


@pytest.fixture(scope="session")
def of_everything(
    everything_asked: tuple[results.Run, Path] | None, asked_before: Callable[..., Path]
) -> Callable[..., tuple[results.Run, Path]]:
    """Return what a run of the default seed says of some of the roster, and its folder: not to be written to.

    It is a part of the run of everything where there is one, or else made here.
    """

    def part(*patterns: str, cases: int) -> tuple[results.Run, Path]:
        whole, folder = everything_asked or asked(*patterns, cases=cases)
        ids = {entry.id for entry in select(patterns)}
        return msgspec.structs.replace(
            whole,
            implementations=[record for record in whole.implementations if record.id in ids],
            results=[result for result in whole.results if result.implementation in ids],
        ), folder

    def asked(*patterns: str, cases: int) -> tuple[results.Run, Path]:
        folder = asked_before(patterns, cases=cases, corpus=True, limits=Limits())
        return run_file.read(folder), folder

    return part


@pytest.fixture(scope="session")
def asked_of_a_feature(everything_asked: tuple[results.Run, Path] | None) -> Callable[..., list[results.Result]]:
    """Return what the run of everything says of an implementation in the cases of a feature; nothing without one."""

    def found(feature: str, identity: str) -> list[results.Result]:
        if not everything_asked:
            return []
        run, _ = everything_asked
        of = {name for name, c in run.cases.items() if c.recipe.get("signature", {}).get("feature") == feature}
        return [r for r in run.results if r.case in of and r.implementation == identity and r.verdict != "UNSUPPORTED"]

    return found


@pytest.fixture
def run(tmp_path: Path, asked_before: Callable[..., Path]) -> Callable[..., results.Run]:
    """Run implementations on a few cases and return the run read back.

    What is asked of the same in the same way twice is asked once, and the test gets a copy, unless it wants a run of
    its own: `afresh`.
    """

    def go(*patterns: str, out: str = "run", afresh: bool = False, **options: Any) -> results.Run:
        same = all(pattern.startswith(("numpy.", f"{ADAPTERS}")) for pattern in patterns)  # whoever asks, from anywhere
        if same and not afresh and {"cases", "seed", "corpus", "requested", "shard"}.issuperset(options):
            shutil.copytree(asked_before(patterns, **options), tmp_path / out, dirs_exist_ok=True)
        else:
            campaign(patterns, tmp_path / out, **options)
        return run_file.read(tmp_path / out)

    return go


def campaign(patterns: tuple[str, ...], out: Path, *, cases: int = 8, **options: Any) -> None:
    """Run implementations on a few cases."""
    told = {"requested": True, "limits": Limits(case=60, memory=4), "corpus": False, **options}
    where = {name: told.pop(name) for name in Participants.__struct_fields__ if name in told}
    who = Participants(select(patterns), **where)
    Campaign(Options(who, out, cases=cases, **told), Progress()).run()


@pytest.fixture
def manifest(tmp_path: Path) -> Callable[..., Path]:
    """Write a manifest of one divergence, the variance that `wrong:BiasedForUnbiased` stores, and return its folder.

    Keyword arguments are fields that change, as TOML.
    """

    def write(**changes: str) -> Path:
        fields = {
            "id": '"biased"',
            "implementations": '["wrong.biased_for_unbiased@*"]',
            "kind": '"defect"',
            "predicts": '{ semantics = { stored_variance = "biased" } }',
            "rule": '"BN-4"',
            "reason": '"It stores the biased variance"',
            "link": '"unreported"',
            "owner": '"tests"',
            "since": "2026-01-01",
            "review-by": "2099-01-01",
            "witness": '"features-by-batch-axis-0"',
        } | {name.replace("_", "-"): value for name, value in changes.items()}
        lines = ["# What is known", "[[divergence]]", *(f"{name} = {value}" for name, value in fields.items())]
        (tmp_path / "known").mkdir(exist_ok=True)
        (tmp_path / "known" / "wrong.toml").write_text("\n".join(lines) + "\n")
        return tmp_path / "known"

    return write


@pytest.fixture
def small_case() -> Callable[..., Case]:
    """Return a case of rank 2, train then infer, with gradients; keyword arguments change its Spec."""

    def make(shape: tuple[int, ...] = (5, 3), modes: str = "train infer", **spec: Any) -> Case:
        rng, arguments = np.random.default_rng(3), {"axis": 1, "momentum": 0.9, **spec}
        tensors: dict[str, Any] = {}
        kept = (shape[arguments["axis"]],)
        for name in ("gamma", "beta", "moving_mean"):
            tensors[name] = rng.normal(size=kept).astype(np.float32)
        tensors["moving_variance"] = rng.uniform(0.5, 2, kept).astype(np.float32)
        for t in range(len(modes.split())):
            tensors[f"{t}.x"] = rng.normal(size=shape).astype(np.float32)
            tensors[f"{t}.dy"] = rng.normal(size=shape).astype(np.float32)
        steps = tuple(Step(mode=m, derivatives=(Derivative(),)) for m in modes.split())  # type: ignore[arg-type]
        return Case(spec=Spec(**arguments), steps=steps, tensors=tensors)

    return make


@pytest.fixture
def bnconf(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Start the command in the test's folder."""

    def start(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "conformance", *arguments]
        return subprocess.Popen(command, cwd=tmp_path, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    return start


@pytest.fixture
def wait_for_results() -> Callable[..., results.Run]:
    """Return a run that is under way, once it holds some results."""

    def wait(path: Path, number: int = 20, of: str = "") -> results.Run:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            lines = path.read_bytes().splitlines() if path.exists() else []
            if sum(b'"type":"result"' in line and of.encode() in line for line in lines) >= number:
                return run_file.read(path)
            time.sleep(0.02)
        raise AssertionError(f"no results in {path}")

    return wait
