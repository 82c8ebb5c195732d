"""The corpus: every file is a case, and says which rule and which public source it stands for."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from conformance.cases import corpus
from conformance.cases.cells import SMOKE
from conformance.cases.strategies import cases
from conformance.hosts import roster
from conformance.model.case import case_id
from conformance.model.errors import InvalidInput

ROOT = Path(__file__).parents[3]
RULES = set(re.findall(r"\bBN-\d+\b", (ROOT / "reference" / "README.md").read_text()))


@pytest.mark.parametrize("named", corpus.every(), ids=lambda named: named.name)
def test_each_file_names_a_rule_and_a_source(named):
    """The rule is one of the reference's, the source a public page, or said to be unreported."""
    assert named.about.rule in RULES
    assert named.about.source == "unreported" or named.about.source.startswith("https://")
    assert named.about.title


def test_no_case_is_there_twice():
    """Content hashes differ from one another, and from those of a generated run."""
    ids = [case_id(named.case) for named in corpus.every()]
    assert len(set(ids)) == len(ids) >= 16
    assert not set(ids) & {case_id(case) for _, case in cases(0, SMOKE)}


def test_a_file_that_says_nothing_of_itself_is_refused(tmp_path):
    """The message names the file and what to add."""
    found = json.loads((corpus.FOLDER / "update-ops-not-run.json").read_text())
    del found["about"]
    (tmp_path / "mine.json").write_text(json.dumps(found))
    with pytest.raises(InvalidInput, match=r"mine\.json: does not say what it is about .* give title, rule and source"):
        corpus.read(tmp_path)


def test_a_run_asks_the_corpus_too(run):
    """Named cases are judged beside generated ones, in no cell that generation must reach, and can be left out."""
    found = run("numpy.two_pass", cases=3, corpus=True)
    named = {record.name for record in found.cases.values() if record.name}
    assert named == {case.name for case in corpus.read()}
    assert {r.verdict for r in found.results if found.cases[r.case].name == "virtual-batches-of-two"} == {"UNSUPPORTED"}
    assert any(r.verdict == "PASS" for r in found.results if found.cases[r.case].name)
    assert not any(record.name for record in run("numpy.two_pass", cases=3, out="without").cases.values())


def test_a_case_for_some_implementations_is_asked_where_one_of_them_is():
    """A run of everything has none of them, and a run of one library those that name it."""
    plain = {case.name for case in corpus.read()}
    everything = [entry.id for entry in roster.select(())]
    assert {case.name for case in corpus.of_run(everything)} == plain
    assert {case.name for case in corpus.of_run(["mxnet.nd.BatchNorm@cpu"])} - plain == {"variance-far-below-epsilon"}
    assert all(case.about.only for case in corpus.read(corpus.OTHERS))
    assert not any(case.about.only for case in corpus.read())
