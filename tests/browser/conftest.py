"""A real Chromium for the report's tests, and a small run whose report they open."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from conformance.hosts.environment import Limits
from conformance.hosts.participants import Participants
from conformance.hosts.roster import select
from conformance.report import gather, write
from conformance.report.pdf import BROWSERS
from conformance.runs.campaign import Campaign, Options
from conformance.runs.progress import Progress

sys.path.insert(0, str(Path(__file__).parent))  # for the modules beside this one
ADAPTERS = Path(__file__).parents[1] / "conformance" / "adapters"


@pytest.fixture(scope="session")
def chromium():
    """Return a browser that is on PATH; without one, or without Playwright, the tests are skipped."""
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if not found:
        pytest.skip(f"no Chromium on PATH; looked for {', '.join(BROWSERS)}")
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []  # root may not have the sandbox; the pages are ours
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=arguments)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """Return the folders of two runs: one in which implementations fail and shout, and an earlier one to compare."""
    home = tmp_path_factory.mktemp("reports")
    wrong = [f"{ADAPTERS / name}.py:{cls}" for name, cls in (("wrong", "MomentumSwapped"), ("faulty", "Raise"))]
    for name, patterns in (("before", ["numpy.two_pass", wrong[0]]), ("now", ["numpy.*", *wrong])):
        who = Participants(select(tuple(patterns)), requested=True, limits=Limits(case=60, memory=4))
        Campaign(Options(who, home / name, cases=60, corpus=False), Progress()).run()
    return home


@pytest.fixture(scope="session")
def records(runs):
    """Return the lines of the run's file as JSON, by type."""
    found = defaultdict(list)
    for line in (runs / "now" / "run.jsonl").read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        found[record["type"]].append(record)
    return found


@pytest.fixture(scope="session")
def report(runs):
    """Return the report's file."""
    (path,) = write(gather(runs / "now", against=runs / "before"), runs / "report.html")
    return path


@pytest.fixture
def visit(chromium, report):
    """Open a place of the report and return the page; it must not complain, nor ask for anything but itself."""
    contexts, complaints = [], []

    def go(hash_="", *, file=report, ready=True, **options):
        context = chromium.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        contexts.append(context)
        context.set_default_timeout(90_000)  # a busy machine is slow, and not wrong
        page = context.new_page()
        page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: asked(request.url, file))
        page.goto(file.as_uri() + hash_)
        if ready:
            page.wait_for_selector("html[data-ready]", state="attached")
        return page

    def asked(url, file):
        own = {file.with_suffix(suffix).as_uri() for suffix in (".html", ".css", ".js")}
        if url.partition("#")[0] not in own:
            complaints.append(f"asked for {url}")

    yield go
    for context in contexts:
        context.close()
    assert complaints == []
