"""The worker: hosts the implementations of one environment and answers frames on stdin/stdout.

    python worker.py [--memory GIB] [--device cpu] ADAPTER.py[:Class]|package.module[:Class] …

Started by path, with Python 3.6 or later and NumPy; imports nothing of the host. `conformance/hosts/PROTOCOL.md` is the
contract; this file is one way to keep it.
"""

import argparse
import dis
import gc
import importlib
import importlib.util
import json
import os
import sys
import traceback

import numpy as np

PROTOCOL = 1
_HERE = os.path.dirname(os.path.abspath(__file__))
MARK = "== "  # opens a line of the log: the question that the lines after it are about


def by_path(path):
    """Return an adapter's module. While it is read, and only then, `from . import other` finds what stands beside it.

    So two adapters of one name, from two folders, never get each other's neighbours.
    """
    name, beside = "adapter_" + os.path.basename(path)[:-3], [os.path.dirname(os.path.abspath(path))]
    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=beside)
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    finally:
        for known in [m for m in sys.modules if m == name or m.startswith(name + ".")]:
            del sys.modules[known]
    return module


_wire, _seen, asked, _spending, _versions, _keeping = (
    by_path(os.path.join(_HERE, name + ".py")) for name in ("wire", "seen", "asked", "spending", "versions", "keeping")
)
decode, encode, in_parts = _wire.decode, _wire.encode, _wire.in_parts
read_frame, write_frame = _wire.read_frame, _wire.write_frame
Case, Step, version = _seen.Case, _seen.Step, _versions.version
spending = _spending.Spending()


def load(target, loaded={}):  # noqa: B006 - the default is the memory of what was loaded
    """Return the implementation classes of an adapter, a file or a module by its dotted name: all, or that :Class."""
    place, _, name = target.partition(":")
    if place not in loaded:
        loaded[place] = by_path(place) if place.endswith(".py") else _by_name(place)
    return [getattr(loaded[place], name)] if name else list(loaded[place].IMPLEMENTATIONS)


def _by_name(name):
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # as `python -m` would have it
    return importlib.import_module(name)


def run(implementation, case):
    """Return (outcomes, tensors) of one implementation on one case. An exception is an outcome too."""
    outcomes, tensors = [], {}
    try:
        for t, arrays in enumerate(implementation.run(case)):
            found = {name: case.turned(name, array) for name, array in arrays.items() if array is not None}
            given = {name: _as_array(name, array) for name, array in found.items()}
            tensors.update(("%d.%s" % (t, name), array) for name, array in given.items())
            spoiled = case.spoiled(t) if getattr(implementation, "statement", {}).get("keeps_inputs") else []
            reason = "it wrote to %s, which it was given" % " and ".join(spoiled)
            outcomes.append({"type": "crashed", "reason": reason} if spoiled else {"type": "outputs"})
    except MemoryError:
        outcomes.append({"type": "crashed", "reason": "out of memory"})
    except Exception as error:
        _tell(error)
        name, lines = type(error).__name__, (str(error).strip() or repr(error)).splitlines()
        refused = {"type": "refused", "error": name, "message": " ".join(lines)[:500]}
        outcomes.append(dict(refused, by_adapter=True) if _by_adapter(error, implementation) else refused)
    return outcomes, tensors


_TOLD = set()
"""The places that exceptions came from, frame by frame, of those that were told."""


def _tell(error):
    """Write an exception to the log; its frames only if no other came the same way."""
    frames, last = [], error.__traceback__
    while last is not None:
        frames.append((last.tb_frame.f_code.co_filename, last.tb_lineno))
        last = last.tb_next
    if tuple(frames) in _TOLD:
        sys.stderr.writelines(traceback.format_exception_only(type(error), error))
    else:
        _TOLD.add(tuple(frames))
        traceback.print_exc()


def _by_adapter(error, implementation):
    """Return whether one of the suite's adapters raised, before or after what it called, which refused nothing.

    It did if its own code looked up something missing, or raised, or called with a word that what it calls does not
    have. Else what it called may have raised without a frame.
    """
    ours, last = os.path.join(os.path.dirname(_HERE), "implementations"), error.__traceback__
    while last.tb_next is not None and not (isinstance(error, ImportError) and _imports(last.tb_next)):
        last = last.tb_next
    file, done = last.tb_frame.f_code.co_filename, dis.opname[last.tb_frame.f_code.co_code[last.tb_lasti]]
    subject = getattr(implementation, "statement", {}).get("calibration")  # whose code is what is judged
    looked_up = done.startswith(("LOAD_", "STORE_", "UNPACK_", "RAISE_", "BINARY_SUBSCR", "IMPORT_"))
    looked_up = looked_up or (isinstance(error, TypeError) and "unexpected keyword argument" in str(error))
    looked_up = looked_up or last.tb_next is not None
    folder = os.path.dirname(os.path.abspath(file))
    return looked_up and folder in (ours, os.path.join(ours, "others")) and not subject


def _imports(traceback):
    """Return whether a frame is Python's own, that imports."""
    return os.path.dirname(traceback.tb_frame.f_code.co_filename).endswith("importlib")


def _as_array(name, array):
    """Return a copy, as an implementation may go on to change what it gave."""
    array = np.array(array)
    if array.dtype.name not in _wire.CODES:
        raise TypeError("%s has dtype %s; the wire carries %s" % (name, array.dtype, sorted(_wire.CODES)))
    return array


