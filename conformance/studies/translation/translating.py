"""A translation from one implementation to another: what is mapped, what cannot be and its size, and the proof."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import msgspec

from conformance.gate.divergences import Divergence
from conformance.hosts.participants import Participants
from conformance.hosts.roster import RosterEntry
from conformance.model.errors import Incomplete
from conformance.studies.translation import calls, files, layers, sizes
from conformance.studies.translation.layers import Layer
from conformance.studies.translation.mapping import Mapped, mapping, transpose
from conformance.studies.translation.sides import CHANNELS, SCENARIOS, Scenario, Shape, Side, checked
from conformance.studies.translation.sizes import Difference
from conformance.studies.translation.verifying import Compared, Inquiry, compare
from conformance.studies.translation.weights import Weights, converted, filled
from reference import Spec
from reference.spec import Array


class Translation(msgspec.Struct, frozen=True):
    """What `bnconf translate` says.

    arguments: those of the source, given or not, and of the target.
    assumed: arguments of the source without a default, and what was taken.
    transpose: how the axes of the source's input are permuted for the target; empty if they stay.
    not_mapped: arguments that were given and set nothing of `Spec`.
    others: arrays of the file of weights that belong to no batch normalization.
    batches: what the target's counter is set to.
    layers: the layers whose weights were translated and verified too.
    not_asked: fields of `Spec` that the source cannot be asked for here, with what it was asked for instead.
    """

    source: str
    target: str
    n: int
    rank: int
    source_arguments: dict[str, Any]
    target_arguments: dict[str, Any]
    assumed: dict[str, Any]
    not_mapped: dict[str, Any]
    transpose: list[int]
    weights: list[Mapped]
    differences: list[Difference]
    verified: list[Compared]
    layers: list[str] = []
    others: list[str] = []
    batches: int | None = None
    not_asked: dict[str, tuple[Any, Any]] = {}

    @property
    def surprises(self) -> list[Compared]:
        """The comparisons that are not as predicted."""
        return [one for one in self.verified if one.verdict == "NOT as predicted"]


@dataclasses.dataclass(frozen=True)
class Half:
    """An implementation, and how it is called in its framework."""

    entry: RosterEntry
    layer: Layer


class Job:
    """One translation: made, asked together with others, then finished."""

    def __init__(
        self, source: Half, target: Half, given: dict[str, Any], *, rank: int, n: int, weights: Path | None = None
    ) -> None:
        self._from, self._to = source, target
        self.call = calls.read(source.layer, source.entry.statement, given, rank)
        spec, self._not_asked = calls.expressed(self.call.spec, source.layer, source.entry.statement)
        self._network = self._read(weights, spec, rank)
        first = next(iter(self._network.layers.values())) if self._network else None
        channels = _size(first) if first and not isinstance(spec.axis, tuple) else self.call.channels or CHANNELS
        axis = calls.placed(self.call, target.layer, target.entry.statement, rank)
        there = dataclasses.replace(self.call.spec, axis=axis)
        wanted, dropped = calls.expressed(there, target.layer, target.entry.statement)
        shape = checked(Shape(rank, channels, n), self.call.spec)
        self.source = Side(source.entry, source.layer, spec, shape)
        self.target = Side(target.entry, target.layer, wanted, shape)
        self._dropped = dropped

    def _read(self, path: Path | None, spec: Spec, rank: int) -> files.Network | None:
        if path is None:
            return None
        side = Side(self._from.entry, self._from.layer, spec, Shape(rank, CHANNELS, 2))
        asked = dataclasses.replace(spec, scale=self.call.spec.scale, center=self.call.spec.center)
        return files.Network(path, self._from.layer, asked, rank, side.average)

    # --- weights -------------------------------------------------------------------------------------------------

    def translated(self, weights: Weights) -> Weights:
        """Return a layer's weights as the target keeps them."""
        kept = self.source.spec.momentum, self.target.spec.momentum
        cumulative = self.target.spec.momentum is None
        there = converted(weights, self.source.average, self.target.average, kept, cumulative=cumulative)
        return filled(there, scale=self.target.spec.scale, center=self.target.spec.center)

    def arrays(self) -> dict[str, Array]:
        """Return the target's arrays of every layer in the file of weights."""
        found: dict[str, Array] = {}
        side, rank = self.target, self.target.shape.rank
        for prefix, weights in (self._network.layers if self._network else {}).items():
            there = self.translated(weights)
            found |= files.arrays(side.layer, side.spec, rank, side.average, prefix, there)
        return found

    # --- the proof -----------------------------------------------------------------------------------------------

    def _sides(self) -> list[tuple[str, Side, Side, tuple[Scenario, ...]]]:
        """Return the sides by label: random weights in every scenario, and the file's weights as they are."""
        found: list[tuple[str, Side, Side, tuple[Scenario, ...]]] = [("", self.source, self.target, SCENARIOS)]
        for prefix, weights in (self._network.layers if self._network else {}).items():
            start = filled(weights, scale=self.source.spec.scale, center=self.source.spec.center)
            pair = [
                dataclasses.replace(side, weights=w, shape=_sized(side, weights))
                for side, w in ((self.source, start), (self.target, self.translated(weights)))
            ]
            found.append((prefix or "(no prefix)", pair[0], pair[1], SCENARIOS[:1]))
        return found

    def enter(self, inquiry: Inquiry, label: str = "") -> None:
        """Add what has to be asked."""
        for layer, source, target, scenarios in self._sides():
            for scenario in scenarios:
                inquiry.add(f"{label}|{layer}|source", source, scenario)
                inquiry.add(f"{label}|{layer}|target", target, scenario)

    def finish(self, inquiry: Inquiry, known: list[Divergence], label: str = "") -> Translation:
        """Return the translation, verified by the answers; raise `Incomplete` where a side is not available."""
        for entry in (self._from.entry, self._to.entry):
            if entry.id in inquiry.missing:
                raise Incomplete(inquiry.missing[entry.id])
        verified: list[Compared] = []
        for layer, source, target, scenarios in self._sides():
            for scenario in scenarios:
                a = inquiry.told(f"{label}|{layer}|source", source, scenario)
                b = inquiry.told(f"{label}|{layer}|target", target, scenario)
                verified += compare(scenario, a, b, known, layer)
        return self._said(verified)

    def _said(self, verified: list[Compared]) -> Translation:
        source, target = self.source, self.target
        channels = self.call.channels or (source.shape.channels if self._network else None)
        arguments = [
            calls.written(side.layer, side.entry.statement, spec, side.shape.rank, channels)
            for side, spec in ((source, self.call.spec), (target, target.spec))
        ]
        counts = target.average in ("zero_debiased", "first_batch") and target.layer.counters
        return Translation(
            source.entry.id,
            target.entry.id,
            source.shape.n,
            source.shape.rank,
            arguments[0],
            arguments[1],
            self.call.assumed,
            self.call.unread,
            transpose(source.spec, target.spec, source.shape.rank),
            mapping(source, target),
            sizes.differences(source, target, self._dropped),
            verified,
            layers=list(self._network.layers) if self._network else [],
            others=self._network.others if self._network else [],
            batches=self.translated(Weights(mean=1.0, variance=1.0, gamma=1.0, beta=1.0)).batches if counts else None,
            not_asked=self._not_asked,
        )


def _size(weights: Weights) -> int:
    return next(a.size for a in (weights.mean, weights.gamma, weights.beta) if a is not None)


def _sized(side: Side, weights: Weights) -> Shape:
    if isinstance(side.spec.axis, tuple):
        return side.shape
    return msgspec.structs.replace(side.shape, channels=_size(weights))


def half(entry: RosterEntry) -> Half:
    """Return an implementation with how it is called."""
    return Half(entry, layers.of(entry.id))


def asked(job: Job, who: Participants, known: list[Divergence]) -> Translation:
    """Return one translation, asked by itself."""
    inquiry = Inquiry()
    job.enter(inquiry)
    inquiry.ask(who)
    return job.finish(inquiry, known)
