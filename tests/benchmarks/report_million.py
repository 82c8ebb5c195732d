"""How large a report of 1,000,000 results is, how long it takes to write, and how long to open.

    python tests/benchmarks/report_million.py [--results N] [--keep FOLDER]

The run is synthetic: 100 implementations of the roster answer 5 outputs of each case, 2 % fail; it has no case files,
as a folder of which only the run file was kept. Prints bytes and seconds, and exits 1 where a page of a million results
is larger than 3 MB, takes more than 30 seconds or 600 MB to write, or a second or more until it is interactive.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path

import msgspec

from conformance.cases import cells
from conformance.hosts import roster
from conformance.model.results import CaseRecord, Deviation, EndRecord, ImplementationRecord, Result, RunRecord
from conformance.report import gather, write
from conformance.report.pdf import browser
from conformance.runs import run_file

IMPLEMENTATIONS = 100
OUTPUTS = (("y", "train"), ("y", "infer"), ("dx", "train"), ("moving_mean", "train"), ("moving_variance", "train"))
DTYPES = ("float16", "bfloat16", "float32", "float64")
INTERACTIVE, WRITTEN, MEMORY, SIZE = 1.0, 30.0, 600e6, 3e6
SETTLED = 5_000  # milliseconds in which a new browser has drawn its own first page, which would be measured as well


def records(number):
    """Yield the records of a run with so many results."""
    rng = random.Random(0)
    yield RunRecord(1, "0", 0, number, ["bnconf", "run"], "2026-01-01T00:00:00+00:00", {})
    entries = roster.select(())[:IMPLEMENTATIONS]
    ids = [entry.id for entry in entries]
    for entry in entries:
        statement = msgspec.to_builtins(entry.statement)
        yield ImplementationRecord(entry.id, entry.statement.framework, "cpu", True, statement=statement)
    cases = -(-number // (IMPLEMENTATIONS * len(OUTPUTS)))
    for case in range(cases):
        cell = str(cells.CELLS[case % len(cells.CELLS)])
        recipe = {"signature": {"shape": [8, 3], "dtypes": {"x": DTYPES[case % 4]}}, "modes": "train infer"}
        summary = f"(8, 3) axis=1 {DTYPES[case % 4]} normal: train infer"
        file, dtype = f"cases/{case:016x}.safetensors", DTYPES[case % 4]
        yield CaseRecord(f"{case:016x}", case, cell, file, summary, recipe, True, 1 + case, dtype=dtype)
    exact_cases = itertools.product(range(cases), ids, OUTPUTS)
    for case, identity, (output, mode) in itertools.islice(exact_cases, number):
        yield result(rng, f"{case:016x}", identity, output, mode)
    yield EndRecord(True, [], 1.0, {}, {})


def result(rng, case, identity, output, mode):
    """Return one judgment; every fiftieth fails."""
    rho = rng.lognormvariate(-3, 1.5)
    fails = rng.random() < 0.02
    rho = float(f"{1 + rho * 100 if fails else min(rho, 1):.6g}")
    worst = Deviation("trajectory", [rng.randrange(8), rng.randrange(3)], rng.random(), rng.random(), 1e-6)
    verdict = "FAIL" if fails else "PASS"
    fields = {"rho": rho, "deviation": worst, "numerics": "A·S", "elements": 24}
    return Result(case, identity, verdict, step=int(mode == "infer"), mode=mode, output=output, **fields)


def synthetic(folder, number):
    """Write the run and return its folder."""
    folder.mkdir(parents=True)
    with (folder / run_file.FILE).open("wb") as file:
        for record in records(number):
            file.write(msgspec.json.encode(record) + b"\n")
    return folder


def opened(page):
    """Return seconds to first paint, until filters work, those of a processor, and a filter's; each the median of 3."""
    from playwright.sync_api import sync_playwright

    found = []
    with sync_playwright() as driver:
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        chromium = driver.chromium.launch(executable_path=browser(), args=arguments)
        session, context = chromium.new_browser_cdp_session(), chromium.new_context()
        context.new_page().wait_for_timeout(SETTLED)
        for _ in range(3):
            tab = context.new_page()
            before = computed(session)
            tab.goto(f"{page.as_uri()}#results", wait_until="commit")
            tab.wait_for_selector("html[data-ready]", state="attached")
            ready = tab.evaluate("performance.now()") / 1000
            busy = sum(seconds - before.get(one, 0.0) for one, seconds in computed(session).items())
            paint = tab.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime") / 1000
            click = "document.querySelector('button.facet:enabled').click(); document.body.offsetHeight"
            start = time.perf_counter()
            tab.evaluate(click)
            tab.wait_for_selector("button.facet[aria-pressed=true]")
            found.append((paint, ready, busy, time.perf_counter() - start))
            tab.close()
        chromium.close()
    return [sorted(values)[1] for values in zip(*found, strict=True)]


def computed(session):
    """Return seconds of processor time that each process of a page took so far: a busy machine makes them no more."""
    found = session.send("SystemInfo.getProcessInfo")["processInfo"]
    return {one["id"]: one["cpuTime"] for one in found if one["type"] == "renderer"}


def main():
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=int, default=1_000_000)
    parser.add_argument("--keep", type=Path, help="leave run and report there")
    arguments = parser.parse_args()
    home = arguments.keep or Path(tempfile.mkdtemp())
    folder = synthetic(home / "run", arguments.results)
    print(f"{arguments.results:,} results, run file {(folder / run_file.FILE).stat().st_size / 1e6:.0f} MB")
    start, cpu = time.perf_counter(), time.process_time()
    (page,) = write(gather(folder), home / "report.html")
    took, cpu, size = time.perf_counter() - start, time.process_time() - cpu, page.stat().st_size
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"read, decided and written in {took:.1f} s, {cpu:.1f} s of which on a processor")
    print(f"peak memory {memory / 1e6:.0f} MB, report {size / 1e6:.2f} MB")
    paint, ready, busy, filtered = opened(page)
    print(f"first paint {paint:.2f} s, interactive {ready:.2f} s, {busy:.2f} s of which on a processor")
    print(f"a filter {filtered:.2f} s")
    if not arguments.keep:
        shutil.rmtree(home)
    sys.exit(ready >= INTERACTIVE or cpu > WRITTEN or memory > MEMORY or size > SIZE)


if __name__ == "__main__":
    main()
