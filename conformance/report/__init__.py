"""The HTML report of a run: one self-contained file, readable without JavaScript, asking the network for nothing."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import msgspec

from conformance import summary
from conformance.errors import InvalidInput
from conformance.results import Result, Run

SHOWN_FAILURES = 200


def write(run: Run, path: Path) -> Path:
    """Write the report and return its path."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(render(run), encoding="utf-8")
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be written ({error.strerror}); name another with --out") from error
    return path


def render(run: Run) -> str:
    """Return the report as HTML. Everything that comes from a run is escaped."""
    folder = resources.files(__package__ or "conformance.report")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["rho"] = summary.show
    template = environment.from_string((folder / "report.html.j2").read_text(encoding="utf-8"))
    return template.render(style=(folder / "report.css").read_text(encoding="utf-8"), **view(run))


def view(run: Run) -> dict[str, Any]:
    """Return what the template shows."""
    rows = summary.rows(run)
    failures = [result for result in run.results if result.verdict in ("FAIL", "ERROR")]
    return {
        "run": run,
        "rows": rows,
        "groups": _groups(failures),
        "failures": len(failures),
        "judged": sum(result.rho is not msgspec.UNSET for result in run.results),
        "columns": [c for c in summary.COLUMNS if any(c in row.outputs for row in rows)],
        "conformant": [row.id for row in rows if row.conforms],
        "departing": [row for row in rows if row.judged and not row.conforms],
        "unavailable": [row for row in rows if not row.available],
        "shown": SHOWN_FAILURES,
    }


class Group(msgspec.Struct):
    """Failures of one implementation and output, worst first: one line in the report, opened for its cases."""

    implementation: str
    output: str
    results: list[Result]

    @property
    def worst(self) -> Result:
        """The result with the largest ρ."""
        return self.results[0]


def _groups(failures: list[Result]) -> list[Group]:
    groups: dict[tuple[str, str], list[Result]] = {}
    for result in failures:
        groups.setdefault((result.implementation, summary.key(result)), []).append(result)
    ordered = [
        Group(*identity, sorted(found, key=lambda r: -summary.as_number(r.rho))) for identity, found in groups.items()
    ]
    return sorted(ordered, key=lambda g: g.implementation)
