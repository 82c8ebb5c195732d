"""A run read for its report: what passes keeps its error alone, but for the worst of each kind, which are shown."""

from __future__ import annotations

import msgspec

from conformance.model.results import CaseRecord, Deviation, Record, Result, Rho
from conformance.report.tally import KEPT_OTHERS, order
from conformance.runs import summary

_NOWHERE: list[int] = []
_NO_CHECKS: dict[str, Rho] = {}


class Thinning:
    """Takes element and checks out of results that no page shows, so that a million of them fit into memory."""

    def __init__(self) -> None:
        self._dtypes: dict[str, str] = {}
        self._worst: dict[tuple[str, str, str, str], list[tuple[float, int, Result]]] = {}

    def __call__(self, record: Record) -> None:
        """Look at the next record of a run file, and make those thin that are now known not to be shown."""
        if isinstance(record, CaseRecord):
            self._dtypes[record.case] = record.dtype
        elif isinstance(record, Result) and record.deviation and not record.failed:
            self._take(record)

    def _take(self, result: Result) -> None:
        dtype = self._dtypes.get(result.case) or result.dtype
        kept = self._worst.setdefault((result.implementation, summary.key(result), dtype, result.verdict), [])
        if len(kept) == KEPT_OTHERS and result.size < kept[0][0]:
            _thin(result)
            return
        kept.append((*order(result), result))
        kept.sort(key=lambda one: one[:2])
        if len(kept) > KEPT_OTHERS:
            _thin(kept.pop(0)[2])


def _thin(result: Result) -> None:
    assert result.deviation
    error = Deviation("", _NOWHERE, 0.0, 0.0, 0.0, result.deviation.ulps)
    msgspec.structs.force_setattr(result, "deviation", error)
    msgspec.structs.force_setattr(result, "checks", _NO_CHECKS)
