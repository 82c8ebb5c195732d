"""What is misspelt in statements and in the worker protocol is refused when it is read, with the nearest right word."""

from __future__ import annotations

import json
import re
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from conformance.cli.main import main
from conformance.hosts import environment
from conformance.hosts.in_process import worker
from conformance.model import outcome
from conformance.model.codec import encode_case
from conformance.model.errors import InvalidInput
from conformance.model.spelling import Misspelt
from conformance.model.statement import Statement, stated

PROGRAMS = Path(__file__).parents[1] / "programs"
STATEMENT: dict[str, Any] = {
    "id": "mine.batch_norm",
    "packages": ["numpy"],
    "documentation": "https://example.org/mine",
    "conventions": {"momentum": "kept", "axis": "kept"},
}


def rule(**fields: Any) -> dict[str, Any]:
    """Return what a statement says with one rule."""
    return {"rules": [{"cite": "its manual", **fields}]}


def refusal(**fields: Any) -> dict[str, Any]:
    """Return what a statement says with one refusal."""
    return {"refusals": [{"cite": "its manual", "when": {"n": ["1"]}, "error": ["ValueError"], **fields}]}


STATEMENTS: list[tuple[dict[str, Any], str, str]] = [
    ({"outputz": ["y"]}, '"outputz" is no field', "outputs"),
    ({"mode": ["infer"]}, '"mode" is no field', "modes"),
    ({"rule": []}, '"rule" is no field', "rules"),
    ({"refusal": []}, '"refusal" is no field', "refusals"),
    ({"accept": []}, '"accept" is no field', "accepts"),
    ({"modes": ["inference"]}, 'modes[0]: "inference"', "infer"),
    ({"modes": ["trian"]}, 'modes[0]: "trian"', "train"),
    ({"outputs": []}, "outputs: names none", "y at least"),
    ({"outputs": ["gradient"]}, '"gradient" is no output', "dx"),
    ({"id": "."}, 'id: "." begins with no letter or digit', "mine.batch_norm"),
    ({"documentation": None}, "documentation: null is not a text", "give a text"),
    ({"documentation": "a\ud800"}, "documentation: 'a\\ud800'", "leave it out"),
    ({"modes": None}, "modes: null is not a list", "give a list"),
    ({"supports": {"rank": [2.0]}}, "supports.rank: 2.0 is not a whole number", "2"),
    ({"supports": {"axis": ["-1"]}}, 'supports.axis: "-1" is not an axis', "-1"),
    ({"supports": {"axis": [[]]}}, "supports.axis: [] is not an axis", "a list of them"),
    ({"supports": {"channel": ["channels_first"]}}, 'channel: "channels_first"', "second"),
    ({"supports": {"channel": ["NHWC"]}}, 'channel: "NHWC"', "last"),
    (rule(numerics={"variance": "welford"}), 'numerics.variance: "welford"', "stable"),
    (refusal(error=["Value Error"]), 'refusals[0].error: "Value Error"', "ValueError"),
    ({"modes": "infer"}, 'modes: "infer" is not a list', '["infer"]'),
    ({"signatures": "16"}, 'signatures: "16" is not a whole number', "16"),
    ({"signatures": 0}, "signatures: 0", "≥ 1"),
    ({"compiled": "yes"}, 'compiled: "yes" is not true or false', "true"),
    ({"calibration": "no"}, 'calibration: "no" is not true or false', "false"),
    ({"returned": "round"}, 'returned: "round"', "rounded"),
    ({"device": "gpu"}, 'device: "gpu"', "cuda"),
    ({"id": "my batch norm"}, 'id: "my batch norm"', "my_batch_norm"),
    ({"packages": "numpy"}, 'packages: "numpy" is not a list', '["numpy"]'),
    ({"conventions": {"momentun": "kept"}}, '"momentun" is no convention', "momentum"),
    ({"conventions": {"momentum": "keep"}}, 'conventions.momentum: "keep"', "kept"),
    ({"conventions": {"momentum": "0.1"}}, 'conventions.momentum: "0.1"', "updated"),
    ({"conventions": {"axis": "reduce"}}, 'conventions.axis: "reduce"', "reduced"),
    ({"outputs": ["y", "moving_var"]}, 'outputs: "moving_var" is no output', "moving_variance"),
    ({"outputs": ["dgama"]}, 'outputs: "dgama" is no output', "dgamma"),
    ({"lacks": {"second_order": "no derivatives"}}, 'lacks: "second_order"', "second order"),
    ({"supports": {"dtypes": ["float32"]}}, 'supports: "dtypes" is no fact', "dtype"),
    ({"supports": {"dtype": ["float31"]}}, 'supports.dtype: "float31"', "float32"),
    ({"supports": {"channel": ["lats"]}}, 'supports.channel: "lats"', "last"),
    ({"supports": {"channels": ["last"]}}, 'supports: "channels" is no fact', "channel"),
    ({"supports": {"rank": ["4"]}}, 'supports.rank: "4" is not a whole number', "4"),
    ({"supports": {"mask": [True]}}, "supports.mask: true", "full"),
    ({"supports": {"several_axes": [0]}}, "supports.several_axes: 0", "false"),
    ({"supports": {"output": ["y"]}}, "supports.output", "the `when` of rules for numerics"),
    ({"supports": {"dtype": []}}, "supports.dtype: lists no value", "leave the fact out"),
    ({"accepts": [{"ranks": [2]}]}, 'accepts[0]: "ranks" is no fact', "rank"),
    (rule(semantics={"frozn": "train"}), 'rules[0].semantics: "frozn" is no field', "frozen"),
    (rule(semantics={"frozen": "yes"}), 'rules[0].semantics.frozen: "yes"', "train"),
    (rule(semantics={"frozen": "infr"}), 'rules[0].semantics.frozen: "infr"', "infer"),
    (rule(semantics={"stored_variance": "unbaised"}), 'semantics.stored_variance: "unbaised"', "unbiased"),
    (rule(semantics={"output_dtype": "float16"}), 'semantics.output_dtype: "float16"', "float32"),
    (rule(semantics={"initial_variance": "1"}), 'semantics.initial_variance: "1" is not a number', "1.0"),
    (rule(semantics={"epsilon_floor": -1.0}), "semantics.epsilon_floor: -1", "≥ 0"),
    (rule(numerics={"variance": "two-pass"}), 'numerics.variance: "two-pass"', "two_pass"),
    (rule(numerics={"sum": "tree"}), 'numerics: "sum" is no field', "sums"),
    (rule(numerics={"stored": "half"}), 'numerics.stored: "half"', "float16"),
    (rule(numerics={"clamped": 1}), "numerics.clamped: 1 is not true or false", "true"),
    (rule(absent=["dgamma", "dbetta"]), 'rules[0].absent: "dbetta"', "dbeta"),
    (rule(when={"mode": ["training"]}), 'rules[0].when.mode: "training"', "train"),
    (rule(when={"output": ["moving_men"]}), 'rules[0].when.output: "moving_men"', "moving_mean"),
    (rule(when={"device": ["gpu"]}), 'rules[0].when.device: "gpu"', "cuda"),
    (rule(when={"output": ["y"]}, semantics={"frozen": "train"}), "rules[0].when.output", "a rule of their own"),
    (rule(wen={"mode": ["train"]}), 'rules[0]: "wen" is no field', "when"),
    ({"rules": [{"semantics": {"frozen": "train"}}]}, "rules[0]: cite is missing", "add it"),
    (rule(cite="  "), "rules[0].cite: is empty", "say where"),
    (refusal(errors=["ValueError"]), 'refusals[0]: "errors" is no field', "cite"),
    (refusal(error=[]), "refusals[0].error: names no error", "ValueError"),
    (refusal(when={"n": [1]}), "refusals[0].when.n: 1", '"1"'),
    (refusal(when={"n": ["one"]}), 'refusals[0].when.n: "one"', "many"),
]
HELLO: dict[str, Any] = {"protocol": 1, "implementations": [{"id": "mine.batch_norm@cpu", "statement": STATEMENT}]}
HELLOS: list[tuple[dict[str, Any], str, str]] = [
    ({"protocol": "1"}, 'protocol: "1" is not a whole number', "1"),
    ({"protocl": 1, "protocol": None}, '"protocl" is no field', "protocol"),
    ({"implementation": [], "implementations": None}, '"implementation" is no field', "implementations"),
    ({"implementations": {}}, "implementations: {} is not a list", "[{}]"),
    ({"implementations": [{"id": "a@cpu", "statment": {}}]}, 'implementations[0]: "statment"', "statement"),
    ({"implementations": [{"id": "a@cpu", "statement": {}, "available": "no"}]}, "not true or false", "false"),
    ({"versions": {"node": 20}}, "versions.node: 20 is not a text", '"20"'),
]
REPLY: dict[str, Any] = {"request": 1, "implementation": "mine.batch_norm@cpu", "outcomes": [{"type": "outputs"}]}
REPLIES: list[tuple[dict[str, Any], str, str]] = [
    ({"outcomes": [{"type": "output"}]}, 'outcomes[0].type: "output"', "outputs"),
    ({"outcomes": [{"type": "refuse", "error": "ValueError"}]}, 'outcomes[0].type: "refuse"', "refused"),
    ({"outcomes": [{"error": "ValueError"}]}, "outcomes[0]:", "add one of outputs, refused, crashed"),
    ({"outcomes": [{"type": "refused", "error": "ValueError", "mesage": ""}]}, '"mesage" is no field', "message"),
    ({"outcome": [], "outcomes": None}, '"outcome" is no field', "outcomes"),
    ({"request": "1"}, 'request: "1" is not a whole number', "1"),
    ({"cpu": "fast"}, 'cpu: "fast" is not a number', "give a number"),
]
QUESTIONS: list[tuple[tuple[Any, ...], Any, str, str]] = [  # where in request and case, what is put there
    (("request", "implementations"), ["numpy.two_pas@cpu"], '"numpy.two_pas@cpu"', "numpy.two_pass@cpu"),
    (("request", "implementation"), [], '"implementation" is no field', "implementations"),
    (("case", "step"), [], '"step" is no field', "steps"),
    (("case", "schema"), 2, "case.schema: 2", "1"),
    (("case", "layout"), "c", 'case.layout: "c"', "C"),
    (("case", "dtypes", "x"), "float31", 'dtypes.x: "float31"', "float32"),
    (("case", "spec", "epsilom"), 1e-3, '"epsilom" is no field', "epsilon"),
    (("case", "steps", 0, "mode"), "evaluate", 'step.mode: "evaluate"', "train"),
    (("case", "steps", 0, "trained"), True, '"trained" is no field', "trainable"),
    (("case", "steps", 0, "derivatives", 0, "order"), 4, "derivative.order: 4", "3"),
    (("case", "steps", 0, "derivatives", 0, "mode"), "revers", 'derivative.mode: "revers"', "reverse"),
    (("case", "steps", 0, "derivatives", 0, "wrt"), ["gama"], 'derivative.wrt: "gama"', "gamma"),
    (("case", "actions", "flag"), "boolean", 'actions.flag: "boolean"', "bool"),
    (("tensors", "0.maks"), np.ones((5, 3), bool), '"0.maks" is no tensor', "0.mask"),
]


