"""A layer of MAMBA."""

from typing import Any

import tensorflow as tf
from tensorflow import keras

from embbert_tf.baselines import initializers, norm
from embbert_tf.baselines.ops import TensorOps


@keras.utils.register_keras_serializable(package="embbert_tf")
class MambaLayer(keras.layers.Layer):
    """`x <- x + mixer(RMSNorm(x))` (Gu and Dao, arXiv 2312.00752, section 3.4).

    Padding enters the recurrence, but only after the text, which it cannot change.

    Args:
        size: D.
        inner_size: ED, channels of the recurrence.
        kernel_size: K, taps of the convolution.
        state_size: N, numbers that each channel remembers.
        step_rank: r, rank of the step size's projection.
        **kwargs: Of `keras.layers.Layer`.
    """

    def __init__(
        self,
        size: int,
        inner_size: int,
        kernel_size: int,
        state_size: int,
        step_rank: int,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.size, self.inner_size, self.kernel_size = size, inner_size, kernel_size
        self.state_size, self.step_rank = state_size, step_rank
        uniform = initializers.UniformByInputs

        def weight(name: str, shape: tuple[int, ...], initializer: Any) -> tf.Variable:
            return self.add_weight(name=name, shape=shape, initializer=initializer)

        self.gain = weight("gain", (size,), "ones")
        self.in_kernel = weight("in_kernel", (size, 2 * inner_size), uniform(size))
        self.conv_kernel = weight("conv_kernel", (kernel_size, inner_size), uniform(kernel_size))
        self.conv_bias = weight("conv_bias", (inner_size,), uniform(kernel_size))
        width = step_rank + 2 * state_size
        self.x_kernel = weight("x_kernel", (inner_size, width), uniform(inner_size))
        self.step_kernel = weight("step_kernel", (step_rank, inner_size), uniform(step_rank))
        self.step_bias = weight("step_bias", (inner_size,), initializers.step_bias)
        # Named so that no weight decay shrinks them, as in the published training.
        self.log_decay = weight("log_decay_bias", (inner_size, state_size), initializers.log_decay)
        self.skip = weight("skip_gain", (inner_size,), "ones")
        self.out_kernel = weight("out_kernel", (inner_size, size), uniform(inner_size))

    def run(self, ops: TensorOps, index: int, x: tf.Tensor) -> tf.Tensor:
        """Returns the activation `x<index + 1>`, (batch, n, D), of `x`, the same shape."""
        xhat = norm.normalized(ops, index, x, centred=False)
        kernel = ops.read(self.gain)[:, None] * ops.read(self.in_kernel)
        inner, states = self.inner_size, self.state_size
        u = ops.dense(f"in{index}", xhat, kernel[:, :inner], None)
        u = ops.convolution(f"y{index}", u, ops.read(self.conv_kernel), ops.read(self.conv_bias))
        u = ops.silu(f"u{index}", u)

        x_kernel, rank = ops.read(self.x_kernel), self.step_rank
        low = ops.dense(f"low{index}", u, x_kernel[:, :rank], None)
        steps = ops.dense(f"step{index}", low, ops.read(self.step_kernel), ops.read(self.step_bias))
        state_in = ops.dense(f"b{index}", u, x_kernel[:, rank : rank + states], None)
        state_out = ops.dense(f"c{index}", u, x_kernel[:, rank + states :], None)
        decay, skip = ops.read(self.log_decay), ops.read(self.skip)
        y = ops.scan(f"scan{index}", u, steps, state_in, state_out, decay, skip)

        gate = ops.silu(f"gate{index}", ops.dense(f"z{index}", xhat, kernel[:, inner:], None))
        gated = ops.multiply(f"gated{index}", y, gate)
        out = ops.dense(f"out{index}", gated, ops.read(self.out_kernel), None)
        return ops.add(f"x{index + 1}", x, ops.drop(out))

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "size": self.size,
            "inner_size": self.inner_size,
            "kernel_size": self.kernel_size,
            "state_size": self.state_size,
            "step_rank": self.step_rank,
        }
