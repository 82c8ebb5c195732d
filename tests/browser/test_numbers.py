"""Numbers of the pages on accuracy, coverage and semantics, each held to what is counted anew from run.jsonl."""

from __future__ import annotations

import json
import math
from collections import defaultdict

import pytest

expect = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed").expect
CELLS = "rows => rows.map(row => [...row.cells].map(cell => cell.textContent.trim()))"
GROUPS = {
    "gradients": ("dx", "dgamma", "dbeta"),
    "moving statistics": ("moving_", "renorm_"),
    "batch statistics": ("mean", "variance", "inverse_deviation"),
}


@pytest.fixture(scope="module")
def records(runs):
    """Return the lines of the run's file as JSON, by type."""
    found = defaultdict(list)
    for line in (runs / "now" / "run.jsonl").read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        found[record["type"]].append(record)
    return found


@pytest.fixture(scope="module")
def arrays(records):
    """Return every judged array as (implementation, output, check, dtype, ρ, error in ulps, case)."""
    cases = {case["case"]: case for case in records["case"]}
    found = []
    for r in records["result"]:
        if r.get("rho") is not None:
            rho, ulps = float(r["rho"]), r.get("deviation", {}).get("ulps", 0.0)
            ulps = math.inf if math.isinf(rho) and not ulps else ulps
            found.append((r["implementation"], column(r), check(r), r["dtype"], rho, ulps, cases[r["case"]]))
    return found


def column(result):
    """Return the name of a result's column: in both modes there are y and gradients that are along nothing."""
    name = result["output"]
    return f"{name} {result['mode']}" if name in ("y", "dx", "dgamma", "dbeta") else name


def check(result):
    """Return the check that a result belongs to."""
    name = result["output"]
    if name == "y":
        return f"y {result['mode']}"
    return next(group for group, starts in GROUPS.items() if name.startswith(starts))


def shown(x):
    """Return a number as the page writes it."""
    return "∞" if math.isinf(x) else f"{x:.3g}"


def quantile(values, share):
    """Return the smallest number that so large a share does not exceed."""
    return sorted(values)[math.ceil(share * len(values)) - 1]


def ranked(arrays, wanted):
    """Return the rows of the ranking: judged, defects, and median, 99 % and largest of ulps and of ρ."""
    by_name = defaultdict(list)
    for array in filter(wanted, arrays):
        by_name[array[0]].append(array)
    rows = {}
    for name, mine in by_name.items():
        numbers = ([array[n] for array in mine] for n in (5, 4))
        said = [shown(quantile(v, share)) for v in numbers for share in (0.5, 0.99, 1)]
        rows[name] = [f"{len(mine):,}", "", *said]
    return rows


def rows(page):
    """Return the ranking that is shown, without its strips."""
    return {
        line[0]: [*line[1:3], *line[4:7], *line[8:]] for line in page.locator("#ranking tbody tr").evaluate_all(CELLS)
    }


def test_every_number_of_the_ranking(visit, arrays):
    """Over all arrays, and of one dtype and check chosen in two clicks, by what 99 % of the errors are within."""
    page = visit("#accuracy")
    assert rows(page) == ranked(arrays, lambda _: True)
    page.locator("#ranking-form select[name=in]").select_option("float32")
    page.locator("#ranking-form select[name=of]").select_option("y train")
    wanted = ranked(arrays, lambda array: array[2:4] == ("y train", "float32"))
    assert rows(page) == wanted
    assert "in=float32" in page.url
    order = [float(row[3].replace("∞", "inf")) for row in rows(page).values()]
    assert order == sorted(order)
    expect(page.locator("#ranking-said")).to_have_text(f"{len(wanted)} implementations have such arrays")


def test_every_number_of_the_heat_table_which_sorts_and_leads_on(visit, arrays):
    """The worst ρ of each output; a column's name sorts, a number opens its results, and the address keeps both."""
    page, worst = visit("#accuracy"), defaultdict(dict)
    for name, output, _, _, rho, *_ in arrays:
        worst[name][output] = max(rho, worst[name].get(output, 0.0))
    outputs = page.locator("#heat thead th").evaluate_all("all => all.slice(1).map(one => one.dataset.output)")
    told = {}
    for name, *cells in page.locator("#heat tbody tr").evaluate_all(CELLS):
        told[name] = {output: cell for output, cell in zip(outputs, cells, strict=True) if cell}
    assert told == {n: {o: shown(r) + (" ✗" if r > 1 else "") for o, r in of.items()} for n, of in worst.items()}
    place = outputs.index("moving_mean") + 1
    page.locator("#heat thead button").nth(place).click()
    page.locator("#heat thead button").nth(place).click()
    expect(page.locator("#heat thead th").nth(place)).to_have_attribute("aria-sort", "descending")
    first = page.locator("#heat tbody tr").first
    assert first.locator("th").inner_text() == max(worst, key=lambda name: worst[name].get("moving_mean", -1))
    page.reload()
    expect(page.locator("#heat thead th").nth(place)).to_have_attribute("aria-sort", "descending")
    page.locator("#heat tbody tr").first.locator("td a").nth(place - 1).click()
    mine = [r for r in arrays if r[0] == first.locator("th").text_content() and r[1] == "moving_mean"]
    expect(page.locator("#results-said")).to_contain_text(f"{len(mine):,} results")


def test_every_number_beside_the_plots_of_accuracy(visit, arrays, records):
    """Distributions per dtype and of ρ, classes, and what stands below each small chart."""
    page = visit("#accuracy")
    framework = {record["id"]: record["framework"] for record in records["implementation"]}
    tables = dict(page.locator("#accuracy .plot").evaluate_all(
        "all => all.map(one => [one.querySelector('h3').textContent, [...one.querySelectorAll('tbody tr')].map(row => "
        "[...row.cells].map(cell => cell.textContent.trim()))])"
    ))  # fmt: skip
    for dtype in {array[3] for array in arrays}:
        assert tables[f"Error in {dtype}"] == told(framework, [a for a in arrays if a[3] == dtype], 5)
    assert [row[:6] for row in tables["Distribution of ρ"]] == told(framework, arrays, 4)
    train = [array for array in arrays if array[1] == "y train" and array[6]["conditioning"] is not None]
    assert sum(int(row[1].replace(",", "")) for row in tables["Which class is it really in?"]) == len(train)
    for name, said in page.locator(".panels figure").evaluate_all(
        "all => all.map(one => [one.querySelector('figcaption').textContent, one.querySelector('small').textContent])"
    ):
        errors = sorted(array[5] for array in train if array[0] == name)
        middle = (errors[(len(errors) - 1) // 2] + errors[len(errors) // 2]) / 2
        assert said == f"median {shown(middle)}, largest {shown(errors[-1])}; {len(errors):,} arrays"


def told(framework, arrays, which):
    """Return the rows of a legend: framework, arrays, and quantiles."""
    by_name = defaultdict(list)
    for array in arrays:
        by_name[framework[array[0]]].append(array[which])
    shares = (0.5, 0.9, 0.99, 1)
    return [[n, f"{len(v):,}", *(shown(quantile(v, s)) for s in shares)] for n, v in sorted(by_name.items())]
