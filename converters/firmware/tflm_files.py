"""Files of the firmware on TFLM: resolver, model image, shapes."""

import hashlib
import pathlib
import struct

import numpy as np

from converters import generate_tflm
from converters.firmware import c_files, from_model_folder, model_image
from converters.firmware.model_image import Kind, Section
from converters.kernels import fused_graph, int8_model, params, recognize
from converters.tflite import graph as graph_lib
from converters.tflite import reader
from converters.tflm import operators as operators_lib

_CUSTOM = {fused_graph.EMBED: "EMBED", fused_graph.BLOCK: "BLOCK", fused_graph.HEAD: "HEAD"}
# Kinds that are registered for all types when any of their operators is not int8 throughout.
_SHAPES_ONLY = {"PAD", "TRANSPOSE"}  # whose second input is an int32 constant


class TflmError(ValueError):
    """A graph that the TFLM app cannot be made of; the message says why."""


def operators(graph: graph_lib.Graph) -> list[tuple[str, bool]]:
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
        if name not in (_CUSTOM if op.kind == "CUSTOM" else operators_lib.ADD):
            raise TflmError(
                f"operator {name}: not among those that the TFLM app registers "
                f"(converters/generate_tflm.py has the list)"
            )
        tensors = [op.inputs[0], *op.outputs]
        if name not in _SHAPES_ONLY and len(op.inputs) > 1:
            tensors.append(op.inputs[1])
        all_int8 = all(t is not None and t.type_name == "INT8" for t in tensors)
        int8[name] = int8.get(name, True) and all_int8
    return [
        (name, good and name in operators_lib.ADD and bool(operators_lib.ADD[name][1]))
        for name, good in int8.items()
    ]


def check(graph: graph_lib.Graph, labels: int, max_length: int) -> None:
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


def resolver_header(graph: graph_lib.Graph, origin: str) -> str:
    """The C++ header that registers the graph's operators.

    Args:
      graph: The graph.
      origin: What it was made from, for the header's first line.
    """
    kinds = operators(graph)
    lines = [
        f"// Made by {generate_tflm.GENERATOR} {generate_tflm.VERSION} for {origin}; do not edit.",
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
            call = f"{operators_lib.ADD[name][0]}(tflite::{operators_lib.ADD[name][1]}())"
        else:
            call = f"{operators_lib.ADD[name][0]}()"
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
    logits = reader.read(tflite).outputs[0]
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
    image = from_model_folder.image_of_folder(folder)
    portable = (folder / "model.tflite").read_bytes()
    model = recognize.extract(portable)
    try:
        if graph == "portable":
            tflite = portable
        elif graph == "fused":
            tflite = fused_graph.fuse(portable)
        else:
            tflite = pathlib.Path(graph).read_bytes()
        read = reader.read(tflite)
    except (graph_lib.FlatbufferError, params.KernelParamsError) as error:
        raise TflmError(f"graph {graph}: {error}") from error
    check(read, model.labels, model.max_length)
    origin = f"{graph if graph in ('portable', 'fused') else pathlib.Path(graph).name} graph, "
    origin += f"SHA-256 {hashlib.sha256(tflite).hexdigest()}"
    shape = "\n".join(
        [
            f"// Made by {generate_tflm.GENERATOR} {generate_tflm.VERSION} for {origin}; do not edit.",
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
        ("model_image.c", c_files.c_source(whole).encode()),
        ("model_shape.h", shape.encode()),
        ("model_resolver.h", resolver_header(read, origin).encode()),
        ("graph.tflite", tflite),
    ):
        c_files.write_if_changed(output / name, content)
