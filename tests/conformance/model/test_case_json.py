"""Cases written by hand: the page says all that may be said, and each mistake has an error of its own."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from conformance.cli.main import main
from conformance.model import case, case_json
from conformance.model.codec import read_case
from conformance.model.errors import InvalidInput
from reference.spec import Clipping, Spec

PAGE = (Path(case.__file__).parents[1] / "cases" / "CASES.md").read_text()
GOOD = {
    "spec": {"axis": 1},
    "steps": [{"mode": "train"}],
    "tensors": {
        "gamma": {"dtype": "float32", "data": [1, 1]},
        "0.x": {"dtype": "float32", "data": [[1, 2], [3, 4]]},
    },
}


def changed(*path, to):
    """Return the good case with one thing changed."""
    found = json.loads(json.dumps(GOOD))
    inner = found
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = to
    return json.dumps(found)


FAULTS = {
    "not json": ('{"spec": {},\n "steps" []}', "not JSON: Expecting ':' delimiter at line 2, column 10"),
    "empty": ("", "not JSON: Expecting value at line 1, column 1"),
    "a list": ("[1]", "it must be an object"),
    "twice": ('{"spec": {}, "spec": {}}', 'two fields of one object are called "spec"'),
    "no spec": ('{"steps": []}', 'missing required field "spec"'),
    "no steps": ('{"spec": {}}', 'missing required field "steps"'),
    "unknown field": (changed("stpes", to=[]), 'no field is called "stpes"; did you mean "steps"?'),
    "unknown of spec": (
        changed("spec", "epsilom", to=1),
        'spec: no field is called "epsilom"; did you mean "epsilon"?',
    ),
    "unknown of step": (
        changed("steps", 0, "updates", to=True),
        'steps[0]: no field is called "updates"; did you mean "update"?',
    ),
    "unknown of dtypes": (changed("dtypes", to={"X": "float32"}), 'dtypes: no field is called "X"'),
    "unknown of clipping": (
        changed("spec", "renorm_clipping", to={"rmix": 1}),
        'spec.renorm_clipping: no field is called "rmix"; did you mean "rmin"?',
    ),
    "wrong mode": (
        changed("steps", 0, "mode", to="trainn"),
        'steps[0].mode: "trainn" is no value here; did you mean "train"?',
    ),
    "no mode": (changed("steps", to=[{}]), 'steps[0]: missing required field "mode"'),
    "wrong layout": (changed("layout", to="NHWC"), 'layout: "NHWC" is no value here; use one of C, F, strided'),
    "wrong dtype": (
        changed("dtypes", to={"x": "float23"}),
        'dtypes.x: "float23" is no value here; did you mean "float32"?',
    ),
    "wrong order": (
        changed("steps", 0, "derivatives", to=[{"order": 4}]),
        "steps[0].derivatives[0].order: 4 is no value here",
    ),
    "wrong type": (changed("spec", "epsilon", to="small"), "Expected `float`, got `str` - at `$.spec.epsilon`"),
    "steps no list": (changed("steps", to={"mode": "train"}), "steps must be a list, and is an object"),
    "schema": (changed("schema", to=7), "schema 7, but this version reads schema 1"),
    "no input": (changed("steps", to=[{"mode": "train"}] * 2), "step 1 has no input; add a tensor named 1.x"),
    "no dy": (
        changed("steps", 0, "derivatives", to=[{}]),
        "step 0 asks for a derivative of order 1 in mode reverse; add a tensor named 0.dy",
    ),
    "unknown tensor": (
        changed("tensors", "gama", to=GOOD["tensors"]["gamma"]),
        'no tensor is called gama; did you mean "gamma"?',
    ),
    "of no step": (changed("tensors", "3.dy", to=GOOD["tensors"]["0.x"]), "3.dy is of step 3, and there are 1 steps"),
    "no data": (changed("tensors", "0.x", to={"dtype": "float32"}), 'tensors: 0.x: missing required field "data"'),
    "tensor dtype": (
        changed("tensors", "0.x", "dtype", to="float33"),
        'tensors: 0.x: "float33" is no dtype here; did you mean "float32"?',
    ),
    "ragged": (
        changed("tensors", "0.x", "data", to=[[1], [2, 3]]),
        "tensors: 0.x: data must be numbers in lists, all rows of one length",
    ),
    "too large": (changed("tensors", "0.x", "data", to=[[1e300, 1]]), "tensors: 0.x: 1e+300 is too large for float32"),
    "shape of data": (
        changed("tensors", "0.x", "shape", to=[3, 2]),
        "tensors: 0.x: data holds 4 values, shape says [3, 2]",
    ),
    "wrong shape": (
        changed("tensors", "moving_mean", to={"dtype": "float32", "data": [1, 2, 3]}),
        "moving_mean has shape (3,), but axis=1 needs (2,)",
    ),
    "other dtype": (
        changed("tensors", "0.x", "dtype", to="float64"),
        "0.x is float64, but dtypes says float32; change one of them",
    ),
    "a bare list": (changed("tensors", "0.x", to=[1]), "tensors: 0.x must be an object"),
}


FAULTS |= {
    "nested": ("[" * 100_000, "nested too deeply"),
    "text": (changed("tensors", "0.x", "data", to=[["1", 2], [3, 4]]), 'holds "1"; write a number'),
    "null": (changed("tensors", "0.x", "data", to=[[None, 2], [3, 4]]), "holds null; write a number"),
    "flag": (changed("tensors", "0.x", "data", to=[[True, 2], [3, 4]]), "true or false; write 1 or 0"),
    "batches": (changed("batches", to=-1), "batches is -1"),
    "sites": (changed("actions", to={"sites": 0}), "actions.sites is 0"),
    "site": (changed("steps", 0, "site", to=2), "steps[0].site is 2, but actions.sites is 1"),
    "sizes": (changed("actions", to={"unknown_sizes": [7]}), "names axis 7, but the input has shape (2, 2)"),
    "order": (changed("steps", 0, "derivatives", to=[{"order": "1"}]), '"1" is no value here; did you mean 1?'),
}


@pytest.mark.parametrize(("text", "says"), FAULTS.values(), ids=FAULTS)
def test_each_mistake_in_a_case_written_by_hand_has_its_own_error(tmp_path, text, says):
    """The file, the place, what is wrong and the nearest right word; and exit code 2 from a replay."""
    path = tmp_path / "mine.json"
    path.write_text(text)
    with pytest.raises(InvalidInput) as caught:
        read_case(path)
    assert says in str(caught.value)
    assert "CASES.md" in str(caught.value)
    assert "give a .safetensors" not in str(caught.value)
    done = CliRunner().invoke(main, ["replay", str(path), "-i", "numpy.two_pass"])
    assert (done.exit_code, says in done.output) == (2, True)


def test_a_byte_that_is_no_text_is_named(tmp_path):
    """A case file that is not UTF-8 is refused with the byte."""
    (tmp_path / "mine.json").write_bytes(b'{"spec": \xff}')
    with pytest.raises(InvalidInput, match=r"byte 9 \(0xff\) is no UTF-8"):
        read_case(tmp_path / "mine.json")


def told(section):
    """Return what the page's table of one section says: field and default."""
    table = PAGE[PAGE.index(f"| {section} | default |") :].split("\n\n")[0]
    rows = [[cell.strip() for cell in row.split("|")[1:3]] for row in table.splitlines()[2:]]
    return {name: default.strip("`") for names, default in rows for name in re.findall(r"`([^`]+)`", names)}


