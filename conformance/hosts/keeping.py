"""Where TensorFlow and PyTorch keep what they compile, told before they are imported.

Like `worker.py` read by Python 3.6, and importing nothing of the host.
https://github.com/openxla/xla/issues/5366
https://docs.pytorch.org/tutorials/recipes/torch_compile_caching_configuration_tutorial.html
"""

import hashlib
import os

_XLA = "--tf_xla_persistent_cache_directory="
_SINCE = (2, 18)  # the oldest tried; 2.10 crashed: https://github.com/tensorflow/tensorflow/issues/57649


def keep(folder, device):
    """Let what is compiled for a device be kept in a folder, for each version apart, where the user says nothing else.

    PyTorch tells flags and devices apart, TensorFlow does not: each flags have a folder, and a GPU none.
    """
    torch, tensorflow = _installed("torch"), _installed("tensorflow")
    if torch:
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", "%s/inductor-%s" % (folder, torch))
    flags = os.environ.get("TF_XLA_FLAGS", "")
    if _numbers(tensorflow) >= _SINCE and device == "cpu" and _XLA not in flags and " " not in folder:
        told = hashlib.sha256((os.environ.get("XLA_FLAGS", "") + " " + flags).encode()).hexdigest()[:12]
        where = "%s/xla-%s-%s" % (folder, tensorflow, told)
        os.environ["TF_XLA_FLAGS"] = (flags + " " + _XLA + where).strip()


def _installed(name):
    """Return the version of an installed distribution; empty if there is none, or in a Python that cannot say so."""
    try:
        from importlib.metadata import version  # novm - Python 3.8

        return version(name)
    except Exception:  # what is installed may be damaged, and is not what is judged
        return ""


def _numbers(version):
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
