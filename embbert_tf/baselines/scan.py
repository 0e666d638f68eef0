"""The selective scan of MAMBA, as a linear recurrence."""

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
    kept = tf.exp(delta[..., tf.newaxis] * decay)
    added = (delta * u)[..., tf.newaxis] * state_in[:, :, tf.newaxis]
    states = linear_recurrence(kept, added)
    return tf.reduce_sum(states * state_out[:, :, tf.newaxis], axis=-1)


def linear_recurrence(kept: tf.Tensor, added: tf.Tensor) -> tf.Tensor:
    """Returns `h_t = kept_t·h_{t-1} + added_t` along axis 1, `h_0 = 0`.

    Args:
        kept: float32 (batch, n, ...).
        added: The same shape.
    """
    order = [1, 0, *range(2, len(kept.shape))]
    states = _recurrence(tf.transpose(kept, order), tf.transpose(added, order))
    return tf.ensure_shape(tf.transpose(states, order), added.shape)


@tf.custom_gradient
def _recurrence(kept, added):
    """Along axis 0. TensorFlow's own gradient of a loop keeps what each step has computed."""
    states = _loop(kept, added)

    def gradient(upstream):
        # What reaches h_t comes from y_t and, through kept_{t+1}, from h_{t+1}.
        later = tf.concat([kept[1:], tf.zeros_like(kept[:1])], axis=0)
        of_states = tf.reverse(_loop(tf.reverse(later, [0]), tf.reverse(upstream, [0])), [0])
        before = tf.concat([tf.zeros_like(states[:1]), states[:-1]], axis=0)
        return of_states * before, of_states

    return states, gradient


def _loop(kept, added):
    count = tf.shape(kept)[0]
    results = tf.TensorArray(added.dtype, size=count, element_shape=added.shape[1:])

    def step(t, state, results):
        state = kept[t] * state + added[t]
        return t + 1, state, results.write(t, state)

    state = tf.zeros_like(added[0])
    _, _, results = tf.while_loop(
        lambda t, *_: t < count,
        step,
        [tf.constant(0), state, results],
        shape_invariants=[tf.TensorShape([]), added.shape[1:], tf.TensorShape(None)],
    )
    return results.stack()
