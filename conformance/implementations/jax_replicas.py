"""Libraries on JAX whose batch normalization goes over devices, on several devices of the host.

`jax.pmap` and `jax.shard_map` with the name of an axis; and `jax.jit` of a batch that lies on several devices, where
the layer needs no name.
https://docs.jax.dev/en/latest/_autosummary/jax.pmap.html
https://docs.jax.dev/en/latest/notebooks/shard_map.html
https://docs.jax.dev/en/latest/notebooks/Distributed_arrays_and_automatic_parallelization.html
"""

import functools
import importlib

import numpy as np

from . import equinox, flax, haiku, replicas
from . import jax as common

AXIS = "replicas"
_LACKS = {
    "forward": "not asked of replicas",
    "second order": "not asked of replicas",
}


def stated(cls, way, page, **supports):
    """Return the statement of a class as that of its replicas."""
    identity = "%s+%s" % (cls.statement["id"].replace("+jit", ""), way)
    asked = {"dtype": common.DTYPES, "replicas": ["even"], "affine": cls.statement["supports"].get("affine")}
    asked.update({"channel": cls.statement["supports"].get("channel")}, **supports)
    lacks = dict(cls.statement["lacks"], **_LACKS)
    if "mask" not in supports:
        lacks["mask"] = "an ordinary batch is enough to see what goes over replicas"
    return dict(
        cls.statement,
        id=identity,
        documentation=page,
        supports={fact: values for fact, values in asked.items() if values},
        outputs=common.GRADIENTS + common.STATE,
        lacks=lacks,
        signatures=2,
    )


class _Devices(object):
    """What replicas have in common: devices of the host, as many as there are replicas in a call."""

    def __init__(self, device):
        jax = importlib.import_module("jax")
        if device == "cpu":
            jax.config.update("jax_num_cpu_devices", replicas.HOSTS)
        super(_Devices, self).__init__(device)
        there = len(jax.devices(self.device.platform))
        if there < replicas.HOSTS:
            raise RuntimeError("%d devices are needed, and there are %d" % (replicas.HOSTS, there))

    def run(self, case):
        """Yield the outputs of each step."""
        with self.mode(case):
            parameters, state = self.begun(case)
        state = self.start(case, state)
        for steps in case.calls():
            static = case.static(steps[0], self.traced)
            with self.mode(case):
                program = self.kept(static.key, functools.partial(self.program, case, static))
                y, state, out = program(parameters, state, *self.given(case, steps))
                out = dict(zip(common.STATE, self.moving(state)), y=y, **out)
                found = [self.whole(case, member, out) for member in range(case.members)]
                state = self.jax.tree_util.tree_map(np.array, state)  # else the next call is compiled for its place
            for arrays in found:
                yield self.arrays(case, arrays)

    def kept(self, key, make):
        """Return the program that is kept by this key, or else is made."""
        if key not in self.jitted:
            self.jitted[key] = make()
        return self.jitted[key]

    def mesh(self, case):
        """Return the devices, one for each replica, as an axis."""
        return self.jax.sharding.Mesh(np.array(self.taking_part(case)), (AXIS,))

    def taking_part(self, case):
        """Return the devices, one for each replica."""
        return self.jax.devices(self.device.platform)[: len(case.replicas) * case.members]

    def start(self, _case, state):
        """Return the state that replicas begin with."""
        return state

    def given(self, case, steps):
        """Return x, epsilon, and dy and the mask by name, of a call of one member."""
        (step,) = steps
        return step.x, case.native["epsilon"], common.present(dy=step.dy, mask=step.mask)

    def whole(self, _case, _member, out):
        """Return the arrays of the whole batch."""
        return out


class Mapped(_Devices):
    """`jax.pmap`: each device has a state and gradients of its own."""

    def start(self, case, state):
        """Return a state for each replica."""
        return self.jax.tree_util.tree_map(lambda a: np.stack([a] * len(self.taking_part(case))), state)

    def program(self, case, static):
        """Return the function of a step on all devices."""
        function, axes = self.differentiated(self.layer(static, static.training), static), (None, 0, 0, None, 0)
        return self.jax.pmap(function, AXIS, in_axes=axes, devices=self.taking_part(case))

    def given(self, case, steps):
        """Return what each replica gets of each member's batch."""
        stacked = {}
        for name in ("x", "dy", "mask"):
            arrays = [getattr(step, name) for step in steps]
            if arrays[0] is not None:
                stacked[name] = np.stack([p for array in arrays for p in replicas.pieces(case.replicas, array)])
        return stacked.pop("x"), case.native["epsilon"], stacked

    def whole(self, case, member, out):
        """Return the arrays of a member's batch."""
        own, named = slice(member * len(case.replicas), (member + 1) * len(case.replicas)), {}
        for name, array in out.items():
            named[name] = list(np.array(array)[own])
        return replicas.joined(named)

    def groups(self, case):
        """Return which replicas are of one member; None where there is one."""
        if case.members == 1:
            return None
        return np.arange(case.members * len(case.replicas)).reshape(case.members, -1).tolist()


