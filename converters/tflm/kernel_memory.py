"""What each of TFLM's kernels asks the arena for: options, data of its own, scratch.

For OPTIMIZED_KERNEL_DIR=cmsis_nn or none, and KERNELS_OPTIMIZED_FOR_SPEED, which is TFLM's default.
"""

import dataclasses
import math
from collections.abc import Callable

from converters.tflite import graph as graph_lib
from converters.tflm import cmsis_nn, kernel_sizes, target

_LUT_INT16 = 2 * 513  # a table of int16 with its last element twice


@dataclasses.dataclass
class Request:
    """What one operator asks for.

    Attributes:
        options: Size and alignment of its parsed options; None if it has none.
        at_init: Bytes kept for good, asked for before any operator prepares.
        at_prepare: Further bytes kept for good.
        scratch: Bytes of each scratch buffer.
        temporaries: Tensors that it looks at while it prepares, once for each time.
        known: Whether this module knows the operator.
        refused: Why these kernels do not take it, though TFLM's others do.
    """

    options: tuple[int, int] | None = None
    at_init: list[int] = dataclasses.field(default_factory=list)
    at_prepare: list[int] = dataclasses.field(default_factory=list)
    scratch: list[int] = dataclasses.field(default_factory=list)
    temporaries: list[graph_lib.Tensor] = dataclasses.field(default_factory=list)
    known: bool = True
    refused: str = ""


def _size(tensor: graph_lib.Tensor) -> int:
    return math.prod(tensor.shape)


