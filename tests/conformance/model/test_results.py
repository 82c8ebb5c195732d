"""The run file: its schema is published, and every line of a run keeps it."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema

from conformance.model import results

PUBLISHED = Path(results.__file__).with_name("run.schema.json")


def test_the_published_schema_is_the_one_in_use():
    """`conformance/model/run.schema.json` is what the code reads and writes: regenerate it when a record changes."""
    assert json.loads(PUBLISHED.read_text()) == json.loads(json.dumps(results.schema()))


def test_every_line_of_a_run_keeps_the_schema(run, adapter, tmp_path):
    """An independent validator accepts each record of a run with passes, failures, refusals and crashes."""
    run("numpy.two_pass", adapter("wrong:EpsilonOutside"), adapter("faulty:Raise"), adapter("faulty:Exit"), cases=14)
    validator = jsonschema.Draft202012Validator(json.loads(PUBLISHED.read_text()))
    lines = (tmp_path / "run" / "run.jsonl").read_text().splitlines()
    assert len(lines) > 100
    for line in lines:
        validator.validate(json.loads(line))
