"""What a step may return: one line for each output. Every other table of outputs is made of these lines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["y", "gradients", "moving_statistics", "batch_statistics"]


@dataclass(frozen=True)
class Output:
    """One output.

    name: as adapters return it, and as results and a `when` name it.
    kind: what it belongs to in the checks of a gate.
    like: what it has the dtype of where no rule says otherwise; what is like the input has its shape, too.
    declared_as: the output whose numerical class it shares; empty where it has one of its own.
    wrt: what the gradient is with respect to; empty where it is none.
    along: how often it is differentiated along the tangent.
    renorm: the field of `Renorm` that it is, which a layer without renorm does not have.
    short: what it is called where there is little room.
    rare: whether few return it.
    """

    name: str
    kind: Kind
    like: Literal["input", "parameters", "statistics"]
    declared_as: str = ""
    wrt: Literal["", "x", "gamma", "beta"] = ""
    along: int = 0
    renorm: str = ""
    short: str = ""
    rare: bool = False

    @property
    def order(self) -> int:
        """Of which order the derivative is; 0 where it is none."""
        return self.along + bool(self.wrt)

    @property
    def special(self) -> bool:
        """Whether few return it, or only some cases ask for it: along a tangent, or with renorm."""
        return self.rare or self.along > 0 or bool(self.renorm)


EVERY = (
    Output("y", "y", "input"),
    Output("dx", "gradients", "input", wrt="x"),
    Output("dgamma", "gradients", "parameters", wrt="gamma"),
    Output("dbeta", "gradients", "parameters", wrt="beta"),
    Output("moving_mean", "moving_statistics", "statistics", short="moving mean"),
    Output("moving_variance", "moving_statistics", "statistics", "moving_mean", short="moving var"),
    Output("mean", "batch_statistics", "statistics"),
    Output("variance", "batch_statistics", "statistics", "mean", short="var"),
    Output("inverse_deviation", "batch_statistics", "statistics", "mean", rare=True),
    Output("y_tangent", "gradients", "input", along=1),
    Output("dx_tangent", "gradients", "input", wrt="x", along=1),
    Output("dgamma_tangent", "gradients", "parameters", wrt="gamma", along=1),
    Output("moving_mean_tangent", "gradients", "statistics", along=1),
    Output("moving_variance_tangent", "gradients", "statistics", "moving_mean_tangent", along=1),
    Output("y_tangent2", "gradients", "input", along=2),
    Output("dx_tangent2", "gradients", "input", wrt="x", along=2),
    Output("dgamma_tangent2", "gradients", "parameters", wrt="gamma", along=2),
    Output("moving_stddev", "moving_statistics", "statistics", "moving_mean", renorm="moving_stddev"),
    Output("renorm_mean", "moving_statistics", "statistics", "moving_mean", renorm="mean"),
    Output("renorm_stddev", "moving_statistics", "statistics", "moving_mean", renorm="stddev"),
)
"""Every output, in the order of a table's columns: what nearly all have, then what some cases ask for."""

BY_NAME = {output.name: output for output in EVERY}
NAMES = tuple(BY_NAME)
OF_A_LAYER = tuple(o.name for o in EVERY if not o.special and o.kind != "batch_statistics")
"""What an implementation returns that says nothing of it; who only infers may leave out all but y."""
DECLARED_AS = {output.name: output.declared_as or output.name for output in EVERY}
"""By output, the one whose numerical class it shares, itself where it has one of its own."""
LIKE_INPUT = tuple(output.name for output in EVERY if output.like == "input")
GRADIENTS = tuple(output.name for output in EVERY if output.wrt and output.order == 1)
RENORM = {output.name: output.renorm for output in EVERY if output.renorm}
"""The state of renorm, by output the field of `Renorm`."""


def of_kind(kind: Kind) -> set[str]:
    """Return the outputs of a kind."""
    return {output.name for output in EVERY if output.kind == kind}
