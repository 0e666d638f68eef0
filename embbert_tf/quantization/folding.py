"""A trained model with every constant folded away, in NumPy: what conversion starts from.

With x̂ = x / rms(x) a block needs no gain, no λ, no 1/√D and no biases of its own on the values:

    W_q' = diag(g)·W_q·diag(g)/√D    b_q' = b_q·g/√D    scores = (x̂·W_q' + b_q')·x̂ᵀ
    W_v  = α·diag(g)·W_o             a = softmax(scores)·(x̂·W_v)
    conv'= g·conv                    s = SiLU(conv'(x̂) + b_conv)
    W_z  = -β·W_c                    b_z = -β·b_c + α·b_o            z = s·W_z + b_z
    x   <- a + z

`b_o` may move past the softmax because the weights of a row sum to 1.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from embbert_tf.model import rms_norm, special_tokens
from embbert_tf.model.config import EmbBertConfig

# Called with the name of an activation and its array.
Tap = Callable[[str, np.ndarray], None]

# A key whose score is this far below its query's largest weighs exp(-10) = 4.5e-5 of it, which
# int8's softmax weights (steps of 1/256) cannot show: what lies lower must not widen a range. The
# padding mask pushes scores to the bottom of the range, so the bottom must also lie that deep.
SCORE_DEPTH = 10.0

# The dense matrices of a `FoldedBlock`.
DENSE = ("wq", "wv", "wz")

# Of int8 with zero point 0; all others are asymmetric. The last two are
# of `embbert_tf.baselines`.
SYMMETRIC = ("xhat", "v", "k", "square")


@dataclasses.dataclass(frozen=True)
class FoldedBlock:
    """One block; every array float32, dense matrices as (in, out).

    Attributes:
        wq: (D, D) queries.
        bq: (D,).
        wv: (D, D) values.
        conv: (K, E·D) taps; output channel c·E+e comes from input channel c, and `conv[k]`
            multiplies row t-K+1+k.
        conv_bias: (E·D,).
        wz: (E·D, D) contraction, its sign turned.
        bz: (D,).
    """

    wq: np.ndarray
    bq: np.ndarray
    wv: np.ndarray
    conv: np.ndarray
    conv_bias: np.ndarray
    wz: np.ndarray
    bz: np.ndarray


@dataclasses.dataclass(frozen=True)
class FoldedModel:
    """A folded classifier; every array float32, dense matrices as (in, out).

    Attributes:
        config: The model's sizes.
        token: (V, R).
        position: (S, R).
        segment: (3, D); row 0 belongs to padding.
        w_token: (R, D).
        w_position: (R, D).
        blocks: N blocks.
        head_w: (D, L).
        head_b: (L,).
        scales: Of the weights that training has rounded, which are integers in -127..127 times
            these: "token" (R,); "embed" (D,), of the expansion's rows times their table's scale;
            "head" (L,); "wq0", "wv0", "wz0", ... (). Empty where conversion is to choose them.
    """

    config: EmbBertConfig
    token: np.ndarray
    position: np.ndarray
    segment: np.ndarray
    w_token: np.ndarray
    w_position: np.ndarray
    blocks: tuple[FoldedBlock, ...]
    head_w: np.ndarray
    head_b: np.ndarray
    scales: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def table_scales(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the scales of the int8 columns of token and position table, (R,) float32 each."""
        token = self.scales.get("token")
        return _column_scales(self.token) if token is None else token, _column_scales(self.position)

    def scaled_expansion(self) -> np.ndarray:
        """Returns the expansion's rows times their table's scale, (2R, D): int8 tables go in."""
        token, position = self.table_scales()
        return np.concatenate(
            [token[:, np.newaxis] * self.w_token, position[:, np.newaxis] * self.w_position]
        )


def _column_scales(table: np.ndarray) -> np.ndarray:
    return np.maximum(np.abs(table).max(axis=0), 1e-9).astype(np.float32) / np.float32(127)


