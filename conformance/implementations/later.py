"""When gradients are taken: what adapters share whose framework can take them later, twice, or of all calls at once.

And what they raise whose framework is built without the device that is asked for.
"""


class NoDevice(RuntimeError):
    """What is installed is a build without this device: a run that did not ask for it by name is complete without it.

    A worker knows it by its name, so that anybody's adapter may raise one of its own.
    """


def answers(case, steps):
    """Yield the outputs of each step with its gradients, taken when the case wants them.

    steps: an iterator that makes the calls one after another, and gives of each (outputs, a function that takes its
        gradients). Outputs are copies, since later calls may change what they were made of.
    """
    when = case.actions.get("backward", "each")
    if when == "after_all":
        steps = _all(steps)
    for out, take in steps:
        if when == "twice":
            take()
        yield dict(out, **take())


def together(case, outs, dxs, learned):
    """Yield the outputs of each call of one graph, with the gradients that were taken of all at once.

    outs: the outputs by call. dxs: dx of each call that has one, in their order.
    learned: the gradients of gamma and beta, which come with the last of these.
    """
    asked = case.differentiated
    found = {step.index: {"dx": dx} for step, dx in zip(asked, dxs)}
    if asked:
        found.setdefault(asked[-1].index, {}).update(learned)
    for t, out in enumerate(outs):
        yield dict(out, **found.get(t, {}))


def _all(steps):
    """Yield the steps once all of them are made; those before one that raises, and then what it raised."""
    made = []
    try:
        made.extend(steps)  # which keeps what came before an error
    finally:
        yield from made
