"""`bnconf identify` says what it knows, and no more: what raised, what fails further on, what nothing explains."""

from __future__ import annotations

import functools
import json

import pytest
from click.testing import CliRunner

from conformance.cli.main import main

OWN = """
import importlib.util

spec = importlib.util.spec_from_file_location("undescribed", {path!r})
undescribed = importlib.util.module_from_spec(spec)
spec.loader.exec_module(undescribed)


class Own(undescribed.{name}):
    statement = {statement!r}
"""


def invoke(*arguments):
    """Run a command."""
    return CliRunner().invoke(main, [str(a) for a in arguments])


@functools.cache
def listed(target):
    """Return the exit status of identifying an adapter, and what --json lists; each is identified once."""
    result = invoke("identify", "-i", target, "--json")
    return result.exit_code, result.stdout


@pytest.fixture
def identified(adapter):
    """Return what identifies an adapter that promises next to nothing: exit status, and what --json lists."""

    def identify(name):
        code, found = listed(adapter(f"undescribed:{name}"))
        return code, json.loads(found)

    return identify


@pytest.mark.parametrize(
    ("name", "at_most"), [("Blocks", 64), pytest.param("Blocks1024", 1024, marks=pytest.mark.proof)]
)
def test_a_kernel_that_is_wrong_beyond_a_size_is_not_passed(identified, name, at_most):
    """Statistics of the first 64, or 1024, values alone conform to no statement: exit 1, and where it begins."""
    code, (found,) = identified(name)
    assert code == 1
    assert found["failures"]
    assert all(one["n"] > at_most for one in found["failures"])
    assert any("values per channel every case conforms" in line for line in found["tried"])


def test_what_was_tried_is_said_up_to_its_sizes(identified):
    """Dtypes, ranks, modes and layouts are listed, and N up to 131,077; all of it conforms: exit 0."""
    code, (found,) = identified("StoresUnbiased")
    assert code == 0
    assert found["semantics"] == [{"stored_variance": "unbiased", "frozen": "train"}]
    assert (found["conformed"] > 500, found.get("failed", 0)) == (True, 0)
    assert any("up to 131077 values per channel, and 1025 channels" in line for line in found["tried"])


def test_where_an_implementation_raised_is_said_and_stated(identified):
    """Rank 3 raises: the places and the error are named, and the statement refuses what was seen to raise."""
    code, (found, beside) = identified("NoRankThree")
    assert code == 0
    assert {"rank 3, axis 1 float32", "rank 3, axis -1 float32"} == set(beside["raised"])
    assert "rank 3 is not there yet" in beside["raised"]["rank 3, axis 1 float32"]
    (refusal,) = found["statement"]["refusals"]
    assert (refusal["when"], refusal["error"]) == ({"rank": [3]}, ["NotImplementedError"])


def test_numerics_are_stated_where_they_fail_and_nowhere_else(adapter):
    """What sums its gradients in half precision is stated to do so for half precision; its other dtypes keep more."""
    result = invoke("identify", "-i", adapter("synthetic:Synthetic"), "--json")
    (found,) = json.loads(result.stdout)
    (rule,) = [rule for rule in found["statement"]["rules"] if "accumulate" in rule.get("numerics", {})]
    assert (result.exit_code, rule["when"], rule["numerics"]) == (0, {"dtype": ["float16"]}, {"accumulate": "input"})


def test_who_moves_its_state_in_the_backward_pass_is_not_said_never_to_move(identified):
    """With a gradient its average is exponential; without one it is none: two paths, each with its condition."""
    code, (taking, without) = identified("MovesInBackward")
    assert code == 0
    assert taking["semantics"] == [{"frozen": "train"}]
    assert without["semantics"][0]["average"] == "none"
    assert without["differentiation"] == "none"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("TrainsUnbiased", "training normalizes by the variance times N/(N-1)"),
        ("MomentumSwapped", "momentum is taken for the fraction that is updated"),
    ],
)
def test_a_known_way_to_be_wrong_is_named_where_nothing_explains(identified, name, words):
    """No semantics explain the plain case; the nearest known way is said in words, and exits 1."""
    code, (found,) = identified(name)
    assert code == 1
    assert all(words in way for way in found["unexplained"].values())


@pytest.mark.parametrize(
    "name",
    [
        *("StoresUnbiased", "MovesInBackward", "InferenceOnly"),
        *(
            pytest.param(n, marks=pytest.mark.proof)
            for n in ("Folded", "NoRankThree", "HalfToSingle", "Unasked", "Exact")
        ),
    ],
)
def test_what_identify_prints_conforms_in_a_run(identified, adapter, tmp_path, name):
    """The statement that identify prints, put into the adapter, has no FAIL in a run of cases it did not ask."""
    code, found = identified(name)
    assert code == 0, [one.get("failures") for one in found]
    path = tmp_path / "own.py"
    path.write_text(OWN.format(path=adapter("undescribed"), name=name, statement=found[0]["statement"]))
    out = tmp_path / "run"
    result = invoke("run", "-i", f"{path}:Own", "--out", out, "--cases", 40, "--seed", 5)
    assert result.exit_code == 0, result.output[-2000:]
    assert '"verdict":"PASS"' in (out / "run.jsonl").read_text()
    assert '"verdict":"FAIL"' not in (out / "run.jsonl").read_text()


def test_who_raises_in_the_plain_case_is_identified_elsewhere(tmp_path):
    """No output at all is returned there: that is said, and is no fault of the suite."""
    path = tmp_path / "raising.py"
    path.write_text(RAISING)
    result = invoke("identify", "-i", f"{path}:Raising")
    assert result.exit_code != 5, result.output
    assert "TypeError" in result.output


RAISING = """
class Raising:
    statement = {
        "id": "own.raising", "packages": ["numpy"], "documentation": "https://example.org",
        "conventions": {"momentum": "kept", "axis": "kept"}, "rules": [], "supports": {"rank": [3]},
    }

    def __init__(self, device):
        pass

    def run(self, case):
        raise TypeError("rank 3")
        yield
"""
