"""Commands that outputs print: each one is taken as it stands, given to a shell, and works."""

from __future__ import annotations

import html
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from conformance.cli import hunt
from conformance.cli.main import COMMANDS, main
from conformance.model.results import ImplementationRecord
from conformance.runs import commands
from conformance.studies.hunt.hunting import Caught

ROOT = Path(__file__).parents[3]
PAGES = [
    ROOT / "README.md",
    *(
        page
        for room in (".", "cases", "hosts", "gate/ci")
        for page in sorted((ROOT / "conformance" / room).glob("*.md"))
    ),
]
COMMAND = re.compile(rf"(?:cd \S+ && )?bnconf (?:{'|'.join(COMMANDS)})(?: .*|$)", re.MULTILINE)
MINE = """
import numpy as np
import only_here


class Mine:
    statement = {
        "id": "mine.bn",
        "packages": ["only_here"],
        "documentation": "",
        "conventions": {},
        "supports": {"dtype": ["float32"]},
        "outputs": ["y"],
    }

    def __init__(self, device):
        pass

    def run(self, case):
        for step in case.steps:
            yield {"y": np.zeros_like(step.x) + 7}


IMPLEMENTATIONS = [Mine]
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Return a folder with a space in its name, a user's adapter there, and an interpreter that alone can host it."""
    home = tmp_path / "my own"
    (home / "site").mkdir(parents=True)
    (home / "site" / "only_here.py").write_text("__version__ = '1.0'\n")
    (home / "mine.py").write_text(MINE)
    python = home / "its python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{home / "site"}:$PYTHONPATH" exec {shlex.quote(sys.executable)} "$@"\n')
    python.chmod(0o755)
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "bnconf"
    command.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec {shlex.quote(sys.executable)} -m conformance "$@"\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(home)
    return home


def bnconf(*arguments):
    """Return what a command prints, on both streams."""
    return CliRunner().invoke(main, list(arguments)).output


def shell(line, where):
    """Return how a shell takes a line."""
    return subprocess.run(["bash", "-c", line], cwd=where, capture_output=True, text=True, timeout=120, check=False)


def said(value):
    """Yield every text in a JSON value."""
    if isinstance(value, str):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from said(inner)


def printed(*texts):
    """Return the command lines in some texts, each once."""
    return list(dict.fromkeys(found for text in texts for found in COMMAND.findall(text)))


def test_each_command_that_is_printed_of_ones_own_adapter_works_as_printed(place, monkeypatch):
    """Whatever prints a command of an adapter in another interpreter, a shell that takes the line asks just that."""
    mine = ["-i", "mine.py:Mine", "--env", "user=./its python"]
    run, out = ["--cases", "30", "--no-corpus", "--out", "an odd/run"], place / "an odd" / "run"
    texts = [bnconf("run", *mine, *run)]
    files = {name: str(place / f"gate {name}") for name in ("junit", "sarif", "ctrf", "summary")}
    gate = bnconf(
        "gate", "an odd/run", "--update", "--annotations", *(w for n, f in files.items() for w in (f"--{n}", f))
    )
    junit, _, _, summary = (Path(f).read_text() for f in files.values())
    texts += [gate, html.unescape(junit), html.unescape(summary).replace("</pre>", "")]
    texts += [text for name in ("sarif", "ctrf") for text in said(json.loads(Path(files[name]).read_text()))]
    bnconf("report", "an odd/run")
    page = (out / "report.html").read_text()
    texts += [html.unescape(found) for found in re.findall(r"<code>(bnconf .*?)</code>", page)]
    case = next(out.glob("cases/*.safetensors"))
    monkeypatch.setattr(hunt.Hunt, "run", lambda *_: [Caught("infer y", case.stem, case.name, None, "", 1)])
    texts += [bnconf("hunt", *mine, "--out", "an odd/hunt").replace("an odd/hunt/mine.bn@cpu/", "an odd/run/cases/")]
    lines = printed(*texts)
    kinds = {shlex.split(line)[1] for line in lines}
    assert {"replay", "explain", "audit"} <= kinds, lines
    asking = [line for line in lines if shlex.split(line)[1] in ("replay", "explain")]
    assert not [line for line in asking if "user=" not in line]
    tried = [next(line for line in lines if shlex.split(line)[1] == "explain")]
    for line in [*tried, *[line for line in lines if " replay " in line][:2]]:
        done = shell(line, place)
        assert done.returncode == {"replay": 1}.get(shlex.split(line)[1], 0), (line, done.stdout, done.stderr)
        assert "CANNOT RUN" not in done.stdout
        assert "mine.bn@cpu" in done.stdout


