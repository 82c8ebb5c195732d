"""Why cases were not asked: which fact of a case, which value it has, what is supported, and by whom."""

from __future__ import annotations

from collections.abc import Iterable

SHOWN = 3
"""How many implementations are named of those that give one reason."""


def lines(reasons: Iterable[tuple[str, str]]) -> list[str]:
    """Return a line for each reason of these (implementation, reason) pairs, those of the most pairs first.

    >>> lines([("a@cpu", "rank is 5; supported: 2"), ("b@cpu", "rank is 5; supported: 2"), ("a@cpu", "mask is full")])
    ['a@cpu, b@cpu: rank is 5; supported: 2 (2 times)', 'a@cpu: mask is full']
    """
    found: dict[str, list[str]] = {}
    for implementation, reason in reasons:
        found.setdefault(reason, []).append(implementation)
    ordered = sorted(found.items(), key=lambda item: -len(item[1]))
    return [f"{_names(who)}: {reason}" + (f" ({len(who)} times)" if len(who) > 1 else "") for reason, who in ordered]


def _names(who: list[str]) -> str:
    names = list(dict.fromkeys(who))
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def brief(reasons: Iterable[tuple[str, str]], most: int = 5) -> str:
    """Return the lines as one, at most so many of them."""
    found = lines(reasons)
    more = f"; and {len(found) - most} more reasons" if len(found) > most else ""
    return "; ".join(found[:most]) + more
