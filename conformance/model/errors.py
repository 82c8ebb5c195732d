"""Errors a user can mend: each message names the value, the rule and the fix."""


class InvalidInput(Exception):
    """Bad usage or an unreadable file: exit code 2."""


class Incomplete(Exception):
    """Something asked for is missing: exit code 3."""