@pytest.mark.parametrize(
    ("section", "kind"),
    [
        ("of the case", case.Case),
        ("of `spec`", Spec),
        ("of each of `steps`", case.Step),
        ("of each of `derivatives`", case.Derivative),
        ("of `dtypes`", case.Dtypes),
        ("of `actions`", case.Actions),
    ],
)
def test_the_page_of_cases_names_every_field_with_its_default(section, kind):
    """No field is left out, and each default is the one in the code."""
    if dataclasses.is_dataclass(kind):
        defaults = {f.name: f.default for f in dataclasses.fields(kind)}
    else:
        defaults = {f.name: case._default(f) for f in msgspec.structs.fields(kind)}
    bare = {name: {} if isinstance(d, msgspec.Struct) else d for name, d in defaults.items()}
    wanted = {name: "needed" if d is msgspec.NODEFAULT else json.dumps(d) for name, d in bare.items()}
    extra = {"about": "none", "schema": str(case.SCHEMA)} if kind is case.Case else {}
    assert told(section) == wanted | extra


def test_the_page_of_cases_names_every_tensor_and_value():
    """Each tensor, each dtype and each word that a field may have is on the page."""
    names = {*case.OF_LAYER, *(f"<t>.{name}" for name in case.OF_STEP), "<m>.gamma", "<m>.beta"}
    assert set(told("in `tensors`")) == names
    words = [*case_json._DTYPES, *(f.name for f in dataclasses.fields(Clipping))]
    for kind in (case.Dtype, case.Layout, *(msgspec.structs.fields(case.Actions)[n].type for n in (0, 1, 4))):
        words += kind.__args__
    for field in msgspec.structs.fields(case.Derivative):
        words += field.type.__args__[0].__args__ if field.name in ("of", "wrt") else field.type.__args__
    assert [w for w in map(str, words) if not re.search(rf"[`\"]{w}[`\"]", PAGE) and w not in "123"] == []


def test_the_three_examples_of_the_page_replay(tmp_path):
    """Each example, saved as it stands, is a case that an exact implementation conforms in."""
    examples = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    assert len(examples) == 3
    for n, text in enumerate(examples):
        (tmp_path / f"{n}.json").write_text(text)
    for n in range(3):
        done = CliRunner().invoke(main, ["replay", str(tmp_path / f"{n}.json"), "-i", "numpy.two_pass"])
        assert (done.exit_code, "CONFORMS: numpy.two_pass@cpu" in done.output) == (0, True), done.output
