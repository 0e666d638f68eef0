"""The selective scan of MAMBA, and its gradient."""

import tensorflow as tf


def selective_scan(
    u: tf.Tensor, steps: tf.Tensor, state_in: tf.Tensor, state_out: tf.Tensor, decay: tf.Tensor
) -> tf.Tensor:
    """Returns `y_t = h_t·C_t` of `h_t = exp(Δ_t·A)·h_{t-1} + Δ_t·u_t·B_t`, `h_0 = 0`.

    Gu and Dao, "Mamba" (arXiv 2312.00752), algorithm 2, with `Δ = softplus(steps)`.

    Args:
        u: float32 (batch, n, ED).
        steps: float32 (batch, n, ED), before softplus.
        state_in: B, float32 (batch, n, N).
        state_out: C, float32 (batch, n, N).
        decay: A, float32 (ED, N), below 0.

    Returns:
        float32 (batch, n, ED).
    """
    delta = tf.nn.softplus(steps)
    # Time first; and channels last, so that what is spread and summed are long rows.
    rows = [tf.transpose(x, [1, 0, 2]) for x in (delta, delta * u)]
    columns = [tf.transpose(x, [1, 2, 0])[..., tf.newaxis] for x in (state_in, state_out)]
    y = _scan(*rows, *columns, tf.transpose(decay)[:, tf.newaxis])
    return tf.ensure_shape(tf.transpose(y, [1, 0, 2]), u.shape)


@tf.custom_gradient
def _scan(delta, x, state_in, state_out, decay):
    """Returns (n, batch, ED) of Δ and Δ·u alike, B and C (n, N, batch, 1), and A (N, 1, ED).

    TensorFlow's own gradient of the loop keeps all that each step has computed; from the states
    alone the rest is computed anew in less time.
    """
    count = tf.shape(x)[0]
    start = tf.zeros_like(x[0] * decay)  # (N, batch, ED), as every state

    def forward(t, state, states, results):
        state = tf.exp(delta[t] * decay) * state + x[t] * state_in[t]
        result = tf.reduce_sum(state * state_out[t], axis=0)
        return t + 1, state, states.write(t, state), results.write(t, result)

    arrays = [_array(count, start.shape), _array(count, x.shape[1:])]
    _, _, states, results = _loop(
        lambda t, *_: t < count, forward, [tf.constant(0), start, *arrays]
    )
    states = states.stack()

    def gradient(upstream):
        def backward(t, later, of_decay, of_delta, of_x, of_in, of_out):
            # What reaches h_t comes from y_t and from h_{t+1}.
            of_state = upstream[t] * state_out[t] + later
            of_out = of_out.write(t, tf.reduce_sum(upstream[t] * states[t], 2, keepdims=True))
            of_x = of_x.write(t, tf.reduce_sum(of_state * state_in[t], axis=0))
            of_in = of_in.write(t, tf.reduce_sum(of_state * x[t], axis=2, keepdims=True))
            later = of_state * tf.exp(delta[t] * decay)
            before = states[tf.maximum(t - 1, 0)] * tf.cast(t > 0, x.dtype)
            of_exponent = later * before
            of_delta = of_delta.write(t, tf.reduce_sum(of_exponent * decay, axis=0))
            of_decay += of_exponent * delta[t]
            return t - 1, later, of_decay, of_delta, of_x, of_in, of_out

        arrays = [_array(count, v.shape[1:]) for v in (delta, x, state_in, state_out)]
        _, _, of_decay, *others = _loop(
            lambda t, *_: t >= 0, backward, [count - 1, start, start, *arrays]
        )
        of_decay = tf.reduce_sum(of_decay, axis=1, keepdims=True)
        return *(array.stack() for array in others), of_decay

    return results.stack(), gradient


def _array(count, shape):
    return tf.TensorArray(tf.float32, size=count, element_shape=shape)


def _loop(condition, body, values):
    """Runs a loop; TensorFlow cannot tell by itself that shapes of unknown size do not change."""
    shapes = [
        tf.TensorShape(None) if isinstance(value, tf.TensorArray) else value.shape
        for value in values
    ]
    return tf.while_loop(condition, body, values, shape_invariants=shapes)
