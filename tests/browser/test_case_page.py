"""The page of a case in a real browser: what it says of one and of all, how it is sent on, and the way there."""

from __future__ import annotations

import base64
import json
import re
import struct
import zlib

import msgspec
import pytest
from pages import until

from conformance.model.results import CaseRecord, EndRecord, ImplementationRecord, Result, RunRecord
from conformance.report import gather, write
from conformance.runs import run_file

expect = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed").expect
FAILING = "#results?verdict=FAIL&output=moving_mean"


def records():
    """Return the records of a run of one case, which has a name."""
    return [
        RunRecord(1, "1", 0, 1, ["bnconf", "run"], "2026-01-02T03:04:05+00:00", {}),
        ImplementationRecord("a.one@cpu", "a", "cpu", True),
        CaseRecord("decaf0", 0, "corpus", "cases/decaf0.safetensors", "(4, 3)", {}, True, None, "named"),
        Result("decaf0", "a.one@cpu", "PASS", 0, "train", "y", rho=0.25, elements=12),
        EndRecord(True, [], 1.0, {}, {}),
    ]


@pytest.fixture(scope="module")
def run(runs):
    """Return the run, read again."""
    return run_file.read(runs / "now")


def opened(visit, **options):
    """Return the page of the first failing case of a list."""
    page = visit(FAILING, **options)
    page.locator("#results-table tbody a").first.click()
    page.wait_for_selector("#case.here .verdict")
    return page


def test_a_case_says_how_many_results_pass(visit, run):
    """Beside those that fail, the number of those that pass is that of the run's file."""
    page = opened(visit)
    said = page.locator("#case .timeline").evaluate("list => list.previousSibling.textContent")
    name, passing, failing = re.match(
        r"Of (\S+) in all steps: ([\d,]+) results? pass(?:es)?, (\d+) fails?;", said
    ).groups()
    case = page.locator("#case dd code").inner_text()
    mine = [r for r in run.results if (r.case, r.implementation) == (case, name)]
    assert int(passing) == sum(r.verdict == "PASS" for r in mine)
    assert int(failing) == sum(r.failed for r in mine)


def test_one_sign_is_used_throughout(visit):
    """Who fails by nothing known has ✗ in the verdict, the steps and the list of all; shades are explained."""
    page = opened(visit)
    name = page.locator("#case .verdict strong").inner_text().split()[1]
    row = page.locator("#case tbody tr", has=page.get_by_role("link", name=name, exact=True))
    assert page.locator("#case .verdict strong").inner_text()[0] == "✗"
    assert row.locator("td").inner_text()[0] == "✗"
    expect(page.locator("#case")).to_contain_text("the darker the larger")


def test_arrays_far_from_zero_are_shown_around_their_mean(visit):
    """Values near 1,000 have the shades of what they differ in, and the caption says around what."""
    page = visit()
    far = "({rows: 2, columns: 2, values: Float32Array.of(1000, 1001, 999, 1000)})"
    # The page's functions are its own; what it draws is read from a map that is drawn again of such values.
    script = page.locator("script:not([id])").text_content()
    body = script[script.index("// What the shades mean.") : script.index("// One case: what was asked")]
    helpers = script[script.index("// Make an element;") : script.index("const SIGNS")]
    constants = "const CELL = 18; const MAPS = {x: 'input x'};"
    draw = f"return heatMap('x', {far}, [0, 0]).outerHTML;"
    drawn = page.evaluate(f"() => {{ {helpers} {constants} {body} {draw} }}")
    assert "1000 ± 1" in drawn
    assert re.findall(r'class="([vpn]\d)', drawn) == ["v0", "p4", "n4", "v0"]


def test_a_case_is_sent_as_a_link_and_as_an_issue(visit):
    """The link is the address; the issue says what is off, by how much, with versions, and both commands."""
    page = opened(visit, permissions=["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy as issue").click()
    expect(page.locator("#case .share output")).to_contain_text("copied")
    said = page.evaluate("navigator.clipboard.readText()")
    verdict = page.locator("#case .verdict p").nth(1).inner_text()
    assert verdict in said
    for part in ("moving_mean", "Case: ", "Versions: ", "bnconf replay ", "bnconf explain ", " --upstream"):
        assert part in said
    page.get_by_role("button", name="Copy link").click()
    until(page, "navigator.clipboard.readText().then(text => text === location.href)")


def test_a_case_is_taken_out_of_the_page(visit, report, runs):
    """A worst case is downloaded as the file that the run has, and the command beside it asks that file."""
    data = zlib.decompress(base64.b64decode(re.search('id="data">([^<]*)<', report.read_text(encoding="utf-8"))[1]))
    header = json.loads(data[4 : 4 + struct.unpack_from("<I", data)[0]])
    page = visit(f"#case/{header['attached'][0][0]}")
    with page.expect_download() as started:
        page.locator("#case a[download]").click()
    name = started.value.suggested_filename
    assert started.value.path().read_bytes() == (runs / "now" / "cases" / name).read_bytes()
    expect(page.locator("#case .share .command code")).to_contain_text(f"bnconf replay {name} -i ")


def test_a_case_of_the_corpus_has_its_name_for_an_address(visit, tmp_path):
    """#case/NAME opens the case of that name, as its id does; a name that is none is said to be none."""
    folder = tmp_path / "named"
    folder.mkdir()
    (folder / run_file.FILE).write_bytes(b"".join(msgspec.json.encode(record) + b"\n" for record in records()))
    (path,) = write(gather(folder), folder / "report.html")
    page = visit("#case/named", file=path)
    expect(page.locator("#case dd code")).to_have_text("decaf0")
    expect(page.locator("#case .share .command code")).to_have_text("bnconf replay named -i a.one@cpu")
    page = visit("#case/no-such-name", file=path)
    expect(page.locator("#case-body")).to_contain_text("No case no-such-name is in this run.")


def test_back_is_where_one_was_and_the_title_says_where_one_is(visit):
    """Enter opens a case, whose heading has the focus and whose name is the title; Back returns to the same place."""
    page = visit("#results", viewport={"width": 900, "height": 500})
    expect(page).to_have_title("Results – Batch normalization conformance")
    page.evaluate("scrollTo(0, 600)")
    until(page, "scrollY === 600")
    page.wait_for_timeout(50)
    page.locator("#results-table tbody a").nth(30).focus()
    place = page.evaluate("scrollY")
    page.wait_for_timeout(50)
    page.keyboard.press("Enter")
    page.wait_for_selector("#case.here")
    assert page.evaluate("document.activeElement.id") == "case-h"
    expect(page).to_have_title(re.compile(r"^Case \w+ – "))
    page.go_back()
    page.wait_for_selector("#results.here")
    until(page, f"Math.abs(scrollY - {place}) < 2")


def test_a_narrow_screen_does_not_scroll_sideways(visit):
    """At 390 px the pages of a case and of a comparison stay within the screen."""
    page = opened(visit, viewport={"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.locator("nav a", has_text="Compare").click()
    page.wait_for_selector("#compare.here table", state="attached")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_words_are_explained_where_they_first_stand(visit):
    """The first screen says who departs, what ρ is, what classes are, and what has no finite bound, without script."""
    page = visit(java_script_enabled=False, ready=False)
    said = page.locator("#overview").inner_text()
    assert re.search(
        r"✗ 2 of 9 implementations depart in a way that nothing explains\s+\(230 failures\): \S+, \S+\.", said
    )
    for words in ("ρ = error ÷ allowed error", "A takes the variance in two passes", "no error can be excluded"):
        assert words in re.sub(r"\s+", " ", said)
