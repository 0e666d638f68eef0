"""Training with rounding noise: an fp32 model whose answers do not hang on how values are rounded.

A device rounds every activation to int8, and two that round differently (the portable graph, the
fused kernels) give a text that lies close to a border different labels. Noise of one int8 step is
too small to teach a network anything; several times as much is not, and what the network then
learns about large noise holds for small noise too.
"""

import tensorflow as tf

from embbert_tf import folded_classifier, folding

# Noise on scores would blur the depth at which padding lies, and on logits the answer itself.
_UNTOUCHED = ("scores", "logits")
# Several steps of x^2 could take the mean of a small row below 0, and its root to infinity.
_LEAST_MEAN = 0.3  # share of the true mean that is always left


class NoisyClassifier(folded_classifier.FoldedClassifier):
    """A classifier to train: each batch is computed twice, with two draws of noise.

    Every activation that becomes int8 gets uniform noise, `noise` int8 steps wide, where a step is
    what the batch's own extremes would give it. Both draws shall give the same answer ("R-Drop",
    Liang et al., arXiv 2106.14448): the loss gains `agreement` times the mean of both KL
    divergences between their probabilities, or of a regression their squared distance.

    The classifier's own dropout is not used: the noise takes its place.

    Example:
    ```python
    noisy = NoisyClassifier(model, noise=8.0, agreement=2.0)
    noisy.compile(optimizer="adam", loss=...)
    noisy.fit(dataset)  # trains `model`
    ```

    Args:
        classifier: An `EmbBertClassifier`; its weights are trained, in place.
        noise: Width of the noise in int8 steps; 1 is what rounding itself does.
        agreement: Weight of the term above.
        **kwargs: Of `keras.Model`.

    Call arguments:
        ids: int32 (batch, n), `[PAD]` = 0 at the end.

    Returns:
        float32 (batch, num_labels): in training the mean of both draws' logits, else the
        classifier's own.
    """

    def __init__(self, classifier, noise, agreement, **kwargs):
        super().__init__(**kwargs)
        self.classifier = classifier
        self.config = classifier.config
        self.noise = noise
        self.agreement = agreement
        self._mean_square = None  # of the layer that is being computed

    def call(self, ids, training=None):
        """Computes the logits."""
        if not training:
            return self.classifier(ids, training=False)
        # As one batch, so that both are rounded by the same extremes.
        one, other = tf.split(self.folded_logits(tf.concat([ids, ids], axis=0), True), 2)
        self.add_loss(self.agreement * disagreement(one, other))
        return (one + other) / 2.0

    def _activation(self, name, x, training):
        kind = folding.kind(name)
        if kind in _UNTOUCHED:
            return x
        if kind == "sq":
            self._mean_square = tf.reduce_mean(x, axis=-1, keepdims=True)
        # With their gradient: an outlier that makes all steps coarse learns to be smaller.
        low, high = tf.reduce_min(x), tf.reduce_max(x)
        span = 2.0 * tf.maximum(-low, high) if kind in folding.SYMMETRIC else high - low
        noisy = x + self.noise * span / 255.0 * tf.random.uniform(tf.shape(x), -0.5, 0.5)
        return tf.maximum(noisy, _LEAST_MEAN * self._mean_square) if kind == "ms" else noisy


def disagreement(one, other):
    """Returns how far two float32 (batch, L) sets of logits lie apart, a scalar.

    The mean of KL(p||q) and KL(q||p), or of one logit each, a regression's, the squared distance.
    """
    if one.shape[-1] == 1:
        return tf.reduce_mean(tf.square(one - other))
    p, q = (tf.nn.log_softmax(logits) for logits in (one, other))
    return 0.5 * tf.reduce_mean(tf.reduce_sum((tf.exp(p) - tf.exp(q)) * (p - q), axis=-1))
