"""What the documents say is true: their examples run, their bytes decode, their links lead somewhere."""

from __future__ import annotations

import ast
import dataclasses
import itertools
import json
import re
from pathlib import Path

import msgspec
import numpy as np
import pytest

from conformance.cases.cells import DEFAULT, SMOKE, THOROUGH
from conformance.hosts import environment, worker
from conformance.judging.bounds import bounds
from conformance.model import case, outcome, statement
from conformance.model.codec import case_from_json, check
from conformance.runs import summary
from reference import Spec

ROOT = Path(__file__).parents[2]
PAGES = [p for p in ROOT.rglob("*.md") if not {".venv", "build", "node_modules"} & set(p.parts)]


def test_the_example_implementation_runs_and_conforms(run, tmp_path):
    """The twenty lines of conformance/README.md, saved as they stand, pass every case that they support."""
    text = (ROOT / "conformance" / "README.md").read_text()
    (tmp_path / "mine.py").write_text(re.search(r"```python\n(.*?)```", text, re.DOTALL)[1])
    (row,) = summary.rows(run(f"{tmp_path / 'mine.py'}:MyBatchNorm", cases=SMOKE))
    assert row.conforms
    assert row.cases >= 20


def test_the_hex_of_the_protocol_is_a_frame():
    """The worked example decodes to what the page says, byte by byte."""
    text = (ROOT / "conformance" / "hosts" / "PROTOCOL.md").read_text()
    block = re.search(r"A frame in hex.*?```\n(.*?)```", text, re.DOTALL)[1]
    frame = bytes.fromhex("".join(line[:48].strip() for line in block.splitlines()))
    assert int.from_bytes(frame[:8], "little") == len(frame) - 8
    metadata, tensors = worker.decode(frame[8:])
    assert (metadata, tensors["0.x"].tolist()) == ({"case": "{}"}, [[1.0], [3.0]])
    assert worker.encode(metadata, tensors) == frame[8:]


def test_the_conversation_of_the_protocol_is_one():
    """The example hello, case and reply are read by the host as it reads a worker's, the request is as it is sent."""
    text = (ROOT / "conformance" / "hosts" / "PROTOCOL.md").read_text()
    hello, request, asked, reply = (json.loads(block) for block in re.findall(r"```json\n(.*?)```", text, re.DOTALL))
    said = environment._hello(worker.encode({"hello": json.dumps(hello)}, {}))
    promised = msgspec.convert(said.implementations[0].statement, statement.Statement)
    assert said.implementations[0].id == f"{promised.id}@cpu"
    sent = environment.Request(request["id"], lambda extra: extra["request"].encode(), request["implementations"])
    assert json.loads(sent.body()) == request
    exact_case = case_from_json(json.dumps(asked), {"0.x": np.zeros((5, 3), np.float32)})
    check(exact_case)
    assert {"schema": case.SCHEMA, **case.content(exact_case)} == asked
    answered = outcome.decode_reply(worker.encode({"reply": json.dumps(reply)}, {"0.y": np.zeros((5, 3), np.float32)}))
    assert list(answered.outcomes[0].tensors) == ["y"]
    assert (answered.request, answered.implementation) == (request["id"], request["implementations"][0])


def test_both_sides_and_the_page_agree_on_the_version():
    """The host, worker.py and PROTOCOL.md are of one version."""
    text = (ROOT / "conformance" / "hosts" / "PROTOCOL.md").read_text()
    assert text.startswith(f"# The worker protocol, version {environment.PROTOCOL}\n")
    assert worker.PROTOCOL == environment.PROTOCOL


def test_the_protocol_names_every_field():
    """No field of what host and worker send each other goes without a word on it."""
    text = (ROOT / "conformance" / "hosts" / "PROTOCOL.md").read_text()
    sent = (environment.Hello, environment.Listing, statement.Statement, statement.Rule, statement.StatedRefusal)
    asked = (case.Case, case.Step, case.Dtypes, case.Actions, case.Derivative)
    answered = (outcome.Reply, bounds.Numerics)
    fields = {name for kind in sent + asked + answered for name in kind.__struct_fields__} - {"tensors"}
    fields |= {field.name for field in dataclasses.fields(Spec)}
    assert {name for name in fields if f"`{name}`" not in text} == set()


