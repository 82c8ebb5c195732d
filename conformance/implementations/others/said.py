"""What the statements of other libraries have in common."""

_LACKS = {
    "forward": "the library has no forward mode, or none is asked",
    "second order": "the library has no second derivatives",
    "mask": "the layer has no such argument",
    "renorm": "the layer has no such argument",
    "virtual batch": "the layer has no such argument",
    "adjustment": "the layer has no such argument",
    "gradient": "the library only infers",
    "train": "the library only infers",
}
GRADIENTS = ["y", "dx", "dgamma", "dbeta", "moving_mean", "moving_variance"]
TANGENTS = ["dx_tangent", "dgamma_tangent"]


def stated(identity, packages, page, momentum, rules, supports, outputs=GRADIENTS, axis="fixed", **fields):
    """Return a statement: what it lacks follows from its outputs and modes."""
    lacks = dict(_LACKS)
    for column, output in (("second order", "dx_tangent"), ("gradient", "dx"), ("forward", "y_tangent")):
        if output in outputs:
            del lacks[column]
    if "train" in fields.get("modes", ["train"]):
        del lacks["train"]
    lacks.update(fields.pop("lacks", {}))
    statement = {
        "id": identity,
        "packages": packages,
        "documentation": page,
        "conventions": {"momentum": momentum, "axis": axis},
        "supports": supports,
        "outputs": outputs,
        "rules": rules,
        "lacks": lacks,
    }
    return dict({"modes": ["train", "infer"]}, **dict(statement, **fields))


def check(device):
    """Raise `ValueError` for a device that the second roster does not run on."""
    if device != "cpu":
        raise ValueError("the second roster runs on the CPU, and not on %s" % device)
