"""Helpers for tests of the suite: adapters by path, small runs, cases made by hand."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conformance.hosts.environment import Limits
from conformance.hosts.participants import Participants
from conformance.hosts.roster import select
from conformance.model import results
from conformance.model.case import Case, Derivative, Step
from conformance.runs import run_file
from conformance.runs.campaign import Campaign, Options
from conformance.runs.progress import Progress
from reference import Spec

ADAPTERS = Path(__file__).with_name("adapters")


@pytest.fixture
def adapter() -> Callable[[str], str]:
    """Return an adapter of the tests, `file:Class`, as a target for -i."""

    def target(name: str) -> str:
        file, _, cls = name.partition(":")
        return f"{ADAPTERS / file}.py" + (f":{cls}" if cls else "")

    return target


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., results.Run]:
    """Run implementations on a few cases and return the run read back."""

    def go(*patterns: str, cases: int = 8, out: str = "run", **options: Any) -> results.Run:
        told = {"requested": True, "limits": Limits(case=60, memory=4), "corpus": False, **options}
        where = {name: told.pop(name) for name in Participants.__struct_fields__ if name in told}
        who = Participants(select(patterns), **where)
        Campaign(Options(who, tmp_path / out, cases=cases, **told), Progress()).run()
        return run_file.read(tmp_path / out)

    return go


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
