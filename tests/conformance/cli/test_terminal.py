"""What a terminal shows: readable at 60 to 240 columns, nothing cut; plain text in a pipe; brackets as they are."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys

import msgspec
import pytest
from click.testing import CliRunner
from rich.console import Console

from conformance.cli import console, finished
from conformance.cli.main import main
from conformance.cli.telling import ToldFailures
from conformance.cli.terminal import terminal
from conformance.gate import divergences
from conformance.gate.explanation import explain
from conformance.hosts.participants import Participants
from conformance.hosts.roster import select
from conformance.model.results import ImplementationRecord
from conformance.runs import run_file
from conformance.runs.campaign import Campaign, Options
from conformance.runs.progress import Progress

NAMES = (
    "torch.nn.BatchNorm2d@cpu",
    "onnxruntime.BatchNormalization+opset15+conv_fold+disabled@cpu",
    "mine.[bold]x@cpu",
)


def shown(width, what):
    """Return the lines that something prints to a terminal of so many columns."""
    out = Console(width=width, force_terminal=True, color_system=None, markup=False, emoji=False, highlight=False)
    with out.capture() as captured:
        what(out)
    return captured.get().splitlines()


def renamed(found, names):
    """Return a run whose implementations have other names."""
    new = dict(zip((record.id for record in found.implementations), names, strict=True))
    return msgspec.structs.replace(
        found,
        implementations=[msgspec.structs.replace(r, id=new[r.id]) for r in found.implementations],
        results=[msgspec.structs.replace(r, implementation=new[r.implementation]) for r in found.results],
    )


@pytest.mark.parametrize("width", [60, 80, 120, 240])
def test_the_table_of_a_run_is_whole_at_every_width(run, tmp_path, width):
    """Nothing is cut, no line but a command is wider than the terminal, and each name and number is there."""
    found = renamed(run("numpy.two_pass", "numpy.fast", "numpy.folded"), NAMES)
    lines = shown(width, lambda out: finished.print_run(found, tmp_path / "run", out))
    assert [line for line in lines if "…" in line and "bnconf" not in line] == []
    assert [line for line in lines if len(line) > width and "bnconf" not in line] == []
    table = "\n".join(lines[: lines.index(next(line for line in lines if "judged up to" in line))])
    for name in NAMES:
        assert re.search(r"[^\n]*\n? *│? *".join(map(re.escape, re.split(r"(?=[.+@])", name))), table), name
    for heading in ("PASS", "FAIL", "known", *(["dgamma"] if width == 240 else ["worst"])):
        assert heading in table


def test_brackets_are_no_markup(monkeypatch):
    """What is in brackets in a name or a reason is printed, in the roster as a table and as paragraphs."""
    record = ImplementationRecord("mine.[bold]x@cpu", "mine", "cpu", False, "needs 'torch[cuda]' [/red]")
    monkeypatch.setenv("COLUMNS", "160")
    for width in (80, 160):
        text = "\n".join(shown(width, lambda out: console.print_implementations([record], out)))
        assert "mine.[bold]x@cpu" in text
        assert "torch[cuda]' [/red]" in text
    with (out := terminal()).capture() as captured:
        out.print("[bold] :smile: [/]")
    assert captured.get() == "[bold] :smile: [/]\n"


def test_a_pipe_gets_plain_text(tmp_path, monkeypatch):
    """No control code, and a table as wide as it needs, or as COLUMNS says; a line is a line."""
    monkeypatch.delenv("COLUMNS", raising=False)
    wide = CliRunner().invoke(main, ["run", "-i", "numpy.two_pass", "--cases", "6", "--out", str(tmp_path / "run")])
    assert wide.exit_code == 0
    assert "\x1b" not in wide.output
    assert "dgamma" in wide.output
    assert re.search(r"^numpy: (\d+) of \1; a few seconds left$", wide.output, re.MULTILINE)
    monkeypatch.setenv("COLUMNS", "80")
    narrow = CliRunner().invoke(main, ["run", "-i", "numpy.two_pass", "--cases", "6", "--out", str(tmp_path / "run")])
    assert max(len(line) for line in narrow.output.splitlines() if line.startswith(" ")) <= 80


def test_a_terminal_of_80_columns_shows_a_run(tmp_path):
    """In a terminal the bars and the table fit, and how long it takes stands once, beside the bar of everything."""
    host, guest = pty.openpty()
    command = [sys.executable, "-m", "conformance", "run", "-i", "numpy.two_pass", "--cases", "6"]
    settings = {**os.environ, "COLUMNS": "80", "TERM": "xterm", "NO_COLOR": "1"}
    with subprocess.Popen(
        [*command, "--out", str(tmp_path / "run")], stdout=guest, stderr=guest, env=settings
    ) as process:
        os.close(guest)
        said = bytearray()
        while part := _read(host):
            said += part
    assert process.returncode == 0
    text = re.sub(r"\x1b\[[?\d;]*[A-Za-z]", "", said.decode())
    lines = re.split(r"[\r\n]+", text)
    assert [line for line in lines if len(line) > 80 and "bnconf" not in line] == []
    assert any(line.startswith("everything") for line in lines)
    assert "numpy.two_pass@cpu" in text


def _read(host):
    try:
        return os.read(host, 4096)
    except OSError:  # how a pseudoterminal says that its other side is closed
        return b""


@pytest.fixture
def told(tmp_path, adapter, manifest):
    """Return what watched a run of what is wrong, in lines, the run, and the divergence that is known."""

    class Lines(Progress):
        def __init__(self, telling):
            self.telling, self.lines = telling, []

        def failed(self, failed):
            self.lines += self.telling.lines(failed)

    known = manifest(implementations='["wrong.biased_for_unbiased@*", "wrong.momentum_swapped@*"]')
    watched = Lines(ToldFailures(divergences.read(known)))
    who = Participants(select((adapter("wrong"),)))
    Campaign(Options(who, tmp_path / "run", cases=30, corpus=False), watched).run()
    return watched, run_file.read(tmp_path / "run"), divergences.read(known)


def test_failures_are_told_once_per_kind_and_known_where_they_are(told):
    """A known divergence once, with its name; of the rest each implementation and output once, with shape and N."""
    watched, run, _ = told
    lines = watched.lines
    known = [line for line in lines if line.startswith("known")]
    assert len(known) == 1
    assert re.search(r"wrong\.biased_for_unbiased@cpu moving_variance in train, .*\(biased\)$", known[0])
    others = [line for line in lines if line.startswith("FAIL")]
    kinds = [re.match(r"FAIL  (\S+ \S+) ", line)[1] for line in others]
    assert len(set(kinds)) == len(kinds)
    assert {kind.split()[0] for kind in kinds} == {"wrong.epsilon_outside@cpu", "wrong.momentum_swapped@cpu"}
    for line in lines:
        case, step, shape = re.search(r"case (\w+) step (\d), shape (\([\d, ]+\)), N = \d+: ", line).groups()
        assert f"{shape} " in run.cases[case].summary or step != "0"


def test_what_is_explained_while_it_runs_is_not_judged_again(told, tmp_path, monkeypatch):
    """The same is made of each failure as of its answer on disk; what was not told, or not all of it, is read."""
    watched, run, known = told
    before = watched.telling.explained
    every = explain(tmp_path / "run", run, known)
    assert {one.kind for one in every} >= {"explained", "unexplained"}
    monkeypatch.setattr("conformance.runs.case_files.read", None)
    assert explain(tmp_path / "run", run, known, before) == every
    place = next(iter(before))
    for lacking in (before | {place: before[place][1:]}, {}):
        with pytest.raises(TypeError, match="not callable"):
            explain(tmp_path / "run", run, known, lacking)


def test_what_another_version_may_explain_is_judged_again(told, tmp_path, monkeypatch):
    """While it runs nobody knows whether the witnesses of another version are as they were."""
    watched, run, known = told
    before = watched.telling.explained
    left = {place for place, found in before.items() if any(one.kind != "explained" for one in found)}
    run = msgspec.structs.replace(run, results=[r for r in run.results if (r.case, r.implementation) in left])
    assert explain(tmp_path / "run", run, known, before)
    monkeypatch.setattr("conformance.gate.explanation.elsewhere", lambda *_: known)
    monkeypatch.setattr("conformance.runs.case_files.read", None)
    with pytest.raises(TypeError, match="not callable"):
        explain(tmp_path / "run", run, known, before)
