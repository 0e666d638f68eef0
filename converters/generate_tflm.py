r"""Makes the C and C++ that the TFLM app is built from out of a model folder.

  python -m converters.generate_tflm --model_folder=build/snips/model --graph=fused \
    --output_folder=DIR

writes to DIR, each file only when its content changes:
  model_image.bin, model_image.c  the model image of `converters.generate_firmware`, with the
    `.tflite` in place of the kernels' weights;
  model_shape.h     the sizes that the application's static memory is made from;
  model_resolver.h  the operators that the graph uses, int8 variants where TFLM offers them;
  graph.tflite      the graph itself.
--graph is "portable" (model.tflite as it is), "fused" (`converters.fuse` of it) or another
`.tflite` with the same inputs and outputs, such as a plain conversion to compare with.
"""

import hashlib
import pathlib
import struct
import sys

import numpy as np
from absl import app, flags

from converters import (
    flatbuffer,
    fuse,
    generate_firmware,
    int8_model,
    kernel_params,
    model_image,
)
from converters.model_image import Kind, Section

GENERATOR = "converters/generate_tflm.py"
VERSION = 1

# Operator -> (method of MicroMutableOpResolver, header and function of the int8 variant or None).
_ADD = {
    "ADD": ("AddAdd", "Register_ADD_INT8"),
    "BATCH_MATMUL": ("AddBatchMatMul", "Register_BATCH_MATMUL_INT8"),
    "CAST": ("AddCast", None),
    "CONCATENATION": ("AddConcatenation", None),
    "CONV_2D": ("AddConv2D", "Register_CONV_2D_INT8"),
    "CUMSUM": ("AddCumSum", None),
    "DEPTHWISE_CONV_2D": ("AddDepthwiseConv2D", "Register_DEPTHWISE_CONV_2D_INT8"),
    "DEQUANTIZE": ("AddDequantize", None),
    "DIV": ("AddDiv", None),
    "EQUAL": ("AddEqual", None),
    "EXP": ("AddExp", None),
    "EXPAND_DIMS": ("AddExpandDims", None),
    "FULLY_CONNECTED": ("AddFullyConnected", "Register_FULLY_CONNECTED_INT8"),
    "GATHER": ("AddGather", None),
    "GREATER": ("AddGreater", None),
    "GREATER_EQUAL": ("AddGreaterEqual", None),
    "LESS": ("AddLess", None),
    "LESS_EQUAL": ("AddLessEqual", None),
    "LOGICAL_AND": ("AddLogicalAnd", None),
    "LOGICAL_NOT": ("AddLogicalNot", None),
    "LOGICAL_OR": ("AddLogicalOr", None),
    "LOGISTIC": ("AddLogistic", None),
    "MAXIMUM": ("AddMaximum", "Register_MAXIMUM_INT8"),
    "MEAN": ("AddMean", None),
    "MINIMUM": ("AddMinimum", "Register_MINIMUM_INT8"),
    "MUL": ("AddMul", "Register_MUL_INT8"),
    "NEG": ("AddNeg", None),
    "NOT_EQUAL": ("AddNotEqual", None),
    "PACK": ("AddPack", None),
    "PAD": ("AddPad", "Register_PAD_INT8"),
    "QUANTIZE": ("AddQuantize", None),
    "REDUCE_ANY": ("AddReduceAny", None),
    "REDUCE_MAX": ("AddReduceMax", None),
    "RESHAPE": ("AddReshape", None),
    "RSQRT": ("AddRsqrt", None),
    "SELECT_V2": ("AddSelectV2", None),
    "SHAPE": ("AddShape", None),
    "SLICE": ("AddSlice", None),
    "SOFTMAX": ("AddSoftmax", "Register_SOFTMAX_INT8"),
    "SPLIT": ("AddSplit", None),
    "SQUARE": ("AddSquare", None),
    "SQUARED_DIFFERENCE": ("AddSquaredDifference", None),
    "SQUEEZE": ("AddSqueeze", None),
    "STRIDED_SLICE": ("AddStridedSlice", None),
    "SUB": ("AddSub", None),
    "SUM": ("AddSum", None),
    "TRANSPOSE": ("AddTranspose", "Register_TRANSPOSE_INT8"),
    "UNPACK": ("AddUnpack", None),
}
_CUSTOM = {fuse.EMBED: "EMBED", fuse.BLOCK: "BLOCK", fuse.HEAD: "HEAD"}
# Kinds that are registered for all types when any of their operators is not int8 throughout.
_SHAPES_ONLY = {"PAD", "TRANSPOSE"}  # whose second input is an int32 constant


