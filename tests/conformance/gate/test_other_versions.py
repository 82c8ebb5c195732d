"""What is known of another version: the same failure is yellow and says so once; another one is red as ever."""

from __future__ import annotations

import json
import shutil
import subprocess

import msgspec
import pytest
from click.testing import CliRunner

from conformance.cli.main import main
from conformance.gate import divergences
from conformance.gate.other_versions import Witnesses, elsewhere, widened, wider

BIASED = "wrong:BiasedForUnbiased"
OLD = '{ numpy = ">=1.20,<2.0" }'
WRONG = '{ wrong = true, no_formula = "it reads memory that nobody wrote" }'


@pytest.fixture(autouse=True)
def no_github(monkeypatch):
    """Keep the outputs of these tests out of the summary of a job that runs them."""
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def gate(tmp_path):
    """Run the command on the run in the test's folder."""

    def go(*arguments):
        return CliRunner().invoke(main, ["gate", str(tmp_path / "run"), *map(str, arguments)])

    return go


def kinds(result):
    """Return the kinds of findings that were printed, in capitals."""
    return [line for line in result.stdout.splitlines() if line.split(" ")[0].isupper()]


def test_the_same_failure_at_another_version_is_yellow_and_said_once(run, adapter, manifest, gate):
    """All that behaves as is known of another version is one line and exits 0; --strict makes it exit 4."""
    found = run(adapter(BIASED), corpus=True)
    failed = sum(r.verdict == "FAIL" for r in found.results)
    numpy = found.implementations[0].versions["numpy"]
    known = ("--divergences", manifest(versions=OLD))
    result = gate(*known)
    (line,) = kinds(result)
    assert line.startswith(f"ANOTHER VERSION numpy {numpy}: {failed} failures of 1 implementations are the same as ")
    assert "which speaks of another version (>=1.20,<2.0; 1 divergences)" in line
    assert "explained: " not in result.stdout
    assert (result.exit_code, result.stdout.splitlines()[-1].partition(":")[0]) == (0, "yellow (0)")
    strict = gate(*known, "--strict")
    assert (strict.exit_code, strict.stdout.splitlines()[-1].partition(":")[0]) == (4, "yellow (4)")


def test_every_format_takes_it_for_known(run, adapter, manifest, gate, tmp_path):
    """JUnit skips it with its reason, as what is known of this version; nothing is a failure."""
    run(adapter(BIASED), corpus=True)
    assert gate("--divergences", manifest(versions=OLD), "--junit", tmp_path / "junit.xml").exit_code == 0
    written = (tmp_path / "junit.xml").read_text()
    assert "<skipped" in written
    assert "<failure" not in written


def test_another_value_than_is_known_of_another_version_is_red(run, adapter, manifest, gate):
    """A failure that the other version's formula does not give is unexplained, and the gate exits 1."""
    run(adapter(BIASED), corpus=True)
    known = manifest(versions=OLD, predicts='{ semantics = { average = "zero_debiased" } }')
    result = gate("--divergences", known)
    assert result.exit_code == 1
    assert {line.split(" ")[0] for line in kinds(result)} == {"UNEXPLAINED"}


@pytest.mark.parametrize(("corpus", "status"), [(True, 0), (False, 1)])
def test_some_wrong_value_is_the_same_only_if_its_witness_fails_too(run, adapter, manifest, gate, corpus, status):
    """What any wrong value would fit is taken for the same where its witness was asked here, and fails; and counted."""
    run(adapter(BIASED), corpus=corpus)
    result = gate("--divergences", manifest(versions=OLD, predicts=WRONG))
    assert result.exit_code == status
    assert (" failures by no formula); " in result.stdout) == corpus


def test_what_is_otherwise_than_predicted_of_this_version_stays_red(run, adapter, manifest, gate):
    """A formula of this version that no longer fits is not excused by a loose prediction of another one."""
    run(adapter(BIASED), corpus=True)
    known = manifest(versions='{ numpy = ">=2" }', predicts='{ semantics = { average = "zero_debiased" } }')
    first = (known / "wrong.toml").read_text()
    second = (manifest(id='"loose"', versions=OLD, predicts=WRONG) / "wrong.toml").read_text()
    (known / "wrong.toml").write_text(first + second)
    assert "CHANGED" in gate("--divergences", known).stdout


