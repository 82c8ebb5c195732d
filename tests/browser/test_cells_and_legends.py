"""Cells of the first table, legends of plots and what everybody was asked, held to the lines of run.jsonl.

What is counted here is counted anew, with no code of ours: see `test_numbers` for the other pages.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter, defaultdict

import pytest

pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
CELLS = "rows => rows.map(row => [...row.cells].map(cell => cell.textContent.trim()))"
CHECKS = ("y train", "y infer", "gradients", "moving statistics", "batch statistics", "outcomes")
GROUPS = {"gradients": ("dx", "dgamma", "dbeta"), "batch statistics": ("mean", "variance", "inverse_deviation")}
WORDS = {
    "Refused": ("refusal", "refusals"),
    "Crashed": ("crash", "crashes"),
    "TimedOut": ("timeout", "timeouts"),
    "Outputs": ("answer to what makes no sense", "answers to what makes no sense"),
}
FEATURES = {
    "mask": ("mask",),
    "mask without last": ("mask",),
    "renorm": ("renorm",),
    "virtual": ("virtual batch",),
    "virtual renorm": ("renorm", "virtual batch"),
    "adjustment": ("adjustment",),
}


@pytest.fixture(scope="module")
def cases(records):
    """Return the run's cases by id."""
    return {case["case"]: case for case in records["case"]}


@pytest.fixture(scope="module")
def arrays(records):
    """Return the results that are judged arrays: they have a ρ, which is not null."""
    return [r for r in records["result"] if r.get("rho") is not None]


def check(result):
    """Return the column of the first table that a result belongs to."""
    name = result.get("output", "outcome")
    if name in ("y", "outcome"):
        return f"y {result['mode']}" if name == "y" else "outcomes"
    if "_tangent" in name or name in GROUPS["gradients"]:
        return "gradients"
    return "batch statistics" if name in GROUPS["batch statistics"] else "moving statistics"


def shown(x):
    """Return a number as the page writes it."""
    return "∞" if math.isinf(x) else f"{x:.3g}"


def failed(results):
    """Return those that count against an implementation."""
    return [r for r in results if r["verdict"] in ("FAIL", "ERROR")]


def cell(found):
    """Return what a cell of the first table says of its results, and what it says when it is pointed at."""
    wrong, judged = failed(found), [r for r in found if r["verdict"] in ("PASS", "FAIL", "ERROR")]
    named, decided = ({r["output"] for r in of if "output" in r} for of in (found, judged))
    worst = max((float(r["rho"]) for r in judged if r.get("rho") is not None), default=-1.0)
    if not wrong:
        if not judged or named - decided:
            return "–" if found else "", None
        return f"✓ {shown(worst)}" if worst >= 0 else "✓", None
    title = f"{len(wrong)} of {len(judged)} fail"
    without = [r for r in wrong if "output" not in r]
    if worst > 1 or not without:
        return f"✗ {shown(worst)}", title
    kinds = {r.get("outcome", "") for r in without}
    words = WORDS.get(kinds.pop() if len(kinds) == 1 else "", ("failure", "failures"))
    return f"✗ {len(without)} {words[len(without) != 1]}", title


def test_every_cell_of_the_first_table(visit, records):
    """The worst ρ of each check or how many refusals, those that fail, cases, classes, and ρ as class A."""
    by_place = defaultdict(lambda: defaultdict(list))
    for r in records["result"]:
        by_place[r["implementation"]][check(r)].append(r)
    table = visit().locator("table.gate")
    assert tuple(table.locator("thead th").all_inner_texts()[2:8]) == CHECKS
    read = "rows => rows.map(row => [...row.cells].map(cell => cell.querySelector('a[title]')?.title ?? null))"
    titles, told = table.locator("tbody tr").evaluate_all(read), {}
    for (name, _, *cells), pointed in zip(table.locator("tbody tr").evaluate_all(CELLS), titles, strict=True):
        told[name.split()[0]] = [*zip(cells[:6], pointed[2:8], strict=True), *cells[6:]]
    wanted = {name: [*(cell(of[one]) for one in CHECKS), *promised(of)] for name, of in by_place.items()}
    assert told == wanted
    assert any("refusal" in said for row in told.values() for said, _ in row[:6])


def promised(by_check):
    """Return cases asked, classes promised, and the worst ρ of y in training as class A."""
    found = [r for of in by_check.values() for r in of]
    asked = {r["case"] for r in found if r["verdict"] != "UNSUPPORTED"}
    classes = {r.get("numerics", "") for r in found if "rho" in r}
    as_a = [float(r["class_a"]) for r in found if r.get("class_a") is not None]
    return [str(len(asked)), ", ".join(sorted(classes)), shown(max(as_a)) if as_a else ""]


def test_every_number_of_the_headline(visit, records, arrays):
    """Cases, judged arrays, implementations that depart and conform, failures, and what another run has of them."""
    page, names = visit(), {record["id"] for record in records["implementation"]}
    wrong = Counter(r["implementation"] for r in failed(records["result"]))
    said = " ".join(page.locator("#overview").inner_text().split())
    elements, vacuous = (sum(r.get(name, 0) for r in records["result"]) for name in ("elements", "vacuous"))
    for sentence in (
        f"{len(records['case'])} cases, {len(arrays):,} judged arrays of {len(names)} implementations",
        f"{100 * vacuous / elements:.2g} % of the elements have no finite bound",
        f"✗ {len(wrong)} of {len(names)} implementations depart",
        f"({wrong.total():,} failures)",
        f"{len(names) - len(wrong)} of {len(names)} implementations conform",
        f"{len(arrays)} judged arrays, 0 of {wrong.total()} failures explained",
    ):
        assert sentence in said


