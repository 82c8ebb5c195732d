"""Who is asked by which worker: environments that take long have two, where there are cores for them."""

from __future__ import annotations

import pytest

from conformance.hosts import participants, roster
from conformance.hosts.participants import Participants


@pytest.mark.parametrize("most", [1, 2])
def test_each_implementation_is_asked_by_one_worker(most):
    """No two workers share a name or an implementation, and none is left out."""
    entries = roster.select(())
    shares = Participants(entries).shares(most)
    assert sorted(entry.id for _, asked in shares for entry in asked) == sorted(entry.id for entry in entries)
    assert [host.only for host, _ in shares] == [tuple(entry.id for entry in asked) for _, asked in shares]
    assert len({host.name for host, _ in shares}) == len(shares)


def test_what_takes_longest_is_shared_by_two_workers():
    """TensorFlow and JAX have two workers of about as many implementations, and load what these need alone."""
    shares = {host.name: (host, asked) for host, asked in Participants(roster.select(())).shares(2)}
    assert set(shares) - {host.name for host in Participants(roster.select(())).environments()} == {
        "tensorflow-2",
        "jax-2",
    }
    for host, asked in shares.values():
        assert set(host.adapters) == {entry.target for entry in asked}
    assert abs(len(shares["jax"][1]) - len(shares["jax-2"][1])) <= 1


def test_one_implementation_has_one_worker():
    """A second start would cost more than it saves."""
    assert [host.name for host, _ in Participants(roster.select(("flax.linen.*",))).shares(2)] == ["jax"]


def test_two_workers_give_the_verdicts_of_one(run, monkeypatch, tmp_path):
    """Who asks makes no difference to what is found."""
    alone = run("numpy.*", cases=14, out="alone")
    monkeypatch.setattr(participants, "_LONG", ("numpy",))
    monkeypatch.setattr(participants, "_PAYS", 2)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    shared = run("numpy.*", cases=14, out="shared", afresh=True)
    assert shared.complete
    assert {path.name for path in (tmp_path / "shared").glob("*.log")} == {"numpy.log", "numpy-2.log"}
    assert shared.results == alone.results
    assert shared.implementations == alone.implementations
