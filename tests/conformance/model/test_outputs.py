"""What a step may return, and the tables that are made of it."""

from __future__ import annotations

import dataclasses

from conformance.gate.outputs import checks
from conformance.model.outputs import BY_NAME, DECLARED_AS, EVERY, LIKE_INPUT, NAMES, OF_A_LAYER, RENORM
from conformance.runs import matrix, summary
from reference import Renorm


def test_columns_come_in_their_order():
    """A table has what nearly all return first, then what few do, derivatives along a tangent, the state of renorm."""
    assert (
        *("y train", "y infer", "dx train", "dx infer", "dgamma train", "dgamma infer", "dbeta train", "dbeta infer"),
        *("moving_mean", "moving_variance", "mean", "variance"),
    ) == summary.MAIN
    assert summary.COLUMNS[len(summary.MAIN) :] == (
        "inverse_deviation",
        *("y_tangent", "dx_tangent", "dgamma_tangent", "moving_mean_tangent", "moving_variance_tangent"),
        *("y_tangent2", "dx_tangent2", "dgamma_tangent2"),
        *("moving_stddev", "renorm_mean", "renorm_stddev"),
    )


def test_every_output_but_y_is_in_one_group_of_checks():
    """No result is left out of the gate's table, and none counts twice."""
    grouped = sorted(name for names in checks.OUTPUTS.values() for name in names)
    assert grouped == sorted(set(NAMES) - {"y"})


def test_an_output_shares_the_class_of_one_that_has_its_own():
    """A declaration is found in one step: variances and the state of renorm have that of their mean."""
    assert {DECLARED_AS[other] == other for other in DECLARED_AS.values()} == {True}
    assert {name: other for name, other in DECLARED_AS.items() if name != other} == {
        **dict.fromkeys(("variance", "inverse_deviation"), "mean"),
        **dict.fromkeys(("moving_variance", "moving_stddev", "renorm_mean", "renorm_stddev"), "moving_mean"),
        "moving_variance_tangent": "moving_mean_tangent",
    }


def test_names_say_what_is_differentiated_how_often():
    """`dx_tangent2` is the gradient of x, twice along the tangent; the matrix counts it as of second order."""
    for output in EVERY:
        base, _, often = output.name.partition("_tangent")
        assert output.along == (0 if base == output.name else int(often or 1))
        assert output.wrt == (base.removeprefix("d") if base in ("dx", "dgamma", "dbeta") else "")
    assert BY_NAME["dx_tangent2"].order == 3
    assert {name for name, column in matrix._DERIVATIVES.items() if column == "gradient"} == {"dx", "dgamma", "dbeta"}
    forward = {name for name, column in matrix._DERIVATIVES.items() if column == "forward"}
    assert forward == {"y_tangent", "moving_mean_tangent", "moving_variance_tangent"}


def test_state_of_renorm_is_all_of_it_but_its_weights():
    """Each is a field of the reference's record."""
    fields = {field.name for field in dataclasses.fields(Renorm)}
    assert set(RENORM.values()) == fields - {"mean_weight", "stddev_weight"}


def test_what_a_plain_layer_returns():
    """Who says nothing of its outputs is held to these six, of which y and dx have the input's shape."""
    assert OF_A_LAYER == ("y", "dx", "dgamma", "dbeta", "moving_mean", "moving_variance")
    assert [name for name in OF_A_LAYER if name in LIKE_INPUT] == ["y", "dx"]
