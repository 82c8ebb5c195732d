"""`tf.layers.batch_normalization` in TensorFlow 1.15 says today what was recorded of it, and keeps its statement."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import json
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest

from conformance.cases.building import build
from conformance.cases.cells import CELLS
from conformance.cases.strategies import recipes
from conformance.hosts import roster, venvs, worker
from conformance.hosts.environment import Limits, Request, Worker
from conformance.hosts.participants import Participants
from conformance.judging.exact_case import ExactCase
from conformance.judging.judgment import judge
from conformance.model.case import Actions, Derivative, Dtypes
from conformance.model.case_facts import step_facts
from conformance.model.codec import encode_case
from conformance.model.outcome import Outputs, Refused, Reply
from conformance.model.rules import Rule
from conformance.runs import run_file, summary
from conformance.runs.campaign import Campaign, Options
from conformance.runs.progress import Progress
from conformance.studies.audit import making

pytestmark = pytest.mark.xdist_group("tf-1.15")  # one worker serves them all

ROOT = Path(__file__).parents[3]
RECORDINGS = ROOT / "tests" / "reference" / "golden" / "tf-1.15"
NAME = "tf.layers.batch_normalization+1.15"
IDS = [entry.id for entry in roster.built_in() if entry.environment == "tf-1.15"]
CREATED = pytest.mark.skipif(
    not venvs.python("tf-1.15"), reason="TensorFlow 1.15 is not here: bnconf env create tf-1.15, on a Python 3.7"
)


@pytest.fixture(scope="module")
def ask(tmp_path_factory):
    """Ask cases of TensorFlow 1.15's worker, each of one implementation; return the outcomes of each."""
    (host,) = roster.environments(roster.select((f"{NAME}*",)), {})
    worker = Worker(host, Limits(), tmp_path_factory.mktemp("tf-1.15") / "log")

    def go(*exact_cases):
        requests = [Request(i, functools.partial(encode_case, c), [name]) for i, (c, name) in enumerate(exact_cases)]
        return [reply.outcomes for reply in worker.ask(requests)]

    yield go
    worker.close()


def verdicts(case, outcomes, identity=IDS[0], **changes):
    """Return the set of verdicts on outcomes, judged by the implementation's statement with these changes."""
    entry = next(e for e in roster.built_in() if e.id == identity)
    statement = msgspec.structs.replace(entry.statement, **changes)
    return {r.verdict for r in judge("case", ExactCase(case), statement, Reply(0, identity, outcomes))}


