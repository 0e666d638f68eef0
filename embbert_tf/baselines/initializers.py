"""PyTorch's default initial weights, from which the published models started."""

import math
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow import keras


@keras.utils.register_keras_serializable(package="embbert_tf")
class UniformByInputs(keras.initializers.Initializer):
    """Uniform within 1/sqrt(inputs), as of `torch.nn.Linear` and `torch.nn.Conv1d`.

    Args:
        inputs: How many numbers a result is the sum of; of other bounds, what gives them.
    """

    def __init__(self, inputs: float):
        self.inputs = inputs

    def __call__(self, shape: Any, dtype: Any = None, **kwargs: Any) -> tf.Tensor:
        """Returns values of a shape."""
        del kwargs
        bound = self.inputs**-0.5
        return tf.random.uniform(shape, -bound, bound, dtype=dtype or tf.float32)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {"inputs": self.inputs}


def table(shape: Any, dtype: Any = None) -> tf.Tensor:
    """Returns normal values, as of `torch.nn.Embedding`."""
    return tf.random.normal(shape, dtype=dtype or tf.float32)


def padded_table(shape: Any, dtype: Any = None) -> tf.Tensor:
    """Returns a `table` whose row 0, which belongs to padding, is 0."""
    values = table(shape, dtype)
    return tf.concat([tf.zeros_like(values[:1]), values[1:]], axis=0)


def step_bias(shape: Any, dtype: Any = None) -> tf.Tensor:
    """Returns the bias of MAMBA's step sizes: its softplus is 0.001 to 0.1, even in logarithm."""
    steps = tf.exp(tf.random.uniform(shape, math.log(0.001), math.log(0.1)))
    steps = tf.maximum(steps, 1e-4)
    return tf.cast(steps + tf.math.log(-tf.math.expm1(-steps)), dtype or tf.float32)


def log_decay(shape: Any, dtype: Any = None) -> tf.Tensor:
    """Returns MAMBA's A_log (ED, N): the logarithms of 1 ... N in each row."""
    row = np.log(np.arange(1, shape[1] + 1))
    return tf.cast(np.broadcast_to(row, shape), dtype or tf.float32)
