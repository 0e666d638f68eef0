"""The portable graph's constants: quantized weights and biases."""

import dataclasses

import numpy as np

from converters.portable import scales as scales_lib
from converters.portable.builder import Builder, Scale
from converters.tflite import quantize
from converters.tflite.graph import Tensor
from embbert_tf.quantization import folding
from embbert_tf.quantization.folding import FoldedBlock, FoldedModel

# Weights for which the kernels take either, and which get one scale a channel if that lowers the
# noise by so many dB: 3 dB are half of it. Less is not worth 12 bytes a channel.
_EITHER = ("embed", "head")
_CHANNEL_GAIN = 3.0

# What the inputs for the segment read in segment 2; in segment 1 they are 0. Three idle columns
# keep the width a multiple of four for CMSIS-NN; where the expansion has but 4 bits they are digits
# of finer steps.
SEGMENT = (127, 0, 0, 0)
CODED_SEGMENT = (127, 11, 1, 0)


@dataclasses.dataclass(frozen=True)
class LayerWeights:
    """Constants of one layer; dense matrices (out, in).

    Attributes:
        wq: (D, D) queries, and `bq` (D,) int32.
        wv: (D, D) values, with one scale: it is also the *input* of a FULLY_CONNECTED.
        conv: (1, 1, taps, E·D), one scale a channel, and `conv_bias` (E·D,) int32.
        wz: (D, E·D) contraction, and `bz` (D,) int32; int64 where the branch computes on int16.
    """

    wq: Tensor
    bq: Tensor
    wv: Tensor
    conv: Tensor
    conv_bias: Tensor
    wz: Tensor
    bz: Tensor


