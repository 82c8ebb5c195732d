"""What batch normalization means, in readable NumPy: the law that `conformance` holds others to."""

from reference.averages import batch_weights
from reference.batch_norm import Training, infer, train
from reference.gradients import Gradients, infer_gradients, train_gradients
from reference.second_order import (
    Tangent,
    Tangents,
    infer_second_order,
    infer_tangents,
    train_second_order,
    train_tangents,
)
from reference.spec import Adjustment, Clipping, Parameters, Refusal, Renorm, Semantics, Spec, State
from reference.third_order import Curvatures, train_third_order
from reference.validation import validate

__all__ = [
    "Adjustment",
    "Clipping",
    "Curvatures",
    "Gradients",
    "Parameters",
    "Refusal",
    "Renorm",
    "Semantics",
    "Spec",
    "State",
    "Tangent",
    "Tangents",
    "Training",
    "batch_weights",
    "infer",
    "infer_gradients",
    "infer_second_order",
    "infer_tangents",
    "train",
    "train_gradients",
    "train_second_order",
    "train_tangents",
    "train_third_order",
    "validate",
]
