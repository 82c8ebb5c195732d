"""What is refused leaves the layer as it was: the rest is asked again without it, and judged."""

import json

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from conformance.cli.main import main
from conformance.hosts import going_on
from conformance.hosts.environment import Request
from conformance.hosts.in_process import LocalWorker
from conformance.hosts.roster import ADAPTERS, environments, from_target, select
from conformance.judging.exact_case import ExactCase
from conformance.judging.judgment import judge
from conformance.model.buffers import decode
from conformance.model.case import Case, Derivative, Step, case_id, without
from conformance.model.codec import encode_case
from conformance.model.outcome import Crashed, Outputs, Refused, Reply
from reference import Spec

TRAIN, INFER = (Step(mode, derivatives=(Derivative(),)) for mode in ("train", "infer"))
ROWS = (4, 1, 5, 3)


def asked(rows=ROWS, steps=(TRAIN, TRAIN, TRAIN, INFER)):
    """Return a case with a step of one value, which is refused."""
    rng, single = np.random.default_rng(0), np.float32
    found = {f"{t}.{name}": rng.normal(size=(n, 2)).astype(single) for t, n in enumerate(rows) for name in ("x", "dy")}
    found |= {name: np.full(2, 0.5, single) for name in ("gamma", "beta", "moving_mean", "moving_variance")}
    return Case(Spec(momentum=0.5), steps, tensors=found)


def replayed(case, target, tmp_path):
    """Ask a case by `bnconf replay` and return the lines of its judgments."""
    path = tmp_path / "case.safetensors"
    path.write_bytes(encode_case(case))
    said = CliRunner().invoke(main, ["replay", str(path), "-i", target, "--in-process", "--json"])
    (line,) = json.loads(said.stdout)
    return line


def test_steps_after_a_refused_one_are_asked_and_judged(adapter, tmp_path):
    """The refused step passes by its documented refusal, and those after it follow from the state before it."""
    line = replayed(asked(), adapter("refusing:OneValue"), tmp_path)
    assert line["status"] == "CONFORMS"
    found = {(r["step"], r.get("output", "outcome")): r for r in line["results"]}
    assert found[1, "outcome"]["outcome"] == "Refused"
    assert {step for step, output in found if output == "moving_mean"} == {0, 2, 3}
    assert set(found[2, "moving_mean"]["checks"]) == {"trajectory", "step", "residual"}


def test_a_run_asks_the_rest_too_and_keeps_step_numbers(run, adapter):
    """Refusals that nobody documented fail, each once, and what comes after them is judged."""
    found = run(adapter("refusing:Undocumented"), cases=40).results
    refused = [r for r in found if r.outcome == "Refused"]
    assert refused
    later = {(r.case, r.step) for r in found if r.verdict == "PASS"}
    assert any((case, step + 1) in later for case, step in {(r.case, r.step) for r in refused})
    assert not [r for r in found if "not reached" in r.reason]


def test_a_refused_first_step_leaves_the_initial_state(adapter, tmp_path):
    """Everything may follow from the state that the case gives, or from none at all."""
    for case in (asked((1, 4, 5, 3)), asked((1, 1, 5, 3))):
        line = replayed(case, adapter("refusing:OneValue"), tmp_path)
        assert not [r for r in line["results"] if "not reached" in r.get("reason", "")]
        assert {r["verdict"] for r in line["results"] if r["step"] == 2} == {"PASS"}


def test_an_answer_after_a_refusal_is_held_to_the_state_before_it(adapter):
    """Whoever lets a refused step move the state fails the next."""
    statement = from_target(adapter("refusing:OneValue"))[0].statement
    case, rest = asked(), without(asked(), {1})
    outputs = [dict(o.tensors) for o in answered(rest, adapter("refusing:OneValue")).outcomes]
    outputs[1]["moving_mean"] = outputs[1]["moving_mean"] + np.float32(0.01)
    given = [Outputs(outputs[0]), Refused("ValueError", "one value"), Outputs(outputs[1]), Outputs(outputs[2])]
    found = judge(case_id(case), ExactCase(case), statement, Reply(0, "i", tuple(given)))
    verdicts = {(r.step, r.output): r.verdict for r in found}
    assert verdicts[1, "outcome"] == "PASS"
    assert verdicts[2, "moving_mean"] == "FAIL"
    assert verdicts[2, "moving_variance"] == "PASS"


