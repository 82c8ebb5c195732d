"""Weights of whole networks in .npz files, under a framework's own names, each layer's with its own prefix."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from conformance.model.errors import InvalidInput
from conformance.studies.translation.layers import Layer
from conformance.studies.translation.weights import Average, Weights, used
from reference import Spec
from reference.spec import Array, kept_axes

_SUFFIX = re.compile(r":\d+$")  # TensorFlow 1's variables are called gamma:0
_STATISTICS = ("moving_mean", "moving_variance")


def load(path: Path) -> dict[str, Array]:
    """Return the arrays of an .npz file by name."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError) as error:
        raise InvalidInput(f"{path}: cannot be read as .npz ({error}); write it with numpy.savez") from error


class Network:
    """The layers of a file.

    layers: their weights, by prefix.
    others: the names of arrays that belong to no batch normalization.
    """

    def __init__(self, path: Path, layer: Layer, spec: Spec, rank: int, average: Average) -> None:
        self._path, self._layer, self._spec, self._rank, self._average = path, layer, spec, rank, average
        groups, self.others = _grouped(load(path), layer)
        if not groups:
            known = ", ".join(layer.names[n] for n in _STATISTICS if n in layer.names) or "parameters"
            raise InvalidInput(
                f"{path}: holds no {known}, so no batch normalization; name the arrays PREFIX{layer.separator}NAME"
            )
        self.layers = {prefix: self._weights(prefix, arrays) for prefix, arrays in sorted(groups.items())}

    def _weights(self, prefix: str, arrays: dict[str, Array]) -> Weights:
        needed = [n for n, wanted in (("gamma", self._spec.scale), ("beta", self._spec.center)) if wanted]
        needed += [n for n in _STATISTICS if n in self._layer.names]
        if self._average in ("zero_debiased", "first_batch") or self._spec.momentum is None:
            needed += self._layer.counters[:1]
        for name in needed:
            if name not in arrays:
                raise InvalidInput(f"{self._at(prefix, name)}: is missing; add it{self._or_without(name)}")
        for name in ("gamma", "beta"):
            if name in arrays and name not in needed:
                raise InvalidInput(f"{self._at(prefix, name)}: is there, but the layer is asked for without it; say so")
        self._check(prefix, arrays)
        return self._made(arrays)

    def _or_without(self, name: str) -> str:
        meanings = {"gamma": ("scale", "affine"), "beta": ("center", "affine")}.get(name, ())
        argument = next((a for meaning in meanings if (a := self._layer.named(meaning))), "")
        return f", or give {argument}=false" if argument else ""

    def _check(self, prefix: str, arrays: dict[str, Array]) -> None:
        first = next(arrays[n] for n in (*_STATISTICS, "gamma", "beta") if n in arrays)
        for name, array in arrays.items():
            if name in self._layer.counters:
                continue
            expected = shape(self._layer, self._spec, self._rank, first, statistics=name not in ("gamma", "beta"))
            if array.shape != expected:
                raise InvalidInput(f"{self._at(prefix, name)}: has shape {array.shape}, must have {expected}; mend it")
            if array.dtype.kind != "f":
                raise InvalidInput(f"{self._at(prefix, name)}: has dtype {array.dtype}, must have floats; mend it")

    def _made(self, arrays: dict[str, Array]) -> Weights:
        kept = {n: a if isinstance(self._spec.axis, tuple) else a.reshape(-1) for n, a in arrays.items()}
        counter = next((arrays[n] for n in self._layer.counters if n in arrays), None)
        return Weights(
            *(kept.get(name) for name in ("gamma", "beta", *_STATISTICS)),
            batches=0 if counter is None else _count(counter),
            renorm={name: kept[name] for name in self._layer.renorm if name in kept},
        )

    def _at(self, prefix: str, name: str) -> str:
        return f"{self._path}: {full_name(self._layer, prefix, name)}"


def _count(counter: Array) -> int:
    """Return how many batches a counter counts; a counter that is a flag says whether the next batch is the first."""
    return int(not counter) if counter.dtype == bool else int(counter)


