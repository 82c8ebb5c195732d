"""Cases that are no files: drawn again from their recipes, and the same cases; and those held in memory."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from conformance.cases import strategies
from conformance.cli.main import main
from conformance.model import buffers
from conformance.model.case import case_id
from conformance.model.errors import InvalidInput
from conformance.runs import case_files, holding, run_file
from conformance.runs.holding import Held
from conformance.runs.run_case import RunCase

FAULTY = f"{Path(__file__).parents[1] / 'adapters' / 'faulty.py'}:NotFinite"
RUN = ["run", "--cases", "20", "--no-corpus", "--out"]


def invoke(*arguments):
    """Run a command, and return what it printed."""
    done = CliRunner().invoke(main, [str(a) for a in arguments])
    assert done.exit_code in (0, 1), done.output
    return done.output


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return folders of one run: one that has a file of each case, and one that had no room for any."""
    home = tmp_path_factory.mktemp("runs")
    folders = [home / name for name in ("all", "few")]
    with pytest.MonkeyPatch.context() as patch:
        for folder, room in zip(folders, (case_files.ROOM, 0), strict=True):
            patch.setattr(case_files, "ROOM", room)
            invoke(*RUN, folder, "-i", FAULTY, "-i", "numpy.two_pass")
    return folders


def test_what_fails_has_a_file_and_what_passes_beyond_the_room_has_none(made):
    """Whoever looks at a failure needs nothing but the folder."""
    run = run_file.read(made[1])
    failed = {f"{run.cases[result.case].file}.gz" for result in run.results if result.failed}
    assert {f"cases/{path.name}" for path in (made[1] / "cases").iterdir()} == failed
    assert 0 < len(failed) < len(run.cases) == len(list((made[0] / "cases").iterdir()))


def test_what_is_drawn_again_is_the_same_case(made):
    """Every case of the run without files is, bit for bit, the one that the other has as a file."""
    run = run_file.read(made[1])
    for record in run.cases.values():
        assert case_id(case_files.read(made[1], run, record)) == record.case


def test_whoever_reads_a_run_needs_no_files_of_what_passes(made, tmp_path):
    """Gate, explanations, exports, replays and merged shards say what they say of the run with all files."""
    run = run_file.read(made[1])
    case = next(record for record in run.cases.values() if not buffers.there(made[1] / record.file).exists())
    asked = (["gate"], ["explain", "--run"], ["matrix"], ["explain", case.case, "--run"])
    for command in asked:
        said = [invoke(*command, folder).replace(str(folder), "RUN") for folder in made]
        assert said[0] == said[1]
    failed = next(result.case for result in run.results if result.failed)
    for name in (case.file, f"cases/{failed}.safetensors"):
        replays = [invoke("replay", folder / name, "-i", "numpy.two_pass") for folder in made]
        assert replays[0].replace(str(made[0]), "RUN") == replays[1].replace(str(made[1]), "RUN")
    assert invoke("merge", made[1], "--out", tmp_path / "merged")
    assert run_file.read(tmp_path / "merged").results == run_file.read(made[0]).results


def test_another_case_is_not_taken_for_one_that_is_gone(made):
    """What is drawn with another seed, as with another NumPy, is refused."""
    run = run_file.read(made[1])
    other = msgspec.structs.replace(run, header=msgspec.structs.replace(run.header, seed=1))
    record = next(record for record in run.cases.values() if not buffers.there(made[1] / record.file).exists())
    with pytest.raises(InvalidInput, match="is not there, and what is drawn of its recipe here is another case"):
        case_files.read(made[1], other, record)
    broken = msgspec.structs.replace(record, recipe={"cell": "?"})
    with pytest.raises(InvalidInput, match="its recipe cannot be read"):
        case_files.read(made[1], run, broken)


def test_exact_cases_beyond_the_room_are_let_go(monkeypatch):
    """The longest unused goes first, whoever holds it keeps it, and it is made again when it is asked for."""
    items = [RunCase(n, recipe, case) for n, (recipe, case) in enumerate(strategies.cases(0, 4))]
    sizes = [(8 << 10) + item.case.nbytes for item in items]
    monkeypatch.setattr(holding, "ROOM", sum(sizes[:2]) + sizes[3])
    held = Held()
    first, second, again = (held.exact_case(items[n]) for n in (0, 1, 0))
    assert first is again
    held.exact_case(items[3])
    assert held.exact_case(items[1]) is second
    monkeypatch.setattr(holding, "ROOM", sizes[1] + sizes[2])
    held.exact_case(items[2])
    assert held.exact_case(items[1]) is second
    assert held.exact_case(items[0]) is not first
    assert first.facts == items[0].facts


def test_a_case_takes_the_more_room_the_more_is_known_of_it(monkeypatch):
    """What was computed of it counts when it is asked for again; what is let go is forgotten at once."""
    items = [RunCase(n, recipe, case) for n, (recipe, case) in enumerate(strategies.cases(0, 3))]
    held = Held()
    found = [held.exact_case(item) for item in items]
    monkeypatch.setattr(holding, "ROOM", sum((8 << 10) + item.case.nbytes for item in items))
    found[1].known["what"] = "ever"
    looked_up = found[1].known
    found[0].known["what"] = "ever"
    assert held.exact_case(items[0]) is found[0]
    assert not found[1].known
    assert looked_up == {"what": "ever"}  # by another thread, in the middle of it
    assert held.exact_case(items[2]) is found[2]
    assert held.exact_case(items[1]) is not found[1]
