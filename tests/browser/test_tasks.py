"""Seven tasks that people open a report for: each in at most three clicks, and what they read is right."""

from __future__ import annotations

import re
import time
from pathlib import Path
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest

from conformance.cases import corpus
from conformance.gate.outputs.checks import group
from conformance.hosts.environment import Limits
from conformance.hosts.participants import Participants
from conformance.hosts.roster import built_in, select
from conformance.model.results import ImplementationRecord
from conformance.report import gather, porting, write
from conformance.report.entries import asked, entries, identity
from conformance.runs import commands, run_file, summary
from conformance.runs.campaign import Campaign, Options
from conformance.runs.progress import Progress
from conformance.runs.run_case import RunCase

expect = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed").expect
ADAPTERS = Path(__file__).parents[1] / "conformance" / "adapters"
RED = "table.gate td.departs a, table.gate td.explained a"
MOST_CLICKS = 3
PATIENCE = 30  # seconds of a machine that does other things too; the tasks take one each
TORCH, KERAS = "torch.nn.BatchNorm2d@cpu", "keras.BatchNormalization+tensorflow@cpu"
PROMISING = """
import importlib.util

spec = importlib.util.spec_from_file_location("subject", {!r})
subject = importlib.util.module_from_spec(spec)
spec.loader.exec_module(subject)


class Promising(subject.Subject):
    lie = {{"semantics": {{"stored_variance": "unbiased"}}, "cite": "nothing"}}
    statement = dict(
        subject.Subject.statement, id="reference.promising", rules=[*subject.Subject.statement["rules"], lie]
    )
"""
"""An implementation that has masks, and promises what it does not do."""


class Visitor:
    """Somebody at the report who counts what they click or choose; to type, where the cursor is set, is no click."""

    def __init__(self, page):
        self.page, self.clicks = page, 0

    def click(self, place):
        """Click on a place."""
        self.clicks += 1
        place.click()

    def choose(self, place, value):
        """Choose one of a list."""
        self.clicks += 1
        place.select_option(value)

    def nav(self, name):
        """Click on the name of a page."""
        self.click(self.page.get_by_role("navigation").get_by_role("link", name=name, exact=True))


def who_fails_and_why(visitor, known):
    """The first screen says of each implementation whether it departs, and of every cause in words what and where."""
    rows = visitor.page.locator("table.gate tbody tr")
    said = rows.evaluate_all(
        "rows => rows.map(row => [row.querySelector('th a').textContent, row.cells[1].textContent])"
    )
    failing = {r.implementation for r in known.run.results if r.failed}
    assert {name for name, state in said if state[0] in "✗▲"} == failing
    screen = " ".join(visitor.page.locator("#overview").inner_text().split())
    known_of = {d.id: d.reason for d in known.material.known}
    explained = {name for e in known.material.explanations if e.kind == "explained" for name in e.divergences}
    assert [known_of[name] for name in explained if known_of[name] not in screen] == []
    causes = [(one.implementation, line) for one in known.material.decision.groups[:10] for line in one.lines]
    assert [(name, line) for name, line in causes if name not in screen or line not in screen] == []
    assert {name for name, _ in causes} == {r.implementation for r in known.run.results if r.failed} or explained


def a_red_cell_to_its_number_and_command(visitor, known):
    """A cell leads to its failures: the worst ρ that it shows, expected and got, and the command that asks it again."""
    cell = visitor.page.locator(
        "table.gate td.departs a, table.gate td.explained a", has_text=re.compile(r"[✗▲] [\d.]+")
    ).first
    check = cell.get_attribute("data-check")
    name = cell.locator("xpath=ancestor::tr").locator("th a").first.inner_text()
    shown = cell.inner_text().split()[1]
    visitor.click(cell)
    opened = visitor.page.locator("#failures details.group[open]")
    mine = [
        r for r in known.run.results if r.failed and r.implementation == name and group(r).replace("_", " ") == check
    ]
    worst = max((r for r in mine if r.deviation), key=lambda r: r.size)
    assert shown == summary.show(worst.rho)
    assert f"worst ρ = {shown}" in opened.locator("summary").first.inner_text()
    assert f"expected {worst.deviation.expected:.9g}, got {worst.deviation.got:.9g}" in opened.inner_text()
    assert opened.locator("pre").inner_text() == commands.replay(known.run, worst, known.material.folder)


def what_differs_between_torch_and_keras(visitor, known):
    """The comparison opens with these two, and has a line for each field of which they promise something else."""
    rows = {row.implementation: row.promises for row in porting.rows(known.run, known.material.audited)}
    first, second = rows[TORCH], rows[KERAS]

    def applies(promise):
        return not promise.inapplicable and promise.value != "–"

    def compared(promise):
        return promise.key or promise.value, promise.elsewhere

    wanted = {
        name.replace("_", " ")
        for name, one in first.items()
        if applies(one)
        and applies(second[name])
        and (
            (one.key or one.value) != (second[name].key or second[name].value)
            or one.elsewhere != second[name].elsewhere
        )
    }
    visitor.nav("Compare")
    table = visitor.page.locator("#compare-body table").first
    expect(table.locator("thead th").nth(2)).to_be_visible()
    assert table.locator("thead th").all_inner_texts()[1:3] == [TORCH, KERAS]
    assert set(table.locator("tbody th").all_inner_texts()) == wanted
    assert {"default momentum", "stored variance"} <= wanted


def what_changed_since_another_run(visitor, known):
    """The first screen counts what fails now and did not, what still fails and what is fixed, of what both asked."""
    common = asked(known.run) & asked(known.other)
    now, before = (
        {identity(r) for r in run.results if r.failed and (r.case, r.implementation) in common}
        for run in (known.run, known.other)
    )
    said = visitor.page.locator("#against").inner_text().replace(",", "")
    counted = {change: int(number) for number, change in re.findall(r"(\d+) (regressed|still failing|fixed)", said)}
    assert counted == {"regressed": len(now - before), "still failing": len(now & before), "fixed": len(before - now)}


