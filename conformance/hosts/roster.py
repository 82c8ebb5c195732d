"""Which implementations there are, with their statements, which are read without importing a framework."""

from __future__ import annotations

import difflib
import fnmatch
import functools
import sys
import threading
from pathlib import Path

from conformance.hosts import venvs
from conformance.hosts.environment import Environment
from conformance.hosts.in_process import worker
from conformance.hosts.targets import RosterEntry as RosterEntry
from conformance.hosts.targets import installed, introduced, is_target, program
from conformance.model.errors import InvalidInput
from conformance.model.facts import DEVICES as DEVICES
from conformance.model.statement import Statement, stated

ADAPTERS = Path(__file__).parents[1] / "implementations"
EXTRAS = {
    "torch": "torch",
    "tensorflow": "tensorflow",
    "jax": "jax",
    "onnx": "onnx",
    "keras-torch": "tensorflow,torch",
    "keras-jax": "tensorflow,jax",
    "keras-numpy": "tensorflow",
    "jax-replicas": "jax",
    "jax-shards": "jax",
    "tensorflow-replicas": "tensorflow",
}
_TF1 = {"TF2_BEHAVIOR": "0"}  # TensorFlow 2 sets it to 1 for whoever starts a worker, and TensorFlow 1.15 obeys
_BUILT_IN: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
    "numpy": (("numpy.py",), {}),
    "torch": (("torch.py", "torch_compiled.py", "torch_modules.py", "torch_replicas.py"), {}),
    "tensorflow": (
        ("tensorflow.py", "tf_keras.py", "tf_layers.py", "sonnet.py", "keras.py"),
        {"KERAS_BACKEND": "tensorflow", "TF_USE_LEGACY_KERAS": "1"},
    ),
    "jax": (("flax.py", "haiku.py", "equinox.py", "jax_functions.py"), {}),
    "jax-replicas": (("jax_replicas.py",), {}),
    "tensorflow-replicas": (("tensorflow_replicas.py",), {"KERAS_BACKEND": "tensorflow", "TF_USE_LEGACY_KERAS": "1"}),
    "onnx": (("onnx.py",), {}),
    "keras-torch": (("keras.py:Torch", "keras.py:TorchFunctions"), {"KERAS_BACKEND": "torch"}),
    "keras-jax": (("keras_jax.py",), {"KERAS_BACKEND": "jax"}),
    "keras-numpy": (("keras.py:NumPy", "keras.py:NumPyFunctions"), {"KERAS_BACKEND": "numpy"}),
    "tf-1.15": (("tf1.py",), _TF1),
    "tf-1.7": (("tf1.py:Version17",), _TF1),
    "jax-shards": (("jax_shards.py",), {}),
}
_OTHERS: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
    "tinygrad": (("tinygrad.py",), {}),
    "mlx": (("mlx.py",), {}),
    "paddle": (("paddle.py",), {}),
    "openvino": (("openvino.py",), {}),
    "numba": (("numba.py",), {}),
    "torchvision": (("torchvision.py", "timm.py", "triton.py"), {"TRITON_INTERPRET": "1"}),
    "mxnet": (("mxnet.py",), {}),
    "litert": (("litert.py",), {"CUDA_VISIBLE_DEVICES": ""}),
}
"""The second roster: other libraries, all on the CPU. A run asks them by name alone."""
_READING = (
    threading.Lock()
)  # an adapter finds its neighbours by names that another thread that reads it would take away
_CPU_ONLY = ("numpy", "keras-numpy", "jax-replicas", "tensorflow-replicas", "jax-shards", "tf-1.15", "tf-1.7")


def built_in(device: str = "cpu") -> list[RosterEntry]:
    """Return the implementations that come with the suite and may run on a device."""
    with _READING:
        return list(_built_in(device))


@functools.cache
def _built_in(device: str) -> tuple[RosterEntry, ...]:
    hosts = [name for name in _BUILT_IN if device == "cpu" or name not in _CPU_ONLY]
    return tuple(
        entry
        for name in hosts
        for file in _BUILT_IN[name][0]
        for entry in from_target(str(ADAPTERS / file), name, device)
    )


@functools.cache
def others(device: str = "cpu") -> tuple[RosterEntry, ...]:
    """Return the second roster, which runs on the CPU: what only a pattern asks for that names nothing of the first."""
    with _READING:
        hosts = _OTHERS if device == "cpu" else ()
        files = [(name, ADAPTERS / "others" / file) for name in hosts for file in _OTHERS[name][0]]
        return tuple(entry for name, file in files for entry in from_target(str(file), name))


def from_target(target: str, environment: str = "user", device: str = "cpu") -> list[RosterEntry]:
    """Return the implementations of an adapter that imports no framework, PATH.py or PATH.py:Class."""
    path, _, name = target.partition(":")
    module = worker.by_path(path)  # frameworks are imported once it is instantiated
    every = [getattr(module, name)] if name else list(module.IMPLEMENTATIONS)
    classes = [cls for cls in every if device in getattr(cls, "devices", DEVICES)]
    read = [stated(cls.statement, f"{path}: the statement of {cls.__name__}") for cls in classes]
    return [_entry(statement, target, environment, device) for statement in read]


