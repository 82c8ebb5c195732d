"""What an audit asks beyond `Semantics`: who answers as defined, who refuses, and who does otherwise."""

from __future__ import annotations

import datetime as dt
import json

import pytest
from click.testing import CliRunner

from conformance.cases.asking import ASKING
from conformance.cases.ensembles import ENSEMBLES
from conformance.cases.odd import ODD
from conformance.cases.replicas import REPLICAS
from conformance.cases.shapes import SHAPES
from conformance.cases.untracked import UNTRACKED
from conformance.cli.main import main
from conformance.gate.divergences import Divergence, Prediction
from conformance.hosts.participants import Participants
from conformance.hosts.roster import from_target
from conformance.studies.audit import dimensions
from conformance.studies.audit.auditing import Auditor


@pytest.fixture
def audited(adapter, tmp_path):
    """Return a function that audits an adapter of the tests, and gives its findings by dimension."""

    def audit(name, *known):
        who = Participants(list(from_target(adapter(f"beyond:{name}"))))
        found = Auditor(who, tmp_path, list(known), lambda _: None).run()
        return {cell.field: cell for cell in found.cells if cell.field in dimensions.NAMES}, found

    return audit


def test_whatever_implementations_are_asked_in_another_way_has_a_column():
    """Every feature of what is odd, of other shapes, of no statistics, of gradients, ensembles and replicas."""
    asked = {dimension.feature for dimension in dimensions.DIMENSIONS} | {"replicas of halves"}  # another dtype
    assert {*ODD, *SHAPES, *UNTRACKED, *ASKING, *ENSEMBLES, *REPLICAS} <= asked


def test_what_is_done_is_said_in_a_word(audited):
    """A refusal of what is odd is as right as the formula; another value is neither, and refutes."""
    cells, found = audited("Clips")
    said = {name: (cell.value, cell.status) for name, cell in cells.items()}
    assert said["momentum -0.2"] == ("refused", "proven")
    assert said["epsilon NaN"] == ("as defined", "proven")
    assert said["gamma too long"] == ("refused", "proven")
    assert said["momentum 1.5"] == ("otherwise", "refuted")
    assert cells["momentum 1.5"].why.startswith("moving_")
    assert found.contradicted
    (why,) = [one.why for one in found.inapplicable if one.field == "gradients of statistics"]
    assert why == "of is statistics; supported: y"


def test_what_is_known_is_no_contradiction_and_names_what_it_departs_from(audited):
    """A divergence that predicts it makes the finding proven, with what is promised beside it."""
    when = dt.date(2026, 1, 1)
    known = Divergence(
        "clips", ["beyond.clips@cpu"], "defect", Prediction(wrong=True, no_formula="it has two"), "BN-32", "it clips",
        "https://example.org/1", "us", when, when, "scale-only", when={"odd": ["momentum"]},
    )  # fmt: skip
    cells, _ = audited("Clips", known)
    cell = cells["momentum 1.5"]
    assert (cell.value, cell.status, cell.promised, cell.divergence) == ("otherwise", "proven", "as defined", "clips")


def test_who_answers_what_makes_no_sense_is_told(audited):
    """Parameters of another shape must be refused, and other things are as they were."""
    cells, _ = audited("Broadcasts")
    assert (cells["gamma too long"].value, cells["gamma too long"].status) == ("answered", "refuted")
    assert (cells["momentum 1.5"].value, cells["momentum 1.5"].status) == ("as defined", "proven")


def test_who_writes_to_its_input_is_told_once(audited):
    """What is promised to be kept must be; that it is not shows in every case, and refutes nothing else."""
    cells, _ = audited("Writes")
    assert (cells["inputs kept"].value, cells["inputs kept"].status) == ("written to", "refuted")
    assert "it wrote to 0.x" in cells["inputs kept"].why
    others = [cell for name, cell in cells.items() if name != "inputs kept"]
    assert {cell.status for cell in others if cell.value == "written to"} == {"undetermined"}
    assert not [cell for cell in others if cell.status == "refuted"]


def test_each_is_a_column_of_the_table_and_of_the_page(tmp_path):
    """The table has the dimensions after the fields; the page of a run with an audit beside it has them too."""
    folder = tmp_path / "run"
    invoke = CliRunner().invoke
    assert invoke(main, ["run", "-i", "numpy.two_pass", "--cases", "1", "--out", str(folder)]).exit_code == 0
    done = invoke(main, ["audit", "-i", "numpy.two_pass", "--out", str(folder / "audit.json"), "--format", "markdown"])
    header = next(line for line in done.stdout.splitlines() if line.startswith("| implementation"))
    wanted = {*dimensions.NAMES}  # but what a subject without tangents and masks is not asked
    wanted -= {"gradients along parameters", "tangents of all inputs", "masked replicas", "replicas with masked rows"}
    assert {name for name in wanted if f" {name} " not in header} == set()
    cells = json.loads((folder / "audit.json").read_text())["cells"]
    assert {cell["field"] for cell in cells} >= wanted
    assert invoke(main, ["report", str(folder)]).exit_code == 0
    page = (folder / "report.html").read_text()
    assert 'data-field="gamma too long"' in page
    assert "refused: proven" in page
