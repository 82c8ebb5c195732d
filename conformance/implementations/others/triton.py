"""A kernel of ours in Triton, run by its interpreter: one program per channel, all of its values in one block.

https://triton-lang.org/main/programming-guide/chapter-3/debugging.html#using-the-interpreter
"""

import importlib
import importlib.util
from pathlib import Path

import numpy as np

from . import said

_LARGEST = 2**18  # values per channel that one block may take
_OUTPUTS = ["y", "moving_mean", "moving_variance", "mean", "variance"]


class BatchNorm(object):
    """The kernel, channels second, float32; the adapter moves the statistics."""

    statement = said.stated(
        "triton.batch_norm",
        ["triton", "torch"],
        "https://triton-lang.org/main/python-api/triton.language.html",
        "kept",
        [
            {
                "cite": "triton_kernel.py: two passes, direct; under the interpreter tl.sum is NumPy's, pairwise",
                "semantics": {"stored_variance": "biased", "frozen": "train"},
                "numerics": {"variance": "two_pass", "affine": "direct", "sums": "serial"},
            }
        ],
        {
            "dtype": ["float32"],
            "rank": [2, 3, 4, 5, 6],
            "channel": ["second"],
            "start": ["given", "own"],
            "n": ["1", "many"],
        },
        _OUTPUTS,
        calibration=True,
        lacks={"gradient": "the kernel is of the forward pass alone"},
    )

    def __init__(self, device):
        said.check(device)
        self.torch = importlib.import_module("torch")
        beside = Path(__file__).resolve().parent / "triton_kernel.py"
        spec = importlib.util.spec_from_file_location("triton_kernel", str(beside))
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        self.kernel = module.batch_norm

    def run(self, case):
        """Yield the outputs of each step."""
        one = np.ones(case.kept, np.float32)
        gamma, beta = (one if case.gamma is None else case.gamma), (0 * one if case.beta is None else case.beta)
        mean, variance = (
            (0 * one if case.mean is None else case.mean),
            (one if case.variance is None else case.variance),
        )
        kept = np.float32(case.native["momentum"])
        for step in case.steps:
            if step.x.shape[1:2] != case.kept:
                raise ValueError("the batch has shape %s, and %s values are kept" % (step.x.shape, case.kept))
            y, used, spread = self.called(case, step, gamma, beta, mean, variance)
            out = {"y": y}
            if step.training:
                mean = kept * mean + (np.float32(1) - kept) * used
                variance = kept * variance + (np.float32(1) - kept) * spread
                out.update(mean=used, variance=spread)
            yield dict(out, moving_mean=mean, moving_variance=variance)

    def called(self, case, step, gamma, beta, mean, variance):
        """Return y and the mean and variance that it was normalized by."""
        n = step.x.size // case.kept[0]
        if n > _LARGEST:
            raise ValueError("%d values per channel are more than a block of %d" % (n, _LARGEST))
        arrays = [np.array(a, np.float32, order="C") for a in (step.x, step.x, gamma, beta, mean, variance)]
        x, y, gamma, beta, mean, variance = [self.torch.from_numpy(array) for array in arrays]
        block = 1 << max(n - 1, 1).bit_length()
        pixels, epsilon = int(np.prod(step.x.shape[2:])), case.native["epsilon"]
        self.kernel[case.kept](
            x, y, gamma, beta, mean, variance, n, pixels, case.kept[0], epsilon, training=step.training, block=block
        )
        return y.numpy(), mean.numpy(), variance.numpy()


IMPLEMENTATIONS = [BatchNorm]