# --- the recordings -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recordings():
    """Return the helper of the reference's tests that reads recordings, loaded by path."""
    path = ROOT / "tests" / "reference" / "recordings.py"
    if not (path.exists() and RECORDINGS.exists()):
        pytest.skip(f"no recordings in {RECORDINGS}")
    spec = importlib.util.spec_from_file_location("recordings_of_tf1", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def as_recorded(outcomes, steps):
    """Return the arrays of outcomes under the recordings' names: y0, dx0, s1/moving_mean, …; the last step infers."""
    found = {}
    for t, outcome in enumerate(outcomes):
        for name, array in outcome.tensors.items():
            if name in ("y", "dx", "dgamma", "dbeta"):
                found[f"{name}{t}"] = array
            elif t < steps:
                found[f"s{t + 1}/{name}"] = array
    return found


def reproduction(recording, outcomes, recordings):
    """Return how a recording is reproduced: `refused` as it was, `exact`, `near` (within its tolerance), or not.

    `lost`: the fused path with a placeholder multiplies memory that nobody wrote by 0, and some held NaN or infinity
    (tf-1.15.md, tensorflow#15919).
    """
    if not recording.entry["ok"]:
        return (
            "refused" if isinstance(outcomes[0], Refused) and outcomes[0].error in recording.entry["error"] else "not"
        )
    if not all(isinstance(outcome, Outputs) for outcome in outcomes):
        return "not"
    got, dtype = as_recorded(outcomes, recording.entry["steps"]), recording.entry["dtype"]
    wanted = {name: recording.outputs[name] for name in recordings.judged(recording) if not name.startswith("s0/")}
    if set(got) != set(wanted):
        return "not"
    allowed = {name: recording.tolerances.get(f"{dtype}/*") for name in wanted}
    for name in wanted:
        allowed[name] = allowed[name] or recording.tolerances[f"{dtype}/{recordings.kind(name)}"]
    off = [name for name in wanted if not recordings.distance(got[name], wanted[name]) <= allowed[name]]
    if off:
        forgets = recording.entry["fused"] and recordings.implementation(recording).endswith("+placeholder@cpu")
        return "lost" if forgets and not any(np.isfinite(got[name]).all() for name in off) else "not"
    same = (got[name].shape == a.shape and got[name].tobytes() == a.tobytes() for name, a in wanted.items())
    return "exact" if all(same) else "near"


def reproduced(found, ask, recordings):
    """Return how each recording is reproduced; fail where one is not."""
    outcomes = ask(*((recordings.as_case(recording), recordings.implementation(recording)) for recording in found))
    how = [reproduction(r, o, recordings) for r, o in zip(found, outcomes, strict=True)]
    first = [str(o[0] if o else None)[-600:] for o in outcomes]  # what came of it, for whoever has to find out why
    assert {r.name: came for r, h, came in zip(found, how, first, strict=True) if h == "not"} == {}
    return how


@CREATED
def test_what_was_recorded_is_reproduced(ask, recordings):
    """Every sixth recording: within its tolerance, most of them to the bit (the processor matters)."""
    found = recordings.read(RECORDINGS)[::6]
    how = reproduced(found, ask, recordings)
    assert how.count("exact") >= len(found) // 2 > 10


@CREATED
@pytest.mark.proof
def test_everything_that_was_recorded_is_reproduced(ask, recordings):
    """All 171 recordings: 169 within their tolerance, three in four to the bit (the processor matters), 2 refused."""
    how = reproduced(recordings.read(RECORDINGS), ask, recordings)
    assert (len(how), how.count("refused")) == (171, 2)
    assert how.count("exact") >= 128


# --- judged like the others -----------------------------------------------------------------------------------------


@CREATED
def test_it_conforms(of_everything):
    """On plain cases, and on some features, every implementation keeps its statement, but for what is known.

    That is the Hessian where not fused, and with a placeholder the gradient in inference of a batch that holds NaN, and
    that it refuses rank 1.
    """
    found, _ = of_everything(f"{NAME}*", cases=80)
    rows = summary.rows(found)
    assert [row.id for row in rows] == list(IDS)
    failed = {(r.output, "placeholder" in r.implementation) for r in found.results if r.verdict in ("FAIL", "ERROR")}
    assert failed <= {("dx_tangent", False), ("dx_tangent", True), ("dx", True), ("outcome", True)}
    assert min(row.cases for row in rows) >= 20


@CREATED
@pytest.mark.parametrize(("field", "size"), [("stored_variance", 1), ("epsilon_floor", 1e-3)])
def test_the_fused_path_needs_what_is_declared_of_it(ask, small_case, field, size):
    """Rank 4, channels last, passes as declared and fails without the declared variance or epsilon floor."""
    case = small_case((4, 3, 2, 5), axis=3, epsilon=1e-8)
    scaled = {f"{t}.x": case.tensors[f"{t}.x"] * np.float32(size) for t in range(2)}
    case = msgspec.structs.replace(case, tensors=case.tensors | scaled)
    (outcomes,) = ask((case, IDS[0]))
    rules = next(e for e in roster.built_in() if e.id == IDS[0]).statement.rules
    without = [
        msgspec.structs.replace(r, semantics={k: v for k, v in r.semantics.items() if k != field}) for r in rules
    ]
    assert verdicts(case, outcomes) == {"PASS"}
    assert "FAIL" in verdicts(case, outcomes, rules=without)


@CREATED
def test_the_update_fraction_is_float32_in_float64_layers_too(ask, small_case):
    """A float64 layer moves by float32(1 - momentum): the exact fraction is refuted."""
    case = small_case()
    wide = {name: array.astype(np.float64) for name, array in case.tensors.items()}
    case = msgspec.structs.replace(case, tensors=wide, dtypes=Dtypes("float64", "float64", "float64"))
    (outcomes,) = ask((case, IDS[0]))
    rules = next(e for e in roster.built_in() if e.id == IDS[0]).statement.rules
    exact = [*rules, Rule("here", semantics={"fraction_dtype": "float64"})]
    assert verdicts(case, outcomes) == {"PASS"}
    assert "FAIL" in verdicts(case, outcomes, rules=exact)


@CREATED
@pytest.mark.parametrize("identity", IDS)
def test_update_ops_that_do_not_run_leave_the_state(ask, small_case, identity):
    """Without the update ops y is normalized by the batch and the state stays; so it is with trainable=False."""
    case = small_case()
    asleep = msgspec.structs.replace(case, steps=tuple(msgspec.structs.replace(s, update=False) for s in case.steps))
    frozen = msgspec.structs.replace(case, spec=dataclasses.replace(case.spec, trainable=False))
    for exact_case, outcomes in zip((asleep, frozen), ask((asleep, identity), (frozen, identity)), strict=True):
        assert verdicts(exact_case, outcomes, identity) == {"PASS"}
        assert outcomes[0].tensors["moving_mean"].tolist() == case.tensors["moving_mean"].tolist()
        assert abs(outcomes[0].tensors["dx"]).max() > 0


@CREATED
def test_training_as_bool_tensor_and_placeholder_is_one_to_the_bit(ask, small_case):
    """However `training` is given, y, gradients and state are the same bits."""
    case = small_case(modes="train infer train")
    first, *others = ask(*((case, identity) for identity in IDS[:3]))
    for other in others:
        for a, b in zip(first, other, strict=True):
            assert {n: x.tobytes() for n, x in a.tensors.items()} == {n: x.tobytes() for n, x in b.tensors.items()}


@CREATED
@pytest.mark.parametrize(("axis", "dtype", "error"), [(1, "float32", "InternalError"), (3, "float64", "TypeError")])
def test_documented_refusals_are_met(ask, small_case, axis, dtype, error):
    """Channels first, and float64 of rank 4, are refused as documented with fused=None, and accepted with False."""
    case = small_case((4, 3, 2, 5), axis=axis)
    tensors = {name: array.astype(dtype) for name, array in case.tensors.items()}
    case = msgspec.structs.replace(case, tensors=tensors, dtypes=Dtypes(dtype, dtype, dtype))
    refused, accepted = ask((case, IDS[0]), (case, f"{NAME}+fused_false@cpu"))
    assert refused[0].error == error
    assert verdicts(case, refused) <= {"PASS", "INCONCLUSIVE"}
    assert verdicts(case, accepted, f"{NAME}+fused_false@cpu") == {"PASS"}


@CREATED
def test_call_sites_share_one_scope(ask, small_case):
    """Two call sites move one state, as the reference says; another width in the same scope is refused."""
    case = small_case(modes="train train infer")
    sites = tuple(msgspec.structs.replace(step, site=t % 2) for t, step in enumerate(case.steps))
    shared = msgspec.structs.replace(case, steps=sites, actions=Actions(sites=2))
    wider = msgspec.structs.replace(shared, tensors=shared.tensors | {"1.x": np.ones((5, 4), np.float32)})
    wider.tensors["1.dy"] = wider.tensors["1.x"]
    together, refused = ask((shared, IDS[0]), (wider, IDS[0]))
    assert verdicts(shared, together) == {"PASS"}
    assert isinstance(refused[0], Outputs)
    assert "Trying to share variable" in refused[1].message


@CREATED
@pytest.mark.parametrize(("size", "accepted"), [(0, True), (1, False)])
def test_only_the_kept_size_must_be_known(ask, small_case, size, accepted):
    """An unknown batch size is fine; an unknown kept one is the seed's `undefined axis dimension`."""
    case = msgspec.structs.replace(small_case(), actions=Actions(unknown_sizes=(size,)))
    (outcomes,) = ask((case, IDS[0]))
    assert isinstance(outcomes[0], Outputs) == accepted
    assert accepted or "Input has undefined `axis` dimension" in outcomes[0].message


@CREATED
@pytest.mark.parametrize("feature", ["renorm", "virtual", "virtual renorm", "adjustment"])
def test_each_feature_conforms(ask, asked_of_a_feature, feature):
    """With fused=None and `training` as a bool or a placeholder, a case of each of the feature's cells passes."""
    for identity in (IDS[0], IDS[2]):
        by_case = defaultdict(set)
        for result in asked_of_a_feature(feature, identity):
            by_case[result.case].add(result.verdict)
        found = list(by_case.values()) or verdicts_of_a_feature(ask, feature, identity)
        assert set().union(*found) <= {"PASS", "INCONCLUSIVE"}
        assert {"PASS"} in found


def verdicts_of_a_feature(ask, feature, identity):
    """Return the verdicts on each case of the feature's cells."""
    cells = [cell for cell in CELLS if cell.feature == feature]
    drawn = [build(recipe, 7) for cell in cells for recipe in recipes(cell, 7, 1)]
    answers = ask(*((case, identity) for case in drawn))
    return [verdicts(case, outcomes, identity) for case, outcomes in zip(drawn, answers, strict=True)]


def twice_differentiated(case):
    """Return the case with the gradient of <dx, tangent> asked for too."""
    shapes = {f"{t}.tangent": case.x(t).shape for t in range(len(case.steps))}
    tangents = {n: np.random.default_rng(5).normal(size=shape).astype(np.float32) for n, shape in shapes.items()}
    steps = [msgspec.structs.replace(s, derivatives=(Derivative(), Derivative(order=2))) for s in case.steps]
    return msgspec.structs.replace(case, steps=tuple(steps), tensors=case.tensors | tangents)


@CREATED
def test_second_derivatives_are_right_where_fused_and_shifted_where_not(ask, small_case):
    """The fused path passes; `tf.nn.moments` takes the mean in the variance as a constant: only dx_tangent fails."""
    fused = twice_differentiated(small_case((4, 3, 2, 5), axis=3))
    plain = twice_differentiated(small_case((9, 4)))
    answers = ask((fused, IDS[0]), (plain, IDS[0]))
    assert verdicts(fused, answers[0]) == {"PASS"}
    statement = next(e for e in roster.built_in() if e.id == IDS[0]).statement
    found = judge("case", ExactCase(plain), statement, Reply(0, IDS[0], answers[1]))
    assert {(r.mode, r.output) for r in found if r.verdict == "FAIL"} == {("train", "dx_tangent")}


@pytest.mark.skipif(not venvs.python("tf-1.7"), reason="TensorFlow 1.7 is not here: bnconf env create tf-1.7")
def test_renorm_in_1_7_is_another_one(tmp_path):
    """A case of each of renorm's cells passes as the renorm that 1.7 promises; as 1.15's, none would."""
    (entry,) = (e for e in roster.built_in() if e.environment == "tf-1.7")
    (host,) = roster.environments([entry], {})
    later = [rule for rule in entry.statement.rules if "renorm" not in rule.semantics]
    drawn = [build(recipe, 7) for cell in CELLS if cell.feature == "renorm" for recipe in recipes(cell, 7, 1)]
    worker = Worker(host, Limits(), tmp_path / "log")
    replies = list(worker.ask(Request(i, functools.partial(encode_case, c), [entry.id]) for i, c in enumerate(drawn)))
    worker.close()
    for case, reply in zip(drawn, replies, strict=True):
        assert verdicts(case, reply.outcomes, entry.id) == {"PASS"}
        assert "FAIL" in verdicts(case, reply.outcomes, entry.id, rules=later)


@CREATED
def test_every_parameter_of_the_signature_has_its_row():
    """The table of parameters names those of the real function, in its order, and says something of each."""
    program = "import inspect, tensorflow as tf; print(*inspect.signature(tf.layers.batch_normalization).parameters)"
    command = [venvs.python("tf-1.15"), "-W", "ignore", "-c", program]
    real = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    table = (ROOT / "conformance" / "implementations" / "tf-1.15.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (.{8,}) \|$", table, re.MULTILINE)
    assert [name for name, _ in rows] == real


# --- without TensorFlow ---------------------------------------------------------------------------------------------


def test_the_layers_kept_are_bounded():
    """The oldest layer's session is closed once more than the limit are open, and the least used one goes first."""
    module = worker.by_path(str(roster.ADAPTERS / "tf1.py"))
    closed, made = [], iter(range(10_000))

    def session(**_options):
        number = next(made)
        return SimpleNamespace(close=lambda: closed.append(number))

    implementation = object.__new__(module.Function)
    implementation.tf = SimpleNamespace(Graph=object, ConfigProto=dict, Session=session)
    implementation.layers = module.collections.OrderedDict()
    spec = dict.fromkeys(("center", "scale", "trainable", "renorm", "renorm_momentum", "virtual_batch_size"))
    case = SimpleNamespace(spec=spec, native={})
    case.static = lambda traced: SimpleNamespace(spec=case.spec, native=case.native, key=case.native["epsilon"])
    for epsilon in [*range(module._KEPT), 0, *range(module._KEPT, module._KEPT + 3)]:
        case.native = {"axis": 1, "momentum": 0.9, "epsilon": epsilon}
        assert implementation.layer(case).arguments["epsilon"] == epsilon
    assert closed == [1, 2, 3]


@pytest.fixture
def nothing_created(tmp_path, monkeypatch):
    """Look for environments where there is none, and for interpreters likewise."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    monkeypatch.setenv("PATH", str(tmp_path))


def told(process):
    """Return a command's exit code and all that it printed."""
    out, errors = process.communicate(timeout=120)
    return process.returncode, out + errors


@pytest.mark.usefixtures("nothing_created")
@pytest.mark.parametrize("requested", [False, True])
def test_a_run_is_complete_without_it_unless_it_was_asked_for(tmp_path, requested):
    """Not created: a default run notes it and is complete, one that names it is incomplete; both say the command."""
    notes, progress, entries = [], Progress(), roster.select(("numpy.two_pass", IDS[0]))
    progress.note = notes.append
    Campaign(Options(Participants(entries, requested=requested), tmp_path / "run", cases=8), progress).run()
    found = run_file.read(tmp_path / "run")
    (missing,) = [record for record in found.implementations if not record.available]
    assert missing.reason == "not created; bnconf env create tf-1.15"
    assert notes == [f"{IDS[0]} is not available: {missing.reason}"]
    assert found.complete is not requested


@pytest.mark.usefixtures("nothing_created")
def test_naming_it_where_it_is_not_created_exits_3(bnconf):
    """`-i tf.layers…` without the environment: exit code 3 and the command that makes it."""
    code, text = told(bnconf("run", "-i", IDS[0], "--cases", "2", "--out", "r"))
    assert code == 3
    assert "bnconf env create tf-1.15" in text


@pytest.mark.usefixtures("nothing_created")
@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["tf-1.15"], 3, "pyenv install 3.7"),
        (["tf-1.15", "--python", "/nowhere/python"], 2, "does not run; tf-1.15 needs Python 3.7"),
        (["tf-1.15", "--python", sys.executable], 2, "tf-1.15 needs Python 3.7"),
        (["tf-9"], 2, "tf-1.15"),
        (["tf-1.15", "--into", str(ROOT)], 2, "name a new or an empty folder"),
    ],
)
def test_env_create_says_what_is_missing(bnconf, arguments, code, says):
    """No interpreter: exit code 3 and how to get one; a wrong one, a wrong name, a folder in use: exit code 2."""
    found, text = told(bnconf("env", "create", *arguments))
    assert (found, says in text) == (code, True), text


