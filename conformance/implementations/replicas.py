"""Replicas: how adapters divide a batch among copies of a layer, and join what these answer."""

import numpy as np

HOSTS = 4  # devices of the host, each of which is one replica


def pieces(replicas, array):
    """Return what each replica gets of an array of the batch."""
    return np.split(array, np.cumsum(replicas)[:-1])


def joined(named):
    """Return the arrays of the whole batch, out of lists by name with an array of each replica.

    y and dx lie one after another. Gradients of gamma and beta are sums. A state is the one that all have; if they do
    not, it is one that is not that of the first, so that it is seen.
    """
    whole = {}
    for name, arrays in named.items():
        if name in ("y", "dx"):
            whole[name] = np.concatenate(arrays)
        elif name in ("dgamma", "dbeta"):
            whole[name] = np.add.reduce(arrays, 0, dtype=arrays[0].dtype)
        else:
            others = [array for array in arrays if array.tobytes() != arrays[0].tobytes()]
            whole[name] = others[0] if others else arrays[0]
    return whole
