"""Muon for square matrices, AdamW for all else, and averaged weights beside them."""

from typing import Any

import tensorflow as tf
from tensorflow import keras

from embbert_tf.pretraining import averages

_MOMENTUM = 0.95
# Of the quintic iteration that drives singular values to around 1 (Jordan and others 2024).
_A, _B, _C = 3.4445, -4.7750, 2.0315
_ITERATIONS = 5


@keras.utils.register_keras_serializable(package="embbert_tf")
class Muon(averages.AveragedAdamW):
    """Muon (Jordan and others 2024, kellerjordan.github.io/posts/muon) over AdamW.

    The step of a square matrix is its momentum with all singular values set to about 1, times the
    rate: every direction moves equally far. All other weights take AdamW's step.

    Example:
    ```python
    import numpy as np
    from tensorflow import keras
    from embbert_tf.pretraining.muon import Muon

    model = keras.Sequential([keras.layers.Dense(4, input_shape=(4,))])
    model.compile(Muon(1e-3, muon_ratio=10.0), loss="mse")
    model.fit(np.ones([8, 4]), np.ones([8, 4]), verbose=0)
    ```

    Args:
        *args: Of `keras.optimizers.AdamW`.
        muon_ratio: Rate of square matrices as a multiple of AdamW's; 0 leaves them to AdamW.
        **kwargs: Of `keras.optimizers.AdamW`; `ema` of `averages.AveragedAdamW`.
    """

    def __init__(self, *args: Any, muon_ratio: float = 0.0, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.muon_ratio = muon_ratio

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable) -> None:
        """Changes a variable by its gradient."""
        shape = variable.shape
        if not self.muon_ratio or len(shape) != 2 or shape[0] != shape[1]:
            super().update_step(gradient, variable)
            return
        momentum = self._momentums[self._index_dict[self._var_key(variable)]]
        momentum.assign(_MOMENTUM * momentum + gradient)
        direction = orthogonalized(gradient + _MOMENTUM * momentum)
        rate = tf.cast(self.learning_rate, variable.dtype) * self.muon_ratio
        variable.assign_sub(rate * direction)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "muon_ratio": self.muon_ratio}


def orthogonalized(matrix: tf.Tensor) -> tf.Tensor:
    """Returns a square matrix with its singular values brought to about 1, float32 (n, n).

    Five steps of X <- aX + (bXXᵀ + c(XXᵀ)²)X, after division by the Frobenius norm; the values end
    between 0.7 and 1.2, but for those that were below a thousandth of the norm.
    """
    x = matrix / (tf.norm(matrix) + 1e-7)
    for _ in range(_ITERATIONS):
        square = tf.matmul(x, x, transpose_b=True)
        x = _A * x + tf.matmul(_B * square + _C * tf.matmul(square, square), x)
    return x