def _grouped(arrays: dict[str, Array], layer: Layer) -> tuple[dict[str, dict[str, Array]], list[str]]:
    """Return the arrays of each layer by neutral name, and the names of those that belong to none."""
    leaves = {n: neutral for neutral, n in layer.names.items()} | {n: n for n in (*layer.counters, *layer.renorm)}
    stored = {**leaves, **{n: f"average of {neutral}" for neutral, n in layer.averages.items()}}
    groups: dict[str, dict[str, Array]] = defaultdict(dict)
    origin: dict[str, str] = {}
    for name, array in arrays.items():
        found = _split(name, stored, layer)
        if found:
            prefix, neutral = found
            groups[prefix] |= {} if neutral.startswith("average of ") else {neutral: array}
            origin[name] = prefix
    marks = [n for n in _STATISTICS if n in layer.names] or ["gamma", "beta"]
    kept = {p: found for p, found in groups.items() if any(mark in found for mark in marks)}
    return kept, [name for name in arrays if origin.get(name) not in kept]


def _split(name: str, leaves: dict[str, str], layer: Layer) -> tuple[str, str] | None:
    """Return a layer's prefix and the neutral name of one of its arrays; None if the name ends in none of ours."""
    bare = _SUFFIX.sub("", name)
    for collection in set(layer.collections.values()):
        bare = bare.removeprefix(f"{collection}/")
    for leaf in sorted(leaves, key=len, reverse=True):
        if bare == leaf:
            return "", leaves[leaf]
        for separator in "/.":
            if bare.endswith(separator + leaf):
                prefix = bare.removesuffix(separator + leaf)
                return prefix.removesuffix(f"/{layer.state}") if layer.state else prefix, leaves[leaf]
    return None


def full_name(layer: Layer, prefix: str, name: str) -> str:
    """Return what an array is called in a file; without a prefix by its own name alone.

    name: the neutral one, or a counter's own.
    """
    own = layer.names.get(name, name)
    if not prefix:
        return own
    prefix = re.sub(r"[/.]", layer.separator, prefix)
    state = [layer.state] if layer.state and name not in ("gamma", "beta") else []
    collection = [layer.collections[name]] if name in layer.collections else []
    return layer.separator.join([*collection, prefix, *state, own])


def shape(layer: Layer, spec: Spec, rank: int, like: Array, *, statistics: bool) -> tuple[int, ...]:
    """Return the shape in which a layer keeps parameters, or statistics, as many as `like` has elements."""
    kind = layer.statistics_shape if statistics else layer.shape
    if isinstance(spec.axis, tuple):
        return like.shape
    if kind == "vector":
        return (like.size,)
    (axis,) = kept_axes(spec, rank)
    full = tuple(like.size if i == axis else 1 for i in range(rank))
    return full if kind == "full" else full[axis:]


def arrays(layer: Layer, spec: Spec, rank: int, average: Average, prefix: str, weights: Weights) -> dict[str, Array]:
    """Return a layer's weights under its own names, in its own shapes."""
    neutral: dict[str, Any] = {"gamma": weights.gamma, "beta": weights.beta}
    neutral |= dict(zip(_STATISTICS, (weights.mean, weights.variance), strict=True)) | weights.renorm
    found: dict[str, Array] = {}
    for name, array in neutral.items():
        if array is None or (name not in layer.names and name not in layer.renorm):
            continue
        to = shape(layer, spec, rank, array, statistics=name not in ("gamma", "beta"))
        found[full_name(layer, prefix, name)] = array.reshape(to)
        if name in layer.averages:
            inferred = used(array, average, spec.momentum, weights.batches).reshape(to)
            found[_average_name(layer, prefix, name)] = inferred
    for counter in layer.counters:
        value = weights.batches == 0 if layer.counter_dtype == "bool" else weights.batches
        found[full_name(layer, prefix, counter)] = np.array(value, layer.counter_dtype)
    return found


def _average_name(layer: Layer, prefix: str, name: str) -> str:
    return full_name(layer, prefix, layer.averages[name])
