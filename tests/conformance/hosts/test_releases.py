"""The releases of a package, as an index tells of them."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from packaging.version import Version

from conformance.hosts import builds, releases
from conformance.hosts.releases import PackageIndex, Release
from conformance.hosts.worker import by_path
from conformance.model.errors import Incomplete, InvalidInput

package_index = by_path(str(Path(__file__).with_name("package_index.py")))
DATES = {
    "tiny-1.0-py3-none-any.whl": "2023-05-01",
    "tiny-1.1-py3-none-any.whl": "2023-06-01",
    "yanked": ("tiny-1.1-py3-none-any.whl",),
}


@pytest.fixture
def index(tmp_path):
    """Return an index that has one package, of which one version is yanked and one is no final one."""
    for version in ("1.0", "1.1", "1.10", "2.0rc1"):
        package_index.wheel(tmp_path, "tiny", version, {})
    with package_index.serving(tmp_path, DATES) as url:
        yield PackageIndex(url)


def test_final_releases_are_found_in_order_with_their_dates(index):
    """Versions are ordered as versions, yanked ones and pre-releases are left out, and each has its date."""
    found = releases.of("Tiny", index)
    assert [str(one.version) for one in found] == ["1.0", "1.10"]
    assert found[0].date == dt.date(2023, 5, 1)
    assert found[0].runs_on("3.11")
    assert not found[0].runs_on("3.5")


def test_an_index_that_lacks_a_package_says_so(index):
    """A name that the index does not have is bad input, and names the index."""
    with pytest.raises(InvalidInput, match=r"--package nowhere: http.* has no such package"):
        releases.of("nowhere", index)


def test_an_index_that_does_not_answer_is_no_fault_of_the_name():
    """Where nothing listens, the search is incomplete."""
    with pytest.raises(Incomplete, match="does not answer"):
        releases.of("tiny", PackageIndex("http://127.0.0.1:9/simple"))


def test_versions_are_chosen_by_a_specifier_or_by_name(index):
    """Both ways to name versions work, and what names none, or is no version, is bad input."""
    found = releases.of("tiny", index)
    assert [str(one.version) for one in releases.chosen(found, ">=1.5")] == ["1.10"]
    assert [str(one.version) for one in releases.chosen(found, "1.0, 1.10")] == ["1.0", "1.10"]
    for wrong in (">=7", "one", ">=x"):
        with pytest.raises(InvalidInput, match="--versions"):
            releases.chosen(found, wrong)
    with pytest.raises(InvalidInput, match=r"--good 1\.5: is none of the releases 1\.0 to 1\.10"):
        releases.named(found, "--good", "1.5")


def test_no_python_is_taken_that_was_not_there_when_a_release_came_out():
    """A release of 2021 is not tried on Python 3.11, of which there was no wheel of anything then."""
    old = Release(Version("1"), dt.date(2021, 6, 1), ">=3.7", frozenset({"py3-none-any"}))
    assert builds.pythons(old, "3.11") == ["3.9", "3.8", "3.7"]
    assert builds.pythons(old, "3.8") == ["3.8", "3.9", "3.7"]


def test_further_indexes_are_handed_on_to_uv(tmp_path, monkeypatch):
    """What pip is configured with besides its index is named to uv, which does not read pip's configuration."""
    first, second = "http://127.0.0.1:9/first", "http://127.0.0.1:9/second"
    (tmp_path / "pip.conf").write_text(f"[global]\nextra-index-url =\n    {first}\n    {second}\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)
    monkeypatch.delenv("UV_EXTRA_INDEX_URL", raising=False)
    monkeypatch.setattr(builds, "_uv", lambda: "uv")
    where = releases.index()
    assert where.further == (first, second)
    words = builds._command(builds.Setup("python", "3.11", ("tiny==1",)), tmp_path, where)
    assert [words[n + 1] for n, word in enumerate(words) if word == "--extra-index-url"] == list(where.further)
    assert "unsafe-best-match" in words
    assert "unsafe-best-match" not in builds._command(builds.Setup("p", "3.11", ()), tmp_path, PackageIndex("http://x"))
