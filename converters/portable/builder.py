"""Adds operators to a graph, one method each."""

import numpy as np

from converters.tflite import graph as graph_lib
from converters.tflite import quantize
from converters.tflite.graph import Op, Tensor


class Builder:
    """Adds operators one by one; each method returns the operator's output."""

    def __init__(self):
        self.ops: list[Op] = []

    def activation(self, name, shape, q: quantize.Quantization) -> Tensor:
        return Tensor(name, tuple(shape), np.int8, q.scale, q.zero_point)

    def constant(self, name, data, scale=None, zero_point=0, axis=0) -> Tensor:
        data = np.ascontiguousarray(data)
        return Tensor(name, data.shape, data.dtype, scale, zero_point, axis, data)

    def wide(self, name, shape, scale: float) -> Tensor:
        return Tensor(name, tuple(shape), np.int16, float(np.float32(scale)), 0)

    def widen(self, x: Tensor) -> Tensor:
        """int16 with the int8 tensor's steps and zero point 0: exact."""
        return self.add("QUANTIZE", [x], self.wide(x.name, x.shape, x.scale), 2)

    def narrow(self, x: Tensor, q: quantize.Quantization) -> Tensor:
        return self.add("QUANTIZE", [x], self.activation(x.name, x.shape, q), 2)

    def dense16(self, name, x, weight, bias, rows, scale) -> Tensor:
        out = self.wide(name, (rows, weight.shape[0]), scale)
        return self.add("FULLY_CONNECTED", [x, weight, bias], out, 7)

    def add(self, kind, inputs, output, version=1, **options) -> Tensor:
        self.ops.append(Op(kind, inputs, [output], graph_lib.options(kind, **options), version))
        return output

    def dense(self, name, x, weight, bias, rows, q) -> Tensor:
        out = self.activation(name, (rows, weight.shape[0]), q)
        version = 5 if hasattr(weight.scale, "__len__") else 4
        return self.add("FULLY_CONNECTED", [x, weight, bias], out, version)
