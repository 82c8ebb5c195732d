"""Studies: what goes beyond one run, as audits, translations, hunts, soaks, recalls and what people ask."""