def _entry(statement: Statement, target: str, environment: str, device: str) -> RosterEntry:
    identity = f"{statement.id}@{device}"
    return RosterEntry(identity, statement.on(device), environment, target, identity)


def select(patterns: tuple[str, ...], device: str = "cpu", python: str = sys.executable) -> list[RosterEntry]:
    """Return the implementations that the patterns name; without patterns, the whole roster.

    A pattern is an id, with or without its device, and may contain * and ?. One that names nothing there is looked up
    among the `others`. Or it names an implementation of a user's own (see `targets`), which `python` hosts. A pattern
    without a device, such as `@cuda`, means `device`.
    """
    known = _Roster(device, python)
    chosen: dict[str, RosterEntry] = {}
    for pattern in patterns or ("*",):
        found = (
            _own(pattern, device, python) if is_target(pattern.rpartition("@")[0] or pattern) else known.named(pattern)
        )
        for entry in found:
            _add(chosen, entry)
    return list(chosen.values())


def _own(pattern: str, device: str, python: str) -> list[RosterEntry]:
    """Return the implementations of a user's own, on the devices that stand after it."""
    target, at, place = pattern.rpartition("@")
    devices = fnmatch.filter(DEVICES, place) if at else []
    if not devices:
        return introduced(pattern, device, python)
    return [entry for one in devices for entry in introduced(target, one, python)]


def _add(chosen: dict[str, RosterEntry], entry: RosterEntry) -> None:
    there = chosen.setdefault(entry.id, entry)
    if there.target != entry.target:
        raise InvalidInput(f"{entry.target}: calls itself {entry.id}, as {there.target} does; give one another id")


class _Roster:
    """The implementations of the suite and of installed packages, read once for each device."""

    def __init__(self, device: str, python: str) -> None:
        self._device, self._python = device, python

    @functools.cache  # noqa: B019 - a command makes one
    def on(self, device: str) -> list[RosterEntry]:
        """Return what may run on a device."""
        return [*built_in(device), *installed(device, self._python)]

    def named(self, pattern: str) -> list[RosterEntry]:
        """Return what a pattern names; raise `InvalidInput` if that is nothing."""
        name, at, place = pattern.partition("@")
        devices = fnmatch.filter(DEVICES, place) if at else [self._device]
        for roster in (self.on, others):
            found = [e for d in devices for e in roster(d) if fnmatch.fnmatchcase(e.statement.id, name)]
            if found:
                break
        else:
            known = [*self.on(self._device), *others(self._device)]
            raise InvalidInput(_unknown(pattern, [e.id for e in known]))
        if len(found) == 1 and found[0].fault:
            raise InvalidInput(found[0].fault)
        return found


def _unknown(pattern: str, known: list[str]) -> str:
    near = difflib.get_close_matches(pattern, known + [i.split("@")[0] for i in known], n=1, cutoff=0.0)
    return f"-i {pattern}: no such implementation; did you mean {near[0]}? all of them: bnconf implementations"


def environments(entries: list[RosterEntry], interpreters: dict[str, str]) -> list[Environment]:
    """Return the environments that host these implementations; `interpreters` replaces their Python."""
    unknown = set(interpreters) - {*_BUILT_IN, *_OTHERS, "user"}
    if unknown:
        raise InvalidInput(f"--env {min(unknown)}: no such environment; use one of {[*_BUILT_IN, *_OTHERS, 'user']}")
    names = dict.fromkeys(entry.host for entry in entries)
    for name, python in interpreters.items():
        if name in names and requirements(python):
            fix = "this command does not install; give the path of a Python that has it"
            raise InvalidInput(f"--env {name}={python}: is a requirement, which {fix}")
    return [_environment(name, [e for e in entries if e.host == name], interpreters) for name in names]


def requirements(python: str) -> tuple[str, ...]:
    """Return the exact requirements that `--env NAME=…` may say instead of an interpreter.

    >>> requirements("torch==2.12.1,numpy==2.2.6"), requirements("/opt/mine/bin/python")
    (('torch==2.12.1', 'numpy==2.2.6'), ())
    """
    return tuple(python.split(",")) if "==" in python and "/" not in python else ()


def _environment(host: str, hosted: list[RosterEntry], interpreters: dict[str, str]) -> Environment:
    name, device = hosted[0].environment, hosted[0].device
    targets, ids = tuple(dict.fromkeys(entry.target for entry in hosted)), tuple(entry.id for entry in hosted)
    if command := program(targets[0]):
        return Environment(host, program=command, device=device)
    variables = (_BUILT_IN | _OTHERS).get(name, ((), {}))[1]
    python = venvs.python(name) if name in venvs.MADE else sys.executable
    return Environment(host, targets, ids, interpreters.get(name, python), variables, device)