def instantiate(targets, device, only=()):
    """Return ({id: implementation}, [listing]): what can run here, and why the rest cannot; only: the ids wanted."""
    ready, listing = {}, []
    for target in targets:
        for cls in load(target):
            if device not in getattr(cls, "devices", [device]):
                continue
            asked.check_statement(cls.__name__, getattr(cls, "statement", None))
            identity, reason, about, absent = "%s@%s" % (cls.statement.get("id", cls.__name__), device), "", {}, ""
            narrower = {}
            if only and identity not in only:
                continue
            try:
                ready[identity] = cls(device)
                about = dict(machine(device), **getattr(ready[identity], "about", dict)())
                narrower = getattr(ready[identity], "narrower", dict)()
            except Exception as error:
                absent = (isinstance(error, ModuleNotFoundError) and error.name) or ""
                if type(error).__name__ == "NoDevice":
                    absent = cls.statement["packages"][0]
                reason = "%s: %s" % (type(error).__name__, str(error).splitlines()[0] if str(error) else "")
            listed = {"id": identity, "available": not reason, "reason": reason, "about": about, "absent": absent}
            listing.append(dict(listed, statement=cls.statement, narrower=narrower))
    return ready, listing


def machine(device):
    """Return what can be said of a device without a framework: the GPU's driver."""
    path = "/proc/driver/nvidia/version"
    if device == "cpu" or not os.path.exists(path):
        return {}
    with open(path) as lines:
        return {"driver": lines.readline().partition(":")[2].strip()}


def greeting(listing):
    """Return what a worker says first: its protocol, its implementations, the versions of what they run on."""
    found = {"python": sys.version.split()[0], "numpy": np.__version__}
    for name in sorted({name for entry in listing for name in entry["statement"].get("packages", ())}):
        if name in sys.modules:
            found[name] = version(name)
    about = {"protocol": PROTOCOL, "pid": os.getpid(), "cpu": spending.started()}
    return dict(about, implementations=listing, versions=found)


def answer(implementation, identity, request, fields, tensors):
    """Return the reply of one implementation to one case, as a frame's body in parts."""
    spending.begun()
    outcomes, arrays = run(implementation, Case(fields, tensors, implementation.statement))
    reply = {"request": request, "implementation": identity, "outcomes": outcomes}
    reply["cpu"], reply["spent"] = spending.ended()
    return in_parts({"reply": json.dumps(reply)}, arrays)


class Log:
    """What stderr holds: the words of implementations, each below the question that they are about.

    A question about which nothing was said is taken back by the next one, where stderr is a file.
    """

    def __init__(self):
        self._begins = self._ends = 0

    def about(self, identity, request):
        """Say which question the next lines are about."""
        sys.stderr.flush()
        self._take_back()
        sys.stderr.write("%s%s, request %d\n" % (MARK, identity, request))
        sys.stderr.flush()
        self._ends = _size()

    def _take_back(self):
        end = _size()
        if end and end == self._ends:
            os.ftruncate(sys.stderr.fileno(), self._begins)
        else:
            self._begins = end


LOG = Log()


def _size():
    """Return how many bytes stderr holds; 0 where it is no file."""
    try:
        return os.lseek(sys.stderr.fileno(), 0, os.SEEK_END)
    except (OSError, ValueError):
        return 0


def replies(body, ready):
    """Yield the reply frames to one request frame, in parts: one per implementation asked for."""
    metadata, tensors = decode(body)
    request = json.loads(metadata["request"])
    asked.check_request(request)
    for identity in request["implementations"]:
        LOG.about(identity, request["id"])
        fields = json.loads(metadata["case"])  # each its own, whatever another did to it
        wrong = asked.misread(request, fields, tensors, ready)
        if wrong:
            reply = {"request": request["id"], "implementation": identity, "outcomes": [wrong]}
            yield in_parts({"reply": json.dumps(reply)}, {})
            continue
        yield answer(ready[identity], identity, request["id"], fields, tensors)


def serve(stdin, stdout, ready):
    """Answer requests until the stream ends."""
    while True:
        body = read_frame(stdin)
        if body is None:
            return
        for reply in replies(body, ready):
            write_frame(stdout, *reply)


def limit_memory(gib):
    """Make an allocation beyond the limit fail in this process, instead of taking the machine down; 0: no limit."""
    if not gib:
        return
    try:
        import resource
    except ImportError:  # not on Windows
        return
    limit, most = int(gib * 2**30), resource.getrlimit(resource.RLIMIT_DATA)[1]
    limit = limit if most == resource.RLIM_INFINITY else min(limit, most)  # nobody may raise what he was limited to
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def main():
    """Read the command line, import the adapters, say hello, serve."""
    parser = argparse.ArgumentParser(description="host batch normalization implementations for bnconf")
    parser.add_argument("--memory", type=float, default=8.0, help="GiB that it may allocate (default 8; 0: any)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", action="append", default=[], help="id to host; repeatable; default all")
    parser.add_argument("adapters", nargs="+")
    arguments = parser.parse_args()
    stdout = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # from here on, what a framework prints goes to stderr
    sys.path[:] = [p for p in sys.path if os.path.abspath(p) != _HERE]  # adapters are called like their frameworks
    limit_memory(arguments.memory)
    gc.set_threshold(20000, 20, 20)  # a tenth of the CPU of JAX went to looking for garbage that is not there
    if os.environ.get("BNCONF_COMPILED"):
        _keeping.keep(os.environ["BNCONF_COMPILED"], arguments.device)
    ready, listing = instantiate(arguments.adapters, arguments.device, arguments.only)
    write_frame(stdout, encode({"hello": json.dumps(greeting(listing))}, {}))
    serve(sys.stdin.buffer, stdout, ready)


if __name__ == "__main__":
    main()
