"""How much scratch CMSIS-NN's kernels ask for, by the extension of the core.

What its documentation says beside each `arm_*_get_buffer_size` (CMSIS-NN 4ab83cc of 2026, GCC): a
kernel widens or gathers some columns of the input at a time. Extensions are those of
`target.Target`: "none", "dsp", "mve".
"""

import dataclasses

# With Helium, a depthwise convolution gathers this many channels at a time, and one of a single
# input channel runs as an ordinary convolution.
_MVE_CHANNELS = 124
# Fewer input channels than this and one: a transposed convolution scatters instead of gathering.
_REVERSE_CHANNELS = 16
_MOST_TAPS_OF_FAST_INT16 = 512


@dataclasses.dataclass(frozen=True)
class Window:
    """Shape of a convolution: (height, width, channels) of input and output, and its window.

    Attributes:
        batch: Images.
        input: Height, width, channels.
        kernel: Height, width, input channels of the filter (fewer than the input's in groups).
        output: Height, width, channels.
        stride: Down, right.
        dilation: Down, right.
        padding: Above, left.
    """

    batch: int
    input: tuple[int, int, int]
    kernel: tuple[int, int, int]
    output: tuple[int, int, int]
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def _columns_int8(taps: int, extension: str) -> int:
    """Four columns in whole vectors of 16 bytes with Helium, else two of int16."""
    return 4 * _round_up(taps, 16) if extension == "mve" else 2 * 2 * _round_up(taps, 4)


def _row_int8(window: Window, taps: int, extension: str) -> int:
    """A convolution along one row: with Helium, the ends are padded apart from the middle."""
    if extension != "mve":
        return _columns_int8(taps, extension)
    width, channels = window.input[1:]
    kernel, out, stride, pad = (
        window.kernel[1],
        window.output[1],
        window.stride[1],
        window.padding[1],
    )
    total = (out - 1) * stride + kernel - width
    odd = total % 2 if total >= 0 else -(-total % 2)  # as C takes the rest of a negative number
    right = max(1, (pad + odd + stride - 1) // stride) if pad + odd else 0
    left = max(1, (pad + stride - 1) // stride) if pad else 0
    if right + max(out - right - left, 0) + left != out:
        return _columns_int8(taps, extension)
    before = pad * channels
    after = right * channels if odd else before
    return max(kernel * channels + before, (kernel - 1) * channels + after)


def convolution_int8(window: Window, extension: str) -> int:
    """Bytes for CONV_2D of int8."""
    channels = window.input[2]
    whole = channels == window.kernel[2] and window.dilation == (1, 1)
    if whole and window.kernel[:2] == (1, 1) and window.padding == (0, 0):
        return 0
    taps = channels * window.kernel[0] * window.kernel[1]
    one_row = window.input[0] == 1 and window.kernel[0] == 1 and window.dilation[1] == 1
    if one_row and channels == window.kernel[2] and window.stride[1] * channels % 4 == 0:
        return _row_int8(window, taps, extension)
    return _columns_int8(taps, extension)


def convolution_int16(window: Window, extension: str) -> int:
    """Bytes for CONV_2D of int16."""
    taps = window.input[2] * window.kernel[0] * window.kernel[1]
    return 4 * 2 * _round_up(taps, 8) if extension == "mve" else 2 * 2 * taps


def depthwise_int8(window: Window, extension: str, filter_bits: int = 8) -> int:
    """Bytes for DEPTHWISE_CONV_2D of int8 with weights of 8 or of 4 bits."""
    channels, out = window.input[2], window.output[2]
    taps = window.kernel[0] * window.kernel[1]
    if filter_bits == 8 and extension == "mve" and channels == 1 and out > 1:
        as_conv = dataclasses.replace(window, kernel=(*window.kernel[:2], 1))
        # TFLM leaves the stride of this question open, so the larger answer counts.
        unit = dataclasses.replace(as_conv, stride=(1, 1))
        columns = _columns_int8(taps, extension)
        return out * taps + max(
            convolution_int8(as_conv, extension), convolution_int8(unit, extension), columns
        )
    if channels != out or window.batch != 1 or window.dilation != (1, 1):
        return 0
    if extension == "mve":
        return 4 * _MVE_CHANNELS * taps
    if filter_bits == 8:
        if window.kernel[:2] == (3, 3) and max(window.padding) <= 1:
            return 0
        if extension == "none":
            return 0
    return 2 * channels * taps


def fully_connected_int8(outputs: int, extension: str) -> int:
    """Bytes for FULLY_CONNECTED of int8: the sums over each row of weights, with Helium."""
    return 4 * outputs if extension == "mve" else 0


def average_pool(channels: int, extension: str) -> int:
    """Bytes for AVERAGE_POOL_2D of int8 or int16: a row of sums with DSP instructions."""
    return 4 * channels if extension == "dsp" else 0


def svdf_int8(filters: int, extension: str) -> int:
    """Bytes for SVDF of int8: the sums over each filter, with Helium."""
    return 4 * filters if extension == "mve" else 0


def transpose_convolution_int8(window: Window, extension: str) -> tuple[int, int]:
    """Bytes for TRANSPOSE_CONV of int8: the working buffer, and the reversed filter."""
    height, width, channels = window.kernel[0], window.kernel[1], window.input[2]
    if max(window.stride) <= 2 and channels > _REVERSE_CHANNELS:
        taps = channels * width * height
        return _columns_int8(taps, extension), taps * window.output[2]
    row = (window.input[1] - 1) * window.stride[1] + max(width, window.stride[0])
    return 4 * row * window.output[2] * max(height, window.stride[0]), 0