class TflmError(ValueError):
    """A graph that the TFLM app cannot be made of; the message says why."""


def operators(graph: flatbuffer.Graph) -> list[tuple[str, bool]]:
    """The kinds of operator in a graph, in order of appearance.

    Args:
      graph: The graph.

    Returns:
      (kind or custom code, whether TFLM's int8 variant serves all its operators).

    Raises:
      TflmError: An operator that the app cannot register.
    """
    int8: dict[str, bool] = {}
    for op in graph.ops:
        name = op.custom_code if op.kind == "CUSTOM" else op.kind
        if name not in (_CUSTOM if op.kind == "CUSTOM" else _ADD):
            raise TflmError(
                f"operator {name}: not among those that the TFLM app registers "
                f"(converters/generate_tflm.py has the list)"
            )
        tensors = [op.inputs[0], *op.outputs]
        if name not in _SHAPES_ONLY and len(op.inputs) > 1:
            tensors.append(op.inputs[1])
        all_int8 = all(t is not None and t.type_name == "INT8" for t in tensors)
        int8[name] = int8.get(name, True) and all_int8
    return [(name, good and name in _ADD and bool(_ADD[name][1])) for name, good in int8.items()]


def check(graph: flatbuffer.Graph, labels: int, max_length: int) -> None:
    """Refuses a graph whose inputs and outputs the app cannot feed and read.

    Raises:
      TflmError: Says which and why.
    """
    if graph.other_subgraphs:
        raise TflmError(f"{graph.other_subgraphs + 1} subgraphs where the app runs one")
    if not 1 <= len(graph.inputs) <= 2 or len(graph.outputs) != 1:
        raise TflmError(f"{len(graph.inputs)} inputs and {len(graph.outputs)} outputs")
    for tensor in graph.inputs:
        if tensor.type_name != "INT32" or tensor.shape != (1, max_length):
            raise TflmError(
                f"input '{tensor.name}' is {tensor.type_name} {tensor.shape}, not INT32 "
                f"(1, {max_length})"
            )
    (logits,) = graph.outputs
    if logits.type_name != "INT8" or int(np.prod(logits.shape)) != labels:
        raise TflmError(
            f"output '{logits.name}' is {logits.type_name} {logits.shape}, not INT8 (1, {labels})"
        )


def resolver_header(graph: flatbuffer.Graph, origin: str) -> str:
    """The C++ header that registers the graph's operators.

    Args:
      graph: The graph.
      origin: What it was made from, for the header's first line.
    """
    kinds = operators(graph)
    lines = [
        f"// Made by {GENERATOR} {VERSION} for {origin}; do not edit.",
        "#ifndef EMBBERT_MODEL_RESOLVER_H_",
        "#define EMBBERT_MODEL_RESOLVER_H_",
        '#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"',
    ]
    if any(name in _CUSTOM for name, _ in kinds):
        lines.append('#include "embbert_ops.h"')
    # micro_mutable_op_resolver.h brings these along where kernels have an int8 variant.
    for header in ("add", "maximum_minimum", "mul", "pad", "softmax", "transpose"):
        lines.append(f'#include "tensorflow/lite/micro/kernels/{header}.h"')
    lines += [
        "namespace embbert {",
        f"using ModelResolver = tflite::MicroMutableOpResolver<{len(kinds)}>;",
        "inline TfLiteStatus AddModelOperators(ModelResolver& resolver) {",
    ]
    for name, int8 in kinds:
        if name in _CUSTOM:
            call = f'AddCustom("{name}", Register_{_CUSTOM[name]}())'
        elif int8:
            call = f"{_ADD[name][0]}(tflite::{_ADD[name][1]}())"
        else:
            call = f"{_ADD[name][0]}()"
        lines.append(f"  TF_LITE_ENSURE_STATUS(resolver.{call});")
    lines += ["  return kTfLiteOk;", "}", "}  // namespace embbert", "#endif", ""]
    return "\n".join(lines)


