"""The portable graph without the operators that Vela leaves to the CPU beside an Ethos-U.

Vela takes no bias that is computed, which is how the scores get their mask elsewhere; on the U55 no
GATHER and nothing but sums and products of int32, either. Here one more column of the token table
says which ids are padding, and MINIMUM of the scores and a row of upper limits made of it masks
them, to the same integers as the bias; SLICE and RESHAPE take runs of rows. What the U55 leaves to
the CPU is then what turns ids into int8: the embedding's look-ups.
"""

import numpy as np

from converters.portable.builder import Builder
from converters.tflite import quantize
from converters.tflite.graph import Tensor
from embbert_tf.model import special_tokens

TARGETS = ("ethos-u55", "ethos-u85")

# A limit is so many steps of the scores for each step of the mask that both ends saturate.
_STEPS = 4.0


def look_up(
    b: Builder, table: Tensor, ids: Tensor, q: quantize.Quantization
) -> tuple[Tensor, Tensor]:
    """Looks up tokens, and in one more column of their table whether they are padding.

    Args:
        b: Gets the operators.
        table: int8 (V, R).
        ids: The graph's input, int32 (1, S).
        q: Quantization of the table.

    Returns:
        The tokens' rows (1, S, R), and the mask (1, S): -128 at padding and 127 at tokens.
    """
    assert table.data is not None
    real = np.full((len(table.data), 1), 127, np.int8)
    real[special_tokens.PAD] = -128
    both = b.constant("token_and_real", np.concatenate([table.data, real], axis=1), q.scale)
    length, r = ids.shape[1], table.shape[1]
    rows = b.activation("token_and_real", (1, length, r + 1), q)
    b.add("GATHER", [both, ids], rows, axis=0)
    parts = []
    for name, start, count in (("token", 0, r), ("real", r, 1)):
        begin = b.constant("begin", np.array([0, 0, start], np.int32))
        size = b.constant("size", np.array([1, length, count], np.int32))
        part = b.activation(name, (1, length, count), q)
        parts.append(b.add("SLICE", [rows, begin, size], part))
    shape = b.constant("shape", np.array([1, length], np.int32))
    padding = b.add("RESHAPE", [parts[1], shape], b.activation("padding", (1, length), q))
    return parts[0], padding


def limits(b: Builder, mask: Tensor, q: quantize.Quantization) -> Tensor:
    """Returns the mask of `look_up` in the steps of a layer's scores, which MINIMUM needs."""
    steep = b.constant("steep", np.array([[1]], np.int8), float(np.float32(_STEPS * q.scale)))
    return b.add("MUL", [mask, steep], b.activation("limits", mask.shape, q), 2)


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
