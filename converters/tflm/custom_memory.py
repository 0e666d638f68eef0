"""What custom operators ask the arena for: this project's own, and some of TFLM's."""

import math
import struct

from converters.tflite import graph as graph_lib
from converters.tflm import kernel_memory, target

# sizeof of the operators' data in tflm_app/tflm/embbert_ops.cc and embbert_scan_op.cc on 32-bit
# cores.
DATA = {"EmbedData": 64, "BlockData": 140, "HeadData": 36, "ScanData": 68}
_DETECTION_DATA = 112
_CIRCULAR_BUFFER_DATA = 8


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def block_scratch(hidden: int, expansion: int, taps: int, length: int, extension: str) -> int:
    """Bytes of scratch of EMBBERT_BLOCK: EMBBERT_BLOCK_SCRATCH_BYTES of embbert_kernels.h.

    Args:
        hidden: D.
        expansion: E.
        taps: K.
        length: S.
        extension: Of `target.Target`.
    """
    inner = hidden * expansion
    if extension == "none":
        return (2 if length > 1 else 1) * (2 * hidden + 2 * inner + _round_up(2 * length, 8))
    if extension == "dsp":
        work = 8 * max(inner, _round_up(length, 2))
        panel = 4 * max(64, _round_up(taps, 8) + 8)
        return (2 if length > 4 else 1) * (8 * hidden + work) + panel
    weights = 4 * max(2 * _round_up(length, 8), inner)
    sums = _round_up(4 * length, 16)
    columns = 2 * _round_up(taps, 16) + _round_up(length, 8)
    return 8 * hidden + weights + sums + columns


def _embbert(op: graph_lib.Op, chip: target.Target) -> kernel_memory.Request:
    request = kernel_memory.Request()
    request.temporaries = [t for t in [*op.inputs, *op.outputs] if t is not None]
    if op.custom_code == "EMBBERT_EMBED":
        request.at_init.append(DATA["EmbedData"])
        assert op.inputs[0] is not None
        request.scratch.append(3 * math.prod(op.inputs[0].shape))
    elif op.custom_code == "EMBBERT_BLOCK":
        request.at_init.append(DATA["BlockData"])
        assert op.inputs[0] is not None
        hidden, expansion, taps = struct.unpack_from("<3i", op.custom_options, 8)
        length = op.inputs[0].shape[0]
        request.scratch.append(block_scratch(hidden, expansion, taps, length, chip.extension))
        request.temporaries += [op.inputs[0], op.outputs[0]]
    else:
        request.at_init.append(DATA["HeadData"])
    return request


def scan_scratch(channels: int, states: int) -> int:
    """Bytes of scratch of EMBBERT_SELECTIVE_SCAN: EMBBERT_SCAN_SCRATCH_BYTES of embbert_scan.h."""
    return 4 * (channels + 2) * states


def _scan(op: graph_lib.Op, chip: target.Target) -> kernel_memory.Request:
    request = kernel_memory.Request(at_init=[DATA["ScanData"]])
    request.temporaries = [t for t in [*op.inputs[:1], *op.inputs, *op.outputs] if t is not None]
    request.scratch.append(scan_scratch(*struct.unpack_from("<2i", op.custom_options, 8)))
    return request


def _detection(op: graph_lib.Op, chip: target.Target) -> kernel_memory.Request:
    from flatbuffers import flexbuffers

    settings = flexbuffers.Loads(op.custom_options)
    most, classes = settings["max_detections"], settings["num_classes"]
    scores = op.inputs[1]
    assert op.inputs[0] is not None and scores is not None
    boxes = op.inputs[0].shape[1]
    request = kernel_memory.Request(at_init=[_DETECTION_DATA])
    request.temporaries = [t for t in op.inputs if t is not None]
    request.scratch = [boxes, 16 * boxes, 4 * scores.shape[1] * scores.shape[2]]
    request.scratch += [4 * boxes, 4 * boxes, 4 * most * boxes, 4 * most * boxes, 4 * boxes]
    request.scratch += [4 * most * boxes, 4 * max(classes, most) * boxes]
    request.scratch.append(4 * min(boxes, most) * boxes)
    return request


def _circular_buffer(op: graph_lib.Op, chip: target.Target) -> kernel_memory.Request:
    looked = [t for t in [*op.inputs, *op.outputs] if t is not None]
    return kernel_memory.Request(at_init=[_CIRCULAR_BUFFER_DATA], temporaries=looked)


_KNOWN = {
    "CIRCULAR_BUFFER": _circular_buffer,
    "EMBBERT_BLOCK": _embbert,
    "EMBBERT_EMBED": _embbert,
    "EMBBERT_HEAD": _embbert,
    "EMBBERT_SELECTIVE_SCAN": _scan,
    "TFLite_Detection_PostProcess": _detection,
}


def of_custom(op: graph_lib.Op, chip: target.Target) -> kernel_memory.Request:
    """Returns what a custom operator asks for; `known` is False where this module cannot tell."""
    if op.custom_code in _KNOWN:
        return _KNOWN[op.custom_code](op, chip)
    looked = [t for t in [*op.inputs, *op.outputs] if t is not None]
    return kernel_memory.Request(temporaries=looked, known=False)
