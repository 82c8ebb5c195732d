"""The porting question in a real browser: two implementations side by side, and what means nothing for one of them."""

from __future__ import annotations

import re
from decimal import ROUND_HALF_UP, Decimal

import msgspec
import pytest

from conformance.hosts.roster import built_in
from conformance.model.results import EndRecord, ImplementationRecord, RunRecord
from conformance.report import gather, write
from conformance.report.promises import text
from conformance.runs import run_file
from conformance.studies.translation import effects

expect = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed").expect
TORCH, KERAS, BARE = (
    "torch.nn.BatchNorm2d@cpu",
    "keras.BatchNormalization+tensorflow@cpu",
    "tf.nn.batch_normalization@cpu",
)


@pytest.fixture(scope="module")
def promised(tmp_path_factory):
    """Return the report of a run in which three implementations are named, and asked nothing."""
    folder = tmp_path_factory.mktemp("promised")
    records = [RunRecord(1, "1", 0, 0, ["bnconf", "run"], "2026-01-02T03:04:05+00:00", {})]
    for entry in built_in():
        if entry.id in (TORCH, KERAS, BARE):
            stated = msgspec.to_builtins(entry.statement)
            framework = entry.id.split(".")[0]
            records.append(ImplementationRecord(entry.id, framework, "cpu", True, statement=stated))
    records.append(EndRecord(True, [], 1.0, {}, {}))
    (folder / run_file.FILE).write_bytes(b"".join(msgspec.json.encode(record) + b"\n" for record in records))
    (path,) = write(gather(folder), folder / "report.html")
    return path


def lines(page):
    """Return the first table of the comparison: what differs, both sides, and what it is worth."""
    read = "rows => rows.map(row => [...row.cells].map(cell => cell.textContent))"
    return page.locator("#compare-body table").first.locator("tbody tr").evaluate_all(read)


def test_a_telephone_compares_two_in_cards(visit, promised):
    """At 390 px each difference is a card: both sides and what it is worth below their names, with no word cut."""
    page = visit("#compare", file=promised, viewport={"width": 390, "height": 800})
    cells = page.locator("#compare-body table").first.locator("tbody tr").first.locator("td")
    assert cells.count() == 3
    for cell in cells.all():
        left, right = cell.evaluate("one => [one.getBoundingClientRect().left, one.getBoundingClientRect().right]")
        assert 0 <= left < right <= 390
        assert len(cell.get_attribute("data-head")) > 2
    height = "one => one.getBoundingClientRect().height / parseFloat(getComputedStyle(one).lineHeight)"
    assert cells.nth(1).evaluate(height) < 3  # the name and the value, a line each


def test_two_are_compared_in_one_click(visit, promised):
    """Differences come first, the largest first, each with what it is worth at N, and the command to move weights."""
    page = visit(file=promised)
    page.locator("nav a", has_text="Compare").click()
    found = {line[0]: line[1:] for line in lines(page)}
    assert found["default momentum"][:2] == ["0.1 (keeps 0.9)", "0.99"]
    assert found["default epsilon"] == ["1e-05", "0.001", found["default epsilon"][2]]
    assert found["momentum is"] == ["the new part", "the kept part", "spelling alone: 0.1 of one is 0.9 of the other"]
    assert found["stored variance"][2].startswith("moving variance 3.2 %")
    assert next(iter(found)) == "default momentum"
    command = f"bnconf translate --from {TORCH} --to {KERAS} --n 32"
    expect(page.locator("#compare .command code")).to_have_text(command)


def test_a_difference_is_worth_less_with_more_values(visit, promised):
    """N is chosen on the page and kept in the address; among 16,384 values N/(N-1) drowns in rounding."""
    page = visit("#compare", file=promised)
    page.locator("#compare-form select[name=n]").select_option("16384")
    assert {line[0]: line[3] for line in lines(page)}["stored variance"] == "less than rounding"
    assert "n=16384" in page.url
    page.locator("#compare-swap").click()
    assert {line[0]: line[1] for line in lines(page)}["stored variance"] == "biased"


def test_what_does_not_apply_is_marked(visit, promised):
    """Without an audit too, nothing is claimed of masks or renorm where a layer has none; why is said."""
    page = visit("#compare", file=promised)
    page.locator("#compare details", has_text="For one of them alone").locator("summary").click()
    mask = page.locator("#compare details tr", has=page.locator("th", has_text="mask offset"))
    expect(mask.locator("td").first).to_contain_text("·")
    page = visit("#semantics?columns=all", file=promised)
    row = page.locator(".promises tbody tr", has=page.locator("th", has_text="torch.nn"))
    by_field = "(row, field) => row.cells[document.querySelector(`[data-field=${field}]`).cellIndex].textContent.trim()"
    assert [row.evaluate(by_field, field) for field in ("mask", "renorm", "virtual_batches")] == ["·"] * 3
    assert row.evaluate(by_field, "stored_variance") == "≠ unbiased"


def test_columns_are_shown_by_what_they_are_about(visit, promised):
    """The matrix opens with the columns of a plain layer, on one screen; another group is one click away."""
    page = visit("#semantics", file=promised, viewport={"width": 1440, "height": 900})
    assert page.locator(".promises").evaluate("table => table.offsetWidth") <= 1440
    page.locator("#field-groups button", has_text="masks").click()
    expect(page.locator(".promises thead th[data-field=mask]")).to_be_visible()
    assert not page.locator(".promises thead th[data-field=average]").is_visible()
    assert "columns=3" in page.url


def test_what_differences_are_worth_is_what_was_measured(visit, promised):
    """At every N, each size is that of the kept measurement: the three largest changes of an output, in percent."""
    kept = {(e.field, frozenset((text(e.one), text(e.other))), e.n): e.sizes for e in effects.measured()}
    page, told = visit("#compare", file=promised), 0
    for n in effects.VALUES:
        page.locator("#compare-form select[name=n]").select_option(str(n))
        for what, one, other, said in lines(page):
            pair = frozenset((re.sub(r".*keeps (.*)\)", r"\1", side)) for side in (one, other))
            sizes = kept.get((what.removeprefix("default ").replace(" ", "_"), pair, n))
            if sizes is not None:
                words = {f"{output.replace('_', ' ')} {percent(size)}": size for output, size in sizes.items()}
                parts = said.split(", ") if sizes else []
                assert said == "less than rounding" or set(parts) <= set(words)
                assert sorted(words[part] for part in parts) == sorted(sizes.values())[-3:]
                told += 1
    assert told >= 3 * len(effects.VALUES)


def percent(size):
    """Return a size as the page writes it."""
    if size >= 10:
        return f"× {size:.4g}"
    exact = Decimal(100 * size)  # a browser rounds 44.5 up, and Python to 44
    return f"{float(exact.quantize(Decimal(1).scaleb(exact.adjusted() - 1), ROUND_HALF_UP)):.15g} %"
