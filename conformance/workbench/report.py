"""What was found of somebody's arrays, as an object, as text, and as HTML for a notebook."""

from __future__ import annotations

import html
from collections.abc import Iterator
from dataclasses import dataclass, field

from conformance.model.results import Rho


@dataclass(frozen=True)
class WorstElement:
    """The element of an output that is furthest from what is right: its index, and three numbers, as JSON has them."""

    index: tuple[int, ...]
    expected: float | str
    got: float | str
    allowed: float | str


@dataclass(frozen=True)
class OutputReport:
    """What was found of one output.

    verdict: PASS, FAIL, or INCONCLUSIVE where nothing is promised of any element.
    rho: error / allowed error of the worst element; None where there is none.
    where: which elements are wrong, in words; empty where none is.
    reason: what else is wrong, such as its shape or dtype, or why nothing could be compared.
    numerics: the class and grade that it was held to, such as `A·S`.
    """

    name: str
    verdict: str
    rho: Rho
    worst: WorstElement | None
    where: str = ""
    reason: str = ""
    numerics: str = ""

    def __str__(self) -> str:
        """Return it in one line, or in two where it is wrong."""
        if self.verdict == "PASS":
            return f"{self.name}: conforms, its worst error is {self.rho:.3g} of what is allowed"
        if self.verdict == "INCONCLUSIVE":
            return f"{self.name}: nothing could be compared: {self.reason}"
        if self.worst is None:
            return f"{self.name}: WRONG: {self.reason}"
        w, place = self.worst, f"[{', '.join(map(str, self.worst.index))}]"
        size = (
            "nothing may be off there"
            if self.rho == "inf"
            else f"the worst error is {self.rho:.3g} times what is allowed"
        )
        found = f"{self.name}{place} is {w.got}, expected {w.expected} ± {w.allowed}"
        why = f" ({self.reason})" if self.reason else ""
        return f"{self.name}: WRONG {self.where}; {size} ({self.numerics})\n    {found}{why}"


@dataclass(frozen=True)
class Report:
    """What was found of all outputs that were given.

    outputs: by name.
    held_to: what they were held to, in words.
    causes: what would explain what is wrong, in words, the likeliest first; empty where nothing was found.
    not_compared: what a layer returns besides, and was not given.
    """

    outputs: dict[str, OutputReport]
    held_to: str
    causes: list[str] = field(default_factory=list[str])
    not_compared: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every output that was given was compared, and conforms."""
        return bool(self.outputs) and all(one.verdict == "PASS" for one in self.outputs.values())

    @property
    def rho(self) -> dict[str, Rho]:
        """Error / allowed error of the worst element of each output; at most 1 conforms."""
        return {name: one.rho for name, one in self.outputs.items()}

    def lines(self) -> Iterator[str]:
        """Yield the lines of its text."""
        wrong = [one.name for one in self.outputs.values() if one.verdict == "FAIL"]
        open_ = [one.name for one in self.outputs.values() if one.verdict == "INCONCLUSIVE"]
        said = f"{', '.join(wrong)} {'are' if len(wrong) > 1 else 'is'} wrong" if wrong else ""
        said = said or (f"nothing could be compared of {', '.join(open_)}" if open_ else "all outputs conform")
        yield f"{said}; held to {self.held_to}"
        order = {"FAIL": 0, "INCONCLUSIVE": 1, "PASS": 2}
        yield from (f"  {one}" for one in sorted(self.outputs.values(), key=lambda one: order[one.verdict]))
        if wrong:
            yield from (f"  It looks as if {cause}" for cause in self.causes)
            if not self.causes:
                yield "  No single change of what was asked explains it"
        if self.not_compared:
            yield f"  Not given, and not compared: {', '.join(self.not_compared)}"

    def __str__(self) -> str:
        """Return its text."""
        return "\n".join(self.lines())

    def _repr_html_(self) -> str:
        """Return a table for a notebook."""
        head = "".join(f"<th>{title}</th>" for title in ("output", "", "error / allowed", "worst", "where"))
        rows = "".join(self._row(one) for one in self.outputs.values())
        first, *rest = [html.escape(line.strip()) for line in self.lines() if not line.startswith("    ")]
        causes = "".join(f"<li>{line}</li>" for line in rest if line.startswith(("It looks", "No single", "Not given")))
        return f"<p>{first}</p><table><tr>{head}</tr>{rows}</table><ul>{causes}</ul>"

    @staticmethod
    def _row(one: OutputReport) -> str:
        w = one.worst
        at = "" if w is None else f"{list(w.index)}: got {w.got}, expected {w.expected} ± {w.allowed}"
        size = "" if one.rho is None else one.rho
        cells = (one.name, one.verdict, size, at, one.where or one.reason)
        return f"<tr>{''.join(f'<td>{html.escape(str(cell))}</td>' for cell in cells)}</tr>"
