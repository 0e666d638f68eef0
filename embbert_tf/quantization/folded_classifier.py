"""The folded classifier in TensorFlow, with a hook wherever a device changes a number."""

import tensorflow as tf
from tensorflow import keras

from embbert_tf.model import attention as attention_lib
from embbert_tf.model import convolution as convolution_lib
from embbert_tf.model import rms_norm, special_tokens
from embbert_tf.model.linear import linear
from embbert_tf.quantization import folding


def visible_scores(scores: tf.Tensor, mask: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns scores whose padding keys, then what softmax cannot show, widen no range.

    Args:
        scores: float32 (batch, n or 1, n).
        mask: float32 (batch, n), 1 at tokens and 0 at padding.

    Returns:
        The scores, 0 at padding keys; and what hides those from a softmax when it is added.
    """
    hidden = attention_lib.MASKED * (1.0 - mask)[:, tf.newaxis]
    peak = tf.reduce_max(scores + hidden, axis=-1, keepdims=True)
    scores = tf.maximum(scores, tf.stop_gradient(peak) - folding.SCORE_DEPTH)
    return scores * mask[:, tf.newaxis], hidden


def least_mean(mean: tf.Tensor, epsilon: float) -> tf.Tensor:
    """Returns the least mean above 0, a scalar, which takes the place of 0 in training.

    A row of small values can round to a mean of 0. The device gives it the largest reciprocal root
    there is; in training it must not become the largest, which a range would grow to hold.
    """
    least = tf.reduce_min(tf.where(mean > 0, mean, mean.dtype.max))
    return tf.stop_gradient(tf.maximum(least, epsilon))


class FoldedClassifier(keras.Model):
    """Computes the logits of `self.classifier` as `folding.forward` does, with gradients.

    The weights stay those of the classifier: they are folded anew in every step. A subclass says
    what becomes of each activation, weight and share on its way; where it changes none the logits
    are those of the classifier without dropout, its softmax cut off at `folding.SCORE_DEPTH`.

    Shapes below: batch, n tokens, D hidden channels, E·D channels of the convolution, L logits.
    The last block computes row 0 alone, so its activations have one row instead of n.

    Attributes:
        classifier: An `EmbBertClassifier`; a subclass sets it.
        config: Its `EmbBertConfig`; likewise.
    """

    def _activation(self, name, x, training):
        """What becomes of an activation of `folding.activation_names`; `x`'s shape."""
        del name, training
        return x

    def _weight(self, name, w):
        """What becomes of a folded weight; `w`'s shape."""
        del name
        return w

    def _table_scale(self, name, table):
        """Scale of an embedding table's int8 columns, (R,); it goes into the expansion's rows."""
        del name
        return tf.maximum(tf.reduce_max(tf.abs(table), axis=0), 1e-9) / 127.0

    def _share(self, x):
        """What becomes of softmax weights and sigmoids, which lie between 0 and 1."""
        return x

    def folded_logits(self, ids: tf.Tensor, training: bool | None) -> tf.Tensor:
        """Computes the logits.

        Args:
            ids: int32 (batch, n), `[PAD]` = 0 at the end.
            training: As in Keras.

        Returns:
            float32 (batch, L).
        """
        ids = tf.cast(ids, tf.int32)
        mask = tf.cast(ids != special_tokens.PAD, tf.float32)
        x = self._embed(ids, mask, training)
        blocks = self.classifier.backbone.blocks
        for layer, block in enumerate(blocks):
            x = self._block(layer, block, x, mask, layer == len(blocks) - 1, training)
        head = self.classifier.head
        logits = x[:, 0] @ self._weight("head", head.kernel) + head.bias
        return self._activation("logits", logits, training)

    def _embed(self, ids, mask, training):
        """Returns x0 (batch, n, D) of ids (batch, n); mask is 1 at tokens, 0 at padding."""
        embedder = self.classifier.backbone.embedder
        n = tf.shape(ids)[1]
        # Table scales go into the rows of the expansion, so both tables count in plain int8.
        tables, rows = [], []
        for name, expander in (
            ("token", embedder.token_expander),
            ("position", embedder.position_expander),
        ):
            table = getattr(embedder, name)
            scale = tf.stop_gradient(self._table_scale(name, table))
            tables.append(self._weight(name, table) / scale)
            rows.append(scale[:, tf.newaxis] * expander)
        weight = self._weight("embed", tf.concat(rows, axis=0))
        reduced = self.config.reduced_size
        x = linear(tf.gather(tables[0], ids), weight[:reduced])
        x += tables[1][:n] @ weight[reduced:]
        separators = tf.cumsum(tf.cast(ids == special_tokens.SEP, tf.int32), axis=1)
        x += tf.gather(embedder.segment, tf.where(separators > 0, 2, 1))
        return self._activation("x0", x * mask[:, :, tf.newaxis], training)

    def _block(self, layer, block, x, mask, last, training):
        """Returns (batch, n or 1, D): one block of x (batch, n, D)."""
        real = mask[:, :, tf.newaxis]
        rows = 1.0 if last else real  # Row 0, which is all that the last block has, is [CLS].

        def activation(name, value, rows=rows):
            return self._activation(f"{name}{layer}", value * rows, training)

        xhat = self._normalized(x, real, activation, training)
        attended = self._attended(layer, block, xhat, mask, last, training, activation)
        s = self._gated(layer, block, xhat, last, activation)
        attention, convolution = block.attention, block.convolution
        beta = block.convolution_factor()
        wz = self._weight(f"wz{layer}", -beta * convolution.contract_kernel)
        bias = block.attention_factor() * attention.output_bias - beta * convolution.contract_bias
        z = activation("z", linear(s, wz) + bias)
        return self._activation(f"x{layer + 1}", (attended + z) * rows, training)

    def _normalized(self, x, real, activation, training):
        """Returns x / rms(x), (batch, n, D)."""
        square = activation("sq", x * x, real)
        mean = activation("ms", tf.reduce_mean(square, axis=-1, keepdims=True), real)
        least = least_mean(mean, rms_norm.EPSILON) if training else rms_norm.EPSILON
        inverse = activation("r", tf.math.rsqrt(tf.maximum(mean, least)), real)
        return activation("xhat", x * inverse, real)

    def _attended(self, layer, block, xhat, mask, last, training, activation):
        """Returns softmax(scores)·x̂·W_v, (batch, n or 1, D)."""
        gain, attention = block.norm.gain, block.attention
        key = gain * float(self.config.hidden_size) ** -0.5
        wq = self._weight(f"wq{layer}", gain[:, tf.newaxis] * attention.query_kernel * key)
        wv = self._weight(
            f"wv{layer}",
            block.attention_factor() * gain[:, tf.newaxis] * attention.output_kernel,
        )
        queries = linear(xhat[:, :1] if last else xhat, wq) + attention.query_bias * key
        queries = activation("q", queries)
        scores = tf.matmul(queries, xhat, transpose_b=True)  # (batch, n or 1, n)
        scores, hidden = visible_scores(scores, mask)
        if not last:
            scores *= mask[:, :, tf.newaxis]
        scores = self._activation(f"scores{layer}", scores, training)
        weights = self._share(tf.nn.softmax(scores + hidden))
        if last:
            # (A·x̂)·W_v is less work than A·(x̂·W_v) where A has a single row.
            context = activation("c", weights @ xhat)
            return activation("a", linear(context, wv))
        values = activation("v", linear(xhat, wv))
        return activation("a", weights @ values)

    def _gated(self, layer, block, xhat, last, activation):
        """Returns SiLU(convolution of x̂), (batch, n or 1, E·D)."""
        convolution = block.convolution
        kernel = convolution.conv_kernel * block.norm.gain[:, tf.newaxis]
        shape = (self.config.kernel_size, -1)
        source = xhat
        if last:
            # Row 0 sees the last tap alone, and conversion keeps that tap alone.
            kernel, source, shape = kernel[-1:], xhat[:, :1], (1, -1)
        flat = self._weight(f"conv{layer}", tf.reshape(kernel, shape))
        kernel = tf.reshape(flat, tf.shape(kernel))
        kernel.set_shape((shape[0], self.config.hidden_size, self.config.expansion))
        y = convolution_lib.causal_depthwise(source, kernel) + convolution.conv_bias
        y = activation("y", y)
        return activation("s", y * self._share(tf.sigmoid(y)))
