"""A run is read for its report in little memory: what no page shows is left out, and everything shown is the same."""

from __future__ import annotations

import tracemalloc

import msgspec

from conformance.model.results import CaseRecord, Deviation, EndRecord, ImplementationRecord, Result, RunRecord
from conformance.report import gather, render
from conformance.report.judged import judged
from conformance.report.tally import KEPT_OTHERS
from conformance.report.thinning import Thinning
from conformance.runs import run_file

CASES, OUTPUTS = 400, ("y", "dx", "moving_mean")


def written(folder):
    """Write a run of one implementation, in which every hundredth result fails, and return its folder."""
    folder.mkdir()
    records = [RunRecord(1, "1", 0, CASES, [], "2026-01-02T03:04:05+00:00", {})]
    records += [ImplementationRecord("a.one@cpu", "a", "cpu", True)]
    dtypes = ("float32", "float64")
    records += [CaseRecord(f"c{n}", n, "", "", "", {}, True, 1.0, dtype=dtypes[n % 2], values=8) for n in range(CASES)]
    for n in range(CASES * len(OUTPUTS)):
        rho = 1.5 + n if n % 100 == 0 else (n * 37 % 101) / 101
        worst = Deviation("trajectory", [n % 5], 1.0 + n, 2.0, 0.5, n / 8)
        verdict, output = "FAIL" if rho > 1 else "PASS", OUTPUTS[n % len(OUTPUTS)]
        fields = {"mode": "train", "output": output, "checks": {"trajectory": rho}, "elements": 8}
        records.append(
            Result(f"c{n // 3}", "a.one@cpu", verdict, 0, rho=rho, deviation=worst, dtype="float32", **fields)
        )
    records.append(EndRecord(True, [], 1.0, {}, {}))
    (folder / run_file.FILE).write_bytes(b"".join(msgspec.json.encode(record) + b"\n" for record in records))
    return folder


def test_a_page_is_the_same_of_a_run_read_thin(tmp_path, monkeypatch):
    """Read whole and read thin, a run makes the same page, to the last byte of its data."""
    folder = written(tmp_path / "run")
    thin = render(gather(folder))
    monkeypatch.setattr("conformance.report.material.Thinning", lambda: None)
    assert render(gather(folder)) == thin


def test_what_passes_keeps_its_error_alone_but_for_the_worst(tmp_path):
    """Failures are whole; of each kind that passes two are; of the others the error in ulps is left."""
    folder = written(tmp_path / "run")
    whole, thin = run_file.read(folder), run_file.read(folder, thinned=Thinning())
    pairs = list(zip(whole.results, thin.results, strict=True))
    assert [b for a, b in pairs if a.failed and a != b] == []
    kept = [b for a, b in pairs if not a.failed and a == b]
    assert len(kept) == KEPT_OTHERS * len(OUTPUTS) * 2  # in two dtypes
    assert (judged(whole).ulps == judged(thin).ulps).all()
    assert (judged(whole).rho == judged(thin).rho).all()


def test_results_of_a_run_share_their_words_and_are_small(tmp_path):
    """A result that was read thin takes less than 500 bytes, so that a million fit into half a gigabyte."""
    folder = written(tmp_path / "run")
    run_file.read(folder)  # whatever is made only once
    tracemalloc.start()
    run = run_file.read(folder, thinned=Thinning())
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size / len(run.results) < 500
    assert run.results[0].dtype is run.results[-1].dtype
