"""Whether a worker understands what it is asked; like `worker.py` read by Python 3.6, and importing nothing of ours."""

import difflib
import json

_DTYPES, _MODES, _FLAGS = ["float16", "bfloat16", "float32", "float64"], ["train", "infer"], [False, True]
_FREE = None
_LAYOUTS = ["C", "F", "strided", "channels_last", "offset", "reversed", "read_only"]
_SPEC = ["axis", "epsilon", "momentum", "center", "scale", "trainable", "virtual_batch_size", "renorm", "track"]

# Of each part of a request its fields, and of each field the values that it may have.
WORDS = {
    "request": {"id": _FREE, "implementations": _FREE},
    "case": dict.fromkeys(["dtypes", "spec", "steps", "actions", "batches"], _FREE),
    "dtypes": dict.fromkeys(["x", "parameters", "statistics"], _DTYPES),
    "spec": dict.fromkeys(_SPEC + ["renorm_clipping", "renorm_momentum"], _FREE),
    "renorm_clipping": dict.fromkeys(["rmin", "rmax", "dmax"], _FREE),
    "step": {"mode": _MODES, "update": _FLAGS, "site": _FREE, "trainable": _FLAGS, "derivatives": _FREE},
    "derivative": {"order": [1, 2, 3], "mode": ["reverse", "forward", "forward_over_reverse"]},
    "actions": {"init_mode": _MODES, "round_trip": ["none", "config", "state"], "flag": ["bool", "int", "numpy"]},
}
WORDS["case"].update(schema=[1], layout=_LAYOUTS, dy_layout=_LAYOUTS, layer_layout=_LAYOUTS)
WORDS["derivative"].update(of=["y", "mean", "variance", "moving_mean", "moving_variance"], wrt=["x", "gamma", "beta"])
WORDS["derivative"].update(along=["x", "parameters", "all"])
WORDS["actions"].update(
    sites=_FREE, unknown_sizes=_FREE, backward=["each", "after_all", "twice", "together", "recomputed"]
)
WORDS["actions"].update(scalars=["number", "float64", "float32", "array"])
WORDS["actions"].update(replicas=_FREE, members=_FREE, mapped=["none", "dy", "x", "parameters", "both", "nested"])
WORDS["actions"].update(input=["stored", "int32", "uint8", "bool", "complex64", "float8_e4m3fn", "float8_e5m2"])
_NEEDED = [("case", name) for name in ("actions", "dtypes", "layout", "spec", "steps")]
_NEEDED += [("step", name) for name in ("derivatives", "mode", "site", "update")]
TENSORS = ["gamma", "beta", "moving_mean", "moving_variance"]
OF_STEPS = ["x", "dy", "mask", "adjustment_scale", "adjustment_bias", "tangent", "dmean", "dvariance"]
OF_STEPS += ["gamma_tangent", "beta_tangent", "mean_tangent", "variance_tangent", "dmoving_mean", "dmoving_variance"]
OF_MEMBERS = ["gamma", "beta"]


class NotUnderstood(ValueError):
    """A case has a word that this worker does not know: half understood, it would be another case."""


def check_request(request):
    """Raise `NotUnderstood` for a request without a number, or one that names no implementation."""
    for needed in sorted(WORDS["request"]):
        if needed not in request:
            stray = difflib.get_close_matches(needed, list(request), n=1, cutoff=0.5)
            said = "; %s is no field of it" % stray[0] if stray else ""
            raise NotUnderstood("request: %s is missing; add it%s" % (needed, said))


def check_statement(whose, said, place="statement"):
    """Raise `NotUnderstood` for what JSON cannot express in a statement, with its place and what was meant."""
    if place == "statement" and not isinstance(said, dict):
        raise NotUnderstood(
            '%s.statement: %r is no statement; give a dict, {"id": "mine.batch_norm", ...}' % (whose, said)
        )
    inner = said.items() if isinstance(said, dict) else enumerate(said) if isinstance(said, (list, tuple)) else ()
    if place.count(".") + place.count("[") > 8:
        raise NotUnderstood("%s.%s: holds itself, or too much; write it out" % (whose, place))
    for name, one in inner:
        check_statement(whose, one, ("%s.%s" if isinstance(said, dict) else "%s[%s]") % (place, name))
    if not isinstance(said, (dict, list, tuple, str, int, float, type(None))):
        raise NotUnderstood("%s.%s: %r is no JSON; did you mean %s?" % (whose, place, said, _meant(said)))


def _meant(said):
    """Return how JSON, or a Python literal, would express what a value of another type seems to mean."""
    name = getattr(said, "__name__", None)
    if isinstance(name, str):
        return json.dumps(name)
    if isinstance(said, (bytes, bytearray)):
        return json.dumps(said.decode("utf-8", "replace"))
    if isinstance(said, (set, frozenset, range)):
        return json.dumps(sorted(said, key=str), default=str)
    return json.dumps(said.tolist() if hasattr(said, "tolist") else str(said), default=str)


def misread(request, case, tensors, ready):
    """Return the outcome for a case that is not understood; None if it is understood."""
    try:
        check(request, case, tensors, ready)
    except NotUnderstood as error:
        return {"type": "crashed", "reason": "the worker does not understand the question: %s" % error}
    return None


def check(request, case, tensors, ready):
    """Raise `NotUnderstood` for an unknown field, value or tensor, and for an implementation not hosted here."""
    steps, spec = case.get("steps", []), case.get("spec", {})
    parts = [("request", request), ("case", case), ("spec", spec), ("dtypes", case.get("dtypes", {}))]
    parts += [("actions", case.get("actions", {})), ("renorm_clipping", spec.get("renorm_clipping") or {})]
    parts += [("step", step) for step in steps]
    parts += [("derivative", derivative) for step in steps for derivative in step.get("derivatives", [])]
    for name, part in parts:
        _check(name, part)
    for identity in request["implementations"]:
        _known("request.implementations", "implementation that is hosted here", identity, sorted(ready))
    known = TENSORS + ["%d.%s" % (t, name) for t in range(len(steps)) for name in OF_STEPS]
    members = range(case.get("actions", {}).get("members", 1))
    known += ["%d.%s" % (member, name) for member in members for name in OF_MEMBERS if member]
    for name in sorted(tensors):
        _known("case", "tensor", name, known)


def _check(name, part):
    for field, value in sorted(part.items()):
        _known(name, "field", field, sorted(WORDS[name]))
        known = WORDS[name][field]
        for one in [] if known is None else value if isinstance(value, list) else [value]:
            _known("%s.%s" % (name, field), "word for it", one, known)
    for needed in (field for of, field in _NEEDED if of == name and field not in part):
        raise NotUnderstood("%s: %s is missing; add it" % (name, needed))


def _known(place, what, value, known):
    if not any(value == one and isinstance(value, type(one)) for one in known):
        words = [one if isinstance(one, str) else json.dumps(one) for one in known]
        words = {word.lower(): word for word in words}
        near = difflib.get_close_matches(str(value).lower(), list(words), n=1, cutoff=0.0)
        meant = "; did you mean %s?" % words[near[0]] if near else ""
        raise NotUnderstood("%s: %s is no %s%s" % (place, json.dumps(value), what, meant))