def fold(model: Any) -> FoldedModel:
    """Folds a Keras classifier.

    Example:
    ```python
    import embbert_tf
    from embbert_tf.quantization.folding import fold, forward

    classifier = embbert_tf.EmbBertClassifier.from_preset("test", num_labels=3)
    logits = forward(fold(classifier), [2, 17, 99])  # (3,)
    ```

    Args:
        model: An `EmbBertClassifier`, or the `QuantizedClassifier` that fine-tunes one.

    Returns:
        NumPy copies; training the model further does not change them. Weights that a
        `QuantizedClassifier` has in 4 bits are rounded to them, and `scales` tells how.
    """
    coded = model.code_quantizers() if hasattr(model, "code_quantizers") else {}
    model = getattr(model, "classifier", model)
    embedder = model.backbone.embedder
    folded = FoldedModel(
        config=model.config,
        token=embedder.token.numpy(),
        position=embedder.position.numpy(),
        segment=embedder.segment.numpy(),
        w_token=embedder.token_expander.numpy(),
        w_position=embedder.position_expander.numpy(),
        blocks=tuple(_fold_block(block) for block in model.backbone.blocks),
        head_w=model.head.kernel.numpy(),
        head_b=model.head.bias.numpy(),
    )
    return _rounded(folded, coded) if coded else folded


def _rounded(folded: FoldedModel, coded: Mapping[str, Any]) -> FoldedModel:
    """Rounds the weights that have a `CodeQuantizer`; the rest stays as it is."""
    scales = {}

    def rounded(name, values):
        integers, scales[name] = coded[name].quantized(values)
        return (integers * scales[name]).astype(np.float32)

    blocks = tuple(
        dataclasses.replace(
            block, **{name: rounded(f"{name}{layer}", getattr(block, name)) for name in DENSE}
        )
        for layer, block in enumerate(folded.blocks)
    )
    folded = dataclasses.replace(
        folded,
        token=rounded("token", folded.token),
        blocks=blocks,
        head_w=rounded("head", folded.head_w),
        scales=scales,
    )
    token, position = folded.table_scales()
    expansion = rounded("embed", folded.scaled_expansion())
    return dataclasses.replace(
        folded,
        w_token=expansion[: token.size] / token[:, np.newaxis],
        w_position=expansion[token.size :] / position[:, np.newaxis],
    )


def _fold_block(block: Any) -> FoldedBlock:
    # In float64: the sums below would otherwise lose digits for nothing.
    def value(variable):
        return variable.numpy().astype(np.float64)

    attention, convolution = block.attention, block.convolution
    gain = value(block.norm.gain)
    alpha = np.exp(value(block.lambda_q1) @ value(block.lambda_k1))
    beta = np.exp(value(block.lambda_q2) @ value(block.lambda_k2))
    key = gain * gain.size**-0.5
    conv = value(convolution.conv_kernel) * gain[:, np.newaxis]  # (K, D, E)
    arrays = {
        "wq": gain[:, np.newaxis] * value(attention.query_kernel) * key,
        "bq": value(attention.query_bias) * key,
        "wv": alpha * gain[:, np.newaxis] * value(attention.output_kernel),
        "conv": conv.reshape(conv.shape[0], -1),
        "conv_bias": value(convolution.conv_bias),
        "wz": -beta * value(convolution.contract_kernel),
        "bz": alpha * value(attention.output_bias) - beta * value(convolution.contract_bias),
    }
    return FoldedBlock(**{name: array.astype(np.float32) for name, array in arrays.items()})


def activation_names(config: EmbBertConfig) -> list[str]:
    """Returns the names of all quantized activations, in the order in which they arise."""
    names = ["x0"]
    for layer in range(config.num_layers):
        last = layer == config.num_layers - 1
        parts = ["sq", "ms", "r", "xhat", "q", "scores", "c" if last else "v", "a", "y", "s", "z"]
        names += [f"{part}{layer}" for part in parts] + [f"x{layer + 1}"]
    return [*names, "logits"]


