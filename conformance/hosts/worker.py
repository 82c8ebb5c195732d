"""The worker: hosts the implementations of one environment and answers frames on stdin/stdout.

    python worker.py [--memory GIB] [--device cpu] ADAPTER.py[:Class]|package.module[:Class] …

Started by path, with Python 3.6 or later and NumPy; imports nothing of the host. `conformance/hosts/PROTOCOL.md` is the
contract; this file is one way to keep it.
"""

import argparse
import dis
import importlib
import importlib.util
import json
import operator
import os
import struct
import sys
import time
import traceback

import numpy as np

PROTOCOL = 1
_HERE = os.path.dirname(os.path.abspath(__file__))
MARK = "== "  # opens a line of the log: the question that the lines after it are about
_DTYPES = {"BOOL": "bool", "I32": "int32", "I64": "int64", "F16": "float16", "BF16": "bfloat16", "F32": "float32"}
_DTYPES["F64"] = "float64"
_CODES = {name: code for code, name in _DTYPES.items()}


# --- safetensors: an 8-byte length, a JSON header, a buffer -----------------------------------------------------


def _dtype(name):
    if name == "bfloat16":
        import ml_dtypes  # NumPy has no bfloat16 of its own

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)


def decode(body):
    """Return (metadata, tensors) of a safetensors buffer."""
    (length,) = struct.unpack("<Q", body[:8])
    header = json.loads(body[8 : 8 + length].decode("utf-8"))
    metadata = header.pop("__metadata__", {})
    start = 8 + length
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        array = np.frombuffer(body[start + begin : start + end], _dtype(_DTYPES[entry["dtype"]]))
        tensors[name] = array.reshape(entry["shape"])
    return metadata, tensors


def encode(metadata, tensors):
    """Return a safetensors buffer."""
    header, chunks, offset = {"__metadata__": metadata}, [], 0
    for name in sorted(tensors):
        array = np.asarray(tensors[name])
        data = np.ascontiguousarray(array).tobytes()
        offsets = [offset, offset + len(data)]
        header[name] = {"dtype": _CODES[array.dtype.name], "shape": list(array.shape), "data_offsets": offsets}
        chunks.append(data)
        offset += len(data)
    text = json.dumps(header).encode("utf-8")
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(chunks)


def read_frame(stream):
    """Return the next frame's body, None at the end of the stream."""
    head = stream.read(8)
    if len(head) < 8:
        return None
    (length,) = struct.unpack("<Q", head)
    return stream.read(length)


def write_frame(stream, body):
    """Write one frame: an 8-byte little-endian length, then the body."""
    stream.write(struct.pack("<Q", len(body)) + body)
    stream.flush()


# --- the case as an adapter sees it -----------------------------------------------------------------------------


_WRT = ("x", "gamma", "beta")
_FLAGS = {"bool": bool, "int": int, "numpy": np.bool_}


class Step(object):
    """One call: `training`, `update`, `site`, and arrays, None where not asked for: `x`, `dy`, `mask`, `tangent` of x.

    rank, axis, reduced: of this step's x, whose rank may be another than the first's. wrt: what gradients are asked
    with respect to, of "x", "gamma" and "beta"; who gives more is judged by these.

    flag: training as the layer is to be told it. trainable: False where a trainable layer is frozen for this call.

    adjustment: what the adjustment callable returns, (scale, bias). forward: whether the derivative of y along the
    tangent is asked for, `y_tangent`. second: how that of dx and dgamma is to be taken, `dx_tangent` and
    `dgamma_tangent`: "reverse" (over reverse) or "forward_over_reverse"; empty where it is not asked for.
    forward_twice: whether `y_tangent2` is asked for, the derivative of `y_tangent` along the tangent, forward over
    forward. third: whether those of `dx_tangent` and `dgamma_tangent` are, `dx_tangent2` and `dgamma_tangent2`, all in
    reverse.
    """

    def __init__(self, index, fields, case):
        self.index = index
        self.training = fields["mode"] == "train"
        self.update = fields["update"]
        self.site = fields["site"]
        self.trainable = fields.get("trainable", True)
        self.flag = _FLAGS[case.actions.get("flag", "bool")](self.training)
        self.derivatives = fields["derivatives"]
        self.x = _laid_out(case.tensors["%d.x" % index], case.layout)
        self.rank = self.x.ndim
        self.axis = kept_axes(case.spec["axis"], self.rank)
        self.reduced = tuple(i for i in range(self.rank) if i not in self.axis)
        self.wrt = sorted({name for d in self.derivatives for name in d.get("wrt", _WRT)})
        self.dy, self.mask = case.own("%d.dy" % index), case.own("%d.mask" % index)
        self.tangent = case.own("%d.tangent" % index)
        scale, bias = (case.own("%d.adjustment_%s" % (index, name)) for name in ("scale", "bias"))
        self.adjustment = None if scale is None else (scale, bias)
        self.forward = any(d["order"] == 1 and d["mode"] == "forward" for d in self.derivatives)
        self.second = "".join(d["mode"] for d in self.derivatives if d["order"] == 2 and d["mode"] != "forward")
        self.forward_twice = any(d["order"] == 2 and d["mode"] == "forward" for d in self.derivatives)
        self.third = any(d["order"] == 3 for d in self.derivatives)