def answered(case, target):
    """Ask a case as it is, once."""
    entries = select([target])
    (host,) = environments(entries, {})
    worker = LocalWorker(host)
    return next(iter(worker.ask([Request(0, lambda extra: encode_case(case, extra), [entries[0].id])])))


class Scripted:
    """A worker that answers from a script: for the numbers of steps that it is asked, the outcomes."""

    def __init__(self, script):
        self.script, self.asked = script, []

    def ask(self, requests):
        """Yield replies."""
        for request in requests:
            for identity in request.implementations:
                steps = sum(name.endswith(".x") for name in self._names(request))
                self.asked.append(steps)
                yield Reply(request.number, identity, self.script[steps], cpu=1.0)

    def _names(self, request):
        return decode(b"".join(request.body()))[1]


STATEMENT = from_target(str(ADAPTERS / "numpy.py"))[0].statement
GIVEN, R = Outputs({}), Refused("ValueError", "no")


@pytest.mark.parametrize(
    ("script", "outcomes", "asked_for"),
    [
        ({4: (GIVEN, R), 3: (GIVEN, GIVEN, GIVEN)}, (GIVEN, R, GIVEN, GIVEN), [4, 3]),
        ({4: (GIVEN, R), 3: (GIVEN, R), 2: (GIVEN, GIVEN)}, (GIVEN, R, R, GIVEN), [4, 3, 2]),
        ({4: (GIVEN, GIVEN, GIVEN, R)}, (GIVEN, GIVEN, GIVEN, R), [4]),
        ({4: (GIVEN, R), 3: (R,)}, (GIVEN, R), [4, 3]),
        ({4: (GIVEN, R), 3: (GIVEN,)}, (GIVEN, R), [4, 3]),
        ({4: (GIVEN, R), 3: (Crashed("it died"),)}, (GIVEN, R, Crashed("it died")), [4, 3]),
        ({4: (GIVEN, Crashed("it died"))}, (GIVEN, Crashed("it died")), [4]),
        ({4: (R,), 3: (R,), 2: (R,), 1: (R,)}, (R, R, R, R), [4, 3, 2, 1]),
        ({4: (GIVEN, R, GIVEN, GIVEN)}, (GIVEN, R, GIVEN, GIVEN), [4]),
    ],
)
def test_what_is_asked_again_and_what_becomes_of_it(script, outcomes, asked_for):
    """Each refusal costs one more question, a crash ends it, and what is answered once is not overwritten."""
    worker = Scripted(script)
    (reply,) = going_on.ask(worker, [going_on.AskedCase(7, asked(), ["i"])], {"i": STATEMENT})
    assert (reply.request, reply.outcomes, worker.asked) == (7, outcomes, asked_for)
    assert reply.cpu == len(asked_for)


def test_who_does_not_support_the_rest_is_not_asked_it():
    """Without the first step a case may be another's: of another rank, say."""
    worker = Scripted({4: (GIVEN, R), 3: (GIVEN, GIVEN, GIVEN)})
    narrow = msgspec.structs.replace(STATEMENT, supports={"rank": [3]})
    (reply,) = going_on.ask(worker, [going_on.AskedCase(7, asked(), ["i"])], {"i": narrow})
    assert (reply.outcomes, worker.asked) == ((GIVEN, R), [4])


def test_a_case_without_steps_has_the_tensors_of_the_others():
    """Steps are numbered anew, and what belongs to none stays."""
    case = asked()
    rest = without(case, {0, 2})
    assert (len(rest.steps), rest.steps) == (2, (TRAIN, INFER))
    assert rest.tensors["0.x"] is case.tensors["1.x"]
    assert rest.tensors["1.dy"] is case.tensors["3.dy"]
    assert rest.tensors.keys() == {"0.x", "0.dy", "1.x", "1.dy", "gamma", "beta", "moving_mean", "moving_variance"}
    assert msgspec.structs.replace(case, steps=rest.steps, tensors=rest.tensors) == rest
