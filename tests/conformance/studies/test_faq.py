"""`bnconf ask`: what people ask, with numbers that are computed and witnesses that can be asked again."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from conformance.cases import corpus
from conformance.cli.main import main
from conformance.studies import faq

ASKED = faq.read()


def invoke(*arguments):
    """Run `bnconf ask`."""
    return CliRunner().invoke(main, ["ask", *arguments])


@pytest.mark.parametrize("asked", ASKED, ids=lambda asked: asked.id)
def test_every_question_has_numbers_and_a_witness_that_conforms(asked):
    """The reference gives each number, and a correct implementation answers the witness as it does."""
    answer = faq.answered(asked)
    assert len(answer.numbers) == len(asked.shows) > 0
    assert all(number.value for number in answer.numbers)
    witnesses = {str(faq.path(show.case or asked.case)) for show in asked.shows}
    result = CliRunner().invoke(main, ["replay", *sorted(witnesses), "-i", "numpy.two_pass", "-i", "numpy.renorm"])
    assert result.exit_code in (0, 3), result.output  # 3: they take no mask, adjustment or case of that kind
    assert "FAILS" not in result.output


@pytest.mark.parametrize(
    ("asked", "which", "value"),
    [
        ("momentum window", 0, "0.633968"),  # 1 - 0.99 ** 100
        ("momentum inverted", 1, "0.9"),
        ("arguments", 0, "-0.9995, 0.9995"),  # 1 / sqrt(1.001)
        ("adjustment", 0, "130.01, 169.99"),
        ("epsilon", 1, "-0.953463, 0.953463"),  # 0.01 / sqrt(0.0001 + 0.00001)
        ("empty batch", 0, "nan, nan, nan"),
        ("axis", 1, "(6,)"),
    ],
)
def test_numbers_are_those_worked_out_by_hand(asked, which, value):
    """A few of them, from the formula."""
    (question,) = faq.matching((asked,))
    assert faq.answered(question).numbers[which].value == value


def test_the_last_mini_batch_is_refused_for_its_size():
    """The seed's crash: (6, 2) does not fit statistics of 7."""
    assert "shape (2,), but they have (7,)" in invoke("last", "batch").stdout


def test_who_means_what_is_said():
    """torch stores the unbiased variance, flax the biased one; functions without state are not named."""
    (answer,) = json.loads(invoke("biased", "--json").stdout)
    assert "torch.F.batch_norm@cpu" in answer["means"]["unbiased"]
    assert "flax.linen.BatchNorm@cpu" in answer["means"]["biased"]
    assert not any(name.startswith("jax.nn") for names in answer["means"].values() for name in names)
    assert not any(name.startswith("numpy.") for names in answer["means"].values() for name in names)


def test_without_words_the_questions_are_listed():
    """Every id and question; words find several; all answers at once."""
    assert all(asked.id in invoke().stdout for asked in ASKED)
    assert {"momentum window", "momentum inverted"} <= {
        a["id"] for a in json.loads(invoke("momentum", "--json").stdout)
    }
    assert len(json.loads(invoke("--all", "--json").stdout)) == len(ASKED) >= 20


def test_words_that_no_question_has_are_an_error():
    """Exit 2, with what could be asked; --all and words do not go together."""
    result = invoke("dropout")
    assert result.exit_code == 2
    assert "'dropout'" in result.stderr
    assert "momentum window" in result.stderr
    assert invoke("momentum", "--all").exit_code == 2


def test_the_cases_of_questions_are_in_no_run():
    """They are read where they are asked for; the corpus of a run stays as it is."""
    own = {named.name for named in corpus.read(faq.FOLDERS[1])}
    assert own
    assert not own & {named.name for named in corpus.read()}