class _Sharded(_Devices):
    """`jax.shard_map`: what all devices share is one array, and parameters' gradients are sums by themselves."""

    def program(self, case, static):
        """Return the function of a step on all devices."""
        function = self.differentiated(self.layer(static, static.training), static)
        one, piece = self.jax.sharding.PartitionSpec(), self.jax.sharding.PartitionSpec(AXIS)
        out = {"dx": piece, "dgamma": one, "dbeta": one}
        given = common.present(dy=static.dy and piece, mask=static.mask and piece)
        found = {name: out[name] for name in static.gradients if static.dy and self.learns(static, name)}
        specs = {"in_specs": (one, one, piece, one, given), "out_specs": (piece, one, found)}
        return self.jax.jit(self.jax.shard_map(function, mesh=self.mesh(case), **specs))

    def learns(self, static, name):
        """Return whether a step has this gradient."""
        return name == "dx" or static.spec["scale" if name == "dgamma" else "center"]


class _Spread(_Devices):
    """`jax.jit` of a batch that lies on several devices: the program is that of one, which XLA divides."""

    def program(self, case, static):
        """Return the function of a step, whose inputs are put on the devices."""
        function = self.jax.jit(self.differentiated(self.layer(static, static.training), static))
        cut = self.jax.sharding.PartitionSpec
        one, piece = (self.jax.sharding.NamedSharding(self.mesh(case), spec) for spec in (cut(), cut(AXIS)))

        def call(parameters, state, x, epsilon, given):
            parameters, state = self.jax.device_put((parameters, state), one)
            x, given = self.jax.device_put((x, given), piece)
            return function(parameters, state, x, epsilon, given)

        return call


class LinenMapped(Mapped, flax.Linen):
    """`flax.linen.BatchNorm(axis_name=...)` under `jax.pmap`, in groups where `axis_index_groups` says so."""

    statement = stated(flax.Linen, "axis_name+pmap", flax.LINEN, mapped=["none", "x"], mask=[False, "full"])

    def module(self, case, training=None):
        """Return a function of epsilon that makes the module."""
        made = super(LinenMapped, self).module(case, training)
        return functools.partial(made, axis_name=AXIS, axis_index_groups=self.groups(case))


class LinenSpread(_Spread, flax.Linen):
    """`flax.linen.BatchNorm` of a batch that lies on several devices, without the name of an axis."""

    statement = stated(flax.Linen, "sharded+jit", flax.LINEN, mask=[False, "full"])


class NnxSharded(_Sharded, flax.Nnx):
    """`flax.nnx.BatchNorm(axis_name=...)` under `jax.shard_map`."""

    statement = stated(flax.Nnx, "axis_name+shard_map", flax.NNX, mask=[False, "full"])
    chosen = (("axis_name", AXIS),)


class HaikuMapped(Mapped, haiku.Haiku):
    """`haiku.BatchNorm(cross_replica_axis=...)` under `jax.pmap`, in groups where it is told so."""

    statement = stated(haiku.Haiku, "cross_replica_axis+pmap", haiku.PAGE, mapped=["none", "x"])

    def module(self, case, epsilon):
        """Return a module."""
        groups = self.groups(case)
        return self.made(case, epsilon, cross_replica_axis=AXIS, cross_replica_axis_index_groups=groups)


class EquinoxMapped(Mapped, equinox.EquinoxBatch):
    """`equinox.nn.BatchNorm(axis_name=("batch", ...))`: the examples under `jax.vmap`, these under `jax.pmap`."""

    statement = stated(equinox.EquinoxBatch, "axis_name+pmap", equinox.PAGE)
    names = ("batch", AXIS)


IMPLEMENTATIONS = [LinenMapped, LinenSpread, NnxSharded, HaikuMapped, EquinoxMapped]
