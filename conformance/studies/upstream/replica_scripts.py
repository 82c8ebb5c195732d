"""Replicas in scripts: a batch divided among devices of the host, each with its copy of the layer.

By `jax.pmap`, or by `tf.distribute.MirroredStrategy` on logical devices of the CPU. What is shown of statistics is what
the last replica keeps: if not all keep the same, it is that one that differs from the first, of two.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from conformance.studies.upstream import taped
from conformance.studies.upstream.draft import Draft, Untold
from conformance.studies.upstream.jax_derivatives import array
from conformance.studies.upstream.literals import wrapped
from conformance.studies.upstream.program import Program

AXIS = '"replicas"'
_MAPPED = ("flax.linen.", "equinox.")


def devices(draft: Draft, program: Program) -> None:
    """Give JAX a device of the host for each replica."""
    if not draft.entry.startswith(_MAPPED):
        raise Untold(f"no script is written for replicas of {draft.shown.record.id}")
    _unless_differentiated(draft)
    flag = f"--xla_force_host_platform_device_count={len(draft.actions.replicas)}"
    program.environment |= {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flag}


def mapped(draft: Draft, program: Program, call: Callable[[str, str, Any], str], parameters: str) -> None:
    """Add the steps, each a function of one replica that `jax.pmap` asks all for; `call(p, x, step)` is its body."""
    number = len(draft.actions.replicas)
    program.lines.append(f"state = jax.tree.map(lambda a: np.stack([a] * {number}), state)  # one for each replica")
    for step in draft.steps:
        given = _given(draft, step)
        pieces = [f"{array(draft, name)}.reshape{_shape(step, kind, number)}" for kind, name in given.items()]
        program.lines.append(f"def replica(state, {', '.join(given.values())}):")
        program.lines += wrapped(f"    return {call(parameters, given['x'], step)}")
        y = draft.name("y", step.index)
        program.lines += wrapped(f"{y}, state = jax.pmap(replica, {AXIS})(state, {', '.join(pieces)})")


def of_all(draft: Draft, found: str) -> str:
    """Return an expression of the array of the whole batch, out of what `jax.pmap` stacked of all replicas."""
    if draft.output.startswith("moving_"):
        return f"np.asarray({found})[-1]"
    return f"np.asarray({found}).reshape{tuple(draft.target.x.shape)}"


def mirrored(draft: Draft, program: Program, call: Callable[[str, Any], str]) -> Program:
    """Put the layer, whose lines the program has, under a strategy, and add its steps; `call(x, step)` is one."""
    _unless_differentiated(draft)
    rows = list(draft.actions.replicas)
    names = ", ".join(f'"CPU:{number}"' for number in range(len(rows)))
    program.lines = [
        'cpu = tf.config.list_physical_devices("CPU")[0]',
        f"tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * {len(rows)})",
        f"strategy = tf.distribute.MirroredStrategy([{names}])",
        "with strategy.scope():",
        *(f"    {line}" for line in program.lines),
        "def own(array):  # the piece of the replica that this is called in",
        "    number = tf.distribute.get_replica_context().replica_id_in_sync_group",
        f"    return tf.split(array, {rows})[int(number)]",
    ]
    for step in draft.steps:
        given = _given(draft, step)
        program.lines += [f"def replica({', '.join(given.values())}):", f"    return {call(given['x'], step)}"]
        pieces = ", ".join(f"own({taped.tensor(draft, name)})" for name in given.values())
        program.lines.append(f"{draft.name('y', step.index)} = strategy.run(lambda: replica({pieces}))")
    program.got = _local(draft)
    return program


def _local(draft: Draft) -> str:
    if not draft.output.startswith("moving_"):
        return f"np.concatenate(strategy.experimental_local_results({draft.name('y', draft.step)}))"
    value = ".value" if draft.entry.startswith("keras.") else ""
    return f"strategy.experimental_local_results(layer.{draft.output}{value})[-1].numpy()"


def _given(draft: Draft, step: Any) -> dict[str, str]:
    """Return the arrays that are divided, by kind: what they are called."""
    kinds = ("x",) if step.mask is None else ("x", "mask")
    return {kind: draft.name(kind, step.index) for kind in kinds}


def _shape(step: Any, kind: str, number: int) -> tuple[int, ...]:
    rows, *rest = getattr(step, kind).shape
    return (number, rows // number, *rest)


def _unless_differentiated(draft: Draft) -> None:
    if draft.output not in ("y", "moving_mean", "moving_variance"):
        raise Untold("no script is written for gradients of replicas")
