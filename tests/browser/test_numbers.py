"""Numbers of every page but those on failures, each held to what is counted anew from run.jsonl.

See also `test_counts` and `test_cells_and_legends`.
"""

from __future__ import annotations

import dataclasses
import math
import re
import statistics
from collections import Counter, defaultdict
from urllib.parse import quote

import pytest

from conformance.report.promises import text
from reference import Semantics

expect = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed").expect
CELLS = "rows => rows.map(row => [...row.cells].map(cell => cell.textContent.trim()))"
GROUPS = {
    "gradients": ("dx", "dgamma", "dbeta"),
    "moving statistics": ("moving_", "renorm_"),
    "batch statistics": ("mean", "variance", "inverse_deviation"),
}


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
    name = first.locator("th").inner_text()
    first.locator(f"td:nth-child({place + 1}) a").click()
    mine = [r for r in arrays if r[:2] == (name, "moving_mean")]
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


def test_every_value_of_semantics_is_that_of_the_statements(visit, records):
    """Of each field, the value of the statement's last rule without a condition; else that of the reference."""
    default = {field.name: text(field.default) for field in dataclasses.fields(Semantics)}
    page = visit("#semantics?columns=all")
    names = page.locator(".promises thead th[data-field]").evaluate_all("all => all.map(one => one.dataset.field)")
    read = CELLS.replace("cell.textContent", "(cell.querySelector('summary') ?? cell).textContent")
    rows = page.locator(".promises tbody tr").evaluate_all(read)
    lines = {row[0]: dict(zip(names, row[1:], strict=True)) for row in rows}
    assert set(lines) == {record["id"] for record in records["implementation"] if record.get("statement")}
    for record in records["implementation"]:
        told = lines[record["id"]]
        for field, value in default.items():
            rules = [rule for rule in record["statement"]["rules"] if field in rule.get("semantics", {})]
            plain = [text(rule["semantics"][field]) for rule in rules if not rule.get("when")]
            wanted = plain[-1] if plain else value
            mark = "≠ " if wanted != value else ""
            assert told[field] in ("·", f"{mark}{wanted}", f"{mark}{wanted} +"), (record["id"], field)


def test_every_number_of_a_comparison(visit, records):
    """Differences are as many as rows, all columns are counted once, failures are those of the run's file."""
    failing = Counter(r["implementation"] for r in records["result"] if r["verdict"] in ("FAIL", "ERROR"))
    other = failing.most_common(1)[0][0]
    page = visit(f"#compare?a=numpy.two_pass@cpu&b={quote(other)}")
    counts = list(map(int, re.findall(r"\d+", page.locator("#compare-body [role=status]").inner_text())))
    columns = page.locator(".promises thead th[data-field]").count()
    assert sum(counts) == columns
    assert counts[0] == page.locator("#compare-body table").first.locator("tbody tr").count()
    said = page.locator("#compare-body").inner_text()
    assert f"{failing[other]:,} failures that nothing explains" in said
    assert "numpy.two_pass@cpu keeps all it promises in this run" in said


def test_every_number_of_coverage(visit, records, arrays):
    """Cases and judged arrays of each mandatory cell, and what each implementation was asked, dtype by dtype."""
    page = visit("#coverage")
    cases = Counter(tuple(case["cell"].split("; ", 1)) for case in records["case"] if case["recipe"])
    judged = Counter(tuple(array[6]["cell"].split("; ", 1)) for array in arrays if array[6]["recipe"])
    first, second = page.locator("#coverage table").all()[:2]
    placements = first.locator("thead th").all_inner_texts()[1:]
    for column, *cells in first.locator("tbody tr").evaluate_all(CELLS):
        for placement, said in zip(placements, cells, strict=True):
            if said and "none" not in said:
                assert said == f"{cases[placement, column]} {judged[placement, column]:,}"
    generated = [array for array in arrays if array[6]["recipe"]]
    for name, *_, dtypes, _ in second.locator("tbody tr").evaluate_all(CELLS):
        mine = Counter(array[6]["dtype"] for array in generated if array[0] == name)
        assert dict(part.rsplit(" ", 1) for part in dtypes.split(", ")) == {d: str(n) for d, n in mine.items()}


