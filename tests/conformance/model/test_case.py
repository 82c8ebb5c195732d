"""Cases: their bytes, their ids, and what is refused."""

from __future__ import annotations

import errno
import json
import mmap
import struct
import subprocess
import sys

import ml_dtypes
import msgspec
import numpy as np
import pytest
from safetensors.numpy import load, save

from conformance.cases import corpus
from conformance.hosts import going_on, worker
from conformance.model import buffers
from conformance.model.buffers import decode, encode
from conformance.model.case import Actions, Case, Derivative, Dtypes, Step, case_id, content
from conformance.model.codec import case_from_json, case_in_parts, decode_case, encode_case, read_case
from conformance.model.errors import InvalidInput
from reference import Spec

SCENARIOS = sorted(corpus.FOLDER.glob("*.json"))
ALL_DTYPES = [np.bool_, np.int32, np.int64, np.float16, ml_dtypes.bfloat16, np.float32, np.float64]


def test_case_survives_the_codec(small_case):
    """A case decoded from its bytes is the same question with the same tensors, and keeps unknown metadata."""
    case = small_case()
    back, extra = decode_case(encode_case(case, {"note": "kept"}))
    assert (case_id(back), content(back)) == (case_id(case), content(case))
    assert all(np.array_equal(back.tensors[n], a) and back.tensors[n].dtype == a.dtype for n, a in case.tensors.items())
    assert extra == {"note": "kept"}


def test_the_worker_and_safetensors_write_the_same_format():
    """Either side reads what the other wrote, bit by bit, in every dtype, scalars and empty arrays included."""
    tensors = {f"t{i}": (np.arange(6) % 2).reshape(2, 3).astype(d) for i, d in enumerate(ALL_DTYPES)}
    tensors |= {"scalar": np.float32(3.5).reshape(()), "empty": np.zeros((0, 3), np.float32)}
    for metadata, found in (worker.decode(encode({"k": "v"}, tensors)), decode(worker.encode({"k": "v"}, tensors))):
        assert metadata == {"k": "v"}
        assert {n: (a.dtype, a.shape, a.tobytes()) for n, a in found.items()} == {
            n: (a.dtype, a.shape, a.tobytes()) for n, a in tensors.items()
        }
    plain = {n: a for n, a in tensors.items() if a.dtype != ml_dtypes.bfloat16}
    assert {n: a.tobytes() for n, a in load(worker.encode({}, plain)).items()} == {
        n: a.tobytes() for n, a in plain.items()
    }


def test_the_host_writes_what_safetensors_writes():
    """The bytes are those of the library, whatever the order and the layout of the tensors."""
    tensors = {f"t{i}": np.arange(6).reshape(2, 3).astype(d).T for i, d in enumerate(ALL_DTYPES)}
    tensors |= {"a": np.arange(3.0), "scalar": np.float32(3.5).reshape(()), "empty": np.zeros((0, 3), np.float16)}
    contiguous = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    assert encode({"k": "v é"}, tensors) == save(contiguous, {"k": "v é"})


def test_neither_side_copies_a_tensor(small_case):
    """A request and a reply are made of the tensors themselves, and a frame is read where it lies."""
    case = small_case()
    asked = going_on.AskedCase(0, case, ["a"]).request().body()
    assert isinstance(asked, list)
    replied = worker.in_parts({}, case.tensors)
    for parts in (asked, replied):
        arrays = [np.frombuffer(part, np.uint8) for part in parts[1:]]
        assert all(any(np.shares_memory(part, a) for part in arrays) for a in case.tensors.values())
    frame = b"".join(replied)
    whole = np.frombuffer(frame, np.uint8)
    assert all(np.shares_memory(array, whole) for array in worker.decode(frame)[1].values())


def test_a_mapped_file_can_be_written_again(tmp_path, monkeypatch, small_case):
    """What is being read from a file is written to the same one whole, and a disk that is full leaves it as it was."""
    monkeypatch.setattr(buffers, "MAPPED", 1)
    path, case = tmp_path / "x.safetensors", small_case()
    buffers.write(path, case_in_parts(case, sealed=True))
    found = read_case(path)[0]
    buffers.write(path, case_in_parts(found, sealed=True))
    assert case_id(read_case(path)[0]) == case_id(found) == case_id(case)

    def full():
        yield b"the first part"
        raise OSError(errno.ENOSPC, "no space left on device")

    with pytest.raises(OSError, match="no space"):
        buffers.write(path, full())
    assert [one.name for one in tmp_path.iterdir()] == ["x.safetensors"]
    assert case_id(read_case(path)[0]) == case_id(case)