def test_a_line_is_the_same_wherever_it_is_printed(place):
    """The run, the gate in each format, the page and a manifest's patch print one line of one failure."""
    bnconf(
        "run",
        "-i",
        "mine.py:Mine",
        "--env",
        "user=./its python",
        "--cases",
        "30",
        "--no-corpus",
        "--out",
        "r",
        "--timeout",
        "99",
    )
    gate = bnconf("gate", "r", "--update", "--junit", "j.xml")
    bnconf("report", "r")
    asks = [
        re.findall(r"bnconf replay r/cases/\w+\.safetensors( -i [^<\n]*)", html.unescape(text))
        for text in (gate, Path("j.xml").read_text(), Path("r/report.html").read_text())
    ]
    assert {tail for found in asks for tail in found} == {
        f" -i mine.py:Mine --env 'user={place}/./its python' --timeout 99".replace("/./", "/")
    }
    assert all(asks)


def test_a_command_printed_elsewhere_finds_the_adapter(place, tmp_path):
    """A gate that runs in another directory prints where the adapter is, and the line works there."""
    bnconf("run", "-i", "mine.py:Mine", "--env", "user=./its python", "--cases", "30", "--no-corpus", "--out", "r")
    (tmp_path / "elsewhere").mkdir()
    done = shell(f"bnconf gate {shlex.quote(str(place / 'r'))}", tmp_path / "elsewhere")
    line = printed(done.stdout)[0]
    again = shell(line, tmp_path / "elsewhere")
    assert (again.returncode, "mine.bn@cpu" in again.stdout) == (1, True), (line, again.stderr)


def test_a_recording_is_asked_again_of_who_gave_it(place):
    """Without -i, a replay asks the adapter in the interpreter that it was asked in."""
    bnconf("run", "-i", "mine.py:Mine", "--env", "user=./its python", "--cases", "30", "--no-corpus", "--out", "r")
    bnconf("export", "r", "--out", "kept")
    done = CliRunner().invoke(main, ["replay", "kept"])
    assert (done.exit_code, "STILL FAILING" in done.output) == (1, True), done.output


def test_a_module_or_a_program_is_asked_from_where_it_was_named(tmp_path):
    """What is found only from one directory is asked there."""
    record = ImplementationRecord("m.bn@cpu", "m", "cpu", True, named="m:Mine", directory=str(tmp_path))
    line = commands.with_file("replay", Path("a case.safetensors"), record)
    assert line == f"cd {tmp_path} && bnconf replay '{Path.cwd()}/a case.safetensors' -i m:Mine"


@pytest.mark.parametrize("word", ["a b", "it's", "a\nb", "##[error]x", "\x1b[31m", "\\n", "ü∞", "$HOME", "'\t##[", "*"])
def test_a_word_is_quoted_so_that_a_shell_reads_it_back(word):
    """Whatever a path holds, the line is printable, orders no build server about, and says the same to a shell."""
    quoted = commands.quoted(word)
    assert shell(f"printf %s {quoted}", "/").stdout == word
    assert quoted.isprintable()
    assert "##[" not in quoted


@pytest.mark.parametrize(
    ("arguments", "exits"),
    [(["ask"], 0), (["ask", "momentum"], 0), (["run", "-i", "torch.nn.BatchNorm4d"], 2), (["env", "list"], 0)],
)
def test_other_printed_commands_work_as_printed(place, arguments, exits):
    """What lists and errors tell to run next runs."""
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == exits
    for line in printed(done.output):
        if "env create" not in line and "implementations" not in line and "--all" not in line:
            assert shell(line, place).returncode == 0, line
        assert parses(shlex.split(line)[1:]), line


def parses(words):
    """Return whether the command line takes these arguments; nothing is run."""
    command, context = main, click.Context(main, info_name="bnconf")
    while isinstance(command, click.Group):
        _, command, words = command.resolve_command(context, words)
    try:
        command.make_context(command.name, list(words), parent=context, resilient_parsing=False)
    except click.ClickException as error:
        return "does not exist" in error.format_message()  # a file of the reader's
    except click.exceptions.Exit:
        pass
    return True


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_each_documented_command_is_one(page):
    """Every line of a document that a reader may copy names a command, and options that it has."""
    for block in re.findall(r"^```(?:bash|sh|console)?\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE):
        for line in block.replace("\\\n", " ").splitlines():
            if found := re.match(r"\s*(?:run: |- run: |\$ )?(bnconf .*)", line):
                words = shlex.split(re.split(r" [|>] | && |; ", found[1])[0], comments=True)
                assert parses([w for w in words[1:] if w not in ("…", "...")]), line
