"""The portable graph without the operators that Vela leaves to the CPU beside an Ethos-U.

Vela takes no bias that is computed, which is how the scores get their mask elsewhere; on the U55 no
GATHER and nothing but sums and products of int32, either. Here MINIMUM of the scores and a row of
upper limits masks them, to the same integers as the bias; SLICE and RESHAPE take runs of rows. What
the U55 leaves to the CPU is then what turns ids into int8: the look-ups of the embedding and that
of the mask.
"""

from collections.abc import Sequence

import numpy as np

from converters.portable.builder import Builder
from converters.tflite import quantize
from converters.tflite.graph import Tensor
from embbert_tf.model import special_tokens

TARGETS = ("ethos-u55", "ethos-u85")

# Limits are rounded to each layer's scores from steps so much larger that both ends saturate.
_STEPS = 4.0


def padding(
    b: Builder, ids: Tensor, vocab_size: int, scores: Sequence[quantize.Quantization]
) -> Tensor:
    """Makes the mask of padding: int8 (1, S), -128 at padding and 127 at tokens.

    Args:
        b: Gets the operators.
        ids: The graph's input, int32 (1, S).
        vocab_size: Ids that there are.
        scores: Quantization of each layer's scores.
    """
    scale = float(np.float32(_STEPS * max(q.scale for q in scores)))
    made = b.activation("padding", ids.shape, quantize.Quantization(scale, 0))
    table = np.full(vocab_size, 127, np.int8)
    table[special_tokens.PAD] = -128
    return b.add("GATHER", [b.constant("real", table, scale), ids], made, axis=0)


def limits(b: Builder, mask: Tensor, q: quantize.Quantization) -> Tensor:
    """Returns the mask of `padding` in the steps of a layer's scores, which MINIMUM needs."""
    return b.add("QUANTIZE", [mask], b.activation("limits", mask.shape, q), 2)


def masked(b: Builder, scores: Tensor, limit: Tensor, q: quantize.Quantization) -> Tensor:
    """Returns scores (rows, S), the lowest int8 at padding."""
    return b.add("MINIMUM", [scores, limit], b.activation(scores.name, scores.shape, q), 2)


def rows(b: Builder, x: Tensor, start: int, count: int, q: quantize.Quantization) -> Tensor:
    """Returns `count` rows of x (S, D) from `start` on, as (1, 1, count, D)."""
    d = x.shape[1]
    piece = x
    if count != x.shape[0]:
        begin = b.constant("begin", np.array([start, 0], np.int32))
        size = b.constant("size", np.array([count, d], np.int32))
        piece = b.activation(x.name, (count, d), q)
        b.add("SLICE", [x, begin, size], piece)
    shape = b.constant("shape", np.array([1, 1, count, d], np.int32))
    return b.add("RESHAPE", [piece, shape], b.activation(x.name, (1, 1, count, d), q))
