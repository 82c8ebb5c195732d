"""The score of the suite itself: what it noticed of injected faults; JSON files in `reports/score/`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import msgspec

from conformance.model.errors import InvalidInput

FOLDER = "score"
"""The folder beside runs that holds the scores."""
FAULTS = "faults"
"""The study of injected faults, which has a curve."""


class Table(msgspec.Struct):
    """A table of a score: its title, the columns' names, and rows of text."""

    title: str
    head: list[str]
    rows: list[list[str]]


class Score(msgspec.Struct):
    """One file.

    facts: what it says of itself.
    tables: the lists of objects in it, as tables.
    """

    name: str
    facts: dict[str, str]
    tables: list[Table]
    curve: list[dict[str, Any]]


def read(reports: Path) -> list[Score]:
    """Return the scores kept beside the runs; an empty list if there are none."""
    return [_score(path) for path in sorted((reports / FOLDER).glob("*.json"))]


def _score(path: Path) -> Score:
    try:
        found = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.MsgspecError) as error:
        raise InvalidInput(f"{path}: is no score ({error}); run what wrote it again, or remove it") from error
    lists = {name: cast("list[Any]", value) for name, value in found.items() if isinstance(value, list)}
    tables = [_table(name, rows) for name, rows in lists.items() if name != "curve" and _objects(rows)]
    facts = {name: _text(value) for name, value in found.items() if name not in lists}
    counted = [_counted(rows) for name, rows in lists.items() if name == "mutants" and _objects(rows)]
    return Score(path.stem, facts, counted + tables, lists.get("curve", []) if path.stem == FAULTS else [])


def _objects(rows: list[Any]) -> bool:
    return bool(rows) and all(isinstance(row, dict) for row in rows)


def _counted(mutants: list[dict[str, Any]]) -> Table:
    """Return mutants by framework and category: how many were killed, of how many."""
    counts: dict[tuple[str, str], list[int]] = {}
    for mutant in mutants:
        of = counts.setdefault((str(mutant.get("framework", "")), str(mutant.get("category", ""))), [0, 0])
        of[0] += bool(mutant.get("killed"))
        of[1] += 1
    rows = [[*key, str(killed), str(of), f"{killed / of:.0%}"] for key, (killed, of) in sorted(counts.items())]
    return Table("mutants, counted", ["framework", "category", "killed", "of", "share"], rows)


def _table(name: str, rows: list[dict[str, Any]]) -> Table:
    flat = [_flat(row) for row in rows]
    head = list(dict.fromkeys(key for row in flat for key in row))
    return Table(name, head, [[row.get(key, "") for key in head] for row in flat])


def _flat(row: dict[str, Any]) -> dict[str, str]:
    """Return an object's fields as text; a count in an object, beside the count it is a part of, becomes a share.

    >>> _flat({"rule": "bounds", "easy": {"of": 8, "detected": 6, "of_alarms": 4, "alarms": 0}})
    {'rule': 'bounds', 'easy detected': '6 of 8 (75.0%)', 'easy alarms': '0 of 4 (0.0%)'}
    """
    found: dict[str, str] = {}
    for key, value in row.items():
        if not isinstance(value, dict):
            found[key] = _text(value)
            continue
        counts = cast("dict[str, Any]", value)
        for name, count in counts.items():
            whole = counts.get(f"of_{name.removeprefix('detected_')}", counts.get("of"))
            if name.partition("_")[0] != "of":
                found[f"{key} {name.replace('_', ' ')}"] = _share(count, whole)
    return found


def _share(count: Any, whole: Any) -> str:
    if isinstance(count, int) and isinstance(whole, int):
        return f"{count} of {whole}" + (f" ({count / whole:.1%})" if whole else "")
    return _text(count)


def _text(value: Any) -> str:
    """Return a value of a score as text, objects as `name value` pairs.

    >>> _text({"detected": 9, "of": 10}), _text(True), _text(None), _text(0.123456)
    ('detected 9, of 10', 'yes', '', '0.123')
    """
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.3g}"
        case dict():
            return ", ".join(f"{k} {_text(v)}" for k, v in cast("dict[str, Any]", value).items())
        case list():
            return ", ".join(_text(v) for v in cast("list[Any]", value))
        case _:
            return str(value)
