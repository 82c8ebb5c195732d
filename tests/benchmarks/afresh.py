"""A worker whose implementations can be asked afresh: `python afresh.py ADAPTER.py…`, like that of the host.

To `fresh:ID` a new instance answers, made for that one question, after what frameworks keep beside the adapter was
forgotten; to `ID` the one instance that has answered all questions before.
"""

import importlib.util
import pathlib
import sys

_WORKER = pathlib.Path(__file__).resolve().parents[2] / "conformance" / "hosts" / "worker.py"


def _worker():
    spec = importlib.util.spec_from_file_location("worker", str(_WORKER))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Ready(dict):
    """The instances by id; of `fresh:ID` a new one each time."""

    def __iter__(self):
        """Yield what can be asked: each instance, and one to be made."""
        for name in list(dict.__iter__(self)):
            yield name
            yield "fresh:" + name

    def __missing__(self, name):
        """Make a new one, of a class that is known."""
        kept = self[name[len("fresh:") :]]
        _forget()
        return type(kept)(self.device)


def _forget():
    """Drop what torch's compilers keep by the function that they compiled, which every instance shares."""
    if "torch" not in sys.modules:
        return
    if "torch._dynamo" in sys.modules:
        sys.modules["torch._dynamo"].reset()
    sys.modules["torch.jit._state"]._jit_caching_layer.clear()  # of functions; modules are compiled for each case


def main():
    """Serve, with instances to be made afresh."""
    worker = _worker()
    instantiate = worker.instantiate

    def instantiated(targets, device, only=()):
        ready, listing = instantiate(targets, device, only)
        made = Ready(ready)
        made.device = device
        return made, listing

    worker.instantiate = instantiated
    worker.main()


if __name__ == "__main__":
    main()
