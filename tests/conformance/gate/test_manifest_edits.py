"""`bnconf gate --update`: edits of the manifests as a patch, which a person applies, and which hides nothing."""

from __future__ import annotations

import shutil
import subprocess
from datetime import date

import pytest
from click.testing import CliRunner

from conformance.cli.main import main
from conformance.gate import divergences
from conformance.model.errors import InvalidInput

BIASED = "wrong:BiasedForUnbiased"
PATCH = pytest.mark.skipif(not shutil.which("patch"), reason="patch is not installed")


@pytest.fixture
def update(tmp_path):
    """Run `bnconf gate --update` on the run in the test's folder and return its result."""

    def go(*arguments):
        known = ("--divergences", str(tmp_path / "known"))
        return CliRunner().invoke(main, ["gate", str(tmp_path / "run"), "--update", *known, *arguments])

    return go


@pytest.fixture
def applied(update, tmp_path):
    """Apply what it proposes, as its help says, and return the manifest before and after."""

    def go(*arguments):
        path = tmp_path / "known" / "wrong.toml"
        before = path.read_text() if path.exists() else ""
        proposed = update(*arguments)
        assert (path.read_text() if path.exists() else "") == before  # the command itself changes nothing
        command = ["patch", "-s", "-p0", "-d", str(tmp_path / "known")]
        subprocess.run(command, input=proposed.stdout, text=True, check=True)
        return before, path.read_text() if path.exists() else ""

    return go


def test_nothing_to_propose_is_no_patch(run, adapter, manifest, update):
    """When all is as predicted the patch is empty, and the verdict is said beside it."""
    manifest()
    run(adapter(BIASED))
    result = update()
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr.startswith("explained: biased")


@PATCH
def test_a_regression_becomes_a_stub_that_is_no_valid_entry(run, adapter, manifest, applied, update):
    """What nothing explains is appended, and read as invalid until somebody has said all that only a person knows."""
    path = manifest(implementations='["other.*"]') / "wrong.toml"
    run(adapter(BIASED))
    before, after = applied()
    assert after.startswith(before)
    stub = after[len(before) :]
    assert "# wrong.biased_for_unbiased@cpu moving_variance: " in stub
    assert "# bnconf replay " in stub
    assert 'implementations = ["wrong.biased_for_unbiased@cpu"]' in stub
    filled = {
        'kind = ""': 'kind = "defect"',
        "predicts = {}": 'predicts = { semantics = { stored_variance = "biased" } }',
        'rule = ""': 'rule = "BN-11"',
        'reason = ""': 'reason = "It is biased"',
        'link = ""': 'link = "unreported"',
        'owner = ""': 'owner = "me"',
        'review-by = ""': "review-by = 2099-01-01",
        'witness = ""': 'witness = "features-by-batch-axis-0"',
    }
    for blank, value in filled.items():
        with pytest.raises(InvalidInput, match=r"wrong\.toml, line \d+, column \d+"):
            divergences.read_file(path)
        assert update().exit_code == 2
        assert blank in stub
        path.write_text(path.read_text().replace(blank, value))
    assert divergences.read_file(path)[1].versions.keys() == {"numpy"}
    assert update().exit_code == 0


@PATCH
def test_a_stub_in_a_framework_without_manifest_makes_one(run, adapter, applied, tmp_path):
    """The first regression of a framework makes its file."""
    (tmp_path / "known").mkdir()
    run(adapter(BIASED))
    _, after = applied()
    assert after.startswith("# Known divergences")
    assert after.count("[[divergence]]") == 1


TWO = """# The file's own words

# About the first
[[divergence]]
id = "first" # kept as it is
implementations = ["{0}"]
kind =   "defect"
rule = "BN-11"
reason = "It stores the biased variance"
link = "unreported"
owner = "tests"
since = 2026-01-01
review-by = {2}
witness = "features-by-batch-axis-0"

[divergence.predicts]
semantics.stored_variance = "biased"

# About the second
[[divergence]]
id = "second"
implementations = ["{1}"]
kind = "defect"
predicts = {{ semantics = {{ stored_variance = "biased" }} }}
rule = "BN-11"
reason = "It stores the biased variance"
link = "unreported"
owner = "tests"
since = 2026-01-01
review-by = 2099-01-01
witness = "features-by-batch-axis-0"
"""


@pytest.fixture
def two(tmp_path):
    """Write a manifest of two divergences: of what, and when the first is to be reviewed."""

    def write(first: str, second: str, review: date = date(2099, 1, 1)):
        (tmp_path / "known").mkdir()
        (tmp_path / "known" / "wrong.toml").write_text(TWO.format(first, second, review))

    return write


@PATCH
def test_what_vanished_everywhere_is_proposed_for_removal(run, adapter, two, applied):
    """The entry goes with the comment above it; the other entry and every other line stay as they are."""
    two("numpy.*", "wrong.*")
    run("numpy.two_pass", adapter(BIASED), corpus=True)
    before, after = applied()
    first, second = before.index("# About the first"), before.index("# About the second")
    assert after == before[:first] + before[second:]


@PATCH
def test_what_vanished_in_places_gets_a_comment(run, adapter, two, applied):
    """An entry that still explains another implementation stays, with a comment that names what now passes."""
    two("*", "other.*")
    run("numpy.two_pass", adapter(BIASED), corpus=True)
    before, after = applied()
    (comment,) = set(after.splitlines()) - set(before.splitlines())
    assert comment.startswith("# bnconf: first: numpy.two_pass@cpu now passes its witness")
    assert after.replace(comment + "\n", "") == before


@PATCH
def test_what_expired_gets_a_comment_and_stays_red(run, adapter, two, applied, update):
    """A review date is never moved by itself: a comment, once however often the patch is applied, and exit 4 still."""
    two("wrong.*", "other.*", date(2026, 1, 2))
    run(adapter(BIASED))
    before, after = applied()
    (comment,) = set(after.splitlines()) - set(before.splitlines())
    assert comment == "# bnconf: first: was to be reviewed by 2026-01-02; look again and set a new date"
    result = update()
    assert (result.exit_code, result.stdout) == (4, "")


@PATCH
def test_a_manifest_without_a_last_line_break_can_be_patched(run, adapter, two, applied, tmp_path):
    """The patch says where a line break is missing, so that it applies to the last entry too."""
    two("wrong.*", "numpy.*")
    path = tmp_path / "known" / "wrong.toml"
    path.write_text(path.read_text().rstrip("\n"))
    run("numpy.two_pass", adapter(BIASED), corpus=True)
    before, after = applied()
    assert after == before[: before.index("# About the second")]


def test_entries_of_another_form_are_refused(run, adapter, tmp_path, update):
    """A manifest whose entries are no [[divergence]] tables cannot be edited line by line: exit 2 says so."""
    (tmp_path / "known").mkdir()
    entry = """id = "a", implementations = ["x"], kind = "defect", rule = "r", reason = "r", link = "unreported",
        predicts = { numerics = { sums = "tree" } }, owner = "o", since = 2026-01-01, review-by = 2099-01-01,
        witness = "features-by-batch-axis-0\""""
    (tmp_path / "known" / "x.toml").write_text(f"divergence = [{{ {' '.join(entry.split())} }}]\n")
    run(adapter(BIASED), cases=4)
    result = update()
    assert result.exit_code == 2
    assert "as [[divergence]] tables only" in result.stderr
