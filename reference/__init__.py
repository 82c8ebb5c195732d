"""What batch normalization means, in readable NumPy: the law that `conformance` holds others to."""

from reference.batch_norm import Training, infer, train
from reference.gradients import Gradients, infer_gradients, train_gradients
from reference.spec import Parameters, Refusal, Semantics, Spec, State
from reference.validation import validate

__all__ = [
    "Gradients",
    "Parameters",
    "Refusal",
    "Semantics",
    "Spec",
    "State",
    "Training",
    "infer",
    "infer_gradients",
    "train",
    "train_gradients",
    "validate",
]
