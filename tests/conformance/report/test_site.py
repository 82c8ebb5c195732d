"""The static site: what its pages and badges say is true of the run, its history grows, and bad input is refused."""

from __future__ import annotations

import json
import re
import shutil
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from conformance.cases.cells import DEFAULT
from conformance.cli.main import main
from conformance.report import gather, site
from conformance.report.site import badge, facts, kept
from conformance.runs import counts, run_file, summary


class _Links(HTMLParser):
    """Collects what a page refers to, the text of its cells by row, and its elements."""

    def __init__(self, text):
        super().__init__()
        self.links, self.elements, self.rows, self._cell = [], [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append(tag)
        self.links += [value for name, value in attrs if name in ("href", "src")]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        self._cell = self._cell or tag in ("td", "th")

    def handle_endtag(self, tag):
        self._cell = self._cell and tag not in ("td", "th")

    def handle_data(self, data):
        if self._cell:
            self.rows[-1][-1] += data


def rows(path):
    """Return the rows of a page's tables by the text of their first cell, without those that come after."""
    found = {}
    for row in _Links(path.read_text()).rows:
        found.setdefault(" ".join(row[0].split()), [" ".join(cell.split()) for cell in row[1:]])
    return found


def number(text):
    """Return a number as a page writes it."""
    return int(text.split()[0].replace(",", ""))


KNOWN = """[[divergence]]
id = "biased"
implementations = ["wrong.biased_for_unbiased@*"]
kind = "defect"
predicts.semantics = { stored_variance = "biased" }
rule = "BN-4"
reason = "It stores the biased variance"
link = "https://example.org/issues/7"
owner = "tests"
since = 2026-01-01
review-by = 2099-01-01
witness = "features-by-batch-axis-0"
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Return a folder with a list of what is known, and a report."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "known").mkdir()
    (folder / "known" / "wrong.toml").write_text(KNOWN)
    (folder / "report.html").write_text("<p>The report")
    return folder


def site_of(run_folder, home, folder):
    """Write the site of a run."""
    site.write(gather(run_folder, manifests=home / "known"), folder, [home / "report.html"])


@pytest.fixture(scope="module")
def written(asked_before, home):
    """Return the run of something right, wrong as known, and wrong; its site; and its folder."""
    wrong = f"{Path(__file__).parents[1] / 'adapters' / 'wrong.py'}"
    shutil.copytree(asked_before(("numpy.two_pass", wrong), cases=30), home / "run")
    site_of(home / "run", home, home / "site")
    return run_file.read(home / "run"), home / "site", home / "run"


def test_the_numbers_are_those_of_the_run(written):
    """Judged arrays, failures and known ones, and the accuracy of each output, counted again from the run's results."""
    found, folder, _ = written
    index = rows(folder / "index.html")
    for record in found.implementations:
        mine = [r for r in found.results if r.implementation == record.id]
        counted = counts.of(mine)
        state, judged, failures, inside, *_ = index[record.id]
        assert (number(judged), number(failures)) == (counted.judged, counted.failures)
        passed = [r.rho for r in mine if counts.is_judged(r) and not r.failed]
        assert inside == summary.show(max(passed, key=summary.as_number))
        known = record.id == "wrong.biased_for_unbiased@cpu"
        assert state == ("▲ known departures" if known else "✗ departs" if counted.failures else "✓ conforms")
        assert failures.endswith("all known" if known else f"{counted.failures} 0 known" if counted.failures else "0")
        page = rows(folder / "implementations" / f"{record.id}.html")
        for output in {summary.key(r) for r in mine if counts.is_judged(r)}:
            those = [r for r in mine if counts.is_judged(r) and summary.key(r) == output]
            well = [r.deviation.ulps for r in those if not r.failed and r.deviation and found.cases[r.case].well_posed]
            table = page[output] if len(page[output]) == 6 else None
            if table:
                assert number(table[0]) == len(those)
                assert table[3] == f"{np.median(well):.3g}"


def test_a_page_says_what_departs_since_when_and_how_to_see_it(written):
    """A known divergence has its reason, number, date and the case that shows it; what is not known has its worst."""
    found, folder, _ = written
    page = " ".join((folder / "implementations" / "wrong.biased_for_unbiased@cpu.html").read_text().split())
    failures = sum(r.failed for r in found.results if r.implementation == "wrong.biased_for_unbiased@cpu")
    assert "▲ Departs from what it promises as 1 known divergence predicts" in page
    assert f"{failures} failures in" in page
    assert "It stores the biased variance" in page
    assert '<td class="text">2026-01-01</td>' in page
    assert "bnconf replay conformance/cases/corpus/scenarios/features-by-batch-axis-0.json -i" in page
    assert "≠ unbiased" in page
    assert "fewer cases than are sufficient" in page
    other = " ".join((folder / "implementations" / "wrong.momentum_swapped@cpu.html").read_text().split())
    assert "✗ Departs from what it promises in a way that nothing explains" in other
    worst = r'moving_mean</th><td>\d+</td><td class="departs">✗ [\d.e+]+</td><td [^>]*>case \w{16}, step \d: got'
    assert re.search(worst, other)


def test_every_link_is_relative_and_leads_somewhere(written):
    """Pages refer to one another by paths within the site, to nothing that is not there, and have no script."""
    _, folder, _ = written
    pages = [folder / "index.html", *(folder / "implementations").iterdir()]
    assert len(pages) == 5
    for path in pages:
        parsed = _Links(path.read_text())
        assert "script" not in parsed.elements
        assert "style" not in parsed.elements
        for link in parsed.links:
            if link.startswith(("https://", "#")):
                continue
            target = (path.parent / unquote(link)).resolve()
            assert target.is_relative_to(folder.resolve()), link
            assert target.exists(), link


def test_another_run_adds_a_row_and_the_same_one_does_not(run, written, home, tmp_path):
    """History grows by run; who was not in the last one stays, with its page, and since when a state holds is said."""
    folder = shutil.copytree(written[1], tmp_path / "site")
    site_of(written[2], home, folder)
    assert len(kept.read(folder)) == 1
    run("numpy.two_pass", out="later", cases=8)
    later = tmp_path / "later" / run_file.FILE
    later.write_bytes(re.sub(rb'"started":"[^"]*"', b'"started":"2999-01-02T03:04:05+00:00"', later.read_bytes()))
    site_of(tmp_path / "later", home, folder)
    runs = kept.read(folder)
    assert [len(one.implementations) for one in runs] == [4, 1]
    index = rows(folder / "index.html")
    assert index["wrong.momentum_swapped@cpu"][-1].endswith("(not in the last)")
    assert index["numpy.two_pass@cpu"][-1] == "2999-01-02"
    page = " ".join((folder / "implementations" / "numpy.two_pass@cpu.html").read_text().split())
    assert f"So since the run of {runs[0].started[:10]}, the first that is kept here." in page
    assert kept.since(runs, "numpy.two_pass@cpu") == runs[0]
    changed = msgspec.structs.replace(runs[0], implementations={"numpy.two_pass@cpu": kept.SiteRow("departs")})
    assert kept.since([changed, runs[1]], "numpy.two_pass@cpu") == runs[1]


def test_a_badge_says_what_the_run_shows_and_is_an_image(written):
    """It is XML with a title, in a colour by state, and says of how few cases it speaks."""
    _, folder, run_folder = written
    said = {}
    for path in (folder / "badges").iterdir():
        root = ET.fromstring(path.read_text())
        said[path.stem] = (root.find("{*}title").text, root.find("{*}rect").get("fill"))
        assert root.get("aria-label") == root.find("{*}title").text
    assert re.fullmatch(r"batch norm: conforms in \d+ cases", said["numpy.two_pass@cpu"][0])
    assert re.fullmatch(r"batch norm: 1 known departure in \d+ cases", said["wrong.biased_for_unbiased@cpu"][0])
    assert re.fullmatch(r"batch norm: \d+ failures in \d+ cases", said["wrong.epsilon_outside@cpu"][0])
    assert len({colour for _, colour in said.values()}) == 3
    found = facts.pages(gather(run_folder))
    page = next(one for one in found if one.id == "numpy.two_pass@cpu")
    run = run_file.read(run_folder)
    whole = msgspec.structs.replace(run, header=msgspec.structs.replace(run.header, cases=DEFAULT))
    assert badge.words(page, whole)[0] == "conforms"
    assert ET.fromstring(badge.svg('<"&>', "#000")).find("{*}title").text == 'batch norm: <"&>'


def test_a_hostile_name_stays_in_its_folder_and_is_text(run, home, tmp_path):
    """A name with slashes, dots and markup makes a file of the site, and is shown as it stands."""
    run("numpy.two_pass", cases=4)
    path, name = tmp_path / "run" / run_file.FILE, '../../<b>"x'
    path.write_bytes(path.read_bytes().replace(b'"numpy.two_pass@cpu"', json.dumps(name).encode()))
    site_of(tmp_path / "run", home, tmp_path / "site")
    (page,) = (tmp_path / "site" / "implementations").iterdir()
    assert page.name == f"{facts.slug(name)}.html"
    assert "<b>" not in page.read_text()
    assert "../../&lt;b&gt;&#34;x" in page.read_text()
    assert len([*tmp_path.glob("*")]) == 2


def _file(folder):
    folder.write_text("mine")


def _foreign(folder):
    folder.mkdir()
    (folder / "index.html").write_text("mine")


def _damaged(folder):
    folder.mkdir()
    (folder / "runs.json").write_text("[{}]")


@pytest.mark.parametrize(
    ("prepare", "options", "says"),
    [
        (_file, [], "site: is a file; name a folder"),
        (_foreign, [], "holds an index.html and no runs.json, so that it is no site of ours; name another"),
        (_damaged, [], "runs.json: is no history of a site"),
        (lambda _: None, ["--serve"], "is for another server, and --serve is one; leave one out"),
    ],
)
def test_bad_input_exits_2(run, tmp_path, prepare, options, says):
    """What cannot be a site's folder is named, with the way on, and nothing in it is touched."""
    run("numpy.two_pass", cases=4)
    prepare(tmp_path / "site")
    before = {path: path.read_bytes() for path in tmp_path.glob("site/**/*") if path.is_file()}
    result = CliRunner().invoke(main, ["report", str(tmp_path / "run"), "--site", str(tmp_path / "site"), *options])
    assert result.exit_code == 2
    assert says in result.output
    assert {path: path.read_bytes() for path in tmp_path.glob("site/**/*") if path.is_file()} == before
    assert not (tmp_path / "run" / "report.html").exists()  # it is said before anything is made


def test_a_run_that_nothing_can_be_held_to_has_no_site(run, adapter, tmp_path, manifest):
    """Without its answers the known would look new: exit 2. The run's own folder is refused too."""
    run(adapter("wrong:BiasedForUnbiased"), cases=8)
    shutil.rmtree(tmp_path / "run" / "answers")
    known = ["--divergences", str(manifest())]
    result = CliRunner().invoke(main, ["report", str(tmp_path / "run"), "--site", str(tmp_path / "site"), *known])
    assert (result.exit_code, "cannot decide on this run" in result.output) == (2, True)
    assert not (tmp_path / "site").exists()
    result = CliRunner().invoke(main, ["report", str(tmp_path / "run"), "--site", str(tmp_path / "run")])
    assert (result.exit_code, "is the run's own folder" in result.output) == (2, True)


def test_the_command_writes_the_site_and_the_report_beside_it(run, tmp_path):
    """Both paths are printed, and the site has the report, to which its index leads."""
    run("numpy.two_pass", cases=4)
    result = CliRunner().invoke(main, ["report", str(tmp_path / "run"), "--site", str(tmp_path / "site")])
    assert result.exit_code == 0
    assert result.output.split() == [str(tmp_path / "run" / "report.html"), str(tmp_path / "site" / "index.html")]
    beside = tmp_path / "site" / "report" / "report.html"
    assert beside.read_bytes() == (tmp_path / "run" / "report.html").read_bytes()
    assert 'href="report/report.html"' in (tmp_path / "site" / "index.html").read_text()
