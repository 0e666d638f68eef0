"""AdamW whose averaged weights can be measured and kept while training goes on from the others."""

import contextlib
from collections.abc import Iterator, Sequence

import tensorflow as tf
from tensorflow import keras


@keras.utils.register_keras_serializable(package="embbert_tf")
class AdamW(keras.optimizers.AdamW):
    """AdamW (Loshchilov and Hutter, arXiv 1711.05101) with averaged weights beside its own.

    Example:
    ```python
    optimizer = AdamW(1e-3, weight_decay=0.05, ema=0.999)
    model.compile(optimizer, loss=...)
    model.fit(...)
    with optimizer.averaged(model.trainable_variables):
        model.predict(...)  # of the averaged weights; the others come back afterwards
    ```

    Args:
        *args: Of `keras.optimizers.AdamW`.
        ema: Decay of the weights' exponential moving average, 0 for none. Step t averages with
            min(ema, (1 + t) / (10 + t)): the first, untrained weights are soon forgotten.
        **kwargs: Of `keras.optimizers.AdamW`.
    """

    def __init__(self, *args, ema: float = 0.0, **kwargs):
        super().__init__(*args, use_ema=ema > 0, ema_momentum=ema, **kwargs)

    def _update_model_variables_moving_average(self, var_list):
        step = tf.cast(self.iterations, tf.float32)
        momentum = self.ema_momentum
        self.ema_momentum = tf.minimum(momentum, (1.0 + step) / (10.0 + step))
        try:
            super()._update_model_variables_moving_average(var_list)
        finally:
            self.ema_momentum = momentum

    def finalize_variable_values(self, var_list):
        """Leaves the weights alone: `fit` ends after each epoch, and training goes on from them."""

    def get_config(self) -> dict:
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
