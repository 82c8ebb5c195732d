"""Which implementations there are: their statements, read without importing a framework."""

from __future__ import annotations

import difflib
import fnmatch
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec

from conformance import venvs
from conformance.environment import Environment
from conformance.errors import InvalidInput
from conformance.statement import Statement

ADAPTERS = Path(__file__).with_name("implementations")
EXTRAS = {
    "torch": "torch",
    "tensorflow": "tensorflow",
    "jax": "jax",
    "onnx": "onnx",
    "keras-torch": "tensorflow,torch",
    "keras-jax": "tensorflow,jax",
    "keras-numpy": "tensorflow",
}
_BUILT_IN: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
    "numpy": (("numpy.py",), {}),
    "torch": (("torch.py", "torch_compiled.py", "torch_modules.py"), {}),
    "tensorflow": (
        ("tensorflow.py", "tf_keras.py", "tf_layers.py", "sonnet.py", "keras.py"),
        {"KERAS_BACKEND": "tensorflow", "TF_USE_LEGACY_KERAS": "1"},
    ),
    "jax": (("flax.py", "haiku.py", "equinox.py", "jax_functions.py"), {}),
    "onnx": (("onnx.py",), {}),
    "keras-torch": (("keras.py:Torch", "keras.py:TorchFunctions"), {"KERAS_BACKEND": "torch"}),
    "keras-jax": (("keras_jax.py",), {"KERAS_BACKEND": "jax"}),
    "keras-numpy": (("keras.py:NumPy", "keras.py:NumPyFunctions"), {"KERAS_BACKEND": "numpy"}),
    "tf-1.15": (("tf1.py",), {}),
    "tf-1.7": (("tf1.py:Version17",), {}),
}


class Entry(msgspec.Struct, frozen=True):
    """One implementation on one device, and the environment that hosts it."""

    id: str
    statement: Statement
    environment: str
    target: str


def built_in(device: str = "cpu") -> list[Entry]:
    """Return the implementations that come with the suite."""
    return [
        entry
        for name, (files, _) in _BUILT_IN.items()
        for file in files
        for entry in from_target(str(ADAPTERS / file), name, device)
    ]


def from_target(target: str, environment: str = "user", device: str = "cpu") -> list[Entry]:
    """Return the implementations of an adapter, given as PATH.py or PATH.py:Class."""
    path, _, name = target.partition(":")
    module = _load(Path(path))
    classes = [getattr(module, name, None)] if name else list(getattr(module, "IMPLEMENTATIONS", []))
    if not classes or None in classes:
        raise InvalidInput(f"{target}: names no implementation; give PATH.py:Class, or a file with IMPLEMENTATIONS")
    return [_entry(cls, target, environment, device) for cls in classes]


def _entry(cls: Any, target: str, environment: str, device: str) -> Entry:
    try:
        statement = msgspec.convert(cls.statement, Statement)
    except (msgspec.ValidationError, AttributeError) as error:
        raise InvalidInput(f"{target}: the statement of {cls.__name__} is not valid: {error}") from error
    return Entry(f"{statement.id}@{device}", statement, environment, target)


def _load(path: Path) -> ModuleType:
    """Import an adapter by path; adapters import their framework only when they are instantiated."""
    name = f"_adapter_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise InvalidInput(f"{path}: no such adapter; give the path of a Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise InvalidInput(f"{path}: cannot be imported: {type(error).__name__}: {error}") from error
    return module


def select(patterns: tuple[str, ...], device: str = "cpu") -> list[Entry]:
    """Return the implementations that the patterns name; all that come with the suite where there is none.

    A pattern is an id, with or without its device, may hold * and ?, or is the path of an adapter.
    """
    entries = built_in(device)
    if not patterns:
        return entries
    chosen: dict[str, Entry] = {}
    for pattern in patterns:
        is_path = ".py" in pattern
        found = from_target(pattern, device=device) if is_path else [e for e in entries if _named(e.id, pattern)]
        if not found:
            raise InvalidInput(_unknown(pattern, [e.id for e in entries]))
        chosen.update((entry.id, entry) for entry in found)
    return list(chosen.values())


def _named(identity: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(identity, pattern) or fnmatch.fnmatchcase(identity.split("@", maxsplit=1)[0], pattern)


def _unknown(pattern: str, known: list[str]) -> str:
    near = difflib.get_close_matches(pattern, known + [i.split("@")[0] for i in known], n=1, cutoff=0.0)
    return f"-i {pattern}: no such implementation; did you mean {near[0]}? `bnconf implementations` lists them all"


def environments(entries: list[Entry], interpreters: dict[str, str]) -> list[Environment]:
    """Return the environments that host these implementations; `interpreters` overrides their Python."""
    names = list(dict.fromkeys(entry.environment for entry in entries))
    unknown = set(interpreters) - {*_BUILT_IN, "user"}
    if unknown:
        raise InvalidInput(f"--env {min(unknown)}: no such environment; use one of {[*_BUILT_IN, 'user']}")
    return [_environment(name, [e for e in entries if e.environment == name], interpreters) for name in names]


def _environment(name: str, hosted: list[Entry], interpreters: dict[str, str]) -> Environment:
    targets, ids = tuple(dict.fromkeys(entry.target for entry in hosted)), tuple(entry.id for entry in hosted)
    variables = _BUILT_IN[name][1] if name in _BUILT_IN else {}
    python = venvs.python(name) if name in venvs.RECIPES else sys.executable
    return Environment(name, targets, ids, interpreters.get(name, python), variables)