class Case(object):
    """The question: `spec` (a dict), `axis` (kept, sorted, non-negative), initial arrays, `steps`, `native`.

    batches: how many have entered the moving statistics that it gives. shape: of the first input. gamma, beta, mean,
    variance: None where the spec asks for none, and where the case leaves it to the layer to begin with its own.
    """

    def __init__(self, fields, tensors, statement):
        self.tensors = tensors
        self.spec, self.dtypes, self.layout = fields["spec"], fields["dtypes"], fields["layout"]
        self.actions, self.batches = fields["actions"], fields.get("batches", 0)
        self.rank, self.shape = tensors["0.x"].ndim, tensors["0.x"].shape
        self.axis = kept_axes(self.spec["axis"], self.rank)
        self.reduced = tuple(i for i in range(self.rank) if i not in self.axis)
        self.gamma = self.own("gamma") if self.spec["scale"] else None
        self.beta = self.own("beta") if self.spec["center"] else None
        self.mean, self.variance = self.own("moving_mean"), self.own("moving_variance")
        self.kept = tuple(tensors["0.x"].shape[a] for a in self.axis if 0 <= a < self.rank)
        self.native = native(self, statement["conventions"])
        self.steps = [Step(t, step, self) for t, step in enumerate(fields["steps"])]

    def own(self, name):
        """Return a writable copy: implementations may update in place, and the case serves others after them."""
        return np.array(self.tensors[name]) if name in self.tensors else None

    def neutral(self, name):
        """Return gamma or beta as a function is given it: the case's, else 1 or 0; None where there is none."""
        given, asked = getattr(self, name), self.spec["scale" if name == "gamma" else "center"]
        if given is not None or not asked:
            return given
        return np.full(self.kept, name == "gamma", _dtype(self.dtypes["parameters"]))

    def static(self, step=None, traced=()):
        """Return what a program that is kept for other cases may be made of: of a step's call, or of the layer."""
        return Static(self, step, traced)


class Static(object):
    """All of a question but its arrays' values and what is `traced`, and the `key` to keep by what is made of it.

    Nothing else can be read here, so that what is made of this alone serves every case of the same key.
    traced: names of fields that come as arguments, or that nothing depends on. Of the arrays of a step, and of the
    layer's adjustment, there are the `Form`s; a size that is not known when the layer is built is None.
    """

    _OF_CASE = ("spec", "native", "actions", "dtypes", "layout", "batches", "axis", "reduced", "rank", "kept", "shape")
    _OF_STEP = ("training", "flag", "update", "site", "trainable", "wrt")
    _OF_STEP += ("forward", "second", "forward_twice", "third")

    def __init__(self, case, step, traced):
        told = {name: getattr(case, name) for name in self._OF_CASE}
        for name in ("spec", "native", "actions"):
            told[name] = {field: value for field, value in told[name].items() if field not in traced}
        if step is not None:
            told.update((name, getattr(step, name)) for name in self._OF_STEP)
            arrays = (("x", step.x), ("dy", step.dy), ("mask", step.mask), ("tangent", step.tangent))
            told.update((name, Form.of(array, case.actions["unknown_sizes"])) for name, array in arrays)
        pairs = [s.adjustment for s in case.steps if s.adjustment is not None]
        told["adjustment"] = [Form.of(array) for array in pairs[0]] if pairs else None
        told = {name: value for name, value in told.items() if name not in traced}
        self.key = json.dumps(told, sort_keys=True, default=repr)
        self.__dict__.update(told)


class Form(tuple):
    """What is known of an array before its values: (shape, the dtype's name)."""

    __slots__ = ()
    shape, dtype = (property(operator.itemgetter(i)) for i in range(2))

    @classmethod
    def of(cls, array, unknown=()):
        """Return the form of an array; None of none."""
        if array is None:
            return None
        return cls((tuple(None if i in unknown else n for i, n in enumerate(array.shape)), array.dtype.name))