def without_none(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields that are there."""
    return {name: value for name, value in fields.items() if value is not None}


def test_the_tables_are_long_enough():
    """Statements and messages of the protocol are misspelt in 40 ways and more, and as they should be are read."""
    assert len(STATEMENTS) >= 40
    assert len(STATEMENTS + HELLOS + REPLIES) + len(QUESTIONS) >= 80
    assert stated(STATEMENT, "it").id == "mine.batch_norm"
    assert environment._hello(worker.encode({"hello": json.dumps(HELLO)}, {})).protocol == 1
    assert outcome.decode_reply(worker.encode({"reply": json.dumps(REPLY)}, {})).request == 1


@pytest.mark.parametrize(("changes", "says", "near"), STATEMENTS)
def test_a_misspelt_statement_is_refused_with_the_nearest_right_word(changes, says, near):
    """Each message names whose statement it is, the place and the value, and what was meant."""
    with pytest.raises(InvalidInput) as raised:
        stated(STATEMENT | changes, "the statement of mine")
    message = str(raised.value)
    assert message.startswith("the statement of mine is not valid: ")
    assert says in message
    assert near in message.partition(says)[2], message


@pytest.mark.parametrize(("changes", "says", "near"), HELLOS)
def test_a_misspelt_hello_is_refused_with_the_nearest_right_word(changes, says, near):
    """What must be in a hello and is not, or is of another type, is named; what may be added is not."""
    body = worker.encode({"hello": json.dumps(without_none(HELLO | changes))}, {})
    with pytest.raises(Misspelt) as raised:
        environment._hello(body)
    assert says in str(raised.value)
    assert near in str(raised.value).partition(says)[2], raised.value


@pytest.mark.parametrize(("changes", "says", "near"), REPLIES)
def test_a_misspelt_reply_is_refused_with_the_nearest_right_word(changes, says, near):
    """An outcome of no known type, a missing field, another type: each costs the one question, with its reason."""
    body = worker.encode({"reply": json.dumps(without_none(REPLY | changes))}, {})
    with pytest.raises(ValueError, match="not a reply: ") as raised:
        outcome.decode_reply(body)
    assert says in str(raised.value)
    assert near in str(raised.value).partition(says)[2], raised.value


@pytest.mark.parametrize(("place", "value", "says", "near"), QUESTIONS)
def test_a_worker_refuses_a_question_that_it_half_understands(place, value, says, near, small_case):
    """A field, a value, a tensor, an implementation that it does not know: an outcome says so, and nothing is run."""
    metadata, tensors = worker.decode(encode_case(small_case()))
    asked: dict[Any, Any] = {"request": {"id": 1, "implementations": ["numpy.two_pass@cpu"]}, "tensors": tensors}
    asked["case"] = json.loads(metadata["case"])
    part = asked
    for name in place[:-1]:
        part = part[name]
    part[place[-1]] = value
    body = worker.encode({name: json.dumps(asked[name]) for name in ("request", "case")}, asked["tensors"])
    (reply,) = (outcome.decode_reply(b"".join(parts)) for parts in worker.replies(body, {"numpy.two_pass@cpu": None}))
    (said,) = reply.outcomes
    assert isinstance(said, outcome.Crashed)
    assert says in said.reason
    assert near in said.reason.partition(says)[2], said.reason


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        (None, "Mine.statement: None is no statement; give a dict"),
        ({"modes": {"infer"}}, "Mine.statement.modes: {'infer'} is no JSON; did you mean [\"infer\"]?"),
        ({"rank": {"rank": np.arange(2)}}, "is no JSON; did you mean [0, 1]?"),
        (
            {"refusals": [{"error": [ValueError]}]},
            "refusals[0].error[0]: <class 'ValueError'> is no JSON; did you mean \"V",
        ),
        ({"id": b"mine"}, 'did you mean "mine"?'),
    ],
)
def test_a_statement_that_json_cannot_say_names_the_place_and_what_was_meant(statement, says):
    """A set, an array, a class, bytes, or nothing: not whatever Python happened to trip over."""
    with pytest.raises(ValueError, match=re.escape(says)):
        worker.asked.check_statement("Mine", statement)


def test_an_implementation_that_is_announced_twice_is_refused(misspelt):
    """Whose answers would be whose, nobody could say."""
    path = Path(misspelt().partition(":")[0])
    path.write_text(path.read_text() + "IMPLEMENTATIONS = [Mine, Mine]\n")
    result = CliRunner().invoke(main, ["run", "-i", str(path)])
    assert result.exit_code == 2, result.output
    assert "announces mine.batch_norm@cpu twice" in result.output


def test_a_request_that_nobody_could_answer_ends_the_worker():
    """Without the number to answer there is no reply; the last word names what is missing and what is there."""
    body = worker.encode({"request": json.dumps({"ids": 1, "implementations": []}), "case": "{}"}, {})
    with pytest.raises(ValueError, match="request: id is missing; add it; ids is no field of it"):
        list(worker.replies(body, {}))


def test_a_statement_cannot_be_made_of_what_means_nothing():
    """A promise that is put together by a program is held to the same words."""
    with pytest.raises(Misspelt, match=r"supports: .* is no fact"):
        Statement("mine", [], "", {}, supports={"dtypes": ["float32"]})


@pytest.fixture
def misspelt(tmp_path):
    """Write an adapter whose statement says what is given."""

    def write(**changes: Any) -> str:
        path = tmp_path / "mine.py"
        path.write_text(f"class Mine:\n    statement = {STATEMENT | changes!r}\n    def __init__(self, device): pass\n")
        return f"{path}:Mine"

    return write


@pytest.mark.parametrize("command", ["run", "identify", "audit"])
def test_a_misspelt_class_exits_with_2(command, misspelt, tmp_path, monkeypatch):
    """Whichever command is given it, there is one clear error, and nothing is written."""
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, [command, "-i", misspelt(supports={"dtypes": ["float32"]})])
    assert result.exit_code == 2, result.output
    assert 'supports: "dtypes" is no fact; did you mean dtype?' in result.output
    assert "Internal error" not in result.output
    assert not (tmp_path / "reports").exists()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"rules": [{"cite": "x", "semantics": {"frozen": "yes"}}]}, "did you mean train?"),
        ({"id": "my batch norm"}, "did you mean my_batch_norm?"),
        ({"conventions": {"momentum": "0.1"}}, "did you mean updated?"),
    ],
)
def test_a_misspelt_file_exits_with_2(changes, says, misspelt):
    """A value that means nothing is an error of the statement, and no verdict."""
    result = CliRunner().invoke(main, ["run", "-i", misspelt(**changes)])
    assert result.exit_code == 2, result.output
    assert says in result.output
    assert "ERROR" not in result.output


@pytest.mark.parametrize(
    ("hello", "says"),
    [
        ({"protocol": 1, "implementation": []}, '"implementation" is no field; did you mean implementations?'),
        (HELLO | {"implementations": [{"id": "mine.batch_norm@cpi", "statement": STATEMENT}]}, "did you mean cpu?"),
        (
            HELLO | {"implementations": [{"id": "mine.batch_norm@cpu", "statement": STATEMENT | {"mode": []}}]},
            "did you mean modes?",
        ),
    ],
)
def test_a_program_that_misspells_its_hello_exits_with_2(hello, says, tmp_path):
    """A hello that names no implementations, a device that there is not, a promise that is none."""
    frame = worker.encode({"hello": json.dumps(hello)}, {})
    (tmp_path / "hello").write_bytes(struct.pack("<Q", len(frame)) + frame)
    program = f"import sys; sys.stdout.buffer.write(open({str(tmp_path / 'hello')!r}, 'rb').read())"
    (tmp_path / "program.py").write_text(program)
    result = CliRunner().invoke(main, ["run", "-i", f"exec:{sys.executable} {tmp_path / 'program.py'}"])
    assert result.exit_code == 2, result.output
    assert says in result.output
