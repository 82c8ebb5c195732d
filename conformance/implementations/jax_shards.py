"""More of what goes over several devices of the host: other modes, two passes, and groups under `jax.shard_map`.

In an environment of its own, the last of the roster, so that programs of others are dealt as they were.
https://docs.jax.dev/en/latest/notebooks/shard_map.html
"""

from . import equinox, flax, haiku
from . import jax_replicas as there


class _Grouped(there.Mapped):
    """`jax.shard_map` in place of `jax.pmap`. Groups of devices need `check_vma=False` there, or it raises."""

    def program(self, case, static):
        """Return the function of a step on all devices."""
        function, tree = self.differentiated(self.layer(static, static.training), static), self.jax.tree_util.tree_map
        one, piece = self.jax.sharding.PartitionSpec(), self.jax.sharding.PartitionSpec(there.AXIS)

        def own(parameters, state, x, epsilon, given):
            state, x, given = tree(lambda array: array[0], (state, x, given))
            return tree(lambda array: array[None], function(parameters, state, x, epsilon, given))

        specs = {"in_specs": (one, piece, piece, one, piece), "out_specs": piece, "check_vma": False}
        return self.jax.jit(self.jax.shard_map(own, mesh=self.mesh(case), **specs))


class LinenTwoPassMapped(there.LinenMapped, flax.LinenTwoPass):
    """The same with use_fast_variance=False: squares of what is left of the mean of all replicas."""

    statement = there.stated(
        flax.LinenTwoPass, "axis_name+pmap", flax.LINEN, mapped=["none", "x"], mask=[False, "full"]
    )


class LinenGrouped(_Grouped, there.LinenMapped):
    """`flax.linen.BatchNorm(axis_name=...)` under `jax.shard_map`, in groups where `axis_index_groups` says so."""

    statement = there.stated(flax.Linen, "axis_name+shard_map", flax.LINEN, mapped=["none", "x"], mask=[False, "full"])


class NnxTwoPassSharded(there.NnxSharded, flax.NnxTwoPass):
    """The same with use_fast_variance=False."""

    statement = there.stated(flax.NnxTwoPass, "axis_name+shard_map", flax.NNX, mask=[False, "full"])
    chosen = there.NnxSharded.chosen + flax.NnxTwoPass.chosen


class HaikuGrouped(_Grouped, there.HaikuMapped):
    """`haiku.BatchNorm(cross_replica_axis=...)` under `jax.shard_map`, in groups where it is told so."""

    statement = there.stated(haiku.Haiku, "cross_replica_axis+shard_map", haiku.PAGE, mapped=["none", "x"])


def _again(statement):
    """Return a statement with what refusals are the second time: before jax 0.9.1, of a `jax.pmap`, "Store empty"."""
    again = [dict(refusal, error=refusal["error"] + ["StoreException"]) for refusal in statement["refusals"]]
    return dict(statement, refusals=again)


class EquinoxEmaMapped(there.Mapped, equinox.EquinoxEma):
    """`equinox.nn.BatchNorm(axis_name=("batch", ...), mode="ema")`: the examples under `jax.vmap`, under `jax.pmap`."""

    statement = _again(there.stated(equinox.EquinoxEma, "axis_name+pmap", equinox.PAGE))
    names = ("batch", there.AXIS)


IMPLEMENTATIONS = [LinenTwoPassMapped, LinenGrouped, NnxTwoPassSharded, HaikuGrouped, EquinoxEmaMapped]
