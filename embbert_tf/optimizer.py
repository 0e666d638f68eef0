"""AdamW with averaged weights and a learning rate of its own for each weight."""

import tensorflow as tf
from tensorflow import keras


@keras.utils.register_keras_serializable(package="embbert_tf")
class AdamW(keras.optimizers.AdamW):
    """AdamW (Loshchilov and Hutter, arXiv 1711.05101) with two options.

    Example:
    ```python
    optimizer = AdamW(1e-3, weight_decay=0.05, ema=0.999)
    optimizer.set_scales(layer_scales(model, 0.9))
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

    def __init__(self, *args, ema=0.0, **kwargs):
        super().__init__(*args, use_ema=ema > 0, ema_momentum=ema, **kwargs)
        self._scales = {}
        self._scale = 1.0

    def set_scales(self, scales) -> None:
        """Multiplies the learning rate of some weights; call it before training.

        Args:
            scales: Pairs (variable, factor); the other variables keep 1.
        """
        self._scales = {variable.ref(): factor for variable, factor in scales}

    @property
    def learning_rate(self):
        """The rate of the schedule, times the factor of the weight that is being updated."""
        return keras.optimizers.AdamW.learning_rate.fget(self) * self._scale

    @learning_rate.setter
    def learning_rate(self, value):
        keras.optimizers.AdamW.learning_rate.fset(self, value)

    def update_step(self, gradient, variable):
        """Updates one weight at its own rate."""
        with self._at(variable):
            super().update_step(gradient, variable)

    def _apply_weight_decay(self, variables):
        for variable in variables:
            with self._at(variable):
                super()._apply_weight_decay([variable])

    def _at(self, variable):
        return _Attribute(self, "_scale", self._scales.get(variable.ref(), 1.0))

    def _update_model_variables_moving_average(self, var_list):
        step = tf.cast(self.iterations, tf.float32)
        momentum = tf.minimum(self.ema_momentum, (1.0 + step) / (10.0 + step))
        with _Attribute(self, "ema_momentum", momentum):
            super()._update_model_variables_moving_average(var_list)

    def finalize_variable_values(self, var_list):
        """Leaves the weights alone: `fit` ends after each epoch, and training goes on from them."""

    def get_config(self):
        """Returns the constructor's arguments, without the factors of `set_scales`."""
        config = super().get_config()
        return {**config, "ema": config.pop("ema_momentum") if config.pop("use_ema") else 0.0}

    def averaged(self, variables):
        """Returns a context in which the variables hold their averages, if there are any."""
        return _Averaged(self, variables)


class _Attribute:
    """Sets an attribute of an object for the time of a block."""

    def __init__(self, owner, name, value):
        self._owner, self._name, self._value = owner, name, value

    def __enter__(self):
        self._old = getattr(self._owner, self._name)
        setattr(self._owner, self._name, self._value)

    def __exit__(self, *details):
        setattr(self._owner, self._name, self._old)


class _Averaged:
    def __init__(self, optimizer, variables):
        self._optimizer, self._variables = optimizer, variables

    def __enter__(self):
        self._old = [variable.numpy() for variable in self._variables]
        if self._optimizer.use_ema:
            self._optimizer._overwrite_model_variables_with_average_value(self._variables)

    def __exit__(self, *details):
        for variable, value in zip(self._variables, self._old, strict=True):
            variable.assign(value)


def layer_scales(model, decay: float) -> list:
    """Returns (variable, factor) pairs for learning rates that fall towards the input.

    As in ELECTRA (Clark et al., arXiv 2003.10555): the head learns at the full rate, each layer
    below it at `decay` times that of the layer above.

    Args:
        model: An `EmbBertClassifier` of N blocks.
        decay: d; the last block gets d, the first d^N, the embedder d^(N+1).
    """
    layers = [model.head, *reversed(model.backbone.blocks), model.backbone.embedder]
    return [
        (variable, decay**depth)
        for depth, layer in enumerate(layers)
        for variable in layer.trainable_variables
    ]