@pytest.mark.usefixtures("nothing_created")
def test_env_list_names_the_command(bnconf):
    """`bnconf env list` says what is not created and how to create it, and the same as JSON."""
    _, text = told(bnconf("env", "list"))
    assert "bnconf env create tf-1.15" in text
    _, text = told(bnconf("env", "list", "--json"))
    assert {state["name"]: state["created"] for state in json.loads(text)} == dict.fromkeys(venvs.MADE, False)


def test_create_makes_once_and_completes_again(tmp_path, monkeypatch):
    """The first call makes the environment and installs; a second one installs what may be missing, and no more."""
    ran, place, said = [], tmp_path / "env", []
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    monkeypatch.setattr(venvs, "MADE", {"tf-1.15": venvs.EnvironmentSpec("tf-1.15", here)})

    def pretend(_what, command):
        ran.append(command[1:4])
        venvs.python_in(place).parent.mkdir(parents=True, exist_ok=True)
        if not venvs.python_in(place).exists():
            venvs.python_in(place).symlink_to(sys.executable)
            (place / "pyvenv.cfg").touch()

    monkeypatch.setattr(venvs, "_run", pretend)
    for _ in range(2):
        assert venvs.create("tf-1.15", sys.executable, place, said.append) == venvs.python_in(place)
    install = ["-m", "pip", "install"]
    assert ran == [["-m", "venv", "--clear"], install, install, install, install]
    assert len(said) == 3


def test_requirements_are_exact():
    """Every line of an environment's requirements is one name and one version."""
    for recipe in venvs.MADE.values():
        lines = [line for line in recipe.requirements.read_text().splitlines() if not line.startswith("#")]
        assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][0-9a-z.]*", line) for line in lines)


@pytest.mark.parametrize(
    "entry", [e for e in roster.built_in() if e.environment.startswith("tf-1")], ids=lambda e: e.id
)
@pytest.mark.parametrize("dtype", ["float64", "float16"])
@pytest.mark.parametrize("channel", ["second", "last"])
def test_a_kept_axis_of_no_known_size_is_refused_first(entry, dtype, channel):
    """The layer is built before the kernel is looked for: a ValueError, whatever else would be refused."""
    axis = {"second": 1, "last": 3}[channel]
    case = making.plain(making.InputLayout(channel, (2, 2, 2, 2), axis, dtype), "train")
    facts = step_facts(msgspec.structs.replace(case, actions=Actions(unknown_sizes=(axis,))), 0)
    assert entry.statement.refusal(facts).error == ["ValueError"]
