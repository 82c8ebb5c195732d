"""The failures of a run, told once each: what is wrong, where it fails over all results, and where in the arrays."""
