"""What the documents say is true: their examples run, their bytes decode, their links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from conformance import summary, worker

ROOT = Path(__file__).parents[2]
PAGES = [p for p in ROOT.rglob("*.md") if not {".venv", "node_modules"} & set(p.parts)]


def test_the_example_implementation_runs_and_conforms(run, tmp_path):
    """The twenty lines of conformance/README.md, saved as they stand, pass every case that they support."""
    text = (ROOT / "conformance" / "README.md").read_text()
    (tmp_path / "mine.py").write_text(re.search(r"```python\n(.*?)```", text, re.DOTALL)[1])
    (row,) = summary.rows(run(f"{tmp_path / 'mine.py'}:MyBatchNorm", cases=95))
    assert row.conforms
    assert row.cases >= 20


def test_the_hex_of_the_protocol_is_a_frame():
    """The worked example decodes to what the page says, byte by byte."""
    text = (ROOT / "conformance" / "PROTOCOL.md").read_text()
    block = re.search(r"A frame in hex.*?```\n(.*?)```", text, re.DOTALL)[1]
    frame = bytes.fromhex("".join(line[:48].strip() for line in block.splitlines()))
    assert int.from_bytes(frame[:8], "little") == len(frame) - 8
    metadata, tensors = worker.decode(frame[8:])
    assert (metadata, tensors["0.x"].tolist()) == ({"case": "{}"}, [[1.0], [3.0]])
    assert worker.encode(metadata, tensors) == frame[8:]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page):
    """Every link to a file of the project names one that exists."""
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_every_module_is_named_on_the_architecture_page():
    """conformance/README.md leaves no module out."""
    text = (ROOT / "conformance" / "README.md").read_text()
    modules = {p.stem for p in (ROOT / "conformance").glob("*.py")} - {"__init__", "__main__", "errors"}
    assert {m for m in modules if f"`{m}`" not in text} == set()