class Weights:
    """Quantizes the weights of a folded model.

    Args:
        model: The float weights.
        scales: Of the activations, which biases depend on.
        length: Tokens of the graph's input.
        pair: Whether the embedding has an input for the segment.
        per_channel: As for `PortableGraph`.
        wide_branch: Whether the convolution branch computes on int16.

    Attributes:
        token: (V, R) table; `position` (1, length, R).
        embed: (D, 2R), with `pair` (D, 2R + 4), and `embed_bias` (D,).
        layers: `LayerWeights` of each.
        head: (L, D), and `head_bias` (L,).
        segment: (4,) what the inputs for the segment read in segment 2.
        mean: (1, D) of 1/D: FULLY_CONNECTED with it is the mean of a row; `mean4` is four times it.
        snr: Of each weight that was measured: (dB with one scale, dB with one a channel, whether it
            has one a channel).
    """

    def __init__(
        self,
        model: FoldedModel,
        scales: scales_lib.Scales,
        length: int,
        pair: bool,
        per_channel: frozenset[str] | None,
        wide_branch: bool,
    ) -> None:
        self._builder, self._scales = Builder(), scales
        self._per_channel, self._wide_branch = per_channel, wide_branch
        self._fixed = model.scales
        self.snr: dict[str, tuple[float, float, bool]] = {}
        self.segment = CODED_SEGMENT if "embed" in model.scales else SEGMENT
        self._embedding(model, length, pair)
        last = len(model.blocks) - 1
        self.layers = [
            self._layer(index, block, index == last) for index, block in enumerate(model.blocks)
        ]
        head, head_scale = self._matrix("head", model.head_w.T)
        self.head = self._builder.constant("head_w", head, head_scale)
        x = scales.of(f"x{len(model.blocks)}").scale
        self.head_bias = self._bias("head_bias", model.head_b, x, head_scale)
        d = model.head_w.shape[0]
        row = np.full((1, d), 127, np.int8)
        self.mean = self._builder.constant("mean", row, 1 / (127 * d))
        self.mean4 = self._builder.constant("mean4", row, 4 / (127 * d))

    def describe(self) -> str:
        """Returns what was measured of the weights, and chosen, as a line for people."""
        return "; ".join(
            f"{name}: {tensor:.1f} dB with one scale, {channel:.1f} dB with one a channel, takes "
            + ("the latter" if channelwise else "the former")
            for name, (tensor, channel, channelwise) in self.snr.items()
        )

    def _embedding(self, model: FoldedModel, length: int, pair: bool) -> None:
        constant = self._builder.constant
        token, position = map(quantize.rounded, (model.token, model.position), model.table_scales())
        expansion, fixed = model.scaled_expansion(), self._fixed.get("embed")
        scale: Scale
        shift = model.segment[2] - model.segment[1]
        if fixed is not None:
            scale = fixed
            matrix = quantize.rounded(expansion.T, fixed, 0)
            segment = _digits(shift / fixed)
        else:
            columns = np.zeros((len(SEGMENT), shift.size), np.float32)
            columns[0] = shift / SEGMENT[0]
            joined = np.concatenate([expansion, columns]) if pair else expansion
            matrix, scale = self._matrix("embed", joined.T)
            matrix, segment = np.split(matrix, [len(expansion)], axis=1)
        if pair:
            matrix = np.concatenate([matrix, segment], axis=1)
        self.token = constant("token", token, 1.0)
        self.position = constant("position", position[None, :length], 1.0)
        self.embed = constant("embed_w", matrix, scale)
        bias = quantize.bias(model.segment[1], np.asarray(scale))
        self.embed_bias = constant("embed_bias", bias, np.float32(scale))

    def _layer(self, index: int, block: FoldedBlock, last: bool) -> LayerWeights:
        constant = self._builder.constant
        xhat = self._scales.xhat(index).scale
        s = self._scales.of(f"s{index}").scale
        wq, wq_scale = self._matrix(f"wq{index}", block.wq.T)
        # As the input (not the filter) of a FULLY_CONNECTED, Wv^T has one scale.
        wv, wv_scale = self._matrix(f"wv{index}", block.wv.T)
        # The last layer computes row 0 alone, which sees the last tap alone.
        conv, conv_scale = quantize.weights(block.conv[-1:] if last else block.conv, 1)
        wz, wz_scale = self._matrix(f"wz{index}", block.wz.T)
        # TFLM's and CMSIS-NN's products of int16 have 64-bit biases in common.
        wide = np.dtype(np.int64 if self._wide_branch else np.int32)
        return LayerWeights(
            wq=constant(f"wq{index}", wq, wq_scale),
            bq=self._bias(f"bq{index}", block.bq, xhat, wq_scale),
            wv=constant(f"wv{index}", wv, wv_scale),
            conv=constant(f"conv{index}", conv[None, None], conv_scale, axis=3),
            conv_bias=self._bias(f"conv_bias{index}", block.conv_bias, xhat, conv_scale),
            wz=constant(f"wz{index}", wz, wz_scale),
            bz=self._bias(f"bz{index}", block.bz, s, wz_scale, wide),
        )

    def _bias(
        self,
        name: str,
        values: np.ndarray,
        input_scale: float,
        weight_scale: Scale,
        dtype: np.dtype = np.dtype(np.int32),  # noqa: B008 (immutable)
    ) -> Tensor:
        data = quantize.bias(values, input_scale * np.float64(weight_scale)).astype(dtype)
        return self._builder.constant(name, data, np.float32(input_scale * weight_scale))

    def _matrix(self, name: str, values: np.ndarray) -> tuple[np.ndarray, Scale]:
        """Quantizes an (out, in) matrix, with one scale or one for each output."""
        scale = self._fixed.get(name)
        if scale is not None:  # Rounded in training.
            return quantize.rounded(values, scale, 0), scale if scale.ndim else float(scale)
        if folding.kind(name) == "wv":
            channelwise = False
        elif self._per_channel is not None:
            channelwise = folding.kind(name) in self._per_channel
        elif name in _EITHER:
            tensor, channel = (quantize.weight_snr(values, axis) for axis in (None, 0))
            channelwise = channel - tensor >= _CHANNEL_GAIN
            self.snr[name] = tensor, channel, channelwise
        else:
            channelwise = False
        return quantize.weights(values, 0 if channelwise else None)


def _digits(values: np.ndarray) -> np.ndarray:
    """Returns (count, 4) int8 whose products with `CODED_SEGMENT` sum up to the rounded values."""
    digits = np.zeros((values.size, len(CODED_SEGMENT)), np.int64)
    rest = np.round(np.asarray(values, np.float64)).astype(np.int64)
    for column, unit in enumerate(CODED_SEGMENT):
        if unit:
            digits[:, column] = np.clip(np.round(rest / unit), -127, 127)
            rest -= digits[:, column] * unit
    return digits.astype(np.int8)