def test_id_ignores_defaults_and_metadata_but_nothing_else(small_case):
    """Spelling out a default keeps the id; any change of the question or of one bit changes it."""
    case = small_case()
    same = msgspec.structs.replace(case, layout="C", actions=Actions())
    assert case_id(same) == case_id(case) == case_id(decode_case(encode_case(case, {"x": "y"}))[0])
    bit = dict(case.tensors, gamma=np.nextafter(case.tensors["gamma"], 9, dtype=np.float32))
    others = [
        msgspec.structs.replace(case, layout="F"),
        msgspec.structs.replace(case, tensors=bit),
        msgspec.structs.replace(case, spec=Spec(axis=1, momentum=0.9, epsilon=1e-5)),
        msgspec.structs.replace(case, steps=case.steps[:1]),
    ]
    assert len({case_id(c) for c in [case, *others]}) == 5


def test_a_field_that_an_old_worker_does_not_know_is_sent_only_where_it_says_something(small_case):
    """So that who refuses unknown words is still asked what he can answer."""
    assert "backward" not in content(small_case())["actions"]
    later = msgspec.structs.replace(small_case(), actions=Actions(backward="twice"))
    assert content(later)["actions"]["backward"] == "twice"


def test_id_is_pinned():
    """The id of a fixed case is what it was: ids are names that reports and issues quote."""
    case = Case(spec=Spec(axis=1), steps=(Step(mode="train"),), tensors={"0.x": np.ones((2, 3), np.float32)})
    assert case_id(case) == "34af5b801d65fa15"


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda p: p.stem)
def test_awkward_scenarios_are_cases(path):
    """Each scenario written by hand reads as a case and survives the codec."""
    case, _ = read_case(path)
    assert case_id(decode_case(encode_case(case))[0]) == case_id(case)


def test_there_are_scenarios():
    """The awkward ones are all there: R08, R09, R11, R12, R16, R17, None axis, 7-7-2, shared scope."""
    names = " ".join(p.stem for p in SCENARIOS)
    assert all(word in names for word in ("r08", "r09", "r11", "r12", "r16", "r17", "none-axis", "7-7-2", "one-scope"))


def _with(case):
    """Return a safetensors buffer that says it holds this case."""
    return encode({"case": case}, {"0.x": np.ones(1)})


def _tensor(shape, begin, end):
    return {"dtype": "F64", "shape": shape, "data_offsets": [begin, end]}


def _header(header):
    """Return a safetensors buffer with this header, and 16 bytes after it."""
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(16)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        pytest.param(b"", "not a safetensors buffer", id="empty"),
        pytest.param(b"not safetensors at all", "not a safetensors buffer", id="text"),
        pytest.param(encode({}, {"x": np.ones(1)})[:-1], "its header speaks of", id="cut short"),
        pytest.param(encode({}, {"x": np.ones(1)}) + b"x", "its header speaks of", id="too long"),
        pytest.param(_header({"x": _tensor([2], 0, 4)}), "x is said to have bytes 0 to 4", id="wrong size"),
        pytest.param(_header({"x": _tensor([-1], 0, -8)}), "x is said to have bytes 0 to -8", id="negative size"),
        pytest.param(
            _header({"x": _tensor([1], 0, 8), "y": _tensor([1], 4, 12)}), "y is said to have bytes", id="overlapping"
        ),
        pytest.param(_header({"x": {"dtype": "F64"}}), "not a safetensors buffer", id="no offsets"),
        pytest.param(_header([]), "not a safetensors buffer", id="no header"),
        pytest.param(encode({}, {"x": np.ones(1)}), "missing required field", id="no case"),
        pytest.param(_with('{"schema": 99}'), "schema 99, but this version reads schema 1", id="newer"),
        pytest.param(_with("{}"), "missing required field", id="no spec"),
        pytest.param(_with("[1]"), "not a case", id="a list"),
        pytest.param(
            _with('{"spec": {"axes": 1}, "steps": []}'),
            'no field is called "axes"; did you mean "axis"?',
            id="unknown spec field",
        ),
        pytest.param(_with('{"spec": {}, "steps": [], "colour": 1}'), "colour", id="unknown field"),
        pytest.param(_with('{"spec": {"axis": "last"}, "steps": []}'), "axis", id="wrong type"),
    ],
)
def test_unreadable_files_are_refused_in_one_line(tmp_path, body, says):
    """A damaged, alien or newer file is refused with its name and the reason."""
    path = tmp_path / "x.safetensors"
    path.write_bytes(body)
    with pytest.raises(InvalidInput, match=r"x\.safetensors") as caught:
        read_case(path)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_large_file_is_mapped(tmp_path, monkeypatch, small_case):
    """A large file is read where it lies, with the same tensors, and what was altered in it is noticed."""
    monkeypatch.setattr(buffers, "MAPPED", 1)
    path, case, alive = tmp_path / "x.safetensors", small_case(), []
    path.write_bytes(encode_case(case, sealed=True))
    found = read_case(path)[0]
    assert case_id(found) == case_id(case)
    array = found.tensors["0.x"]
    while isinstance(array, np.ndarray):
        alive, array = [*alive, array], array.base
    assert isinstance(array.obj if isinstance(array, memoryview) else array, mmap.mmap)
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    (tmp_path / "y.safetensors").write_bytes(damaged)
    with pytest.raises(InvalidInput, match="altered or damaged"):
        read_case(tmp_path / "y.safetensors")