def kept_axes(axis, rank):
    """Return the kept axes of an input of this rank, sorted and not negative."""
    return tuple(sorted(a + rank if a < 0 else a for a in (axis if isinstance(axis, list) else [axis])))


def native(case, conventions):
    """Translate the neutral Spec by the statement's calling conventions."""
    kept = case.spec["momentum"]
    arguments = {"epsilon": case.spec["epsilon"], "momentum": kept}
    if conventions.get("momentum") == "updated" and kept is not None:
        arguments["momentum"] = 1.0 - kept
    arguments["axis"] = case.spec["axis"]
    if conventions.get("axis") == "reduced":
        arguments["axis"] = list(case.reduced)
    return arguments


def _laid_out(array, layout):
    """Return a copy of the array with the memory layout that the case asks for; only a `read_only` one is so."""
    if layout == "F":
        return np.array(array, order="F")
    if layout == "channels_last" and array.ndim > 2:
        return np.moveaxis(np.array(np.moveaxis(array, 1, -1), order="C"), -1, 1)
    if layout == "strided" and array.ndim:
        wide = np.zeros(array.shape[:-1] + (2 * array.shape[-1],), array.dtype)
        wide[..., ::2] = array
        return wide[..., ::2]
    if layout == "offset":  # by one value, so that it is aligned for that alone
        moved = np.zeros(array.size + 1, array.dtype)[1:].reshape(array.shape)
        moved[...] = array
        return moved
    if layout == "reversed" and array.ndim:
        return np.array(array[..., ::-1], order="C")[..., ::-1]
    own = np.array(array, order="C")
    own.flags.writeable = layout != "read_only"
    return own


# --- running ----------------------------------------------------------------------------------------------------


def load(target, loaded={}):  # noqa: B006 - the default is the memory of what was loaded
    """Return the implementation classes of an adapter, a file or a module by its dotted name: all, or that :Class."""
    place, _, name = target.partition(":")
    if place not in loaded:
        loaded[place] = by_path(place) if place.endswith(".py") else _by_name(place)
    return [getattr(loaded[place], name)] if name else list(loaded[place].IMPLEMENTATIONS)


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


def _by_name(name):
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # as `python -m` would have it
    return importlib.import_module(name)


def run(implementation, case):
    """Return (outcomes, tensors) of one implementation on one case; what it raises is an outcome too."""
    outcomes, tensors = [], {}
    try:
        for t, arrays in enumerate(implementation.run(case)):
            given = {name: _as_array(name, array) for name, array in arrays.items() if array is not None}
            tensors.update(("%d.%s" % (t, name), array) for name, array in given.items())
            outcomes.append({"type": "outputs"})
    except MemoryError:
        outcomes.append({"type": "crashed", "reason": "out of memory"})
    except Exception as error:
        traceback.print_exc()
        name, lines = type(error).__name__, (str(error).strip() or repr(error)).splitlines()
        refused = {"type": "refused", "error": name, "message": " ".join(lines)[:500]}
        outcomes.append(dict(refused, by_adapter=True) if _by_adapter(error, implementation) else refused)
    return outcomes, tensors


def _by_adapter(error, implementation):
    """Return whether one of the suite's adapters raised itself, before or after what it called: no refusal of that.

    It did where its own code looked up what is not there, or raised; what it called may have raised without a frame.
    """
    ours, last = os.path.join(os.path.dirname(_HERE), "implementations"), error.__traceback__
    while last.tb_next is not None:
        last = last.tb_next
    file, done = last.tb_frame.f_code.co_filename, dis.opname[last.tb_frame.f_code.co_code[last.tb_lasti]]
    subject = getattr(implementation, "statement", {}).get("calibration")  # whose code is what is judged
    looked_up = done.startswith(("LOAD_", "STORE_", "UNPACK_", "RAISE_", "BINARY_SUBSCR"))
    return looked_up and os.path.dirname(os.path.abspath(file)) == ours and not subject


def _as_array(name, array):
    """Return a copy, as an implementation may go on to change what it gave."""
    array = np.array(array)
    if array.dtype.name not in _CODES:
        raise TypeError("%s has dtype %s; the wire carries %s" % (name, array.dtype, sorted(_CODES)))
    return array


