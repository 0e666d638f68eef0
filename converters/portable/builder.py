"""Adds operators to a list, and makes their tensors."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from converters.kernels import selective_scan
from converters.tflite import graph as graph_lib
from converters.tflite import quantize
from converters.tflite.graph import Op, Tensor

Scale = float | np.floating | np.ndarray


class Builder:
    """Collects operators one by one; each method that adds one returns its output."""

    def __init__(self) -> None:
        self.ops: list[Op] = []

    def activation(self, name: str, shape: Sequence[int], q: quantize.Quantization) -> Tensor:
        """Returns an int8 tensor."""
        return Tensor(name, tuple(shape), np.int8, q.scale, q.zero_point)

    def constant(self, name: str, data: np.ndarray, scale: Any = None, axis: int = 0) -> Tensor:
        """Returns a tensor of fixed content, with one scale or an array of them along `axis`."""
        data = np.ascontiguousarray(data)
        return Tensor(name, data.shape, data.dtype, scale, 0, axis, data)

    def wide(self, name: str, shape: Sequence[int], scale: float) -> Tensor:
        """Returns an int16 tensor; its zero point is 0, as TFLite has it."""
        return Tensor(name, tuple(shape), np.int16, float(np.float32(scale)), 0)

    def add(
        self,
        kind: str,
        inputs: Sequence[Tensor | None],
        output: Tensor,
        version: int = 1,
        **options: Any,
    ) -> Tensor:
        """Adds an operator of the schema's name `kind`; `options` are fields of its options."""
        made = graph_lib.options(kind, **options)
        self.ops.append(Op(kind, list(inputs), [output], made, version))
        return output

    def dense(
        self,
        name: str,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        rows: int,
        q: quantize.Quantization,
    ) -> Tensor:
        """Adds FULLY_CONNECTED of int8: (rows, in) by (out, in) gives (rows, out)."""
        out = self.activation(name, (rows, weight.shape[0]), q)
        version = 5 if hasattr(weight.scale, "__len__") else 4
        return self.add("FULLY_CONNECTED", [x, weight, bias], out, version)

    def dense16(
        self,
        name: str,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        rows: int,
        scale: float,
    ) -> Tensor:
        """Adds FULLY_CONNECTED of int16 activations and int8 weights; shapes as for `dense`."""
        out = self.wide(name, (rows, weight.shape[0]), scale)
        return self.add("FULLY_CONNECTED", [x, weight, bias], out, 7)

    def widen(self, x: Tensor) -> Tensor:
        """Adds QUANTIZE to int16 with the int8 tensor's steps and zero point 0: exact."""
        return self.add("QUANTIZE", [x], self.wide(x.name, x.shape, x.scale), 2)

    def narrow(self, x: Tensor, q: quantize.Quantization) -> Tensor:
        """Adds QUANTIZE to int8."""
        return self.add("QUANTIZE", [x], self.activation(x.name, x.shape, q), 2)

    def selective_scan(
        self, inputs: Sequence[Tensor], y: Tensor, log_decay: np.ndarray, skip: np.ndarray
    ) -> Tensor:
        """Adds EMBBERT_SELECTIVE_SCAN; `inputs` are u, steps, B and C.

        Raises:
            KernelParamsError: The kernel cannot represent a size or a scale.
        """
        u, steps, state_in, state_out = inputs
        params = selective_scan.scan_params(
            u, steps, state_in, state_out, y, log_decay, skip, where=y.name
        )
        weights = [self.constant(name, value) for name, value in params.tensors().items()]
        self.ops.append(
            Op(
                "CUSTOM",
                [*inputs, *weights],
                [y],
                custom_code=selective_scan.OPERATOR,
                custom_options=params.options(),
            )
        )
        return y

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """Adds CONCATENATION of rows, where there is more than one part."""
        first = parts[0]
        if len(parts) == 1:
            return first
        rows = sum(part.shape[0] for part in parts)
        whole = Tensor(
            first.name, (rows, first.shape[1]), first.dtype, first.scale, first.zero_point
        )
        return self.add("CONCATENATION", parts, whole, axis=0)