@pytest.mark.parametrize("name", ["gamma_tangent", "beta_tangent"])
def test_a_direction_of_another_shape_is_named(small_case, tmp_path, name):
    """A tangent of gamma or of beta is of the kept shape, or its name and the shape that it needs are told."""
    case, path = small_case(), tmp_path / "odd.safetensors"
    steps = (Step(mode="train", derivatives=(Derivative(2, along="parameters"),)), *case.steps[1:])
    along = {f"0.{one}": np.ones(3, np.float32) for one in ("gamma_tangent", "beta_tangent")}
    along[f"0.{name}"] = np.ones(4, np.float32)
    path.write_bytes(encode_case(msgspec.structs.replace(case, steps=steps, tensors=case.tensors | along)))
    with pytest.raises(InvalidInput, match=rf"0\.{name} has shape \(4,\), but axis=1 needs \(3,\)"):
        read_case(path)


def test_the_same_case_is_the_same_bytes(small_case):
    """Case files can be compared and hashed: nothing in them depends on the process that wrote them."""
    case = small_case()
    code = "import sys; from conformance.model.codec import *; "
    code += "sys.stdout.buffer.write(encode_case(decode_case(sys.stdin.buffer.read())[0]))"
    command = [sys.executable, "-c", code]
    found = [subprocess.run(command, input=encode_case(case), capture_output=True, check=True) for _ in "12"]
    assert {f.stdout for f in found} == {encode_case(case)}


def test_truncated_case_is_refused(tmp_path, small_case):
    """A case file cut anywhere is refused, never read as less."""
    body = encode_case(small_case())
    for length in range(0, len(body), 97):
        (tmp_path / "cut.safetensors").write_bytes(body[:length])
        with pytest.raises(InvalidInput):
            read_case(tmp_path / "cut.safetensors")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"steps": ()}, "it has no steps"),
        ({"spec": Spec(axis=7)}, "axis=7 names no axis of an input of shape (5, 3); use -2 to 1"),
        ({"spec": Spec(axis=0)}, "has shape (3,), but axis=0 needs (5,)"),
        ({"spec": Spec(axis=1, renorm_momentum=2.0)}, "momentum=2.0"),
        ({"spec": Spec(axis=1, epsilon=float("inf"))}, "epsilon=inf leaves nothing of any difference"),
        ({"dtypes": Dtypes(x="float64")}, "0.dy is float32, but dtypes says float64; change one of them"),
        ({"dtypes": Dtypes(statistics="float16")}, "moving_mean is float32, but dtypes says float16"),
        (
            {
                "actions": Actions(backward="twice"),
                "steps": (Step(mode="train", derivatives=(Derivative(order=2),)), Step(mode="infer")),
            },
            "step 0 asks for a derivative of order 2 in mode reverse; actions.backward must be each",
        ),
        (
            {
                "actions": Actions(backward="together"),
                "steps": (Step(mode="train", derivatives=(Derivative(),)), Step(mode="infer", trainable=False)),
            },
            "actions.backward is together, and the case freezes the layer in some steps; leave that out",
        ),
        (
            {"steps": (Step(mode="train", derivatives=(Derivative(along="parameters"),)), Step(mode="infer"))},
            "step 0 asks for more along gamma and beta than a derivative of gradients; leave it out",
        ),
        (
            {"steps": (Step(mode="train", derivatives=(Derivative(along="all"),)), Step(mode="infer"))},
            "step 0 asks for more along all inputs than a forward derivative of y; leave it out",
        ),
        ({"steps": (Step(mode="train"),) * 3}, "step 2 has no input; add a tensor named 2.x"),
    ],
)
def test_a_shape_or_an_axis_that_makes_no_sense_is_named(small_case, tmp_path, change, says):
    """Tensors that do not belong to the question are an error that names value, rule and fix."""
    path = tmp_path / "odd.safetensors"
    path.write_bytes(encode_case(msgspec.structs.replace(small_case(), **change)))
    with pytest.raises(InvalidInput) as caught:
        read_case(path)
    assert says in str(caught.value)


def test_hand_written_json_needs_no_more_than_it_says():
    """Inline tensors have a dtype and data; everything else has a default."""
    text = json.dumps(
        {"spec": {}, "steps": [{"mode": "train"}], "tensors": {"0.x": {"dtype": "bfloat16", "data": [[1.5]]}}}
    )
    case = case_from_json(text)
    assert (case.spec, case.x(0).dtype.name, case.x(0).tolist()) == (Spec(), "bfloat16", [[1.5]])