def instantiate(targets, device, only=()):
    """Return ({id: implementation}, [listing]): what can run here, and why the rest cannot; of `only` these ids."""
    ready, listing = {}, []
    for target in targets:
        for cls in load(target):
            asked.check_statement(cls.__name__, getattr(cls, "statement", None))
            identity, reason, about, absent = "%s@%s" % (cls.statement.get("id", cls.__name__), device), "", {}, ""
            if only and identity not in only:
                continue
            try:
                ready[identity] = cls(device)
                about = dict(machine(device), **getattr(ready[identity], "about", dict)())
            except Exception as error:
                absent = (isinstance(error, ModuleNotFoundError) and error.name) or ""
                reason = "%s: %s" % (type(error).__name__, str(error).splitlines()[0] if str(error) else "")
            listed = {"id": identity, "available": not reason, "reason": reason, "about": about, "absent": absent}
            listing.append(dict(listed, statement=cls.statement))
    return ready, listing


def machine(device):
    """Return what a device says of itself without a framework: the GPU's driver."""
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
    return {"protocol": PROTOCOL, "pid": os.getpid(), "implementations": listing, "versions": found}


def version(name):
    """Return the version that a module tells, or that of the distribution it came with; "unknown" where neither is."""
    told = getattr(sys.modules[name], "__version__", None)
    if told and isinstance(told, str):
        return told
    try:
        return _of_distribution(name.partition(".")[0]) or "unknown"
    except Exception:  # what is installed may be damaged, and is not what is judged
        return "unknown"


def _of_distribution(name):
    """Return the version of the distribution that holds a module, else of one called so, else nothing."""
    files = ("%s/__init__.py" % name, "%s.py" % name)
    there = list(_installed())
    for fits in (
        lambda d: name in d[2],
        lambda d: any(str(f) in files for f in d[3]),
        lambda d: _plain(d[0]) == _plain(name),
    ):
        for found in there:
            if fits(found):
                return found[1]
    return ""


def _installed():
    """Yield each distribution: its name, its version, the modules it names, its files."""
    try:
        from importlib.metadata import distributions  # novm - Python 3.8
    except ImportError:
        import pkg_resources

        for found in pkg_resources.working_set:
            named = found.get_metadata("top_level.txt") if found.has_metadata("top_level.txt") else ""
            yield found.project_name, found.version, named.split(), ()
        return
    for found in distributions():
        yield found.metadata["Name"], found.version, (found.read_text("top_level.txt") or "").split(), found.files or ()


def _plain(name):
    return (name or "").lower().replace("-", "_").replace(".", "_")


def answer(implementation, identity, request, fields, tensors):
    """Return the reply of one implementation to one case, as a frame's body."""
    started = time.process_time()
    outcomes, arrays = run(implementation, Case(fields, tensors, implementation.statement))
    reply = {"request": request, "implementation": identity, "outcomes": outcomes}
    reply["cpu"] = time.process_time() - started
    return encode({"reply": json.dumps(reply)}, arrays)


asked = by_path(os.path.join(_HERE, "asked.py"))


def replies(body, ready):
    """Yield the reply frames to one request frame: one per implementation asked for."""
    metadata, tensors = decode(body)
    request = json.loads(metadata["request"])
    asked.check_request(request)
    for identity in request["implementations"]:
        sys.stderr.write("%s%s, request %d\n" % (MARK, identity, request["id"]))  # whose words the next lines are
        sys.stderr.flush()
        fields = json.loads(metadata["case"])  # each its own, whatever another did to it
        wrong = asked.misread(request, fields, tensors, ready)
        if wrong:
            reply = {"request": request["id"], "implementation": identity, "outcomes": [wrong]}
            yield encode({"reply": json.dumps(reply)}, {})
            continue
        yield answer(ready[identity], identity, request["id"], fields, tensors)


def serve(stdin, stdout, ready):
    """Answer requests until the stream ends."""
    while True:
        body = read_frame(stdin)
        if body is None:
            return
        for reply in replies(body, ready):
            write_frame(stdout, reply)


def limit_memory(gib):
    """Make an allocation beyond the limit fail in this process rather than take the machine down."""
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
    parser.add_argument("--memory", type=float, default=8.0, help="GiB that the process may allocate (default 8)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", action="append", default=[], help="id to host; repeatable; default all")
    parser.add_argument("adapters", nargs="+")
    arguments = parser.parse_args()
    stdout = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # from here on, what a framework prints goes to stderr
    sys.path[:] = [p for p in sys.path if os.path.abspath(p) != _HERE]  # adapters are called like their frameworks
    limit_memory(arguments.memory)
    ready, listing = instantiate(arguments.adapters, arguments.device, arguments.only)
    write_frame(stdout, encode({"hello": json.dumps(greeting(listing))}, {}))
    serve(sys.stdin.buffer, stdout, ready)


if __name__ == "__main__":
    main()