def test_a_divergence_whose_witness_passes_does_not_hold_elsewhere(run, adapter, manifest):
    """Where the witness passes at another version, nothing else is explained by it, and no wider range is proposed."""
    found = run("numpy.two_pass", adapter(BIASED), corpus=True)
    known = divergences.read(manifest(versions=OLD, implementations='["numpy.*", "wrong.*"]'))
    right, wrong = found.implementations
    assert elsewhere(Witnesses(found), known, right) == []
    assert elsewhere(Witnesses(found), known, wrong) == known
    assert list(wider(known[0], found)) == []
    alone = msgspec.structs.replace(found, implementations=[wrong])
    ((package, before, _),) = wider(known[0], alone)
    assert (package, before) == ("numpy", ">=1.20,<2.0")


@pytest.mark.parametrize(
    ("wanted", "version", "said"),
    [
        (">=2.13,<2.14", "2.14.1+cpu", ">=2.13,<2.15"),
        (">=2.13,<2.14", "2.4.0", ">=2.4,<2.14"),
        (">=0.0.17,<0.0.18", "0.0.18", ">=0.0.17,<0.0.19"),
        (">=0.12.8,<0.13", "1.0", ">=0.12.8,<1.1"),
        ("==2.13", "2.14", ""),
    ],
)
def test_a_range_is_widened_as_exactly_as_it_is_written(wanted, version, said):
    """An end that the version is beyond moves, with as many numbers as it had; what is no plain range stays."""
    assert widened(wanted, version) == said


@pytest.mark.skipif(not shutil.which("patch"), reason="patch is not installed")
def test_the_same_failure_on_another_device_is_yellow_and_said_once(run, adapter, manifest, gate):
    """What the manifest says of a GPU alone explains the same failure on the CPU, and --update then names both."""
    found = run(adapter(BIASED), corpus=True)
    failed = sum(r.verdict == "FAIL" for r in found.results)
    known = manifest(implementations='["wrong.biased_for_unbiased@cuda"]')
    result = gate("--divergences", known)
    (line,) = kinds(result)
    assert line.startswith(f"ANOTHER DEVICE device cpu: {failed} failures of 1 implementations are the same as ")
    assert "which speaks of another device (cuda; 1 divergences)" in line
    assert result.stdout.splitlines()[-1].startswith("yellow (0)")
    proposed = gate("--divergences", known, "--update").stdout
    subprocess.run(["patch", "-s", "-p0", "-d", str(known)], input=proposed, text=True, check=True)
    assert '["wrong.biased_for_unbiased@*"]' in (known / "wrong.toml").read_text()
    assert gate("--divergences", known).stdout.splitlines()[-1].startswith("green (0)")


@pytest.mark.skipif(not shutil.which("patch"), reason="patch is not installed")
def test_update_proposes_the_wider_range(run, adapter, manifest, gate):
    """Applied, the edit that --update proposes makes the gate green, and nothing else of the manifest changes."""
    run(adapter(BIASED), corpus=True)
    known = manifest(versions=OLD)
    before = (known / "wrong.toml").read_text()
    proposed = gate("--divergences", known, "--update").stdout
    subprocess.run(["patch", "-s", "-p0", "-d", str(known)], input=proposed, text=True, check=True)
    after = (known / "wrong.toml").read_text()
    changed = [line for line in after.splitlines() if line not in before.splitlines()]
    assert len(changed) == 1
    assert changed[0].startswith('versions = { numpy = ">=1.20,<2.')
    assert gate("--divergences", known).stdout.splitlines()[-1].startswith("green (0)")


def test_an_upgrade_is_said_once_for_a_framework(run, gate, tmp_path):
    """Implementations of one framework that changed alike since the baseline share one line."""
    run("numpy.two_pass", "numpy.folded", "numpy.pairwise")
    path = tmp_path / "baseline.jsonl"
    gate("--write-baseline", path)
    old = {"versions": {"numpy": "1.0", "python": "3.11"}}
    lines = [json.dumps(json.loads(line) | old) for line in path.read_text().splitlines()]
    path.write_text("\n".join(lines))
    (line,) = kinds(gate("--baseline", path))
    assert line.startswith("VERSION CHANGED 3 implementations of numpy: numpy 1.0")
    assert line.endswith("nothing else fails or passes")