def who_is_most_accurate_where(visitor, known):
    """Of moving statistics in float32, the first of the ranking has the smallest error that 99 % stay within."""
    visitor.nav("Accuracy")
    form = visitor.page.locator("#ranking-form")
    visitor.choose(form.locator("select[name=in]"), "float32")
    visitor.choose(form.locator("select[name=of]"), "moving statistics")
    apart = {identity(e.result) for e in known.material.explanations if e.kind == "explained"}
    errors = {}
    for r in known.run.results:
        if r.deviation and r.dtype == "float32" and group(r) == "moving_statistics" and identity(r) not in apart:
            errors.setdefault(r.implementation, []).append(r.deviation.ulps)
    ranked = {name: np.quantile(found, 0.99) for name, found in errors.items()}
    first = visitor.page.locator("#ranking tbody tr").first
    assert ranked[first.locator("th").inner_text()] <= min(ranked.values()) * 1.01
    assert visitor.page.locator("#ranking tbody tr").count() >= len(ranked)


def send_one_case(visitor, known):
    """From a cell to a case to an issue in the clipboard: what is off, by how much, on what, and what asks it again."""
    visitor.click(visitor.page.locator(RED).first)
    link = visitor.page.locator("#failures details.group[open] a[data-step]").first
    visitor.click(link)
    case = visitor.page.locator("#case dd code").first.inner_text()
    visitor.click(visitor.page.get_by_role("button", name="Copy as issue"))
    expect(visitor.page.locator("#case .share > output")).to_contain_text("copied")
    text = visitor.page.evaluate("navigator.clipboard.readText()")
    name = text.partition(": ")[0]
    failing = [r for r in known.run.results if (r.case, r.implementation) == (case, name) and r.failed]
    assert failing
    assert f"Case: {case}" in text
    assert any(f"ρ = {summary.show(r.rho)}" in text or r.reason[:40] in text for r in failing)
    assert "bnconf replay " in text


def everything_about_masks(visitor, known):
    """The word finds its results, and on the page of failures it counts each failure that has to do with masks."""
    visitor.nav("Results")
    visitor.page.locator("#query").fill("mask")
    expect(visitor.page.locator("#results-said")).to_contain_text("results")
    assert visitor.page.locator("#results-table tbody tr").count()
    visitor.nav("Failures")
    about = [one for one in entries(known.run, known.material.explanations, known.other) if one.fails]
    number = sum("mask" in words(one, known.run).lower() for one in about)
    expect(visitor.page.locator("#failures-said")).to_contain_text(
        re.compile(rf"(^| ){number:,} failures? in the filter")
    )


def words(entry, run):
    """Return everything that is said of a failure and that a bare word is looked for in."""
    r, case = entry.result, run.cases[entry.result.case]
    said = (entry.column, entry.check, case.dtype, entry.standing, entry.change, *entry.divergences)
    return " ".join(
        [r.implementation, r.verdict, *said, r.case, case.name, case.cell, case.summary, r.reason, r.numerics]
    )


TASKS = (
    who_fails_and_why,
    a_red_cell_to_its_number_and_command,
    what_differs_between_torch_and_keras,
    what_changed_since_another_run,
    who_is_most_accurate_where,
    send_one_case,
    everything_about_masks,
)


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """Return a run with failures, of masks too, in which torch's layer and Keras's are named; and another one."""
    home = tmp_path_factory.mktemp("tasks")
    (home / "promising.py").write_text(PROMISING.format(str(ADAPTERS / "reference_subject.py")))
    few = ("numpy.two_pass", f"{ADAPTERS / 'wrong.py'}:MomentumSwapped")
    for name, patterns in (("before", few), ("now", (*few, f"{home / 'promising.py'}:Promising"))):
        who = Participants(select(patterns), requested=True, limits=Limits(case=60, memory=4))
        Campaign(Options(who, home / name), Progress(), items=asked_here()).run()
    lines = (home / "now" / run_file.FILE).read_bytes().splitlines()
    named = [
        ImplementationRecord(e.id, e.id.split(".")[0], "cpu", True, statement=msgspec.to_builtins(e.statement))
        for e in built_in()
        if e.id in (TORCH, KERAS)
    ]
    lines[1:1] = [msgspec.json.encode(record) for record in named]
    (home / "now" / run_file.FILE).write_bytes(b"\n".join([*lines, b""]))
    return made(home / "now", home / "before", home / "report.html")


def asked_here():
    """Return some named cases: those of masks, and every fifth of the others."""
    named = corpus.read()
    chosen = [one for n, one in enumerate(named) if "mask" in one.name or n % 5 == 0]
    return [RunCase(n, one, one.case) for n, one in enumerate(chosen)]


def made(folder, against, file):
    """Return what tasks are checked against, with the report of a run written to a file."""
    material = gather(folder, against=against)
    write(material, file)
    return SimpleNamespace(run=material.run, other=material.other, material=material, file=Path(file))


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.__name__)
def test_a_task_takes_three_clicks_at_most(visit, known, record_property, task):
    """From the first screen; how many clicks and seconds it took is recorded."""
    page = visit(file=known.file, permissions=["clipboard-read", "clipboard-write"])
    visitor, began = Visitor(page), time.monotonic()
    task(visitor, known)
    seconds = time.monotonic() - began
    record_property("clicks", visitor.clicks)
    record_property("seconds", round(seconds, 2))
    assert visitor.clicks <= MOST_CLICKS
    assert seconds < PATIENCE
