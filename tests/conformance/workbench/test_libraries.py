"""Arrays of every library are read as they are: where they lie on the host without a copy, and bfloat16 too."""

from __future__ import annotations

import importlib
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from conformance import assert_conforms, check
from conformance.workbench import arrays

X = np.random.default_rng(3).normal(size=(16, 3, 5)).astype(np.float32)
DY = np.roll(X, 1)


def of_torch():
    """Tensors with a history conform as they are, and none of them has changed."""
    torch = importlib.import_module("torch")
    given, moving = torch.tensor(X, requires_grad=True), [torch.zeros(3), torch.ones(3)]
    gamma, beta = (torch.nn.Parameter(torch.full((3,), value)) for value in (2.0, -1.0))
    before = {"moving_mean": moving[0].clone(), "moving_variance": moving[1].clone()}
    y = torch.nn.functional.batch_norm(given, *moving, gamma, beta, training=True, momentum=0.1, eps=1e-5)
    y.backward(torch.tensor(DY))
    outputs = {"y": y, "dx": given.grad, "dgamma": gamma.grad, "dbeta": beta.grad}
    outputs |= {"moving_mean": moving[0], "moving_variance": moving[1]}
    words = {"x": given, "gamma": gamma, "beta": beta, "dy": torch.tensor(DY), **before}
    words |= {"axis": 1, "epsilon": 1e-5, "momentum": 0.9, "semantics": "torch"}
    kept = {name: array.detach().clone() for name, array in words.items() if isinstance(array, torch.Tensor)}
    assert_conforms(outputs, **words)
    assert all((words[name] == array).all() for name, array in kept.items())
    outputs["dx"] = outputs["dx"] * 1.001
    found = check(outputs, **words)
    assert [name for name, one in found.outputs.items() if one.verdict == "FAIL"] == ["dx"]


def of_torch_without_a_copy():
    """Whatever it is of, and whatever strides it has; bfloat16 by its bits."""
    torch = importlib.import_module("torch")
    for dtype in (torch.float32, torch.float16, torch.bfloat16, torch.float64):
        tensor = torch.ones(4, 6, dtype=dtype).t()
        array, gpu = arrays.read("x", tensor)
        assert (array.dtype.name, gpu) == (str(dtype).removeprefix("torch."), False)
        tensor[0, 0] = 3
        assert float(array[0, 0]) == 3.0


def of_jax():
    """jax.nn.standardize conforms in float32 and bfloat16; one with a large epsilon does not."""
    jax, jnp = importlib.import_module("jax"), importlib.import_module("jax.numpy")
    for dtype in ("float32", "bfloat16"):
        x, words = jnp.asarray(X, dtype), {"axis": 1, "epsilon": 1e-3, "semantics": "jax"}
        assert_conforms({"y": jax.nn.standardize(x, axis=(0, 2), epsilon=1e-3)}, x, **words)
        assert "y: WRONG" in str(check({"y": jax.nn.standardize(x, axis=(0, 2), epsilon=20.0)}, x, **words))


def of_tensorflow():
    """tf.nn.batch_normalization conforms; one with the variance for the mean does not; and bfloat16 is read."""
    tf = importlib.import_module("tensorflow")
    x = tf.constant(X)
    assert arrays.read("x", tf.cast(x, tf.bfloat16)).array.dtype.name == "bfloat16"
    mean, variance = tf.nn.moments(x, [0, 2], keepdims=True)
    words = {"axis": 1, "epsilon": 1e-3, "semantics": "tf.nn.batch_normalization"}
    assert_conforms({"y": tf.nn.batch_normalization(x, mean, variance, None, None, 1e-3)}, x, **words)
    wrong = tf.nn.batch_normalization(x, variance, variance, None, None, 1e-3)
    assert "y: WRONG" in str(check({"y": wrong}, x, **words))


PROGRAMS = [
    pytest.param(program, marks=pytest.mark.framework(framework), id=program.__name__)
    for framework, program in (
        ("torch", of_torch),
        ("torch", of_torch_without_a_copy),
        ("jax", of_jax),
        ("tensorflow", of_tensorflow),
    )
]


def ran(*arguments, **variables):
    """Run this file with arguments in a process of its own, as two frameworks in one may crash it."""
    told = os.environ | variables
    return subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True, check=False, env=told)


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_library_in_its_own_test(program):
    """Its arrays are read as they are, right ones conform, and wrong ones do not."""
    done = ran(program.__name__)
    assert done.returncode == 0, done.stderr


class OnGpu:
    """A stranger's array that lies on a GPU, and is copied by a method of the given name."""

    def __init__(self, name):
        setattr(self, name, lambda: X)

    def __dlpack_device__(self):
        """Return CUDA's first device, as DLPack numbers it."""
        return 2, 0

    def __array__(self, dtype=None, copy=None):
        """Refuse, as CuPy does."""
        raise TypeError("Implicit conversion to a NumPy array is not allowed")


@pytest.mark.parametrize("name", ["cpu", "get"])
def test_an_array_of_a_gpu_is_copied_to_the_host(name):
    """As torch and CuPy have it; and what it is held to is promised on that device."""
    array, gpu = arrays.read("x", OnGpu(name))
    assert (array is X, gpu) == (True, True)
    with pytest.raises(ValueError, match=r"x cannot be read: .*OnGpu: Implicit conversion .* give it as"):
        arrays.read("x", OnGpu("nothing"))


@pytest.mark.framework("triton", "torch")
def test_the_kernel_of_the_readme_is_tested(tmp_path):
    """The lines of README.md, with Triton's interpreter; with a row left out of the sum they fail."""
    text = (Path(__file__).parents[3] / "README.md").read_text()
    (source,) = (block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "triton.jit" in block)
    right, wrong = tmp_path / "right.py", tmp_path / "wrong.py"
    right.write_text(source)
    wrong.write_text(source.replace("mask=rows < n,", "mask=rows < n - 1,", 1))
    assert wrong.read_text() != source
    done = ran("kernel", str(right), TRITON_INTERPRET="1")
    assert done.returncode == 0, done.stderr
    done = ran("kernel", str(wrong), TRITON_INTERPRET="1")
    assert "AssertionError: y is wrong" in done.stderr


def kernel(path):
    """Run the test of a file."""
    runpy.run_path(path)["test_normalize"]()


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
