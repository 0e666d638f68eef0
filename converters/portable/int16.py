"""Parts of a layer on int16, between int8 tensors that the fused kernels have too.

Then the graph rounds where they round, and nowhere else.

* norm: x^2, its mean and the reciprocal root, which one Newton step takes from 8 to 15 bits.
* attention: scores, softmax, and (A . xhat) . Wv in place of A . (xhat . Wv), which needs no V.
* branch: sigmoid, its product with y, and the contraction's result.
"""

import numpy as np

from converters.portable.builder import Builder
from converters.portable.scales import Scales
from converters.portable.weights import LayerWeights
from converters.tflite import quantize
from converters.tflite.graph import Tensor

PARTS = ("norm", "attention", "branch")

# int16 results that are rounded to int8 next have this many steps in one of int8's. TFLM rounds
# twice: first to a power of two of parts of an int8 step, here to 64ths and 128ths. Just below
# twice that, the value next to half a step stays apart from it, and fewer values go astray.
# int16 then holds the 255 and the 127 int8 steps either side of zero.
_FINE = 126
_FINE_SYMMETRIC = 254
_SHARE = 1 / 32768  # scale that TFLite's int16 LOGISTIC and SOFTMAX write


def ceiling(b: Builder, real: Tensor) -> Tensor:
    """Upper limits of int16 scores: the least int16 at padding, the largest at tokens.

    Products of int16 take their bias in 64 bits, which TFLM has no operator to compute.
    """
    span = b.constant("span", np.array([65535], np.int32))
    # TFLM's SUB of int32 takes no scale, which QUANTIZE needs: the zero point subtracts.
    limits = Tensor("ceiling", real.shape, np.int32, 1.0, 32768)
    b.add("MUL", [real, span], limits)
    return b.add("QUANTIZE", [limits], b.wide("ceiling", real.shape, 1.0), 2)


def normalise(b: Builder, scales: Scales, index: int, x: Tensor, mean4: Tensor) -> Tensor:
    """RMSNorm on int16, the reciprocal root by one Newton step from RSQRT's int8.

    With m = 4 mean(x^2) and y = RSQRT(m) = r / 2 (1 + e), y (3 - m y^2) = r (1 - 3/2 e^2): the
    factor of four makes up for Newton's 1/2.
    """
    length = x.shape[0]
    wide = b.widen(x)
    # One step for each of x's squared steps, unless the largest square would not fit. Not two:
    # half of every odd square would be rounded up, and the mean be too large.
    reach = max(127 - int(x.zero_point), 128 + int(x.zero_point))
    steps = max(1.0, reach**2 / 32767)
    square = b.wide(f"sq{index}", x.shape, steps * float(x.scale) ** 2)
    b.add("MUL", [wide, wide], square, 2)
    # A mean or a root beyond its range would spoil a whole row, and Newton's step with it.
    top = 1.25 * 4 * scales.high(f"ms{index}")
    mean = b.dense16(f"ms{index}", square, mean4, None, length, top / 32767)
    coarse = b.narrow(mean, quantize.activation(0.0, top))
    high = 1.25 * scales.high(f"r{index}")
    guess8 = b.activation(f"r{index}", (length, 1), quantize.activation(0.0, high / 2))
    guess = b.widen(b.add("RSQRT", [coarse], guess8, 2))
    # m y is about the root of m, so that it keeps more digits of small rows than y^2 would.
    root = b.wide("root", guess.shape, 1.5 * top**0.5 / 32767)
    b.add("MUL", [mean, guess], root, 2)
    near = b.wide("near", guess.shape, 2.5 / 32767)
    b.add("MUL", [root, guess], near, 2)
    three = b.constant("three", np.array([30000], np.int16), 3 / 30000)
    rest = b.wide("rest", guess.shape, 3 / 32767)
    b.add("SUB", [three, near], rest, 2)
    inverse = b.wide(f"r{index}", guess.shape, high / 32767)
    b.add("MUL", [guess, rest], inverse, 2)
    q = scales.xhat(index)
    normal = b.wide(f"xhat{index}", x.shape, q.scale / _FINE_SYMMETRIC)
    return b.narrow(b.add("MUL", [wide, inverse], normal, 2), q)


def shares(
    b: Builder, scales: Scales, index: int, query: Tensor, xhat: Tensor, limits: Tensor
) -> Tensor:
    """Softmax weights (rows, S) of queries (rows, D); `limits` from `ceiling` hide padding."""
    query = b.widen(query)
    scale = scales.wide(f"scores{index}")
    scores = b.dense16(f"scores{index}", query, xhat, None, query.shape[0], scale)
    limited = b.wide(f"scores{index}", scores.shape, scale)
    b.add("MINIMUM", [scores, limits], limited, 2)
    weights = b.wide(f"p{index}", scores.shape, _SHARE)
    return b.add("SOFTMAX", [limited], weights, 3, beta=1.0)


def attended(
    b: Builder, scales: Scales, index: int, weighed: Tensor, columns: Tensor, wv: Tensor
) -> Tensor:
    """(A . xhat) . Wv; `columns` is xhat^T."""
    rows = weighed.shape[0]
    # A row's weights sum to 1: no more than 127 steps of xhat, and a little for their rounding.
    c = b.dense16(f"c{index}", weighed, columns, None, rows, scales.xhat(index).scale / 256)
    return b.dense16(f"a{index}", c, wv, None, rows, scales.wide(f"a{index}"))


def contracted(
    b: Builder, scales: Scales, index: int, y: Tensor, rows: int, weights: LayerWeights
) -> Tensor:
    """SiLU of the convolution's int8 result and the contraction, (rows, D)."""
    wide = b.widen(y)
    gate = b.add("LOGISTIC", [wide], b.wide(f"sig{index}", y.shape, _SHARE), 3)
    q = scales.of(f"s{index}")
    s = b.wide(f"s{index}", y.shape, q.scale / _FINE)
    s = b.widen(b.narrow(b.add("MUL", [wide, gate], s, 2), q))
    return b.dense16(f"z{index}", s, weights.wz, weights.bz, rows, scales.wide(f"z{index}"))


def total(b: Builder, scales: Scales, index: int, a: Tensor, z: Tensor) -> Tensor:
    """The sum a + z as the int8 input of the next layer, where one of the two is int16."""
    a, z = (t if t.dtype == np.int16 else b.widen(t) for t in (a, z))
    q = scales.of(f"x{index + 1}")
    result = b.wide(f"x{index + 1}", a.shape, q.scale / _FINE)
    return b.narrow(b.add("ADD", [a, z], result, 2), q)
