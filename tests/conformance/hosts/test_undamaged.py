"""Of the files that are kept for the next process none is taken that is not as it was written."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest

from conformance.hosts import undamaged

_PROCESS = """
import sys
from pathlib import Path
from conformance.hosts import undamaged
place = Path(sys.argv[1])
print(undamaged.in_use(place, int(sys.argv[2])), *sorted(p.name for p in place.glob("*/*")))
for name in sys.argv[3:]:
    (place / "of").mkdir(exist_ok=True)
    (place / "of" / name).write_bytes(name.encode() * 100)
"""


@pytest.fixture
def place(tmp_path):
    """Return a folder that is not there yet."""
    return tmp_path / "kept"


def used(place, *new, most=1 << 20):
    """Use a folder in a process of its own that writes new files; return whether it could, and what it found."""
    told = subprocess.run(
        [sys.executable, "-c", _PROCESS, place, str(most), *new], capture_output=True, text=True, check=True
    )
    could, *names = told.stdout.split()
    return could == "True", names


def test_what_was_written_is_there_for_the_next_process(place):
    """Also as a copy, whose times are others."""
    assert used(place, "a", "b") == (True, [])
    assert used(place) == (True, ["a", "b"])
    os.utime(place / "of" / "a", ns=(1, 1))
    assert used(place) == (True, ["a", "b"])


@pytest.mark.parametrize("damage", [b"", b"a" * 99, b"a" * 99 + b"b"], ids=["emptied", "cut", "changed"])
def test_what_is_damaged_is_removed(place, damage):
    """Whether its size is the same or not; the others stay."""
    used(place, "a", "b")
    (place / "of" / "a").write_bytes(damage)
    assert used(place) == (True, ["b"])


def test_what_a_killed_process_left_is_removed(place):
    """It may be half a file: no process that ended has noted it."""
    used(place, "a")
    (place / "of" / "half").write_bytes(b"hal")
    assert used(place) == (True, ["a"])
    (place / "notes.json").write_bytes(b"{")
    assert used(place) == (True, [])


def test_nothing_is_removed_while_another_process_uses_it(place):
    """What that one has written is taken as it is."""
    used(place, "a")
    assert undamaged.in_use(place, 1 << 20)
    (place / "of" / "new").write_bytes(b"new")
    assert used(place) == (True, ["a", "new"])


def test_what_is_oldest_is_removed_beyond_the_most(place):
    """Two files of a hundred bytes are left of three."""
    used(place, "a", "b", "c")
    for age, name in enumerate("cab"):
        os.utime(place / "of" / name, ns=(10**9 - age, 10**9 - age))
    assert used(place, most=250) == (True, ["a", "c"])


def test_what_was_read_last_is_not_the_oldest(place):
    """What every run reads stays, whenever it was written."""
    used(place, "a", "b", "c")
    for name, read in (("a", 3), ("b", 1), ("c", 2)):
        os.utime(place / "of" / name, ns=(read * 10**9, 10**9))
    assert used(place, most=250) == (True, ["a", "c"])


def test_between_two_runs_what_is_too_much_is_removed(place):
    """A process that makes many does not fill the disk, and what it has written meanwhile is noted."""
    assert undamaged.in_use(place, 250)
    (place / "of").mkdir()
    for age, name in enumerate("abc"):
        (place / "of" / name).write_bytes(name.encode() * 100)
        os.utime(place / "of" / name, ns=(age * 10**9, age * 10**9))
    undamaged.make_room(place, 250)
    assert sorted(path.name for path in (place / "of").iterdir()) == ["b", "c"]
    (place / "of" / "half").write_bytes(b"hal")
    assert used(place) == (True, ["b", "c", "half"])  # this process still uses it
    fcntl.flock(undamaged._LOCKS[place], fcntl.LOCK_UN)
    assert used(place) == (True, ["b", "c"])


def test_between_two_runs_nothing_is_removed_that_another_process_uses(place):
    """It may be reading it; and what nobody uses here is left alone."""
    (place / "of").mkdir(parents=True)
    (place / "of" / "a").write_bytes(b"a")
    undamaged.make_room(place, 0)
    script = f"{_PROCESS}\nprint(flush=True)\nsys.stdin.read()"
    command = [sys.executable, "-c", script, place, "1000"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        other.stdout.readline()
        other.stdout.readline()
        (place / "of" / "a").write_bytes(b"a")
        assert undamaged.in_use(place, 0)
        undamaged.make_room(place, 0)
        assert (place / "of" / "a").exists()
        other.stdin.close()
    undamaged.make_room(place, 0)
    assert not (place / "of" / "a").exists()


def test_a_folder_that_cannot_be_used_is_left_alone(place, monkeypatch):
    """A file in its place, or a disk that is nearly full: programs are compiled as without it."""
    (place.parent / "file").write_bytes(b"")
    assert not undamaged.in_use(place.parent / "file", 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1 << 20))
    assert not undamaged.in_use(place, 1)


def test_without_locks_it_is_not_used(place, monkeypatch):
    """As on Windows, where nobody could tell whether he is alone."""
    monkeypatch.setitem(sys.modules, "fcntl", None)
    assert not undamaged.in_use(place, 1)
