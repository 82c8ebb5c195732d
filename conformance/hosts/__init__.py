"""Hosts: the processes that implementations run in, and which of them can run here."""
