"""The command line: what `bnconf` is asked, and what a terminal shows."""
