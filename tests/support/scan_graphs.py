"""Small graphs with EMBBERT_SELECTIVE_SCAN."""

import numpy as np

from converters.portable.builder import Builder
from converters.tflite import quantize
from converters.tflite.graph import Graph, Tensor

_VALUES = quantize.Quantization(0.05, 3)


def classifier(
    vocab_size: int, length: int, labels: int, layers: int = 2, channels: int = 16, states: int = 6
) -> Graph:
    """ids (1, length) to logits (1, labels): a table, FULLY_CONNECTED and scans in turns.

    Row 11 of the last layer is what the logits are made of. Weights are random.
    """
    rng = np.random.default_rng(4)
    b = Builder()
    ids = Tensor("ids", (1, length), np.int32)
    shape = b.constant("shape", np.array([length], np.int32))
    flat = b.add("RESHAPE", [ids, shape], Tensor("flat", (length,), np.int32), newShape=[length])

    def weight(rows: int, columns: int) -> Tensor:
        return b.constant("w", rng.integers(-127, 128, (rows, columns)).astype(np.int8), 0.002)

    def dense(name: str, x: Tensor, width: int, q: quantize.Quantization) -> Tensor:
        bias = b.constant("b", rng.integers(-200, 200, width).astype(np.int32), x.scale * 0.002)
        return b.dense(name, x, weight(width, x.shape[1]), bias, x.shape[0], q)

    table = b.constant(
        "table", rng.integers(-128, 128, (vocab_size, channels)).astype(np.int8), 0.02
    )
    x = Tensor("rows", (length, channels), np.int8, 0.02)
    b.add("GATHER", [table, flat], x, axis=0)
    for layer in range(layers):
        u = dense(f"u{layer}", x, channels, _VALUES)
        steps = dense(f"steps{layer}", x, channels, quantize.Quantization(0.03, 90))
        ins = dense(f"b{layer}", x, states, _VALUES)
        outs = dense(f"c{layer}", x, states, quantize.Quantization(0.04, -7))
        x = scan(b, f"y{layer}", [u, steps, ins, outs], quantize.Quantization(0.1, 3), rng)
    row = b.constant("row", np.array([11], np.int32))
    one = b.add("GATHER", [x, row], Tensor("one", (1, channels), np.int8, x.scale, x.zero_point))
    logits = dense("logits", one, labels, quantize.Quantization(0.03, 5))
    return Graph([ids], [logits], b.ops)


def scan(
    builder: Builder, name: str, inputs: list[Tensor], q: quantize.Quantization, rng
) -> Tensor:
    """Adds a scan of u, steps, B and C with random decays."""
    channels, states = inputs[0].shape[1], inputs[2].shape[1]
    log_decay = np.log(np.arange(1, states + 1)) + 0.3 * rng.normal(size=(channels, states))
    skip = rng.normal(size=channels)
    y = builder.activation(name, inputs[0].shape, q)
    return builder.selective_scan(inputs, y, log_decay, skip)
