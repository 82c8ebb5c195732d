"""Port a trained network from tf_keras to torch, and on to flax, with the weights that `bnconf translate` writes.

    python conformance/studies/translation/tutorial/port.py [--json]

Both networks then make 20 forward passes in training mode, and infer. What the reference predicts of the difference is
printed beside what was measured: of the moving statistics, and of the logits.
"""

import argparse
import copy
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import networks
import numpy as np

from conformance.hosts.roster import select
from conformance.model.case import Case, Step
from conformance.model.case_facts import step_facts
from reference import Parameters, Spec, State, train

PASSES, ROWS = 20, 16


def images(seed, batches):
    """Yield images of bars, horizontal or vertical, bright or dark, with noise, and which of the four they are."""
    rng = np.random.default_rng(seed)
    bars = np.where(np.arange(16) // 3 % 2, 1.0, -1.0)
    for _ in range(batches):
        labels = rng.integers(0, 4, ROWS)
        plain = np.stack([np.broadcast_to(bars[:, None] if k % 2 else bars, (16, 16)) * (1 + k // 2) for k in labels])
        yield (plain[..., None] + rng.normal(size=(ROWS, 16, 16, 3))).astype(np.float32), labels


# --- the weights --------------------------------------------------------------------------------------------------


def translated(source, target, arrays, *arguments):
    """Return the batch normalization layers of a network under the target's names, as the command writes them."""
    with tempfile.TemporaryDirectory() as folder:
        given, out = Path(folder) / "in.npz", Path(folder) / "out.npz"
        np.savez(given, **arrays)
        command = ["translate", "--from", source, "--to", target, *arguments, "--n", str(ROWS * 256)]
        command += ["--weights", str(given), "--out", str(out)]
        subprocess.run([sys.executable, "-m", "conformance", *command], check=True, stdout=subprocess.DEVNULL)
        with np.load(out) as file:
            return dict(file)


def to_torch(keras):
    """Return a torch network with the weights of one in tf_keras; kernels HWIO -> OIHW."""
    arrays = keras.arrays()
    found = translated("tf_keras", "torch", arrays)  # momentum=0.99 and epsilon=0.001, its defaults
    found |= {f"{name}.weight": arrays[f"{name}/kernel"].transpose(3, 2, 0, 1) for name in networks.FEATURES}
    found |= {"dense.weight": arrays["dense/kernel"].T, "dense.bias": arrays["dense/bias"]}
    network = networks.Torch(eps=0.001, momentum=0.01)
    network.load(found)
    return network


def to_flax(torch):
    """Return a flax network with the weights of one in torch; kernels OIHW -> HWIO."""
    arrays = torch.arrays()
    found = translated("torch", "flax", arrays, "eps=0.001", "momentum=0.01")
    found |= {f"params/{n}/kernel": arrays[f"{n}.weight"].transpose(2, 3, 1, 0) for n in networks.FEATURES}
    found |= {"params/dense/kernel": arrays["dense.weight"].T, "params/dense/bias": arrays["dense.bias"]}
    network = networks.Flax(epsilon=0.001, momentum=0.99)
    network.load(found)
    return network


# --- the comparison -----------------------------------------------------------------------------------------------


class Layer:
    """The moving statistics that one implementation promises of one layer, by the reference."""

    def __init__(self, implementation, axis, arrays, name):
        (entry,) = select((implementation,))
        kept = np.zeros(2, np.float32)
        tensors = {"0.x": np.zeros((2, 2, 2, 2), np.float32), "gamma": kept, "beta": kept}
        tensors |= {"moving_mean": kept, "moving_variance": kept}
        case = Case(spec=Spec(axis=axis), steps=(Step("train"),), tensors=tensors)
        self.semantics = entry.statement.semantics(step_facts(case, 0))
        mean, variance = (arrays[f"{name}.running_{what}"].astype(float) for what in ("mean", "var"))
        self.state, self.spec = State(mean, variance), Spec(axis=1, momentum=0.99, epsilon=0.001)

    def step(self, x):
        """Take in a batch, (rows, channels, height, width)."""
        c = x.shape[1]
        self.state = train(x, Parameters(np.ones(c), np.zeros(c)), self.state, self.spec, self.semantics).state


def compared(source, target, torch, names, moving):
    """Return the figures of a port: predicted and measured differences before and after the passes.

    torch: the torch network of the two. names: of the implementations, with the axis of their channels. moving: two
    functions that give the moving mean and variance of a layer.
    """
    model, (test, _) = copy.deepcopy(torch), next(images(99, 1))
    before = largest(source.infer(test), target.infer(test))
    layers = {bn: [Layer(*name, torch.arrays(), bn) for name in names] for bn in ("bn1", "bn2")}
    for x, _ in images(7, PASSES):
        y = [network.step(x) for network in (source, target)]
        for bn, pair in layers.items():
            for layer in pair:
                layer.step(torch.seen[bn].numpy().astype(float))
    figures = {"inference before": (0.0, before), "training, last pass": (0.0, largest(*y))}
    for bn, (one, two) in layers.items():
        for n, what in enumerate(("mean", "variance")):
            predicted = getattr(one.state, what) - getattr(two.state, what)
            measured = moving[0](bn)[n].astype(float) - moving[1](bn)[n].astype(float)
            figures[f"{bn} moving {what}"] = (largest(predicted, 0), largest(measured, 0), largest(predicted, measured))
    predicted = [with_statistics(model, {bn: pair[k].state for bn, pair in layers.items()}).infer(test) for k in (0, 1)]
    predicted, measured = predicted[0] - predicted[1], source.infer(test) - target.infer(test)
    figures["inference after"] = (largest(predicted, 0), largest(measured, 0), largest(predicted, measured))
    return {name: (*f, f[1])[:3] for name, f in figures.items()}


def largest(a, b):
    """Return the largest difference."""
    return float(np.abs(a - b).max())


def with_statistics(network, states):
    """Return a torch network with other running statistics."""
    arrays = network.arrays()
    for bn, state in states.items():
        arrays[f"{bn}.running_mean"], arrays[f"{bn}.running_var"] = (
            a.astype(np.float32) for a in (state.mean, state.variance)
        )
    network.load(arrays)
    return network


def ported():
    """Return the figures of both ports."""
    networks.tf_keras.utils.set_random_seed(1)
    keras = networks.Keras()
    keras.fit(images(0, 60))
    torch = to_torch(keras)
    of_keras = reading(keras, "{}/moving_mean", "{}/moving_variance")
    of_torch = reading(torch, "{}.running_mean", "{}.running_var")
    names = (
        ("tf_keras.BatchNormalization", -1),
        ("torch.nn.BatchNorm2d", 1),
        ("flax.linen.BatchNorm+jit", -1),
    )
    found = {"tf_keras -> torch": compared(keras, torch, torch, names[:2], (of_keras, of_torch))}
    flax = to_flax(torch)
    of_flax = reading(flax, "batch_stats/{}/mean", "batch_stats/{}/var")
    return found | {"torch -> flax": compared(torch, flax, torch, names[1:], (of_torch, of_flax))}


def reading(network, *names):
    """Return a function that gives the moving mean and variance of a layer."""
    return lambda bn: [network.arrays()[name.format(bn)] for name in names]


def main():
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="Print predicted, measured and their difference as JSON.")
    arguments, found = parser.parse_args(), ported()
    if arguments.json:
        print(json.dumps(found))
        return
    for port, figures in found.items():
        print(f"{port:24} {'predicted':>10} {'measured':>10} {'apart':>10}")
        for name, values in figures.items():
            print(f"  {name:22}", *(f"{value:10.2e}" for value in values))


if __name__ == "__main__":
    main()