def test_every_number_of_a_result(visit, records):
    """Each failure that is listed has the ρ, the values, the error allowed and the ulps of the run's file."""
    page = visit("#results?verdict=FAIL&output=moving_mean&sort=-rho")
    by_place = {(r["case"], r["implementation"], r["step"], r["output"]): r for r in records["result"] if "output" in r}
    lines = page.locator("#results-table tbody tr").evaluate_all(CELLS)
    assert lines
    for who, output, case, step, _, _, _, rho, why in lines:
        result = by_place[case, who, int(step), output]
        worst, number = result["deviation"], r"(\S+?)"
        words = rf"at \[.*\] expected {number}, got {number}; allowed error {number}, {number} ulps? off .*"
        told = re.fullmatch(words, why)
        figures = [worst[name] for name in ("expected", "got", "bound", "ulps")]
        for said, figure in zip((rho, *told.groups()), (result["rho"], *figures), strict=True):
            assert float(said.replace("∞", "inf")) == pytest.approx(float(figure), rel=5e-3)


def test_every_number_of_what_the_bounds_can_see(visit, records, arrays):
    """Resolution, share without a finite bound, depth and sizes of each implementation."""
    page = visit("#accuracy")
    ids = {record["id"] for record in records["implementation"]}
    table = page.locator("#accuracy table", has=page.locator("th", has_text="largest tensor"))
    for name, resolution, vacuous, depth, values, elements, *_ in table.locator("tbody tr").evaluate_all(CELLS):
        mine = [r for r in records["result"] if r["implementation"] == name and "rho" in r]
        y = [r for r in mine if column(r) == "y train"]
        seen = [r["resolution"] for r in y if "resolution" in r]
        assert resolution == (f"{statistics.median(seen):.3g}" if seen else "")
        share = sum(r.get("vacuous", 0) for r in y) / max(sum(r.get("elements", 0) for r in y), 1)
        assert vacuous == (f"{100 * share:.2g} %" if y else "")
        assert depth == (f"{max(r.get('depth', 0.0) for r in mine):.3g}" if mine else "")
        cases = [array[6] for array in arrays if array[0] == name]
        for said, what in ((values, "values"), (elements, "elements")):
            assert said == f"{max((case[what] for case in cases), default=0):,}"
        ids.discard(name)
    assert not ids


def test_every_number_of_history_and_environment(visit, records):
    """The worst ρ of each implementation, beside its failures; seconds and processor time of the run."""
    page = visit("#history")
    found = records["result"]
    for name, _, *values in page.locator("#history table").nth(1).locator("tbody tr").evaluate_all(CELLS):
        mine = [r for r in found if r["implementation"] == name]
        worst = max(float(r["rho"]) for r in mine if r.get("rho") is not None)
        failed = sum(r["verdict"] in ("FAIL", "ERROR") for r in mine)
        assert values[-1] == shown(worst) + (f" ({failed} ✗)" if failed else "")
    (end,) = records["end"]
    about = page.locator("#environment dl").evaluate("list => [...list.children].map(one => one.textContent.trim())")
    told = dict(zip(about[::2], about[1::2], strict=True))
    assert told["seconds"] == str(end["seconds"])
    assert {name: told[f"CPU seconds, {name}"] for name in end["cpu"]} == {n: str(s) for n, s in end["cpu"].items()}


def test_every_number_of_the_timetable(visit, records):
    """Seconds of CPU by environment and part, their sums, and nothing where nothing was spent."""
    (end,) = records["end"]
    page = visit("#environment")
    heads = page.locator("#timetable thead th").all_inner_texts()[1:-1]
    found = {name: values for name, *values in page.locator("#timetable tbody tr").evaluate_all(CELLS)}
    assert set(heads) == {part for parts in end["timetable"].values() for part in parts}
    for name, parts in end["timetable"].items():
        assert found.pop(name) == [seconds(parts.get(head, 0.0)) for head in heads] + [seconds(sum(parts.values()))]
    columns = [sum(parts.get(head, 0.0) for parts in end["timetable"].values()) for head in heads]
    assert found == {"together": [*map(seconds, columns), seconds(sum(columns))]}


def seconds(value):
    """Return seconds as the page writes them."""
    return f"{value:.1f}" if value else ""