def _three(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Height, width and channels of four dimensions."""
    return shape[1], shape[2], shape[3]


def _given(tensors: list[graph_lib.Tensor | None]) -> list[graph_lib.Tensor]:
    return [tensor for tensor in tensors if tensor is not None]


def _window(op: graph_lib.Op, depthwise: bool = False) -> cmsis_nn.Window:
    source, weights = op.inputs[0], op.inputs[1]
    assert source is not None and weights is not None
    out, settings = op.outputs[0], op.options
    dilation = (settings.dilationHFactor, settings.dilationWFactor)
    stride = (settings.strideH, settings.strideW)
    padding = []
    for axis in (0, 1):
        reach = (weights.shape[1 + axis] - 1) * dilation[axis] + 1
        total = (out.shape[1 + axis] - 1) * stride[axis] + reach - source.shape[1 + axis]
        padding.append(max(total, 0) // 2)
    kernel = _three(weights.shape)[:2]
    return cmsis_nn.Window(
        source.shape[0],
        _three(source.shape),
        (*kernel, 1 if depthwise else weights.shape[3]),
        _three(out.shape),
        stride,
        dilation,
        (padding[0], padding[1]),
    )


def _convolution(op: graph_lib.Op, chip: target.Target, request: Request) -> None:
    source, weights = op.inputs[0], op.inputs[1]
    assert source is not None and weights is not None
    depthwise = op.kind == "DEPTHWISE_CONV_2D"
    channels = weights.shape[3 if depthwise else 0]
    if source.type_name in ("INT8", "INT16") or not chip.cmsis:
        request.at_prepare += [4 * channels, 4 * channels]
    looked = [source, weights, op.outputs[0]]
    request.temporaries = [*looked, *_given(op.inputs), op.outputs[0]]
    bits = 4 if weights.type_name == "INT4" else 8
    if not chip.cmsis:
        if bits == 4:
            request.scratch.append(_size(weights))
        return
    size = 0
    if depthwise and source.type_name == "INT8":
        size = cmsis_nn.depthwise_int8(_window(op, True), chip.extension, bits)
    elif not depthwise and source.type_name == "INT8":
        size = cmsis_nn.convolution_int8(_window(op), chip.extension)
    elif not depthwise and source.type_name == "INT16":
        bias = op.inputs[2] if len(op.inputs) > 2 else None
        if bias is None or bias.type_name in ("INT64", "INT32"):
            size = cmsis_nn.convolution_int16(_window(op), chip.extension)
    if size:
        request.scratch.append(size)


def _transpose_convolution(op: graph_lib.Op, chip: target.Target, request: Request) -> None:
    weights, source, out = op.inputs[1], op.inputs[2], op.outputs[0]
    assert weights is not None and source is not None
    request.at_prepare += [4 * weights.shape[0]] * 2
    request.temporaries = [out, source, weights]
    if source.type_name == "FLOAT32":
        return
    request.temporaries += [*_given(op.inputs[1:]), out]
    bias = op.inputs[3] if len(op.inputs) > 3 else None
    if source.type_name == "INT16":
        request.scratch.append(8 * _size(out))
        if bias is not None and bias.type_name == "INT16":
            request.scratch.append(8 * _size(bias))
    elif chip.cmsis:
        window = cmsis_nn.Window(
            source.shape[0],
            _three(source.shape),
            _three(weights.shape),
            _three(out.shape),
            (op.options.strideH, op.options.strideW),
        )
        request.scratch += cmsis_nn.transpose_convolution_int8(window, chip.extension)
    else:
        request.scratch.append(4 * _size(out))


def _fully_connected(op: graph_lib.Op, chip: target.Target, request: Request) -> None:
    source, weights = op.inputs[0], op.inputs[1]
    assert source is not None and weights is not None
    bias = op.inputs[2] if len(op.inputs) > 2 else None
    out = op.outputs[0]
    per_channel = hasattr(weights.scale, "__len__") and len(weights.scale) > 1
    if source.type_name != "FLOAT32" and per_channel:
        request.at_prepare += [4 * len(weights.scale)] * 2
        if chip.cmsis and source.type_name == "INT16":
            request.refused = "CMSIS-NN's FULLY_CONNECTED takes no int16 with a scale per channel"
    if not chip.cmsis:
        if weights.type_name == "INT4":
            request.scratch.append(_size(weights))
        return
    if source.type_name != "INT8" or weights.type_name == "INT4":
        return
    outputs = out.shape[-1]
    if len(out.shape) > 2 and weights.shape[-1] % 4 == 0:
        # Runs as a convolution, which wants a multiplier and a shift for each channel.
        if not per_channel:
            request.scratch.append(8 * outputs)
        return
    size = cmsis_nn.fully_connected_int8(outputs, chip.extension)
    if size and weights.data is not None and (bias is None or bias.data is not None):
        request.at_prepare.append(size)
    elif size:
        request.scratch.append(size)


def _batch_matmul(op: graph_lib.Op, chip: target.Target, request: Request) -> None:
    left, right = op.inputs[0], op.inputs[1]
    assert left is not None and right is not None
    transposed = ([left] if op.options.adjX else []) + ([] if op.options.adjY else [right])
    for tensor in transposed:
        request.at_prepare += [12, 4 + 4 * len(tensor.shape), tensor.nbytes]
    rank = max(len(left.shape), len(right.shape))
    if chip.cmsis and rank > 4:
        request.refused = "CMSIS-NN's BATCH_MATMUL takes four dimensions at most"
    request.at_prepare.append(4 + 4 * rank)  # the output's shape, as its kernel writes it
    if left.type_name != "FLOAT32":
        request.at_prepare.append(28)
    if chip.cmsis and left.type_name == "INT8":
        # The channels of the output's shape, filled up to four dimensions.
        size = cmsis_nn.fully_connected_int8(op.outputs[0].shape[-1], chip.extension)
        if size:
            request.scratch.append(size)


def _pool(op: graph_lib.Op, chip: target.Target, request: Request) -> None:
    source = op.inputs[0]
    assert source is not None
    if not chip.cmsis or op.kind != "AVERAGE_POOL_2D":
        return
    request.temporaries *= 2
    size = cmsis_nn.average_pool(source.shape[-1], chip.extension)
    if size and source.type_name in ("INT8", "INT16"):
        request.scratch.append(size)


def _softmax(op: graph_lib.Op, chip: target.Target, request: Request) -> None:
    source = op.inputs[0]
    assert source is not None
    if source.type_name == "INT16":
        request.at_prepare += [_LUT_INT16, _LUT_INT16]


def _svdf(op: graph_lib.Op, chip: target.Target, request: Request) -> None:
    source, features = op.inputs[0], op.inputs[1]
    assert source is not None and features is not None
    batch, filters = source.shape[0], features.shape[0]
    request.scratch.append(4 * batch * filters)
    if source.type_name == "INT8":
        request.scratch.append(4 * batch * (filters // op.options.rank))
        size = cmsis_nn.svdf_int8(filters, chip.extension) if chip.cmsis else 0
        if size:
            request.at_prepare.append(size)


def _reduce(op: graph_lib.Op, chip: target.Target, request: Request) -> None:
    source, axes = op.inputs[0], op.inputs[1]
    assert source is not None and axes is not None
    if op.kind in ("MEAN", "SUM") and source.type_name in ("INT8", "INT16"):
        request.scratch.append(4 * _size(op.outputs[0]))
    request.scratch += [4 * len(source.shape), 4 * _size(axes)]
    request.temporaries *= 2


def _lstm(op: graph_lib.Op, chip: target.Target, request: Request) -> None:
    source, state = op.inputs[0], op.inputs[18]
    cell = op.inputs[19]
    assert source is not None and state is not None and cell is not None
    quantized = cell.type_name == "INT16"
    element = 2 if quantized else 4
    request.scratch += [_size(state) * element] * (3 if chip.cmsis and quantized else 4)
    if chip.cmsis and quantized:
        sums = state.shape[-1] * (8 if source.type_name == "INT16" else 4)
        request.at_prepare += [sums] * 8


def _concatenation(op: graph_lib.Op, chip: target.Target, request: Request) -> None:
    request.temporaries.append(op.outputs[0])
    request.temporaries += _given(op.inputs[:1])


def _add_n(op: graph_lib.Op, chip: target.Target, request: Request) -> None:
    request.scratch.append(4 * len(op.inputs))
    if op.outputs[0].type_name == "INT8":
        request.at_prepare.append(40)


def _mirror_pad(op: graph_lib.Op, chip: target.Target, request: Request) -> None:
    source = op.inputs[0]
    assert source is not None
    request.scratch += [4 * len(source.shape)] * 2


def _kept_at_prepare(size: int, type_name: str) -> Callable[..., None]:
    """Data that a kernel asks for while it prepares, for one type alone."""

    def ask(op: graph_lib.Op, chip: target.Target, request: Request) -> None:
        source = op.inputs[-1] if op.kind == "EMBEDDING_LOOKUP" else op.inputs[0]
        assert source is not None
        if source.type_name == type_name:
            request.at_prepare.append(size)

    return ask


def _own_shape(op: graph_lib.Op, chip: target.Target, request: Request) -> None:
    """A kernel that writes the shape of its output, and hence keeps a copy of it."""
    request.at_prepare.append(4 + 4 * len(op.outputs[0].shape))


def _embedding_lookup(op: graph_lib.Op, chip: target.Target, request: Request) -> None:
    request.at_prepare.append(8)
    _own_shape(op, chip, request)


def _reshape(op: graph_lib.Op, chip: target.Target, request: Request) -> None:
    if -1 in op.outputs[0].shape:
        _own_shape(op, chip, request)


def _first_input_alone(op: graph_lib.Op, chip: target.Target, request: Request) -> None:
    request.temporaries = _given(op.inputs[:1])


_SPECIAL: dict[str, Callable[[graph_lib.Op, target.Target, Request], None]] = {
    "ADD_N": _add_n,
    "AVERAGE_POOL_2D": _pool,
    "BATCH_MATMUL": _batch_matmul,
    "CONCATENATION": _concatenation,
    "CONV_2D": _convolution,
    "CUMSUM": _kept_at_prepare(36, "INT8"),
    "DEPTHWISE_CONV_2D": _convolution,
    "DEPTH_TO_SPACE": _own_shape,
    "EMBEDDING_LOOKUP": _embedding_lookup,
    "FULLY_CONNECTED": _fully_connected,
    "GATHER": _own_shape,
    "GATHER_ND": _own_shape,
    "IF": _first_input_alone,
    "L2_POOL_2D": _own_shape,
    "LOG_SOFTMAX": _kept_at_prepare(28, "INT8"),
    "MEAN": _reduce,
    "MIRROR_PAD": _mirror_pad,
    "READ_VARIABLE": _first_input_alone,
    "REDUCE_ALL": _reduce,
    "REDUCE_MAX": _reduce,
    "REDUCE_MIN": _reduce,
    "RESHAPE": _reshape,
    "SOFTMAX": _softmax,
    "SPACE_TO_DEPTH": _own_shape,
    "SPLIT": _first_input_alone,
    "SUM": _reduce,
    "SVDF": _svdf,
    "TRANSPOSE_CONV": _transpose_convolution,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": _lstm,
}


def of_builtin(op: graph_lib.Op, chip: target.Target) -> Request:
    """Returns what a builtin operator asks for.

    Raises:
        AttributeError, IndexError, AssertionError: The operator lacks inputs or options that its
            kernel reads; TFLM does not run it either.
    """
    looks = op.kind not in kernel_sizes.NO_TEMPORARIES
    request = Request(
        options=kernel_sizes.OPTIONS.get(op.kind),
        temporaries=[*_given(op.inputs), *op.outputs] if looks else [],
    )
    data = kernel_sizes.DATA_CMSIS.get(op.kind) if chip.cmsis else None
    if data is None:
        data = kernel_sizes.DATA.get(op.kind)
    if data is not None:
        request.at_init.append(data)
    if op.kind in _SPECIAL:
        _SPECIAL[op.kind](op, chip, request)
    return request
