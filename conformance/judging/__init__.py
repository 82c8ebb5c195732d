"""Judging: one answer held to the law, which is the exact value of each output and the error allowed in it."""
