"""Who agrees with the reference: cases, implementations, bounds, verdicts, reports."""
