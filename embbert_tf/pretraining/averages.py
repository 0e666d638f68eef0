"""Averaged weights beside an optimizer's own."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow as tf
from tensorflow import keras


class AveragedAdamW(keras.optimizers.AdamW):
    """Keras's AdamW with an exponential moving average that soon forgets the first weights.

    Step t averages with min(ema, (1 + t) / (10 + t)), as TensorFlow's ExponentialMovingAverage with
    `num_updates`.

    Args:
        *args: Of `keras.optimizers.AdamW`.
        ema: Decay of the average, 0 for none.
        **kwargs: Of `keras.optimizers.AdamW`.
    """

    def __init__(self, *args: Any, ema: float = 0.0, **kwargs: Any):
        super().__init__(*args, use_ema=ema > 0, ema_momentum=ema, **kwargs)

    def _update_model_variables_moving_average(self, var_list):
        if not self.use_ema:
            return
        step = tf.cast(self.iterations, tf.float32)
        kept = tf.minimum(self.ema_momentum, (1.0 + step) / (10.0 + step))
        for variable in var_list:
            index = self._index_dict[self._var_key(variable)]
            average = self._model_variables_moving_average[index]
            average.assign_add((variable - average) * (1.0 - kept))

    def finalize_variable_values(self, var_list: Sequence[tf.Variable]) -> None:
        """Leaves the weights alone: `fit` ends after each epoch, and training goes on from them."""

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        config = super().get_config()
        momentum, averages = config.pop("ema_momentum"), config.pop("use_ema")
        return {**config, "ema": momentum if averages else 0.0}

    @contextlib.contextmanager
    def averaged(self, variables: Sequence[tf.Variable]) -> Iterator[None]:
        """Lets the variables hold their averages, if there are any, for the time of a block.

        Args:
            variables: Those that the optimizer trains, in the order of `build`.
        """
        own = [variable.numpy() for variable in variables]
        if self.use_ema:
            self._overwrite_model_variables_with_average_value(variables)
        try:
            yield
        finally:
            for variable, value in zip(variables, own, strict=True):
                variable.assign(value)