def legends(page):
    """Return the rows of each plot's legend, without its guides, by the plot's title."""
    read = (
        "all => all.map(one => [one.querySelector('h3').textContent, [...one.querySelectorAll('tbody tr')]"
        ".map(row => [...row.cells].map(cell => cell.textContent.trim())).filter(row => row.slice(1).some(Boolean))])"
    )
    return dict(page.locator("#accuracy .plot").evaluate_all(read))


def test_the_legend_of_the_depth_of_sums(visit, records, cases, arrays):
    """Means of each framework, the deepest sum that is no deeper than long, and how many are deeper."""
    framework, means = {record["id"]: record["framework"] for record in records["implementation"]}, defaultdict(list)
    for r in arrays:
        if "depth" in r and cases[r["case"]]["values"]:
            means[framework[r["implementation"]]].append((r["depth"], cases[r["case"]]["values"]))
    wanted = []
    for name, found in sorted(means.items()):
        inside = [depth for depth, length in found if depth <= length]
        wanted.append([name, f"{len(found):,}", shown(max(inside, default=0)), f"{len(found) - len(inside):,}"])
    assert legends(visit("#accuracy"))["How deep are the sums?"] == wanted
    assert any(row[3] != "0" for row in wanted)


def test_the_legend_of_what_this_run_saw_of_y(visit, cases, arrays):
    """Arrays in float32 of each class that is promised, and the median of what is allowed."""
    seen = defaultdict(list)
    for r in arrays:
        if "resolution" in r and r["dtype"] == "float32" and cases[r["case"]]["values"]:
            seen[r["numerics"]].append(r["resolution"])
    wanted = [[name, f"{len(v):,}", shown(statistics.median(v))] for name, v in sorted(seen.items())]
    assert legends(visit("#accuracy"))["What did this run see of y?"] == wanted


def test_the_legends_of_classes_and_of_what_is_above_1(visit, records, cases, arrays):
    """How many outputs of training are outside class A, promise by promise; of each framework, the share above 1."""
    page, framework = visit("#accuracy"), {record["id"]: record["framework"] for record in records["implementation"]}
    found, above = defaultdict(list), defaultdict(list)
    for r in arrays:
        above[framework[r["implementation"]]].append(float(r["rho"]) > 1)
        if check(r) == "y train" and cases[r["case"]]["conditioning"] is not None:
            as_a = r.get("class_a")
            found[r["numerics"]].append(float(r["rho"] if as_a is None else as_a) > 1)
    plots = legends(page)
    told = [row[:3] for row in plots["Which class is it really in?"]]
    assert told == [[name, f"{len(v):,}", f"{sum(v):,}"] for name, v in sorted(found.items())]
    shares = {row[0]: row[-1] for row in plots["Distribution of ρ"]}
    assert shares == {name: f"{sum(v) / len(v):.2%}" for name, v in above.items()}


def kind(result):
    """Return whether an array is a derivative, and of which sort; else the mode of its step."""
    name = result["output"]
    if "_tangent" not in name:
        return "gradient" if name in GROUPS["gradients"] else result["mode"]
    return "second order" if name.startswith("d") or name.endswith("2") else "forward"


def test_what_each_implementation_was_asked(visit, records, cases, arrays):
    """Judged arrays of generated cases and those that fail, column by column; of each dtype and rank; the reasons."""
    asked, wrong, dtypes, ranks = (defaultdict(Counter) for _ in range(4))
    for r in arrays:
        name, case = r["implementation"], cases[r["case"]]
        if not case["recipe"]:
            continue
        signature = case["recipe"]["signature"]
        for column in (kind(r), *FEATURES.get(signature.get("feature"), ())):
            asked[name][column] += 1
            wrong[name][column] += r["verdict"] == "FAIL"
        dtypes[name][case["dtype"]] += 1
        ranks[name][len(signature["shape"])] += 1
    page, lacks = visit("#coverage"), {r["id"]: r["statement"]["lacks"] for r in records["implementation"]}
    table, notes = page.locator("#coverage table").nth(1), page.locator("#coverage .notes li").all_text_contents()
    head, rows = table.locator("thead th").all_inner_texts()[1:-2], table.locator("tbody tr").evaluate_all(CELLS)
    assert {row[0] for row in rows} == set(lacks)
    for name, *cells, dtype, rank in rows:
        for column, said in zip(head, cells, strict=True):
            number, failing = asked[name][column], wrong[name][column]
            if said.startswith("–"):
                assert (number, notes[int(said[1:]) - 1]) == (0, lacks[name][column])
            else:
                assert said == (f"{number}" + (f" ({failing} ✗)" if failing else "") if number else "✗ none")
        assert dtype == ", ".join(f"{d} {n}" for d, n in sorted(dtypes[name].items()))
        assert rank == ", ".join(f"{r}: {n}" for r, n in sorted(ranks[name].items()))
    summary = page.locator("#coverage .notes summary").text_content()
    assert len(notes) == len(set(notes) - {""}) == int(summary.split(": ")[1].split()[0])
