"""How each layer of the roster is called in its framework, from `natives.toml`: arguments, defaults, weight names."""

from __future__ import annotations

import fnmatch
import functools
import tomllib
from pathlib import Path
from typing import Any, Literal

import msgspec

PATH = Path(__file__).with_name("natives.toml")

Type = Literal["bool", "int", "int or none", "number", "number or none", "axes", "text", "limits", "any"]


class Argument(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One argument of a layer.

    meaning: the field of `Spec` that it sets; empty for an argument that only chooses a variant.
    default: the documented one; None if it is absent, unless the argument is `required`.
    assumed: what is taken if a user gives nothing, and there is no default or one that is no batch normalization.
    written: the value that a translation gives it.
    chooses: the implementation of the roster that each value means.
    """

    type: Type
    meaning: str = ""
    default: Any = None
    required: bool = False
    assumed: Any = None
    written: Any = None
    chooses: dict[str, str] = {}

    @property
    def taken(self) -> Any:
        """The value that holds if a user gives nothing."""
        return self.default if self.assumed is None else self.assumed


class Layer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A layer as its framework has it.

    short: the name by which `--from` and `--to` may call it.
    main: the implementations that this name means; the first that takes the rank is chosen.
    implementations: patterns of ids.
    signatures: what can be inspected in the installed packages.
    channels: the kept axis, if no argument says it.
    names: what its weights are called, by their neutral names.
    averages: what the debiased statistics are called, where they are stored beside the others.
    counters: what the numbers of batches are called.
    state: the prefix of statistics in a checkpoint.
    collections: the prefixes before the layer's own name.
    shape, statistics_shape: of parameters and of statistics: `vector`, `full` (the input's rank), or `trailing`
        (without the axes before the channel).
    renorm: the weights that batch renormalization adds.
    other: arguments that set nothing of `Spec`.
    """

    implementations: list[str]
    names: dict[str, str]
    arguments: dict[str, Argument]
    signatures: list[str]
    short: str = ""
    main: list[str] = []
    channels: int = -1
    separator: str = "/"
    averages: dict[str, str] = {}
    counters: list[str] = []
    counter_dtype: str = "int64"
    state: str = ""
    collections: dict[str, str] = {}
    shape: Literal["vector", "full", "trailing"] = "vector"
    statistics_shape: Literal["vector", "full"] = "vector"
    renorm: list[str] = []
    other: list[str] = []

    def named(self, meaning: str) -> str:
        """Return the name of the argument with a meaning; empty if there is none."""
        return next((name for name, argument in self.arguments.items() if argument.meaning == meaning), "")

    @property
    def momentum(self) -> str:
        """The name of the argument that is the momentum, in whichever sense; empty if there is none."""
        return self.named("momentum") or self.named("kept momentum")


class _File(msgspec.Struct, forbid_unknown_fields=True):
    layer: list[Layer]


@functools.cache
def read() -> list[Layer]:
    """Return every layer."""
    return msgspec.convert(tomllib.loads(PATH.read_text()), _File).layer


def of(implementation: str) -> Layer:
    """Return how an implementation is called in its framework; one without an entry is called as the reference is."""
    name = implementation.partition("@")[0]
    return next(layer for layer in read() if any(fnmatch.fnmatchcase(name, p) for p in layer.implementations))
