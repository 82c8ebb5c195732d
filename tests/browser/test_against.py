"""What the report says of another run beside this one, each number counted anew from the two runs' files."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections import Counter, defaultdict
from types import SimpleNamespace

import numpy as np
import pytest

from conformance.report import gather, write

pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
FAILED = ("FAIL", "ERROR")
ROWS = "rows => rows.map(row => [...row.cells].map(cell => cell.textContent.trim()))"


@pytest.fixture(scope="module")
def two(runs, tmp_path_factory):
    """Return the records of both runs and a report: of the other, some cases are gone and some verdicts are turned."""
    folder = tmp_path_factory.mktemp("against") / "other"
    shutil.copytree(runs / "before", folder)
    lines = [json.loads(line) for line in (folder / "run.jsonl").read_text(encoding="utf-8").splitlines()]
    dropped = {one["case"] for one in lines if one["type"] == "case"}
    dropped = set(sorted(dropped)[::7])
    kept = [one for one in lines if one.get("case") not in dropped or one["type"] not in ("case", "result")]
    for n, one in enumerate(one for one in kept if one["type"] == "result" and one.get("rho") is not None):
        if n % 3 == 0:
            one.update(verdict="FAIL" if one["verdict"] == "PASS" else "PASS")
    text = "".join(json.dumps(one, separators=(",", ":")) + "\n" for one in kept)
    (folder / "run.jsonl").write_text(text, encoding="utf-8")
    (path,) = write(gather(runs / "now", against=folder), folder.parent / "report.html")
    return SimpleNamespace(now=results(runs / "now"), before=results(folder), frameworks=frameworks(folder), file=path)


def read(folder, kind):
    """Return the records of one type in a run's file."""
    lines = (folder / "run.jsonl").read_text(encoding="utf-8").splitlines()
    return [one for one in map(json.loads, lines) if one["type"] == kind]


def results(folder):
    """Return a run's results by what identifies them."""
    key = ("case", "implementation", "step", "output")
    return {tuple(one.get(name) for name in key): one for one in read(folder, "result")}


def frameworks(folder):
    """Return the framework of each implementation of a run."""
    return {one["id"]: one["framework"] for one in read(folder, "implementation")}


def test_every_number_of_what_changed(visit, two):
    """Regressed, still failing and fixed, over the cases and implementations that both asked, and how much that is."""
    pairs = [
        {identity[:2] for identity, one in found.items() if one["verdict"] != "UNSUPPORTED"}
        for found in (two.now, two.before)
    ]
    common = pairs[0] & pairs[1]
    now, before = (
        {identity for identity, one in found.items() if one["verdict"] in FAILED and identity[:2] in common}
        for found in (two.now, two.before)
    )
    counted = {"regressed": len(now - before), "still failing": len(now & before), "fixed": len(before - now)}
    assert all(counted.values())
    page = visit(file=two.file)
    said = " ".join(page.locator("#against").inner_text().replace(",", "").split())
    assert {change: int(n) for n, change in re.findall(r"(\d+) (regressed|still failing|fixed)", said)} == counted
    cases, names = ({pair[n] for pair in common} for n in (0, 1))
    assert f"{len(cases)} cases of {len(names)} implementations" in said
    shares = [f"{100 * len(common) / len(of):.1f} %" for of in pairs]
    assert f"implementations {shares[0]} of this run and {shares[1]} of the other" in said
    assert page.locator("#against tbody tr").evaluate_all(ROWS) == [
        ["explained by nothing", str(len(before)), str(len(now))]
    ]


def test_the_distribution_of_the_other_run(visit, two):
    """Beside this run's stands that of the other: its judged arrays by framework, their ρ, and the share above 1."""
    by_framework = defaultdict(list)
    for one in two.before.values():
        if one.get("rho") is not None:
            by_framework[two.frameworks[one["implementation"]]].append(float(one["rho"]))
    plot = visit("#accuracy", file=two.file).locator("#accuracy .plot", has_text="Distribution of ρ in other")
    told = {name: rest for name, *rest in plot.locator("tbody tr").evaluate_all(ROWS)}
    assert set(told) == set(by_framework)
    for name, found in by_framework.items():
        quantiles = [np.quantile(found, q, method="inverted_cdf") for q in (0.5, 0.9, 0.99, 1)]
        above = f"{np.mean(np.array(found) > 1):.2%}"
        assert told[name] == [f"{len(found):,}", *(f"{q:.3g}" for q in quantiles), above]


def test_what_the_plot_of_classes_draws(visit, runs):
    """A mark for each pair of conditioning and ρ that differs in two digits of its logarithms; so many are drawn."""
    cases = {one["case"]: one["conditioning"] for one in read(runs / "now", "case")}
    points = defaultdict(set)
    for one in read(runs / "now", "result"):
        if one.get("output") == "y" and one["mode"] == "train" and one.get("rho") is not None:
            conditioning, rho = cases[one["case"]], one.get("class_a")
            if conditioning is not None:
                pair = float(conditioning), float(one["rho"] if rho is None else rho)
                points[one["numerics"]].add(place(*pair))
    plot = visit("#accuracy").locator("#accuracy .plot", has_text="Which class is it really in?")
    told = {name: int(drawn) for name, _, _, drawn in plot.locator("tbody tr").evaluate_all(ROWS)}
    assert told == {name: len(found) for name, found in points.items()}
    marks = "paths => paths.map(path => [path.querySelector('title').textContent, path.getAttribute('d')])"
    drawn = Counter()
    for name, path in plot.locator("svg.chart path:has(title)").evaluate_all(marks):
        drawn[name] += len(re.findall(r"M[\d.-]+,[\d.-]+", path))
    assert drawn == told


def place(conditioning, rho):
    """Return where a mark is, as logarithms to two digits; what is below an axis is drawn at its beginning."""
    return round(math.log10(max(conditioning, 1e-1)), 2), round(math.log10(max(rho, 1e-6)), 2)
