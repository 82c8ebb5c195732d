"""The calibration subjects, asked a case of every cell: correct, and of the classes that they promise."""

from __future__ import annotations

from conformance.cases.cells import SMOKE
from conformance.runs import summary


def test_calibration_subjects_conform(of_everything):
    """Correct code of each class passes a case of every cell, hard ones included, and is really judged."""
    found, _ = of_everything("numpy.*", cases=SMOKE)
    assert found.complete
    for row in summary.rows(found):
        assert row.conforms, row
        assert 0.1 < summary.as_number(row.outputs["y train"].rho) <= 1


def test_calibration_subjects_are_of_the_class_they_promise(of_everything):
    """Of every class and grade there is a subject; what promises less than class A is far outside it; none is slow."""
    found, _ = of_everything("numpy.*", cases=SMOKE)
    rows = {row.id: row for row in summary.rows(found)}
    classes = {identity: row.classes for identity, row in rows.items()}
    assert classes == {
        "numpy.two_pass@cpu": ["A·S"],
        "numpy.folded@cpu": ["A′·S"],
        "numpy.fast@cpu": ["B·S"],
        "numpy.renorm@cpu": ["A·S"],
        "numpy.pairwise@cpu": ["A·T"],
        "numpy.welford@cpu": ["A·S"],
        "numpy.welford+lanes@cpu": ["A·S"],
    }
    less = {"numpy.fast@cpu", "numpy.folded@cpu", "numpy.welford@cpu", "numpy.welford+lanes@cpu"}
    outside = {i for i, row in rows.items() if summary.as_number(row.class_a) > 2}
    assert {"numpy.fast@cpu"} <= outside <= less
    assert summary.as_number(rows["numpy.fast@cpu"].class_a) > 100
    cpu = {identity: found.end.cpu[identity] / row.cases for identity, row in rows.items()}
    assert cpu.pop("numpy.welford@cpu") < 0.5  # one value after another, of 131,077
    assert max(cpu.values()) < 0.005, cpu
