"""The porting question: how each implementation is called, which fields mean nothing for it, what a pair differs in."""

from __future__ import annotations

from typing import Any

from conformance.model.results import ImplementationRecord, Run
from conformance.model.statement import Statement, recorded
from conformance.report import promises
from conformance.report.promises import FIELDS, Audited, FieldPromise, PromiseRow, text
from conformance.studies.audit import fields
from conformance.studies.translation import effects, layers

NATIVE = ("momentum is", "default momentum", "default epsilon")
"""The columns that say how an implementation is called."""
GROUPS: dict[str, tuple[str, ...]] = {
    "plain layer": (
        *NATIVE,
        *("average", "stored_variance", "moving_spread", "initial_mean", "initial_variance", "training_statistics"),
        *("frozen", "updates", "epsilon_placement", "epsilon_floor", "epsilon_dtype", "activation"),
    ),
    "few values": ("single_value", "empty_batch", "zero_epsilon"),
    "renorm and virtual batches": (
        *("renorm", "reversed_clipping", "virtual_batches", "virtual_statistics", "indivisible_inference"),
    ),
    "masks and adjustment": ("mask", "mask_rank", "mask_offset", "all_masked", "adjustment"),
    "dtypes": ("parameter_dtype", "statistics_dtype", "output_dtype", "fraction_dtype", "fraction_rounded"),
    "derivatives": ("new_state", "variance_mean"),
}
"""The columns by what they are about; what an audit asks beyond them is a group of its own."""
BEYOND = "beyond a plain layer"
_DEFAULT = dict(zip(NATIVE, ("the kept part", "0.99", "0.001"), strict=True))


def rows(run: Run, audited: Audited) -> list[PromiseRow]:
    """Return what each implementation promises and how it is called; what means nothing for it is marked."""
    found, records = promises.matrix(run, audited), {record.id: record for record in run.implementations}
    for row in found:
        record = records[row.implementation]
        whys = inapplicable(recorded(record), row.promises["average"])
        for name, promise in row.promises.items():
            promise.inapplicable = promise.inapplicable or whys.get(name, "")
            if promise.inapplicable and not promise.proofs:
                promise.value, promise.differs, promise.elsewhere = "–", False, []
        row.promises |= called(record)
    return found


def called(record: ImplementationRecord) -> dict[str, FieldPromise]:
    """Return what momentum means to an implementation, and its defaults; what it is not known of is left out.

    A default momentum is compared by the part of the old statistics that it keeps.
    """
    statement, layer = recorded(record), layers.of(record.id)
    if not translatable(record):
        return {name: FieldPromise("not known", False, [], []) for name in NATIVE}  # a user's own
    momentum, epsilon = layer.arguments.get(layer.momentum), layer.arguments.get(layer.named("epsilon"))
    said = {"default epsilon": _default(epsilon), "momentum is": "not taken", "default momentum": "–"}
    key = ""
    if momentum:
        updated = statement.conventions.get("momentum") == "updated"
        said |= {"momentum is": "the new part" if updated else "the kept part", "default momentum": _default(momentum)}
        if momentum.default is not None:
            key = text(round(1 - momentum.default, 12) if updated else float(momentum.default))
            said["default momentum"] += f" (keeps {key})" if updated else ""
    cites = [record.documentation] if record.documentation else []
    found = {name: FieldPromise(said[name], said[name] != _DEFAULT[name], [], cites) for name in NATIVE}
    found["default momentum"].key = key
    return found


def _default(argument: layers.Argument | None) -> str:
    if argument is None:
        return "–"
    return "must be given" if argument.required else "none" if argument.default is None else text(argument.default)


def inapplicable(statement: Statement, average: FieldPromise) -> dict[str, str]:
    """Return why fields mean nothing for an implementation, as far as its statement says."""
    keeps = average.value != "none" or any(not one.startswith("none where") for one in average.elsewhere)
    whys = {name: fields.inapplicable(statement, name, keeps=keeps) for name in FIELDS}
    return {name: why for name, why in whys.items() if why}


def noted(promise: FieldPromise) -> str:
    """Return what a cell says where it is pointed at; empty where it says so itself."""
    if promise.inapplicable and not promise.proofs:
        return promise.inapplicable
    return "" if promise.elsewhere or promise.proofs else "; ".join(promise.cites)


def notes(rows: list[PromiseRow]) -> dict[str, int]:
    """Return the notes to all cells, numbered from 1: most are those of many."""
    said = filter(None, (noted(promise) for row in rows for promise in row.promises.values()))
    return {note: n for n, note in enumerate(dict.fromkeys(said), 1)}


def groups(columns: list[str]) -> dict[str, list[str]]:
    """Return the columns in their groups, those that belong to none last."""
    named = {name for of_group in GROUPS.values() for name in of_group}
    found = {group: [c for c in names if c in columns] for group, names in GROUPS.items()}
    return found | {BEYOND: [c for c in columns if c not in named]} if set(columns) - named else found


def for_script(rows: list[PromiseRow], columns: list[str]) -> dict[str, Any]:
    """Return what the script compares: values, what holds elsewhere, why a field means nothing, and what to compare."""
    values = {row.implementation: [_listed(row.promises[name]) for name in columns] for row in rows}
    return {
        "columns": columns,
        "values": values,
        "effects": _effects(),
        "sizes": effects.VALUES,
        "elsewhere": effects.ELSEWHERE,
    }


def _listed(promise: FieldPromise) -> list[str]:
    return [promise.value, "; ".join(promise.elsewhere), promise.inapplicable, promise.key]


def _effects() -> list[list[Any]]:
    """Return field, the two values, and by output the effect for each number of values; null where rounding is more."""
    pairs: dict[tuple[str, str, str], list[effects.EffectSize]] = {}
    for one in effects.measured():
        pairs.setdefault((_column(one.field), text(one.one), text(one.other)), []).append(one)
    return [[*pair, _by_output(found)] for pair, found in pairs.items()]


def _column(field: str) -> str:
    return f"default {field}" if field in effects.OF_SPEC else field


def _by_output(found: list[effects.EffectSize]) -> dict[str, list[float | None]]:
    outputs = dict.fromkeys(name for one in found for name in one.sizes)
    by_n = {one.n: one.sizes for one in found}
    return {name: [by_n[n].get(name) for n in effects.VALUES] for name in outputs}


def translatable(record: ImplementationRecord) -> bool:
    """Return whether it is known how an implementation is called: `bnconf translate` takes its id then."""
    return "*" not in layers.of(record.id).implementations or record.framework == "numpy"
