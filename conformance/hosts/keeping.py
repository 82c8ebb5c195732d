"""Where JAX, TensorFlow and PyTorch keep what they compile, told before they are imported: each build apart.

Like `worker.py` read by Python 3.6, and importing nothing of the host.
https://github.com/openxla/xla/issues/5366
https://docs.pytorch.org/tutorials/recipes/torch_compile_caching_configuration_tutorial.html
"""

import hashlib
import os
import sys
from pathlib import Path

_JAX = "JAX_COMPILATION_CACHE_DIR"
_XLA = "--tf_xla_persistent_cache_directory="
_SINCE = (2, 18)  # the oldest tried; 2.10 crashed: https://github.com/tensorflow/tensorflow/issues/57649
_LIBRARIES = (".so", ".pyd", ".dll", ".dylib")


def keep(folder, device):
    """Let what is compiled for a device be kept in a folder, for each build apart, where the user says nothing else.

    JAX and PyTorch tell flags and devices apart, TensorFlow does not: each flags have a folder, and a GPU none.
    Where nothing tells a build from another, nothing is kept of JAX and TensorFlow.
    """
    sys.meta_path.insert(0, _BeforeImport({"jax": _jax, "torch": _torch, "tensorflow": _tensorflow}, folder, device))


class _BeforeImport(object):
    """Tells a framework when it is about to be imported: whoever imports none does not look for its build."""

    def __init__(self, tell, folder, device):
        self.tell, self.folder, self.device = tell, folder, device

    def find_spec(self, name, _path=None, _target=None):
        """Tell, and leave the finding to others."""
        if name in self.tell:
            self.tell.pop(name)(self.folder, self.device)


def _jax(folder, _device):
    beside, jax = str(Path(folder).parent), build("jaxlib")
    if os.environ.get(_JAX) == beside:  # as the host says, not the user
        del os.environ[_JAX]
        os.environ.update({_JAX: "%s/jax-%s" % (beside, jax)} if jax else {})


def _torch(folder, _device):
    torch = build("torch")
    if torch:
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", "%s/inductor-%s" % (folder, torch))


def _tensorflow(folder, device):
    tensorflow, flags = build("tensorflow"), os.environ.get("TF_XLA_FLAGS", "")
    if _numbers(tensorflow) >= _SINCE and device == "cpu" and _XLA not in flags and " " not in folder:
        told = hashlib.sha256((os.environ.get("XLA_FLAGS", "") + " " + flags).encode()).hexdigest()[:12]
        where = "%s/xla-%s-%s" % (folder, tensorflow, told)
        os.environ["TF_XLA_FLAGS"] = (flags + " " + _XLA + where).strip()


def build(name):
    """Return a distribution's version, and a hash of what was installed and of each library that was changed since.

    Whoever builds a framework of his own may build it again under the same version. Empty where nothing tells.
    """
    try:
        from importlib.metadata import distribution  # novm - Python 3.8

        found = distribution(name)
        record = found.read_text("RECORD") or ""
        listed = [line.rsplit(",", 2)[0] for line in record.splitlines()]
        written = _time(found, next(path for path in listed if path.endswith(".dist-info/RECORD")))
        libraries = [path for path in listed if any(end in Path(path).name for end in _LIBRARIES)]
        times = [(path, _time(found, path)) for path in libraries]
        since = [(path, time) for path, time in times if time > written]
    except Exception:  # what is installed may be damaged, and is not what is judged
        return ""
    digest = hashlib.sha256((record + repr(since)).encode()).hexdigest()[:12]
    return "%s-%s" % (found.version, digest) if libraries else ""


def _time(found, path):
    return Path(str(found.locate_file(path))).stat().st_mtime_ns


def _numbers(version):
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
