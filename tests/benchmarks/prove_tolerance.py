"""Prove that what `bnconf tolerance` names raises no alarm: ten pairs, a thousand fresh batches each.

    python tests/benchmarks/prove_tolerance.py [--fresh 1000]

Prints a row for each output. Exits 1 where a pair raises an alarm, or where one that was expected is not named.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys

PAIRS = (
    ("torch.F.batch_norm", "numpy.two_pass", "--shape 32,8"),
    ("torch.nn.BatchNorm2d", "tf_keras.BatchNormalization", "--shape 8,4,6,6"),
    ("torch.F.batch_norm", "flax.linen.BatchNorm+jit", "--shape 32,8 --mean 30"),
    ("flax.linen.BatchNorm+jit", "haiku.BatchNorm+jit", "--shape 64,4"),
    ("torch.F.batch_norm", "flax.linen.BatchNorm+jit", "--shape 32,8 --dtype float16 --output y --output dx"),
    ("torch.F.batch_norm", "numpy.two_pass", "--shape 32,8 --dtype float64"),
    ("keras.BatchNormalization+tensorflow", "keras.BatchNormalization+jax+jit", "--shape 16,8"),
    ("sonnet.BatchNorm", "tf_keras.BatchNormalization", "--shape 16,8 --axis -1"),
    ("onnxruntime.BatchNormalization+opset15", "torch.F.batch_norm", "--shape 16,8,3,3 --inference"),
    ("numpy.fast", "numpy.two_pass", "--shape 256,2 --mean 2000"),
)


def main() -> int:
    """Ask for each pair, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fresh", type=int, default=1000)
    fresh = parser.parse_args().fresh
    bad = list[str]()
    print("| first | second | asked | output | rtol | atol | alarms | misses |\n|---|---|---|---|---|---|---|---|")
    for first, second, words in PAIRS:
        command = [sys.executable, "-m", "conformance", "tolerance", first, second, *words.split()]
        done = subprocess.run([*command, "--fresh", str(fresh), "--json"], capture_output=True, text=True, check=False)
        if done.returncode:
            bad.append(f"{first} and {second}: {done.stderr.strip()}")
            continue
        for one in json.loads(done.stdout)["outputs"]:
            pair = f"{one['rtol']:g} | {one['atol']:g} | {one['alarms']}" if not one["why"] else f"– | – | {one['why']}"
            misses = f"{len(one['misses'])} faults that bounds see, {len(one['unseen'])} that none sees"
            print(f"| {first} | {second} | {words} | {one['output']} | {pair} | {misses} |", flush=True)
            if one["alarms"]:
                bad.append(f"{first} and {second}: {one['alarms']} alarms of {one['output']}")
    print("\n".join(bad))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