def test_the_readme_says_how_many_cases_a_run_draws():
    """A run by default and a thorough one draw as many as the README says beside their commands."""
    text = (ROOT / "README.md").read_text()
    assert re.search(rf"^bnconf run +# every implementation, {DEFAULT:,} cases;", text, re.MULTILINE)
    assert re.search(rf"^bnconf run --profile thorough .* # {THOROUGH:,} cases,", text, re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page):
    """Every link to a file of the project names one that exists."""
    for target in re.findall(
        r"\]\(([^)#]+)(?:#[^)]*)?\)", re.sub(r"```python\n.*?```", "", page.read_text(), flags=re.DOTALL)
    ):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_every_module_is_in_the_tree_of_the_architecture_page():
    """conformance/README.md names every module in its room."""
    text = (ROOT / "conformance" / "README.md").read_text()
    tree = re.search(r"```\nconformance/\n(.*?)```", text, re.DOTALL)[1]
    files = [p.relative_to(ROOT / "conformance") for p in (ROOT / "conformance").rglob("*.py")]
    theirs = {Path("implementations"), Path("studies/translation/tutorial")}
    for path in files:
        if not theirs & {*path.parents} and path.stem not in ("__init__", "__main__"):
            assert re.search(rf"\b{path.stem}\b", _under(tree, path.parent)), path


def test_every_room_begins_with_its_charter():
    """The first sentence of a room says what it is for."""
    for room in (p for p in (ROOT / "conformance").iterdir() if p.is_dir() and any(p.glob("*.py"))):
        charter = ast.get_docstring(ast.parse((room / "__init__.py").read_text()))
        assert charter, room
        assert charter.endswith("."), room


def _under(tree, folder):
    """Return the lines of a tree that stand below a folder."""
    for name in folder.parts:
        lines = tree.splitlines()
        start = next(i for i, line in enumerate(lines) if re.search(rf"(^|\s){name}/", line))
        depth = len(lines[start]) - len(lines[start].lstrip())
        rest = itertools.takewhile(lambda line, d=depth: len(line) - len(line.lstrip()) > d, lines[start + 1 :])
        tree = "\n".join([lines[start].partition(f"{name}/")[2], *rest])
    return tree


def renamed():
    """Return the table of decision 21: the class names that went, and those that came."""
    text = (ROOT / "conformance" / "decisions" / "021-ten-rooms.md").read_text()
    rows = re.findall(r"^\| \w[^|]*: ([^|]+) \| ([^|]+) \|$", text, re.MULTILINE)
    stay = set(re.findall(r"(\w+) \(", re.search(r"old names stay.*?:(.*?\))\.", text, re.DOTALL)[1]))
    went, came = ({name for row in rows for name in re.findall(r"\w+", row[i])} for i in (0, 1))
    return went - stay, came


def test_no_class_is_called_by_a_word_that_went():
    """The old names of decision 21 are names of no class, and each new one is of one."""
    went, came = renamed()
    text = "\n".join(path.read_text() for path in (ROOT / "conformance").rglob("*.py"))
    classes = set(re.findall(r"^(?:class )?(\w+)(?=\(|:| = dict)", text, re.MULTILINE))
    assert len(went) > 15
    assert went & classes == set()
    assert came - classes == set()


def test_no_word_is_the_name_of_two_classes():
    """A name means one class, but for the case and the step that an adapter sees, which are the host's in its words."""
    theirs = {ROOT / "conformance" / name for name in ("implementations", "studies/translation/tutorial")}
    texts = [p.read_text() for p in (ROOT / "conformance").rglob("*.py") if not theirs & {*p.parents}]
    names = [name for text in texts for name in re.findall(r"^class ([A-Z]\w+)", text, re.MULTILINE)]
    assert {name for name in names if names.count(name) > 1} == {"Case", "Step"}


def test_each_new_word_is_in_the_glossary():
    """The page says what each class that got a name of its own is."""
    text = (ROOT / "conformance" / "README.md").read_text()
    words = re.search(r"## Words\n(.*?)\n## ", text, re.DOTALL)[1]
    assert {name for name in renamed()[1] if not re.search(rf"\b{name}\b", words)} == set()
