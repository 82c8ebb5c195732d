"""Cases: where they come from, drawn for each cell or named in the corpus."""