def kind(name: str) -> str:
    """Returns an activation's name without the number of its layer: "xhat3" is an "xhat"."""
    return name.rstrip("0123456789")


def forward(
    folded: FoldedModel,
    ids: Sequence[int],
    tap: Tap | None = None,
) -> np.ndarray:
    """Computes the logits of one sequence.

    The last block computes row 0 alone, so its `q`, `scores`, `c`, `a`, `y`, `s`, `z` and the final
    `x` have one row; its `sq`, `ms`, `r` and `xhat` have n.

    Args:
        folded: From `fold`.
        ids: n real token ids, no padding.
        tap: Called as `tap(name, array)` for each name of `activation_names`, with arrays (n, D),
            (n, E·D), (n, 1) for `ms` and `r`, (n, n) for `scores`, (L,) for `logits`.

    Returns:
        float32 (L,).

    Raises:
        ValueError: if there is no id, or more than the model's positions.
    """
    row = np.asarray(ids)
    n = row.size
    if not 1 <= n <= folded.position.shape[0]:
        raise ValueError(f"{n} ids; the model takes 1 to {folded.position.shape[0]}")
    tap = tap or (lambda name, array: None)
    segments = np.where(np.cumsum(row == special_tokens.SEP) > 0, 2, 1)
    x = folded.token[row] @ folded.w_token + folded.position[:n] @ folded.w_position
    x += folded.segment[segments]
    tap("x0", x)
    for layer, block in enumerate(folded.blocks):
        last = layer == len(folded.blocks) - 1
        x = _forward_block(block, x, layer, last, tap)
        tap(f"x{layer + 1}", x)
    logits = x[0] @ folded.head_w + folded.head_b
    tap("logits", logits)
    return logits


def _forward_block(
    block: FoldedBlock, x: np.ndarray, layer: int, last: bool, tap: Tap
) -> np.ndarray:
    square = x * x
    tap(f"sq{layer}", square)
    mean_square = square.mean(axis=1, keepdims=True)
    tap(f"ms{layer}", mean_square)
    reciprocal = 1.0 / np.sqrt(mean_square + np.float32(rms_norm.EPSILON))
    tap(f"r{layer}", reciprocal)
    xhat = x * reciprocal
    tap(f"xhat{layer}", xhat)

    query = (xhat[:1] if last else xhat) @ block.wq + block.bq
    tap(f"q{layer}", query)
    scores = query @ xhat.T
    tap(f"scores{layer}", scores)
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    if last:
        context = weights @ xhat
        tap(f"c{layer}", context)
        attended = context @ block.wv
    else:
        values = xhat @ block.wv
        tap(f"v{layer}", values)
        attended = weights @ values
    tap(f"a{layer}", attended)

    convolved = _causal_depthwise(xhat[:1] if last else xhat, block.conv) + block.conv_bias
    tap(f"y{layer}", convolved)
    # SiLU; exp of a large negative number would only warn on its way to 0.
    gated = convolved / (1.0 + np.exp(-np.clip(convolved, -80.0, None)))
    tap(f"s{layer}", gated)
    contracted = gated @ block.wz + block.bz
    tap(f"z{layer}", contracted)
    return attended + contracted


def _causal_depthwise(x: np.ndarray, taps: np.ndarray) -> np.ndarray:
    """Convolves (n, D) with (K, E·D) to (n, E·D)."""
    n, kernel_size = x.shape[0], taps.shape[0]
    x = np.repeat(x, taps.shape[1] // x.shape[1], axis=1)
    result = np.zeros_like(x)
    for lag in range(min(n, kernel_size)):
        result[lag:] += x[: n - lag] * taps[kernel_size - 1 - lag]
    return result
