"""Muon for square matrices, AdamW for all else, and averaged weights beside them."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow as tf
from tensorflow import keras

_MOMENTUM = 0.95
# Of the quintic iteration that drives singular values to around 1 (Jordan and others 2024).
_A, _B, _C = 3.4445, -4.7750, 2.0315
_ITERATIONS = 5


@keras.utils.register_keras_serializable(package="embbert_tf")
class Muon(keras.optimizers.AdamW):
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
        ema: Decay of the weights' exponential moving average, 0 for none. Step t averages with
            min(ema, (1 + t) / (10 + t)), so that the first weights are soon forgotten.
        **kwargs: Of `keras.optimizers.AdamW`.
    """

    def __init__(self, *args: Any, muon_ratio: float = 0.0, ema: float = 0.0, **kwargs: Any):
        super().__init__(*args, use_ema=ema > 0, ema_momentum=ema, **kwargs)
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

    def _update_model_variables_moving_average(self, var_list):
        step = tf.cast(self.iterations, tf.float32)
        kept = tf.minimum(self.ema_momentum, (1.0 + step) / (10.0 + step))
        for variable in var_list:
            average = self._model_variables_moving_average[
                self._index_dict[self._var_key(variable)]
            ]
            average.assign_add((variable - average) * (1.0 - kept))

    def finalize_variable_values(self, var_list: Sequence[tf.Variable]) -> None:
        """Leaves the weights alone, from which training goes on."""

    @contextlib.contextmanager
    def averaged(self, variables: Sequence[tf.Variable]) -> Iterator[None]:
        """Lets the variables hold their averages, if there are any, for the time of a block."""
        own = [variable.numpy() for variable in variables]
        if self.use_ema:
            self._overwrite_model_variables_with_average_value(variables)
        try:
            yield
        finally:
            for variable, value in zip(variables, own, strict=True):
                variable.assign(value)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        config = super().get_config()
        momentum, averages = config.pop("ema_momentum"), config.pop("use_ema")
        return {**config, "muon_ratio": self.muon_ratio, "ema": momentum if averages else 0.0}


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
