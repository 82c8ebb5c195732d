"""One small convolutional network in tf_keras, torch and flax: two convolutions with batch normalization, one dense.

Each class has `arrays()`, all weights by the framework's own names; `step(x)`, one forward pass in training mode, and
`infer(x)`, both for images of shape (rows, 16, 16, 3), giving (rows, 4) logits. `load(arrays)` takes what is ported.
"""

import flax.linen as nn
import jax
import numpy as np
import tensorflow as tf
import tf_keras
import torch

FEATURES = {"conv1": 8, "conv2": 16}


class Keras:
    """tf_keras: channels last, kernels (height, width, in, out); `fit` gives it weights worth porting."""

    def __init__(self):
        layers = tf_keras.layers
        self.model = tf_keras.Sequential([tf_keras.Input((16, 16, 3))])
        for n, features in enumerate(FEATURES.values(), 1):
            self.model.add(layers.Conv2D(features, 3, padding="same", use_bias=False, name=f"conv{n}"))
            self.model.add(layers.BatchNormalization(name=f"bn{n}"))
            self.model.add(layers.ReLU())
            self.model.add(layers.AveragePooling2D(2))
        self.model.add(layers.GlobalAveragePooling2D())
        self.model.add(layers.Dense(4, name="dense"))

    def fit(self, batches):
        """Train on pairs of images and labels, a step each."""
        loss = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        optimizer = tf_keras.optimizers.Adam(0.01)
        for x, labels in batches:
            with tf.GradientTape() as tape:
                value = loss(labels, self.model(x, training=True))
            variables = self.model.trainable_variables
            optimizer.apply_gradients(zip(tape.gradient(value, variables), variables, strict=True))

    def arrays(self):
        """Return every weight: `bn1/moving_variance`."""
        return {v.name.split(":")[0]: v.numpy() for v in self.model.weights}

    def step(self, x):
        """Return the logits; the moving statistics move."""
        return self.model(x, training=True).numpy()

    def infer(self, x):
        """Return the logits by the moving statistics."""
        return self.model(x, training=False).numpy()


class Torch(torch.nn.Module):
    """torch: channels second, kernels (out, in, height, width). `seen` are the last inputs of bn1 and bn2."""

    def __init__(self, eps, momentum):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(3, FEATURES["conv1"], 3, padding=1, bias=False)
        self.conv2 = torch.nn.Conv2d(FEATURES["conv1"], FEATURES["conv2"], 3, padding=1, bias=False)
        self.bn1, self.bn2 = (torch.nn.BatchNorm2d(f, eps=eps, momentum=momentum) for f in FEATURES.values())
        self.dense = torch.nn.Linear(FEATURES["conv2"], 4)
        self.seen = {}

    def forward(self, x):
        """Return the logits of images with channels second."""
        for n in (1, 2):
            self.seen[f"bn{n}"] = x = getattr(self, f"conv{n}")(x)
            x = torch.nn.functional.avg_pool2d(torch.relu(getattr(self, f"bn{n}")(x)), 2)
        return self.dense(x.mean((2, 3)))

    def load(self, arrays):
        """Take a state_dict as arrays."""
        self.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in arrays.items()})

    def arrays(self):
        """Return the state_dict: `bn1.running_var`."""
        return {name: tensor.numpy().copy() for name, tensor in self.state_dict().items()}

    @torch.no_grad()
    def called(self, x):
        """Return the logits of images with channels last."""
        return self(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).numpy()

    def step(self, x):
        """Return the logits; the running statistics move."""
        self.train()
        return self.called(x)

    def infer(self, x):
        """Return the logits by the running statistics."""
        self.eval()
        return self.called(x)


class _Flax(nn.Module):
    epsilon: float
    momentum: float

    @nn.compact
    def __call__(self, x, training):
        for n, features in enumerate(FEATURES.values(), 1):
            x = nn.Conv(features, (3, 3), use_bias=False, name=f"conv{n}")(x)
            norm = nn.BatchNorm(not training, epsilon=self.epsilon, momentum=self.momentum, name=f"bn{n}")
            x = nn.avg_pool(nn.relu(norm(x)), (2, 2), (2, 2))
        return nn.Dense(4, name="dense")(x.mean((1, 2)))


class Flax:
    """flax.linen: channels last, kernels (height, width, in, out)."""

    def __init__(self, epsilon, momentum):
        self.module, self.variables = _Flax(epsilon, momentum), {}
        self.call = jax.jit(
            lambda variables, x: self.module.apply(variables, x, True, mutable=["batch_stats"]),
        )

    def load(self, arrays):
        """Take arrays called `params/bn1/scale` and `batch_stats/bn1/mean`."""
        self.variables = {}
        for name, array in arrays.items():
            collection, layer, leaf = name.split("/")
            self.variables.setdefault(collection, {}).setdefault(layer, {})[leaf] = array

    def arrays(self):
        """Return the variables."""
        flat = jax.tree_util.tree_flatten_with_path(self.variables)[0]
        return {"/".join(key.key for key in path): np.array(leaf) for path, leaf in flat}

    def step(self, x):
        """Return the logits; the moving statistics move."""
        y, changed = self.call(self.variables, x)
        self.variables = dict(self.variables, **changed)
        return np.array(y)

    def infer(self, x):
        """Return the logits by the moving statistics."""
        return np.array(self.module.apply(self.variables, x, False))
