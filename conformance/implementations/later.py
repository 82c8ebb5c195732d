"""When gradients are taken: what adapters share whose framework can take them later than at once, or twice."""


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


def _all(steps):
    """Yield the steps once all of them are made; those before one that raises, and then what it raised."""
    made = []
    try:
        made.extend(steps)  # which keeps what came before an error
    finally:
        yield from made
