"""Runs: made, kept, read again, and counted."""
