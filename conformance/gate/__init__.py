"""The gate: may a run pass? Known divergences, the failures that they explain, the baseline, and the decision."""