def tflm_image(image: bytes, model: int8_model.Int8Model, tflite: bytes) -> bytes:
    """Puts a `.tflite` into a model image in place of the kernels' weights.

    Args:
      image: The image that `generate_firmware.image_of_folder` made.
      model: The int8 model of the folder, for the sizes.
      tflite: The graph to run; its output's scale and zero point replace those of the model.

    Returns:
      The image that tflm_app/tflm reads.
    """
    logits = flatbuffer.read(tflite).outputs[0]
    keep = {Kind.CONFIG, Kind.SOURCE, Kind.LABELS, Kind.CONFIDENCE, Kind.TOKENIZER}
    sections = []
    for part in model_image.unpack(image):
        if part.kind not in keep:
            continue
        data = part.data
        if part.kind == Kind.CONFIG:
            config = list(struct.unpack("<8i", data))
            config[5] = int(logits.zero_point)
            if config[0] == 1:
                config[6] = round(float(logits.scale) * 1000 * 65536)
            data = struct.pack("<8i", *config)
        elif part.kind == Kind.CONFIDENCE:
            data = model_image.confidence_table(float(logits.scale)).tobytes()
        sections.append(Section(part.kind, part.index, data))
    first = model.blocks[0]
    shape = (model.vocab_size, model.max_length, model.r, model.d, first.e, first.k)
    sections.append(Section(Kind.TFLM_SHAPE, 0, struct.pack("<6i", *shape)))
    sections.append(Section(Kind.TFLITE, 0, tflite))
    return model_image.pack(sections)


def generate(folder: pathlib.Path, graph: str, output: pathlib.Path) -> None:
    """Writes the files of the module's docstring.

    Args:
      folder: The model folder.
      graph: "portable", "fused", or the path of another `.tflite`.
      output: Folder for the files; made when missing.

    Raises:
      TflmError: The graph does not suit the app.
      generate_firmware.FirmwareError: The model folder does not.
      OSError: A file cannot be read or written.
    """
    image = generate_firmware.image_of_folder(folder)
    portable = (folder / "model.tflite").read_bytes()
    model = int8_model.extract(portable)
    try:
        if graph == "portable":
            tflite = portable
        elif graph == "fused":
            tflite = fuse.fuse(portable)
        else:
            tflite = pathlib.Path(graph).read_bytes()
        read = flatbuffer.read(tflite)
    except (flatbuffer.FlatbufferError, kernel_params.KernelParamsError) as error:
        raise TflmError(f"graph {graph}: {error}") from error
    check(read, model.labels, model.max_length)
    origin = f"{graph if graph in ('portable', 'fused') else pathlib.Path(graph).name} graph, "
    origin += f"SHA-256 {hashlib.sha256(tflite).hexdigest()}"
    shape = "\n".join(
        [
            f"// Made by {GENERATOR} {VERSION} for {origin}; do not edit.",
            "#ifndef EMBBERT_MODEL_SHAPE_H_",
            "#define EMBBERT_MODEL_SHAPE_H_",
            f"#define MODEL_BLOCKS {len(model.blocks)}",
            f"#define MODEL_LABELS {model.labels}",
            f"#define MODEL_MAX_LENGTH {model.max_length}",
            f"#define MODEL_HIDDEN {model.d}",
            f"#define MODEL_EXPANSION {model.blocks[0].e}",
            f"#define MODEL_OPERATORS {len(operators(read))}",
            "#endif  // EMBBERT_MODEL_SHAPE_H_",
            "",
        ]
    )
    whole = tflm_image(image, model, tflite)
    output.mkdir(parents=True, exist_ok=True)
    for name, content in (
        ("model_image.bin", whole),
        ("model_image.c", generate_firmware.c_source(whole).encode()),
        ("model_shape.h", shape.encode()),
        ("model_resolver.h", resolver_header(read, origin).encode()),
        ("graph.tflite", tflite),
    ):
        generate_firmware.write_if_changed(output / name, content)


def define_flags(values=flags.FLAGS):
    """Defines the flags. Not on import: other commands have flags of the same names."""
    flags.DEFINE_string(
        "model_folder", None, "Model folder: what convert_tflite.py wrote.", flag_values=values
    )
    flags.DEFINE_string(
        "graph", "portable", "portable, fused, or the path of a .tflite.", flag_values=values
    )
    flags.DEFINE_string(
        "output_folder",
        None,
        "Folder for the generated files; made when missing.",
        flag_values=values,
    )
    flags.mark_flags_as_required(["model_folder", "output_folder"], flag_values=values)


def main(argv, values=flags.FLAGS):
    """Command line."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument '{argv[1]}'")
    try:
        generate(
            pathlib.Path(values.model_folder), values.graph, pathlib.Path(values.output_folder)
        )
    except (TflmError, generate_firmware.FirmwareError, OSError) as error:
        sys.exit(f"generate_tflm: {error}")


if __name__ == "__main__":
    define_flags()
    app.run(main)
