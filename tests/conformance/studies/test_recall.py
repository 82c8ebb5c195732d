"""The recall list is valid, and what it says is found where it is, and not found where it is not."""

import json
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from conformance.cases import corpus
from conformance.cli.main import main
from conformance.gate import divergences
from conformance.hosts.participants import Participants
from conformance.hosts.roster import built_in, select
from conformance.model.errors import InvalidInput
from conformance.runs.campaign import Options
from conformance.runs.progress import Progress
from conformance.studies import recall

LIST = recall.read()


def recalled(tmp_path, *entries, cases=0):
    """Ask the calibration subjects, and return what became of the entries."""
    who = Participants(select(("numpy.*",)))
    options = Options(who, tmp_path / "run", cases=cases, corpus=not cases)
    return {line.id: line for line in recall.recalled(options, Progress(), list(entries))}


def entry(**fields):
    """Return an entry about the calibration subject that takes the fast variance."""
    given = {"id": "X", "title": "t", "reference": "https://example.org", "implementations": ["numpy.fast"]}
    return msgspec.convert(given | {"case": "r01-mean-of-10000", "outputs": ["y"]} | fields, recall.KnownReport)


def test_the_list_names_what_there_is():
    """26 entries, each about implementations of the roster, with a public reference and a case of the corpus."""
    ids, cases = [e.id for e in built_in("cpu")], {named.name for named in corpus.read()}
    assert [e.id for e in LIST] == [f"R{n:02}" for n in range(1, 27)]
    for e in LIST:
        assert e.reference.startswith("https://")
        assert any(e.names(identity) for identity in ids)
        assert e.case in cases
        assert bool(e.instead) + bool(e.divergence) + bool(e.unshown) == 1


def test_divergences_of_the_list_are_known():
    """What an entry calls a known divergence is one."""
    known = {divergence.id for divergence in divergences.read()}
    assert {e.divergence for e in LIST if e.divergence} <= known


def test_what_was_expected_instead_is_found_to_fail(tmp_path):
    """The fast variance conforms to its statement, and fails two passes at mean 10000: found, with the case and ρ."""
    (line,) = recalled(tmp_path, entry(instead={"numerics": {"variance": "two_pass"}})).values()
    assert (line.status, line.case, line.implementation) == ("found", "r01-mean-of-10000", "numpy.fast@cpu")
    assert float(line.rho) > 1


STATUSES: dict[str, tuple[dict[str, Any], str]] = {
    "as stored": (
        {"instead": {"semantics": {"stored_variance": "biased"}}, "outputs": ["moving_variance"]},
        "not found",
    ),
    "other": ({"instead": {"semantics": {"stored_variance": "unbiased"}}, "outputs": ["moving_variance"]}, "found"),
    "mean": ({"instead": {"semantics": {"stored_variance": "unbiased"}}, "outputs": ["moving_mean"]}, "not found"),
    "known": ({"divergence": "torch-vmap-half"}, "not found"),
    "of others": ({"implementations": ["torch.*"], "divergence": "torch-vmap-half"}, "not applicable"),
    "unshown": ({"unshown": "for a reason"}, "not applicable"),
}


@pytest.fixture(scope="module")
def statuses(tmp_path_factory):
    """Return what became of all of them, by name, asked in one run."""
    entries = [entry(id=name, **fields) for name, (fields, _) in STATUSES.items()]
    return {name: line.status for name, line in recalled(tmp_path_factory.mktemp("recalled"), *entries).items()}


@pytest.mark.parametrize("name", STATUSES)
def test_each_status(statuses, name):
    """Found only where the answer fails what was expected, in the output that it is about."""
    assert statuses[name] == STATUSES[name][1]


def test_an_invalid_list_is_refused(tmp_path):
    """A field that means nothing is an error that names the file."""
    path = tmp_path / "recall.toml"
    path.write_text('[[entry]]\nid = "R01"\nwhat = 1\n')
    with pytest.raises(InvalidInput, match=r"recall\.toml"):
        recall.read(path)


def test_the_command_prints_json():
    """A list of objects with id and status; of what concerns nobody who was asked, nothing is missing: exit 0."""
    result = CliRunner().invoke(main, ["recall", "-i", "numpy.*", "--json"])
    lines = json.loads(result.stdout)
    assert {line["status"] for line in lines} == {"not applicable"}
    assert [line["id"] for line in lines] == [e.id for e in LIST]
    assert result.exit_code == 0


@pytest.mark.parametrize(("stored", "code"), [("unbiased", 0), ("biased", 1)])
def test_an_entry_that_is_not_found_exits_1(monkeypatch, stored, code):
    """What can be shown here and is not makes the command fail."""
    wanted = entry(instead={"semantics": {"stored_variance": stored}}, outputs=["moving_variance"])
    monkeypatch.setattr(recall, "read", lambda: [wanted])
    assert CliRunner().invoke(main, ["recall", "-i", "numpy.fast", "--json"]).exit_code == code
