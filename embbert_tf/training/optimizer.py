"""AdamW whose averaged weights can be measured and kept while training goes on from the others."""

from collections.abc import Iterable, Sequence
from typing import Any

import tensorflow as tf
from tensorflow import keras

from embbert_tf.pretraining import averages


@keras.utils.register_keras_serializable(package="embbert_tf")
class AdamW(averages.AveragedAdamW):
    """AdamW (Loshchilov and Hutter, arXiv 1711.05101) with averaged weights beside its own.

    It computes what `keras.optimizers.AdamW` computes, on one device, in a third of the
    operations: a small model's step is mostly the overhead of starting them.

    Example:
    ```python
    import numpy as np

    model = keras.Sequential([keras.layers.Dense(1)])
    optimizer = AdamW(1e-3, weight_decay=0.05, ema=0.999)
    model.compile(optimizer, loss="mse")
    model.fit(np.ones([8, 2]), np.ones([8, 1]), verbose=0)
    with optimizer.averaged(model.trainable_variables):
        model.predict(np.ones([8, 2]), verbose=0)  # Of the averages; the weights come back.
    ```

    Args:
        *args: Of `keras.optimizers.AdamW`.
        **kwargs: Of `keras.optimizers.AdamW`; without `amsgrad`, and of the ways to clip
            `clipnorm` alone.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        if self.amsgrad or self.clipvalue is not None or self.global_clipnorm is not None:
            raise ValueError("this AdamW has neither amsgrad, clipvalue nor global_clipnorm")

    def apply_gradients(
        self,
        grads_and_vars: Iterable[tuple[tf.Tensor | tf.IndexedSlices | None, tf.Variable]],
        name: str | None = None,
        skip_gradients_aggregation: bool = False,
        **kwargs: Any,
    ) -> tf.Variable:
        """Takes one step.

        Args:
            grads_and_vars: Pairs of gradient and variable; those without a gradient stay.
            name: Not used, as nothing is created here but by `build`.
            skip_gradients_aggregation: Not used: there is one device.
            **kwargs: None.

        Returns:
            The number of steps taken, a variable.
        """
        del name, skip_gradients_aggregation
        if kwargs:
            raise TypeError(f"unknown arguments: {', '.join(kwargs)}")
        grads_and_vars = list(grads_and_vars)
        with tf.init_scope():
            self.build([variable for _, variable in grads_and_vars])
        grads_and_vars = [(g, v) for g, v in grads_and_vars if g is not None]
        self._compute_current_learning_rate()
        rate = tf.convert_to_tensor(self.learning_rate)
        step = tf.cast(self.iterations, tf.float32)
        powers = {
            "beta1_power": tf.pow(self.beta_1, step + 1.0),
            "beta2_power": tf.pow(self.beta_2, step + 1.0),
        }
        for (_, variable), gradient in zip(
            grads_and_vars, self._clipped(grads_and_vars), strict=True
        ):
            index = self._index_dict[self._var_key(variable)]
            if self.weight_decay and self._use_weight_decay(variable):
                variable.assign_sub(variable * (self.weight_decay * rate))
            tf.raw_ops.ResourceApplyAdam(
                var=variable.handle,
                m=self._momentums[index].handle,
                v=self._velocities[index].handle,
                **powers,
                lr=rate,
                beta1=self.beta_1,
                beta2=self.beta_2,
                epsilon=self.epsilon,
                grad=gradient,
            )
        self._update_model_variables_moving_average([variable for _, variable in grads_and_vars])
        return self.iterations.assign_add(1)

    def _clipped(self, grads_and_vars: Sequence[tuple]) -> list[tf.Tensor]:
        """Returns dense gradients, each of a norm of `clipnorm` at most."""
        gradients = [gradient for gradient, _ in grads_and_vars]
        # Rows of a table that were looked up twice count twice here, as in Keras.
        plain = [g.values if isinstance(g, tf.IndexedSlices) else g for g in gradients]
        dense = [tf.convert_to_tensor(gradient) for gradient in gradients]
        if self.clipnorm is None:
            return dense
        norms = tf.sqrt(2.0 * tf.stack([tf.nn.l2_loss(gradient) for gradient in plain]))
        factors = tf.unstack(self.clipnorm / tf.maximum(norms, self.clipnorm))
        return [gradient * factor for gradient, factor in zip(dense, factors, strict=True)]
